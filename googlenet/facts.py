"""The GoogLeNet paper's counts, computed from our networks."""

from common.anatomy import networks
from common.claims.fact import Fact
from googlenet import paper

_ROWS = {name: facts for name, facts in paper.LAYERS["googlenet"].items() if "multiply_adds" in facts}


def parameters() -> int:
    """Parameters without the auxiliary classifiers, which are discarded after training."""
    return networks.parameters("googlenet", "googlenet", auxiliary=False)


def fewer_than(family: str, variant: str) -> float:
    """The number of parameters of another network, divided by GoogLeNet's."""
    return networks.parameters(family, variant) / parameters()


def of_rows(column: str) -> dict[str, int]:
    """A column of the layer table for the rows of Table 1."""
    rows = networks.rows("googlenet", "googlenet")
    return {name: getattr(rows[name], column) for name in _ROWS}


FACTS = [
    Fact(
        id="googlenet-fewer-params-than-alexnet",
        where="Szegedy 2015, section 1",
        says="GoogLeNet has twelve times fewer parameters than AlexNet",
        compute=lambda: {"times fewer": fewer_than("alexnet", "two_column")},
        expected={"times fewer": "12"},
        note="61.0 million against 7.0 million without auxiliary classifiers; Table 1's column adds up to 6.8 million",
    ),
    Fact(
        id="googlenet-ops-budget",
        where="Szegedy 2015, section 1",
        says="inference takes 1.5 billion multiply-adds",
        compute=lambda: {"multiply-adds": networks.multiply_adds("googlenet", "googlenet", auxiliary=False)},
        expected={"multiply-adds": paper.TOTALS["googlenet"]["multiply_adds"]},
        note="Table 1 adds up to 1.5 billion; it has 34 million for conv1, whose 7x7 kernels take 118 million",
    ),
    Fact(
        id="googlenet-table1-ops",
        where="Szegedy 2015, Table 1",
        says="the multiply-adds of each row",
        compute=lambda: of_rows("multiply_adds"),
        expected={name: facts["multiply_adds"] for name, facts in _ROWS.items()},
        unit="multiply-adds",
        note="4a is 73.6 million; conv1 and 5a match no way of counting the layers that the table describes",
    ),
    Fact(
        id="googlenet-table1-parameters",
        where="Szegedy 2015, Table 1",
        says="the parameters of each row",
        compute=lambda: of_rows("parameters"),
        expected={name: facts["parameters"] for name, facts in _ROWS.items()},
        unit="parameters",
        note="some rows are weights in units of 1,024, the others match no way of counting (googlenet/paper.py)",
    ),
]
