"""LeNet-5 (1998), the networks that led to it (1989, 1990), and the fully connected ones they are compared with.

Each field of a network is a choice that the paper makes; the comment beside it names the modern alternative. Layers
carry the paper's names in the parameter tree. Shapes in comments are height x width x maps.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from common import models
from common.errors import UserError, unknown
from common.models import Classifier, Facts
from common.nn.layers import identity
from common.nn.losses import cross_entropy
from lenet import curvature, losses
from lenet.bitmaps import CENTRES
from lenet.layers import RBF, WEIGHT_INITS, Convolution, Dense, Images, Subsampling

# 1998, Table I: for each map of C3, the maps of S2 that it reads. A map reads three neighbours, four neighbours, two
# pairs of neighbours, or all six. No two maps see the same inputs, so they must learn different features.
C3_TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
# 1989: each map of H2 reads 8 of H1's 12; the paper does not say which. These are blocks of four.
ZIP_H2_TABLE = (
    *4 * ((0, 1, 2, 3, 4, 5, 6, 7),),
    *4 * ((4, 5, 6, 7, 8, 9, 10, 11),),
    *4 * ((0, 1, 2, 3, 8, 9, 10, 11),),
)
# 1990: the 20 links that reproduce the paper's totals.
LENET1_H3_TABLE = ((0,), (0, 1), (0, 1), (1,), (0, 1), (0, 1), (2,), (2, 3), (2, 3), (3,), (2, 3), (2, 3))


class LeNet5(nn.Module):
    """LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, section II-B and Figure 2)."""

    image_size = 32
    outputs = ("rbf", "softmax")

    num_classes: int = 10
    activation: str = "scaled_tanh"  # eq. 6; or 'tanh', 'relu'
    pooling: str = "trainable"  # section II-B: coefficient, bias, squashing per map; or 'average', 'max'
    c3: str = "table"  # Table I; or 'full': every map of C3 reads every map of S2
    output: str = "rbf"  # eq. 7: penalties, smallest wins; or 'softmax': 84 -> classes logits
    weight_init: str = "uniform_sqrt"  # U(+-2.4/sqrt(F)); or 'uniform': U(+-2.4/F) as appendix A has it, 'he_normal'
    bias_init: str = "same"  # not in the paper: the range of the unit's weights; or 'zeros'
    dtype: str = "float32"  # of the computation; parameters are float32
    second_order: bool = False  # back-propagate curvature, not gradients: see curvature.py

    @nn.compact
    def __call__(self, images: Images, train: bool = False) -> Float[Array, "batch classes"]:
        """Penalties (`output='rbf'`) or logits (`'softmax'`) of images of 32x32 pixels."""
        del train  # nothing here differs between training and testing
        shared = _shared_fields(self)
        x = Convolution(6, name="C1", **shared)(images)  # 28x28x6
        x = Subsampling(pooling=self.pooling, name="S2", **shared)(x)  # 14x14x6
        x = Convolution(16, table=C3_TABLE if self.c3 == "table" else None, name="C3", **shared)(x)  # 10x10x16
        x = Subsampling(pooling=self.pooling, name="S4", **shared)(x)  # 5x5x16
        x = Convolution(120, name="C5", **shared)(x)  # 1x1x120
        x = Dense(84, name="F6", **shared)(x[:, 0, 0])
        if self.output == "rbf":
            return RBF(second_order=self.second_order, name="Output")(x)
        return _class_units(self, x)


class Zip89(nn.Module):
    """The zip-code network (LeCun et al. 1989): no sub-sampling layers, strides instead, and a bias for each unit."""

    image_size = 16
    outputs = ("place_coded", "softmax")

    num_classes: int = 10
    activation: str = "scaled_tanh"  # "scaled hyperbolic tangent", constants not printed; or 'tanh', 'relu'
    h2: str = "table"  # 8 of H1's 12 maps; or 'full'
    biases: str = "unit"  # one for each unit; or 'map': one for each map
    padding_value: float = -1.0  # outside the image is background; modern: 0
    output: str = "place_coded"  # one squashed unit per class, targets +-1; or 'softmax'
    weight_init: str = "uniform"  # U(+-2.4/F); or 'uniform_sqrt', 'he_normal'
    bias_init: str = "zeros"  # not in the paper; or 'same': the range of the unit's weights
    dtype: str = "float32"
    second_order: bool = False

    @nn.compact
    def __call__(self, images: Images, train: bool = False) -> Float[Array, "batch classes"]:
        """One output per class, for images of 16x16 pixels in [-1, 1]."""
        del train
        shared = _shared_fields(self)
        # 16 -> 8 with 5x5 kernels two pixels apart takes three pixels of padding: two before and one after.
        strided = {
            "strides": 2,
            "padding": (2, 1),
            "padding_value": self.padding_value,
            "bias_per_unit": self.biases == "unit",
            **shared,
        }
        x = Convolution(12, name="H1", **strided)(images)  # 8x8x12
        x = Convolution(12, table=ZIP_H2_TABLE if self.h2 == "table" else None, name="H2", **strided)(x)  # 4x4x12
        x = Dense(30, name="H3", **shared)(x.reshape(x.shape[0], -1))
        return _class_units(self, x)


class LeNet1(nn.Module):
    """LeNet-1 (LeCun et al. 1990; compared in section III of 1998): the first with sub-sampling layers."""

    image_size = 28
    outputs = ("place_coded", "softmax")

    num_classes: int = 10
    activation: str = "scaled_tanh"
    pooling: str = "trainable"  # or 'average', 'max'
    h3: str = "table"  # 20 of the 48 possible links; or 'full'
    output: str = "place_coded"  # or 'softmax'
    weight_init: str = "uniform"
    bias_init: str = "zeros"
    dtype: str = "float32"
    second_order: bool = False

    @nn.compact
    def __call__(self, images: Images, train: bool = False) -> Float[Array, "batch classes"]:
        """One output per class, for images of 28x28 pixels (in the paper, a digit of 16x16 at their centre)."""
        del train
        shared = _shared_fields(self)
        x = Convolution(4, name="H1", **shared)(images)  # 24x24x4
        x = Subsampling(pooling=self.pooling, name="H2", **shared)(x)  # 12x12x4
        x = Convolution(12, table=LENET1_H3_TABLE if self.h3 == "table" else None, name="H3", **shared)(x)  # 8x8x12
        x = Subsampling(pooling=self.pooling, name="H4", **shared)(x)  # 4x4x12
        x = x.reshape(x.shape[0], -1)
        return _class_units(self, x)


class MLP(nn.Module):
    """Fully connected layers: the baseline of 1989 (section 5), and the rows of 1998's section III-C."""

    outputs = ("place_coded", "softmax")

    num_classes: int = 10
    hidden: tuple[int, ...] = (300,)  # units of each hidden layer
    image_size: int = 28  # side of the images, pixels
    activation: str = "scaled_tanh"
    output: str = "place_coded"  # or 'softmax'
    weight_init: str = "uniform"
    bias_init: str = "zeros"
    dtype: str = "float32"
    second_order: bool = False

    @nn.compact
    def __call__(self, images: Images, train: bool = False) -> Float[Array, "batch classes"]:
        """One output per class."""
        del train
        x = images.reshape(images.shape[0], -1)
        for number, units in enumerate(self.hidden, 1):
            x = Dense(units, name=f"H{number}", **_shared_fields(self))(x)
        return _class_units(self, x)


