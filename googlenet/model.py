"""GoogLeNet, or Inception v1 (Szegedy et al. 2014), and the batch-normalised network of the model zoos.

Layers carry the names of the paper's Table 1. Shapes in comments are height x width x maps for images of 224x224
pixels.
"""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, PyTree
from ml_collections import ConfigDict

from common import models
from common.errors import UserError
from common.models import Classifier, Facts
from common.nn import losses
from common.nn.layers import Dropout, ceil_max_pool, check_image_size, identity, local_response_norm
from googlenet.layers import WEIGHT_INITS, AuxiliaryClassifier, Images, Inception, Unit, dense

# Table 1: for each module, maps of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj.
MODULES: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY = {"4a": "aux1", "4d": "aux2"}  # section 5: classifiers on the outputs of these modules


class Outputs(NamedTuple):
    """Logits of the main classifier and, in training, of the auxiliary ones."""

    logits: Float[Array, "batch classes"]
    auxiliary: tuple[Float[Array, "batch classes"], ...] = ()


class GoogLeNet(nn.Module):
    """A stem, nine Inception modules, global average pooling and a linear classifier (Table 1)."""

    num_classes: int = 1000
    width: float = 1.0  # multiplies the maps of every layer
    stem: str = "imagenet"  # the paper's, which divides the sides by 8; or 'small': one 3x3 layer at full resolution
    lrn: bool = True  # Figure 3; constants of Caffe's replication, since the paper gives none
    batch_norm: bool = False  # after every convolution, in place of its bias (torchvision)
    ghost_batches: int = 1  # interleaved parts of a batch with their own statistics, as with train.accumulate
    five: int = 5  # kernel size of the 5x5 branches; 3 in torchvision's and TF-slim's networks
    last_pool: int = 3  # window of the pooling before 5a; 2 in torchvision's network
    auxiliary: bool = True  # section 5: classifiers on 4a and 4d
    auxiliary_pool: str = "5x5"  # average of 5x5 windows 3 pixels apart; or 'adaptive': to 4x4, any size (torchvision)
    auxiliary_dropout: float = 0.7
    dropout: float = 0.4
    weight_init: str = "xavier"  # see WEIGHT_INITS
    hidden_bias: float = 0.2  # initial bias of all layers but the classifiers (Caffe's replication)
    dtype: str = "float32"  # of the computation; parameters are float32

    @nn.compact
    def __call__(self, images: Images, train: bool = False) -> Outputs:
        """Logits; in training also those of the auxiliary classifiers."""
        names = ("batch_norm", "ghost_batches", "weight_init", "hidden_bias", "dtype")
        shared = {name: getattr(self, name) for name in names}
        unit = functools.partial(Unit, **shared)
        auxiliary = []
        x = self._stem(images.astype(self.dtype), unit, train)  # 28x28x192
        for name, widths in MODULES.items():
            if name in ("4a", "5a"):
                x = ceil_max_pool(x, 3 if name == "4a" else self.last_pool, 2)  # 14x14x480, 7x7x832
            x = Inception(tuple(map(self._scaled, widths)), unit, self.five, name=f"inception_{name}")(x, train)
            # Initialisation makes the auxiliary classifiers' parameters even if `train` is False.
            if self.auxiliary and name in AUXILIARY and (train or self.is_initializing()):
                sizes = (self._scaled(128), self._scaled(1024))
                fields = (self.num_classes, sizes, self.auxiliary_pool, self.auxiliary_dropout, unit)
                auxiliary.append(AuxiliaryClassifier(*fields, name=AUXILIARY[name])(x, train))
        x = jnp.mean(x, axis=(1, 2))  # 1024
        x = Dropout(self.dropout, deterministic=not train, name="dropout")(x)
        return Outputs(dense(shared, "linear", x, self.num_classes).astype(jnp.float32), tuple(auxiliary))

    def _stem(self, x: Array, unit: functools.partial, train: bool) -> Array:
        """The layers before the first Inception module."""
        if self.stem == "small":
            return unit(features=self._scaled(192), kernel_size=3, name="conv1")(x, train)
        normalize = _normalize if self.lrn else identity
        x = unit(features=self._scaled(64), kernel_size=7, stride=2, name="conv1")(x, train)  # 112x112x64
        x = normalize(ceil_max_pool(x, 3, 2))  # 56x56x64
        x = unit(features=self._scaled(64), kernel_size=1, name="conv2_reduce")(x, train)
        x = unit(features=self._scaled(192), kernel_size=3, name="conv2")(x, train)  # 56x56x192
        return ceil_max_pool(normalize(x), 3, 2)

    def _scaled(self, maps: int) -> int:
        return max(round(self.width * maps), 1)


