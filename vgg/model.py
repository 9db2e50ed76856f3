"""VGG (Simonyan and Zisserman 2014): configurations A to E of Table 1, and the shallow net of section 4.1.

Layers carry the names of the authors' models (conv1_1 ... fc8). Shapes in comments are height x width x maps for
images of 224x224 pixels.
"""

import functools
import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PyTree
from ml_collections import ConfigDict

from common import models
from common.devices import products
from common.devices.convolutions import fastest
from common.errors import UserError
from common.models import Classifier
from common.nn import losses
from common.nn.batch_norm import BatchNorm
from common.nn.layers import (
    Dropout,
    adaptive_average_pool,
    check_image_size,
    identity,
    local_response_norm,
    max_pool,
)

Images = Float[Array, "batch height width channels"]

# Table 1: kernel sizes of the convolutions in each stage. Every stage ends in a 2x2 max pooling. '5x5' is the shallow
# net of section 4.1: "B" with each pair of 3x3 layers replaced by one of 5x5. '3x3x3' and '7x7' are ours, for the
# argument of section 2.3 on images of 32 pixels: three 3x3 layers or one of 7x7 in the stages with maps of 8 or more.
CONFIGURATIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
    "5x5": ((5,), (5,), (5,), (5,), (5,)),
    "3x3x3": ((3, 3, 3), (3, 3, 3), (3, 3, 3), (3,), (3,)),
    "7x7": ((7,), (7,), (7,), (3,), (3,)),
}
STAGE_WIDTHS = (1, 2, 4, 8, 8)  # times `width`
DOWNSAMPLING = 2 ** len(STAGE_WIDTHS)  # image pixels between neighbouring positions of the last map

WEIGHT_INITS = {
    # Section 3.1 prints "10^-2 variance", a deviation of 0.1, which explodes; 0.01 is the common reading.
    "gaussian": nn.initializers.normal(0.01),
    "glorot": nn.initializers.glorot_uniform(),  # the note in section 3.1: allows training from scratch
    "he_fan_out": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),  # torchvision
}