def _shared_fields(network: nn.Module) -> dict[str, Any]:
    """The fields of a network that all its layers share."""
    names = ("activation", "weight_init", "bias_init", "dtype", "second_order")
    return {name: getattr(network, name) for name in names}


def _class_units(network: nn.Module, inputs: Array) -> Array:
    """The output layer, one unit per class: squashed for place-coded targets, plain for softmax; in float32."""
    fields = _shared_fields(network)
    if network.output == "softmax":
        fields["activation"] = "identity"
    return Dense(network.num_classes, name="Output", **fields)(inputs).astype(jnp.float32)


NETWORKS: dict[str, type[LeNet5] | type[Zip89] | type[LeNet1] | type[MLP]] = {
    "lenet5": LeNet5,
    "lenet5_modern": LeNet5,
    "lenet1989": Zip89,
    "lenet1": LeNet1,
    "mlp1989": MLP,
    "mlp": MLP,
}

_INTERNAL = ("second_order",)
# The options of the loss: `name` is 'map' (1998, eq. 9, with the constant j in `rubbish`; the paper gives no value),
# 'mse' (eq. 8; on place-coded targets for the earlier networks) or 'cross_entropy'.
VARIANTS: dict[str, dict[str, Any]] = {
    **models.variants(
        LeNet5,
        {
            "lenet5": {},
            "lenet5_modern": {  # what is usually called LeNet-5 today: 61,706 parameters
                "activation": "relu",
                "pooling": "max",
                "c3": "full",
                "output": "softmax",
                "weight_init": "he_normal",
                "bias_init": "zeros",
                "loss": {"name": "cross_entropy"},
            },
        },
        internal=_INTERNAL,
        loss={"name": "map", "rubbish": 10.0},
    ),
    **models.variants(Zip89, {"lenet1989": {}}, internal=_INTERNAL, loss={"name": "mse"}),
    **models.variants(LeNet1, {"lenet1": {}}, internal=_INTERNAL, loss={"name": "mse"}),
    **models.variants(
        MLP,
        {"mlp1989": {"hidden": (40,), "image_size": 16}, "mlp": {}},  # 10,690 parameters; 784-300-10
        internal=_INTERNAL,
        loss={"name": "mse"},
    ),
}

