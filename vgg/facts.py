"""The VGG paper's counts, computed from our networks and from stacks of our framework's layers."""

from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array, Float

from common.anatomy import layer_table, networks
from common.claims.fact import Fact
from vgg import paper

_MAPS = 8  # any number: all counts are in units of its square


class Stack(nn.Module):
    """Convolutions of these kernel sizes, one after the other, each with as many maps as it reads and no bias."""

    kernel_sizes: Sequence[int]

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width maps"], train: bool = False
    ) -> Float[Array, "batch height width maps"]:
        """The maps of the last layer."""
        for size in self.kernel_sizes:
            images = nn.Conv(images.shape[-1], (size, size), use_bias=False)(images)
        return images


def weights(*kernel_sizes: int) -> float:
    """The weights of a stack, in units of the squared number of its maps."""
    return _stack(*kernel_sizes)[0].parameters / _MAPS**2


def field(*kernel_sizes: int) -> int:
    """The number of image rows that an output of a stack sees."""
    return _stack(*kernel_sizes)[-1].receptive_field or 0


def weight_layers(variant: str) -> int:
    """The number of layers that have weights."""
    return sum(row.leaf and row.parameters > 0 for row in networks.rows("vgg", variant, 32).values())


def dense_sizes() -> dict[str, int]:
    """The number of inputs of fc6, and the number of convolutional maps that they come from."""
    rows = networks.rows("vgg", "vgg16")
    inputs = (rows["fc6"].parameters - 4096) // 4096
    return {"inputs of fc6": inputs, "maps of the last stage": rows["conv5_3"].output_shape[-1]}


def _stack(*kernel_sizes: int) -> list[layer_table.Row]:
    return layer_table.rows(Stack(kernel_sizes), (32, 32, _MAPS))


_WEIGHT_LAYERS = {"vgg11": 11, "vgg11_lrn": 11, "vgg13": 13, "vgg16_c": 16, "vgg16": 16, "vgg19": 19}

FACTS = [
    Fact(
        id="vgg-t2-parameters",
        where="Simonyan & Zisserman 2015, Table 2",
        says="networks A to E have 133 to 144 million parameters",
        compute=lambda: {variant: networks.parameters("vgg", variant) for variant in paper.TOTALS},
        expected={variant: facts["parameters"] for variant, facts in paper.TOTALS.items()},
        unit="parameters",
    ),
    Fact(
        id="vgg-depth-of-networks",
        where="Simonyan & Zisserman 2015, Table 1",
        says="networks A to E have 11 to 19 layers with weights",
        compute=lambda: {variant: weight_layers(variant) for variant in _WEIGHT_LAYERS},
        expected=_WEIGHT_LAYERS,
        unit="layers",
    ),
    Fact(
        id="vgg-stack-fields",
        where="Simonyan & Zisserman 2015, section 2.3",
        says="two 3x3 layers see as much as one of 5x5, three as much as one of 7x7",
        compute=lambda: {
            "two of 3x3": field(3, 3),
            "one of 5x5": field(5),
            "three of 3x3": field(3, 3, 3),
            "one of 7x7": field(7),
        },
        expected={"two of 3x3": 5, "one of 5x5": 5, "three of 3x3": 7, "one of 7x7": 7},
        unit="pixels",
    ),
    Fact(
        id="vgg-27c2-against-49c2",
        where="Simonyan & Zisserman 2015, section 2.3",
        says="on C maps three 3x3 layers have 27 C^2 weights, one of 7x7 has 49 C^2, which is 81% more",
        compute=lambda: {
            "three of 3x3, over C^2": weights(3, 3, 3),
            "one of 7x7, over C^2": weights(7),
            "more": weights(7) / weights(3, 3, 3) - 1,
        },
        expected={"three of 3x3, over C^2": 27, "one of 7x7, over C^2": 49, "more": "81%"},
    ),
    Fact(
        id="vgg-18c2-against-25c2",
        where="Simonyan & Zisserman 2015, section 2.3",
        says="on C maps two 3x3 layers have 18 C^2 weights, one of 5x5 has 25 C^2",
        compute=lambda: {"two of 3x3, over C^2": weights(3, 3), "one of 5x5, over C^2": weights(5)},
        expected={"two of 3x3, over C^2": 18, "one of 5x5, over C^2": 25},
        note="the paper counts three against 7x7; the lecture counts these two as well",
    ),
    Fact(
        id="vgg-dense-layers",
        where="Simonyan & Zisserman 2015, section 3.2",
        says="the first fully connected layer is a 7x7 convolution of the last 512 maps",
        compute=dense_sizes,
        expected={"inputs of fc6": 7 * 7 * 512, "maps of the last stage": 512},
    ),
]