class VGG(nn.Module):
    """Stages of 3x3 convolutions and max poolings, then three fully connected layers."""

    num_classes: int = 1000
    configuration: str = "D"  # Table 1: 'A' to 'E'; or one of the others in CONFIGURATIONS
    batch_norm: bool = False  # not in the paper: conv - BN - ReLU, as in published weights
    ghost_batches: int = 1  # interleaved parts of a batch with their own statistics, as with train.accumulate
    lrn: bool = False  # A-LRN: AlexNet's normalisation after the ReLU of conv1_1
    width: int = 64  # maps of the first stage; the others have 2, 4, 8 and 8 times as many
    fc_width: int = 4096  # units of fc6 and of fc7
    adaptive_pool: int = 0  # average pool5 to this side, so that fc6 fits images of any size (torchvision: 7); 0: off
    dropout: float = 0.5  # section 3.1: of the units of fc6 and fc7
    weight_init: str = "he_fan_out"  # of convolutions, see WEIGHT_INITS; 'glorot' is for all layers
    # Not in the paper: multiplies the initial weights of convolutions; batch normalisation makes them matter less.
    init_scale: float = 1.0
    dtype: str = "float32"  # of the computation; parameters are float32
    dense: bool = False  # section 3.2: fully connected layers as convolutions over the whole map, see `dense_logits`

    @nn.compact
    def __call__(self, images: Images, train: bool = False) -> Float[Array, "batch *rows_columns classes"]:
        """Logits; with `dense` a map of logits, [batch, rows, columns, classes]."""
        x = images.astype(self.dtype)
        for stage, kernel_sizes in enumerate(CONFIGURATIONS[self.configuration]):
            for layer, kernel_size in enumerate(kernel_sizes):
                name = f"{stage + 1}_{layer + 1}"
                x = self._convolution(name, x, STAGE_WIDTHS[stage] * self.width, kernel_size, train)
            x = max_pool(x, window=2, stride=2)  # 112, 56, 28, 14, 7; an odd last row or column is dropped
        if self.adaptive_pool and not self.dense:
            x = adaptive_average_pool(x, self.adaptive_pool)
        dropout = functools.partial(Dropout, self.dropout, deterministic=not train)
        x = x if self.dense else x.reshape(x.shape[0], -1)
        x = dropout(name="dropout6")(nn.relu(self._fully_connected("fc6", x, self.fc_width)))
        x = dropout(name="dropout7")(nn.relu(self._fully_connected("fc7", x, self.fc_width)))
        return self._fully_connected("fc8", x, self.num_classes).astype(jnp.float32)

    def _convolution(self, name: str, x: Array, features: int, kernel_size: int, train: bool) -> Array:
        size, padding = (kernel_size, kernel_size), (kernel_size // 2, kernel_size // 2)
        x = nn.Conv(
            features,
            size,
            padding=(padding, padding),
            kernel_init=functools.partial(_scaled, WEIGHT_INITS[self.weight_init], self.init_scale),
            dtype=self.dtype,
            conv_general_dilated=fastest.convolution,
            name=f"conv{name}",
        )(x)
        if self.batch_norm:
            x = BatchNorm(ghost_batches=self.ghost_batches, dtype=self.dtype, name=f"bn{name}")(x, train)
        x = nn.relu(x)
        return local_response_norm(x) if self.lrn and name == "1_1" else x

    def _fully_connected(self, name: str, x: Array, features: int) -> Array:
        """A dense layer or, with `dense`, a convolution with the kernel that `dense_logits` has reshaped for it."""
        init = WEIGHT_INITS["glorot" if self.weight_init == "glorot" else "gaussian"]
        if not self.dense:
            return nn.Dense(features, kernel_init=init, dtype=self.dtype, dot_general=products.product, name=name)(x)
        kernel: Array = self.get_variable("params", name)["kernel"]
        return nn.Conv(features, kernel.shape[:2], padding=((0, 0), (0, 0)), dtype=self.dtype, name=name)(x)


def _scaled(init: nn.initializers.Initializer, factor: float, *args: Any) -> Array:
    return factor * init(*args)


def dense_logits(module: VGG, variables: PyTree, images: Images) -> Float[Array, "batch rows columns classes"]:
    """The network applied densely to images of any size (section 3.2), from the parameters of the plain network.

    fc6 becomes a convolution whose window is the map that it was trained on (7x7 for 224 pixels), fc7 and fc8 become
    1x1 convolutions. An image of Q x Q pixels gives floor(Q / 32) - 6 rows and columns; one of the training size gives
    a single position with the plain network's logits. The paper averages the logits over positions, then the softmax
    over flips and scales. Raises UserError for images smaller than the training images.
    """
    params = variables["params"]
    side = trained_map_size(module, params)
    check_image_size("dense application", images.shape[1:], side * DOWNSAMPLING, "fc6 cannot read a smaller map")
    windows = {"fc6": side, "fc7": 1, "fc8": 1}
    windowed = {name: _as_window(params[name]["kernel"], window) for name, window in windows.items()}
    params = {**params, **{name: {**params[name], "kernel": kernel} for name, kernel in windowed.items()}}
    logits: Any = module.clone(dense=True).apply({**variables, "params": params}, images)
    return logits


def trained_map_size(module: VGG, params: PyTree) -> int:
    """The side of the square map that fc6 reads. Raises UserError if the map is not square."""
    inputs = params["fc6"]["kernel"].shape[0]
    positions = inputs // (STAGE_WIDTHS[-1] * module.width)
    if math.isqrt(positions) ** 2 != positions:
        raise UserError(f"fc6 was trained on {positions} positions; dense application needs square training images")
    return math.isqrt(positions)


def _as_window(kernel: Float[Array, "inputs outputs"], side: int) -> Float[Array, "side side channels outputs"]:
    """The kernel of a dense layer on a flattened (height, width, channels) map, as a kernel of a convolution."""
    return kernel.reshape(side, side, -1, kernel.shape[-1])


_PLAIN: dict[str, dict[str, Any]] = {
    "vgg11": {"configuration": "A"},  # 132,863,336 parameters
    "vgg11_lrn": {"configuration": "A", "lrn": True},  # A-LRN
    "vgg13": {"configuration": "B"},  # 133,047,848
    "vgg16_c": {"configuration": "C"},  # 133,638,952
    "vgg16": {"configuration": "D"},  # 138,357,544
    "vgg19": {"configuration": "E"},  # 143,667,240
    "vgg_shallow_5x5": {"configuration": "5x5"},  # 134,503,528
    "vgg_stacked_3x3": {"configuration": "3x3x3"},
    "vgg_single_7x7": {"configuration": "7x7"},
}
_NORMALISED = {f"{name}_bn": {**changes, "batch_norm": True} for name, changes in _PLAIN.items()}
VARIANTS = models.variants(VGG, {**_PLAIN, **_NORMALISED}, internal=("dense",))

CHOICES = {
    "configuration": tuple(CONFIGURATIONS),
    "weight_init": tuple(WEIGHT_INITS),
    "dtype": ("float32", "bfloat16"),
}

RANGES = {
    **dict.fromkeys(("width", "fc_width", "ghost_batches"), models.COUNT),
    "adaptive_pool": models.SIZE,
    "dropout": models.SHARE,
    "init_scale": models.SIZE,
}


def network(section: ConfigDict, num_classes: int) -> VGG:
    """The module that a `model` section describes. Raises UserError for unknown names and numbers out of range."""
    fields = models.hyper_parameters(section, VARIANTS, CHOICES, RANGES)
    models.check_effects(section, VARIANTS, {"ghost_batches": (section.batch_norm, "batch_norm=True")})
    return VGG(num_classes=num_classes, **fields)


def make_classifier(section: ConfigDict, info: models.Facts) -> Classifier:
    """The classifier of a `model` section (a variant's hyper-parameters) for a dataset with these facts.

    Raises UserError for unknown hyper-parameters and for images that are too small for five poolings.
    """
    module = network(section, info.num_classes)
    check_image_size(f"vgg {section.variant}", info.image_shape, DOWNSAMPLING, "raise config.data.resize")
    return Classifier(
        module=module,
        loss=losses.cross_entropy,
        logits=identity,
        input_shape=info.image_shape,
        num_classes=info.num_classes,
        soft_labels=True,
    )
