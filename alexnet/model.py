"""AlexNet (Krizhevsky, Sutskever and Hinton 2012), its one-column successor (Krizhevsky 2014), and a small version.

Each field of the module is a choice that the papers make; the comment beside it names the alternatives. Layers carry
the names of the papers and of Caffe. Shapes in comments are height x width x maps for images of 224x224 pixels. The
networks for CIFAR-10, which the paper uses to measure ReLU and normalisation, are in `cifar.py`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from alexnet import cifar
from common import models
from common.devices import products
from common.devices.convolutions import fastest
from common.errors import UserError
from common.models import Classifier, Facts
from common.nn import losses
from common.nn.layers import (
    Dropout,
    adaptive_average_pool,
    check_image_size,
    identity,
    kept_units,
    local_response_norm,
    max_pool,
)

Images = Float[Array, "batch height width channels"]

# Section 5: "We initialized the neuron biases in the second, fourth, and fifth convolutional layers, as well as in
# the fully-connected hidden layers, with the constant 1"; the others with 0.
BIASED = ("conv2", "conv4", "conv5", "fc6", "fc7")


class AlexNet(nn.Module):
    """Five convolutional and three fully connected layers."""

    num_classes: int = 1000
    widths: tuple[int, ...] = (96, 256, 384, 384, 256)  # kernels of conv1 to conv5
    fc_width: int = 4096  # units of fc6 and of fc7
    columns: int = 2  # section 3.5: conv2, conv4 and conv5 read only the maps of their own GPU; with 1, all maps
    stem: tuple[int, int] = (11, 4)  # kernel size and stride of conv1
    # The paper's 55x55 maps need three more pixels than 224x224 images have; the author's code reads zeros after the
    # last row and column. Torchvision pads two pixels on both sides.
    stem_padding: tuple[int, int] = (0, 3)
    activation: str = "relu"  # section 3.1; or 'tanh'
    lrn: bool = True  # section 3.3: after the ReLU of conv1 and conv2
    lrn_per_column: bool = False  # the paper does not say; the author's code on two GPUs normalises each half
    lrn_divide_by_size: bool = False  # alpha / n, as in the author's code, Caffe and PyTorch; the formula: alpha
    overlapping_pooling: bool = True  # section 3.4: 3x3 windows two pixels apart; False: 2x2
    adaptive_pool: int = 0  # average pool5 to this side, so that fc6 fits images of any size (torchvision: 6)
    dropout: float = 0.5  # section 4.2: fraction of fc6's and fc7's units that are dropped; 0 is none
    dropout_place: str = "after"  # fc6 and fc7; or 'before' them: on pool5 and fc6 (torchvision)
    dropout_form: str = "inverted"  # kept units are scaled up in training; '2012': outputs are scaled down in testing
    weight_init: str = "gaussian"  # section 5: N(0, sd 0.01); or 'he_normal', 'uniform' (PyTorch's default)
    hidden_bias: float = 1.0  # section 5, for the layers in BIASED; 0.1 if 1 does not learn (Caffe); modern: 0
    dtype: str = "float32"  # of the computation; parameters are float32

    @nn.compact
    def __call__(self, images: Images, train: bool = False) -> Float[Array, "batch classes"]:
        """Logits."""
        pool = functools.partial(max_pool, window=3 if self.overlapping_pooling else 2, stride=2)
        dropout = functools.partial(DROPOUTS[self.dropout_form], self.dropout, deterministic=not train)
        before, groups = self.dropout_place == "before", self.columns
        x = images.astype(self.dtype)
        x = self._convolution("conv1", x, *self.stem, self.stem_padding)  # 55x55x96
        x = pool(self.normalize(x))  # 27x27x96
        x = self._convolution("conv2", x, 5, 1, (2, 2), groups)  # 27x27x256
        x = pool(self.normalize(x))  # 13x13x256
        x = self._convolution("conv3", x, 3, 1, (1, 1))  # 13x13x384: the one convolution where the columns meet
        x = self._convolution("conv4", x, 3, 1, (1, 1), groups)  # 13x13x384
        x = self._convolution("conv5", x, 3, 1, (1, 1), groups)  # 13x13x256
        x = pool(x)  # 6x6x256
        if self.adaptive_pool:
            x = adaptive_average_pool(x, self.adaptive_pool)
        x = x.reshape(x.shape[0], -1)
        if before:
            x = dropout(name="dropout6")(x)
        x = self._squash(self._dense("fc6", x, self.fc_width))
        x = dropout(name="dropout7" if before else "dropout6")(x)
        x = self._squash(self._dense("fc7", x, self.fc_width))
        if not before:
            x = dropout(name="dropout7")(x)
        return self._dense("fc8", x, self.num_classes).astype(jnp.float32)

    def normalize(self, x: Images) -> Images:
        """Local response normalisation over all maps, or over each column's; `x` itself without `lrn`."""
        if not self.lrn:
            return x
        columns = self.columns if self.lrn_per_column else 1
        parts = x.reshape(*x.shape[:-1], columns, -1)
        return local_response_norm(parts, divide_by_size=self.lrn_divide_by_size).reshape(x.shape)

    def _convolution(
        self, name: str, x: Array, kernel_size: int, stride: int, padding: tuple[int, int], groups: int = 1
    ) -> Array:
        fan_in = kernel_size**2 * x.shape[-1] // groups
        layer = nn.Conv(
            self.widths[int(name[-1]) - 1],
            (kernel_size, kernel_size),
            stride,
            (padding, padding),
            feature_group_count=groups,
            dtype=self.dtype,
            conv_general_dilated=fastest.convolution,
            name=name,
            **self._initializers(name, fan_in),
        )
        return self._squash(layer(x))

    def _dense(self, name: str, x: Array, features: int) -> Array:
        init = self._initializers(name, x.shape[-1])
        return nn.Dense(features, dtype=self.dtype, dot_general=products.product, name=name, **init)(x)

    def _squash(self, x: Array) -> Array:
        return cifar.ACTIVATIONS[self.activation](x)

    def _initializers(self, name: str, fan_in: int) -> dict[str, Any]:
        """The initialisers of a layer's kernel and bias."""
        if self.weight_init == "uniform":
            uniform = functools.partial(_uniform, bound=fan_in**-0.5)
            return {"kernel_init": uniform, "bias_init": uniform}
        bias = nn.initializers.constant(self.hidden_bias if name in BIASED else 0.0)
        # If the classifier started with He's weights too, after three max poolings, the loss of 10 classes would start
        # at 10.
        kernel = WEIGHT_INITS["gaussian" if name == "fc8" else self.weight_init]
        return {"kernel_init": kernel, "bias_init": bias}


