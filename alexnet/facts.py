"""The AlexNet papers' counts, computed from our networks."""

import math

from alexnet import paper
from common.anatomy import networks
from common.claims.fact import Fact

_LAYERS = paper.LAYERS["two_column"]
_ROUND = 0.02  # tolerance for the abstract's "60 million" and "650,000", which are loosely rounded


def neurons() -> int:
    """The number of outputs of all layers with weights, in both columns."""
    rows = networks.rows("alexnet", "two_column")
    return sum(math.prod(rows[layer].output_shape) for layer in _LAYERS)


def convolutional_shares() -> dict[str, float]:
    """The share of the parameters that each convolutional layer has."""
    rows = networks.rows("alexnet", "two_column")
    return {name: rows[name].parameters / rows[""].parameters for name in _LAYERS if name.startswith("conv")}


def one_column_excess() -> float:
    """The one-column network's extra parameters, as a share of the two-column network's."""
    return networks.parameters("alexnet", "one_column") / networks.parameters("alexnet", "two_column") - 1


FACTS = [
    Fact(
        id="alexnet-parameters",
        where="Krizhevsky 2012, abstract",
        says="the network has 60 million parameters",
        compute=lambda: {"parameters": networks.parameters("alexnet", "two_column")},
        expected={"parameters": 60_000_000},
        tolerance=_ROUND,
    ),
    Fact(
        id="alexnet-neurons",
        where="Krizhevsky 2012, abstract",
        says="the network has 650,000 neurons",
        compute=lambda: {"neurons": neurons()},
        expected={"neurons": 650_000},
        tolerance=_ROUND,
    ),
    Fact(
        id="alexnet-multiply-adds",
        where="Krizhevsky 2012, section 3.5",
        says="the kernels that the paper prints make 724 million multiply-adds",
        compute=lambda: {name: networks.rows("alexnet", "two_column")[name].multiply_adds for name in _LAYERS},
        expected={name: layer["multiply_adds"] for name, layer in _LAYERS.items()},
        unit="multiply-adds",
        note="the paper prints kernels and map sizes; the expected products are theirs",
    ),
    Fact(
        id="alexnet-convolutional-share",
        where="Krizhevsky 2012, section 1",
        says="each convolutional layer has no more than 1% of the parameters",
        compute=convolutional_shares,
        expected={name: (None, 0.01) for name in _LAYERS if name.startswith("conv")},
        unit="%",
    ),
    Fact(
        id="alexnet-1col-parameters",
        where="Krizhevsky 2014, section 5",
        says="the one-column network has 0.2% more parameters",
        compute=lambda: {"more": one_column_excess()},
        expected={"more": "0.2%"},
        note="with 256 kernels in conv4; the 384 that the paper's footnote prints would make it 1.4%",
    ),
]