CHOICES = {
    "activation": ("scaled_tanh", "tanh", "relu"),
    "pooling": ("trainable", "average", "max"),
    "c3": ("table", "full"),
    "h2": ("table", "full"),
    "h3": ("table", "full"),
    "biases": ("unit", "map"),
    "weight_init": tuple(WEIGHT_INITS),
    "bias_init": ("same", "zeros"),
    "dtype": ("float32", "bfloat16"),
}

RANGES = dict.fromkeys(("hidden", "image_size"), models.COUNT)


@dataclasses.dataclass(frozen=True)
class _Output:
    """The losses that a kind of output can be trained on, its logits, and the seed of its second derivatives."""

    losses: dict[str, Callable[..., Array]]
    logits: Callable[[Array], Array]
    seed: Callable[[Array, Array], Array]


OUTPUTS = {
    "rbf": _Output(
        {"map": losses.penalty_map, "mse": losses.penalty_mse}, jnp.negative, curvature.correct_penalty_seed
    ),
    "place_coded": _Output({"mse": losses.place_coded_mse}, identity, curvature.place_coded_seed),
    "softmax": _Output({"cross_entropy": cross_entropy}, identity, curvature.softmax_seed),
}
LOSSES = sorted({name for output in OUTPUTS.values() for name in output.losses})


def network(section: ConfigDict, num_classes: int) -> nn.Module:
    """The module of a `model` section.

    Raises UserError for an unknown name or a contradiction, in the loss's options too.
    """
    fields = models.hyper_parameters(section, VARIANTS, CHOICES, RANGES)
    kind = NETWORKS[section.variant]
    if section.output not in kind.outputs:
        raise unknown("config.model.output", section.output, kind.outputs)
    if section.output == "rbf" and num_classes != len(CENTRES):
        raise UserError(
            f"output=rbf compares with bitmaps of the {len(CENTRES)} digits and the dataset has {num_classes} classes: "
            "use config.model.output=softmax and config.model.loss.name=cross_entropy"
        )
    _loss(section)
    return kind(num_classes=num_classes, **fields)


def _loss(section: ConfigDict) -> Callable[..., Array]:
    """The function that `section.loss` describes, (outputs, labels) -> one loss per example."""
    options, losses_of_output = section.loss, OUTPUTS[section.output].losses
    if options.name not in LOSSES:
        raise unknown("config.model.loss.name", options.name, LOSSES)
    if options.name not in losses_of_output:
        raise UserError(
            f"loss.name={options.name} does not go with output={section.output}: "
            f"use config.model.loss.name={' or '.join(losses_of_output)}"
        )
    function = losses_of_output[options.name]
    if "rubbish" in options:
        models.check_effects(section, VARIANTS, {"loss.rubbish": (options.name == "map", "loss.name=map")})
    if options.name != "map":
        return function
    if not options.rubbish > 0:
        raise UserError(f"loss.rubbish={options.rubbish}: the constant j of loss.name=map is positive (1998, eq. 9)")
    return functools.partial(function, rubbish=options.rubbish)


def make_classifier(section: ConfigDict, info: Facts) -> Classifier:
    """The classifier of a `model` section for a dataset with these facts.

    Raises UserError for unknown or contradictory hyper-parameters and for images of the wrong size.
    """
    module = network(section, info.num_classes)
    output = OUTPUTS[section.output]
    size = (module.image_size, module.image_size)
    if tuple(info.image_shape[:2]) != size:
        height, width = info.image_shape[:2]
        raise UserError(f"{section.variant} takes images of {size[0]}x{size[1]} pixels, got {height}x{width}")
    return Classifier(
        module=module,
        loss=_loss(section),
        logits=output.logits,
        input_shape=info.image_shape,
        num_classes=info.num_classes,
        soft_labels=section.loss.name == "cross_entropy",
        curvature=functools.partial(curvature.diagonal, module, output.seed),
    )