WEIGHT_INITS: dict[str, nn.initializers.Initializer | None] = {
    "gaussian": nn.initializers.normal(0.01),
    "he_normal": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),  # He et al. 2015; fc8 is 'gaussian'
    "uniform": None,  # U(+-1/sqrt(fan_in)), biases too
}


def _uniform(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32, *, bound: float) -> Array:
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class Dropout2012(nn.Module):
    """Dropout as first published: training zeroes units without scaling the others, testing scales all of them down."""

    rate: float
    deterministic: bool

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The units that are kept in training; in testing, all units times the probability of keeping (section 4.2)."""
        if self.rate == 0:
            return x
        if self.deterministic:
            return x * (1 - self.rate)
        return jnp.where(kept_units(self.make_rng("dropout"), self.rate, x.shape), x, 0)


DROPOUTS = {"inverted": Dropout, "2012": Dropout2012}

_MODERN = {"columns": 1, "lrn": False, "hidden_bias": 0.0}

VARIANTS: dict[str, dict[str, Any]] = {
    **models.variants(
        AlexNet,
        {
            "two_column": {},  # 60,965,224 parameters
            "one_column": {  # 61,100,840; in the layout of torchvision's weights
                **_MODERN,
                "widths": (64, 192, 384, 256, 256),
                "stem_padding": (2, 2),
                "adaptive_pool": 6,
                "dropout_place": "before",
                "weight_init": "uniform",
            },
            "small": {  # ours, for images of 15 to 64 pixels: the same topology, and a stem that does not shrink them
                **_MODERN,
                "widths": (64, 192, 256, 256, 192),
                "fc_width": 1024,
                "stem": (5, 1),
                "stem_padding": (2, 2),
                "weight_init": "he_normal",
            },
        },
    ),
    **cifar.VARIANTS,
}

CHOICES = {
    "activation": tuple(cifar.ACTIVATIONS),
    "dropout_place": ("after", "before"),
    "dropout_form": tuple(DROPOUTS),
    "weight_init": tuple(WEIGHT_INITS),
    "dtype": ("float32", "bfloat16"),
}

RANGES = {
    **dict.fromkeys(("widths", "fc_width", "columns", "stem"), models.COUNT),
    **dict.fromkeys(("stem_padding", "adaptive_pool"), models.SIZE),
    "dropout": models.SHARE,
}


def network(section: ConfigDict, num_classes: int) -> nn.Module:
    """The module of a `model` section. Raises UserError for an unknown name or a contradiction."""
    fields = models.hyper_parameters(section, VARIANTS, CHOICES, RANGES)
    for name, value in VARIANTS[section.variant].items():
        if isinstance(value, tuple) and len(fields[name]) != len(value):
            raise UserError(f"config.model.{name} is {fields[name]}; expected {len(value)} numbers")
    if section.variant in cifar.VARIANTS:
        return cifar.NETWORKS[section.variant](num_classes=num_classes, **fields)
    needs = {
        "lrn_per_column": (section.lrn and section.columns > 1, "lrn=True and several columns"),
        "lrn_divide_by_size": (section.lrn, "lrn=True"),
        "dropout_place": (section.dropout > 0, "dropout"),
        "dropout_form": (section.dropout > 0, "dropout"),
        "hidden_bias": (section.weight_init != "uniform", "weight_init='gaussian' or 'he_normal'"),
    }
    models.check_effects(section, VARIANTS, needs)
    if any(width % section.columns for width in section.widths):
        raise UserError(f"widths {section.widths} do not split into columns={section.columns}")
    return AlexNet(num_classes=num_classes, **fields)


def make_classifier(section: ConfigDict, info: Facts) -> Classifier:
    """The classifier of a `model` section for a dataset with these facts.

    Raises UserError for unknown or contradictory hyper-parameters and for images that are too small.
    """
    module = network(section, info.num_classes)
    smallest = minimum_size(AlexNet(info.num_classes, **VARIANTS["small"]))
    fits_small = section.variant != "small" and min(info.image_shape[:2]) >= smallest
    hint = "raise config.data.resize" + (", or use variant 'small'" if fits_small else "")
    check_image_size(f"alexnet {section.variant}", info.image_shape, minimum_size(module), hint)
    return Classifier(
        module=module,
        loss=losses.cross_entropy,
        logits=identity,
        input_shape=info.image_shape,
        num_classes=info.num_classes,
        soft_labels=True,
    )


def minimum_size(module: nn.Module) -> int:
    """The side, in pixels, of the smallest image that still has a pixel after the last pooling."""
    if not isinstance(module, AlexNet):
        return cifar.MINIMUM_SIZE
    (kernel_size, stride), window, size = module.stem, 3 if module.overlapping_pooling else 2, 1
    for _ in range(3):
        size = (size - 1) * 2 + window
    return (size - 1) * stride + kernel_size - sum(module.stem_padding)