def _normalize(x: Array) -> Array:
    return local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=1.0, divide_by_size=True)


def dense_logits(module: GoogLeNet, variables: PyTree, images: Images) -> Float[Array, "batch 1 1 classes"]:
    """The main classifier's logits for images of any size, for test protocols.

    They equal the mean of the logits at all positions, because averaging is linear.
    """
    outputs: Any = module.apply(variables, images)
    return outputs.logits[:, None, None]


def loss(
    outputs: Outputs,
    labels: Int[Array, " batch"] | Float[Array, "batch classes"],
    auxiliary_weight: float,
) -> Float[Array, " batch"]:
    """Cross-entropy of the main classifier plus `auxiliary_weight` times that of each auxiliary one (section 5)."""
    extra = sum(losses.cross_entropy(logits, labels) for logits in outputs.auxiliary)
    return losses.cross_entropy(outputs.logits, labels) + auxiliary_weight * extra


def _main_logits(outputs: Outputs) -> Float[Array, "batch classes"]:
    return outputs.logits


_BATCH_NORM = {"lrn": False, "batch_norm": True, "weight_init": "he_normal"}
VARIANTS: dict[str, dict[str, Any]] = models.variants(
    GoogLeNet,
    {
        "googlenet": {},  # 6,998,552 parameters, 13,378,280 with the auxiliary classifiers
        "googlenet_bn": _BATCH_NORM,  # 7,005,832; 13,385,816
        "googlenet_torchvision": {  # 6,624,904; 13,004,888; takes torchvision's weights
            **_BATCH_NORM,
            "five": 3,
            "last_pool": 2,
            "auxiliary_pool": "adaptive",
            "dropout": 0.2,
            "weight_init": "gaussian",
        },
        "googlenet_small": {**_BATCH_NORM, "stem": "small", "auxiliary_pool": "adaptive"},  # for 16 to 64 pixels
    },
    loss={"auxiliary_weight": 0.3},  # section 5
)
CHOICES = {
    "stem": ("imagenet", "small"),
    "five": (3, 5),
    "last_pool": (2, 3),
    "auxiliary_pool": ("5x5", "adaptive"),
    "weight_init": tuple(WEIGHT_INITS),
    "dtype": ("float32", "bfloat16"),
}

RANGES = {
    "width": (1 / 64, 2**6),
    "ghost_batches": models.COUNT,
    "dropout": models.SHARE,
    "auxiliary_dropout": models.SHARE,
}


def network(section: ConfigDict, num_classes: int) -> GoogLeNet:
    """The module of a `model` section.

    Raises UserError for an unknown name or a contradiction, in the loss's options too.
    """
    fields = models.hyper_parameters(section, VARIANTS, CHOICES, RANGES)
    models.check_range("loss.auxiliary_weight", section.loss.auxiliary_weight, *models.SIZE)
    if section.lrn and section.stem == "small":
        raise UserError("stem='small' has no place for local response normalisation: set lrn=False")
    fields_of_heads = ("auxiliary_pool", "auxiliary_dropout", "loss.auxiliary_weight")
    biased = section.auxiliary or not section.batch_norm  # batch normalisation replaces the biases of convolutions
    needs = {
        **dict.fromkeys(fields_of_heads, (section.auxiliary, "auxiliary=True")),
        "ghost_batches": (section.batch_norm, "batch_norm=True"),
        "hidden_bias": (biased, "batch_norm=False or auxiliary=True"),
    }
    models.check_effects(section, VARIANTS, needs)
    return GoogLeNet(num_classes=num_classes, **fields)


def make_classifier(section: ConfigDict, info: Facts) -> Classifier:
    """The classifier of a `model` section for a dataset with these facts.

    Raises UserError for unknown or contradictory hyper-parameters and for images that are too small.
    """
    module = network(section, info.num_classes)
    hint = "raise config.data.resize" + (", or use variant 'googlenet_small'" if module.stem == "imagenet" else "")
    check_image_size(section.variant, info.image_shape, minimum_size(module), hint)
    return Classifier(
        module=module,
        loss=functools.partial(loss, auxiliary_weight=section.loss.auxiliary_weight),
        logits=_main_logits,
        input_shape=info.image_shape,
        num_classes=info.num_classes,
        soft_labels=True,
    )


def minimum_size(module: GoogLeNet) -> int:
    """The side, in pixels, of the smallest image that fills a window of the auxiliary classifiers' pooling."""
    if not module.auxiliary or module.auxiliary_pool == "adaptive":
        return 1
    if module.stem == "small":
        return 5 * 2
    return 5 * 2**3 * 2 - 1  # pooling rounds the size down, the strided convolution up
