"""The LeNet papers' counts and constants, computed from our networks."""

import functools
import math
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from common import models
from common.anatomy import layer_table, networks
from common.claims.fact import Fact
from common.training.state import num_parameters
from lenet import layers, model, paper


def parameters(variant: str) -> dict[str, int]:
    """The trained values of each layer, and their total."""
    shapes = _shapes(variant)
    counts = {layer: num_parameters(shapes.get(layer, {})) for layer in paper.LAYERS[variant]}
    return {**counts, "total": num_parameters(shapes)}


def connections(variant: str) -> dict[str, int]:
    """The connections of each layer, biases included, and their total."""
    counts = paper.connections(models.section("lenet", variant), _shapes(variant))
    return {**counts, "total": sum(counts.values())}


def multiply_adds(variant: str) -> int:
    """The network's connections without the biases: each unit of a layer with parameters has one bias."""
    rows = _rows(variant)
    biased = [layer for layer, count in parameters(variant).items() if count and layer != "total"]
    return connections(variant)["total"] - sum(math.prod(rows[layer].output_shape) for layer in biased)


def units(variant: str) -> int:
    """The units of all layers, pixels of the image included."""
    rows, size = _rows(variant), _network(variant).image_size
    return size**2 + sum(math.prod(rows[layer].output_shape) for layer in paper.LAYERS[variant])


def squashing() -> dict[str, float]:
    """The squashing function's values at its targets, and the point in [0, 3] with the largest second derivative."""
    bend = jax.vmap(jax.grad(jax.grad(layers.scaled_tanh)))
    points = jnp.linspace(0, 3, 3001)
    return {
        "f(1)": float(layers.scaled_tanh(jnp.float32(1))),
        "f(-1)": float(layers.scaled_tanh(jnp.float32(-1))),
        "place of the largest |f''|": float(points[jnp.abs(bend(points)).argmax()]),
    }


def c3_links() -> dict[str, int]:
    """The links of C3's table: how many there are, how many maps read 3, 4 and 6 maps, and how often a map is read."""
    read, reader = layers.links(model.C3_TABLE)
    readings = Counter(Counter(reader.tolist()).values())
    often = Counter(read.tolist()).values()
    return {
        "links": len(read),
        **{f"maps that read {count}": readings[count] for count in (3, 4, 6)},
        "fewest readers of a map": min(often),
        "most readers of a map": max(often),
    }


def fields() -> dict[str, int]:
    """The side, in pixels, of the square of the image that a unit of each layer sees."""
    rows = _rows("lenet5")
    return {layer: rows[layer].receptive_field or 0 for layer in ("C1", "S2", "C5")}


def _network(variant: str) -> Any:
    return model.network(models.section("lenet", variant), 10)


def _rows(variant: str) -> dict[str, layer_table.Row]:
    return networks.rows("lenet", variant, _network(variant).image_size, 10, 1)


def _shapes(variant: str) -> PyTree:
    network = _network(variant)
    return layer_table.variable_shapes(network, (network.image_size, network.image_size, 1))["params"]


def _printed(variant: str, column: str) -> dict[str, int]:
    """The paper's counts of each layer, and their total."""
    counts = {layer: facts[column] for layer, facts in paper.LAYERS[variant].items()}
    return {**counts, "total": paper.TOTALS[variant][column]}


def _counts(variant: str, prefix: str, name: str, where: str) -> list[Fact]:
    of = {"parameters": parameters, "connections": connections}
    return [
        Fact(
            id=f"{prefix}-{column}",
            where=where,
            says=f"{name} has {paper.TOTALS[variant][column]:,} {column}",
            compute=functools.partial(count, variant),
            expected=_printed(variant, column),
            unit=column,
        )
        for column, count in of.items()
    ]


_OF_1998 = {"LeNet-1": "lenet1", "LeNet-5": "lenet5"}

FACTS = [
    *_counts("lenet1989", "zip89", "the zip-code network", "LeCun 1989, section 3"),
    *_counts("lenet1", "lenet1", "LeNet-1", "LeCun 1990, section 3"),
    *_counts("lenet5", "lenet5", "LeNet-5", "LeCun 1998, section II-B"),
    Fact(
        id="zip89-units",
        where="LeCun 1989, section 3",
        says="the zip-code network has 1,256 units",
        compute=lambda: {"units": units("lenet1989")},
        expected={"units": 1256},
        unit="units",
    ),
    Fact(
        id="lenet1-units",
        where="LeCun 1990, section 3",
        says="LeNet-1 has 4,635 units",
        compute=lambda: {"units": units("lenet1") + 1},
        expected={"units": 4635},
        unit="units",
        note="the paper counts the constant input of the biases as a unit",
    ),
    Fact(
        id="memory",
        where="LeCun 1998, Figure 12",
        says="LeNet-1 stores 3 and LeNet-5 60 thousand variables",
        compute=lambda: {name: parameters(variant)["total"] for name, variant in _OF_1998.items()},
        expected={"LeNet-1": "3K", "LeNet-5": "60K"},
        unit="variables",
    ),
    Fact(
        id="macs-per-digit",
        where="LeCun 1998, Figure 11",
        says="a digit takes LeNet-1 100 and LeNet-5 401 thousand multiply-adds",
        compute=lambda: {name: multiply_adds(variant) for name, variant in _OF_1998.items()},
        expected={"LeNet-1": "100K", "LeNet-5": "401K"},
        unit="multiply-adds",
        note="ours are the connections of section II-B without the biases; the figure does not say what it counts",
    ),
    Fact(
        id="lenet5-c3-table",
        where="LeCun 1998, section II-B and Table I",
        says="six maps of C3 read three maps of S2, nine read four, one reads all six",
        compute=c3_links,
        expected={
            "links": 60,
            **{"maps that read 3": 6, "maps that read 4": 9, "maps that read 6": 1},
            **{"fewest readers of a map": 10, "most readers of a map": 10},
        },
    ),
    Fact(
        id="lenet5-fields",
        where="LeCun 1998, section II-B",
        says="units of C1 see 5x5 pixels, units of S2 6x6, units of C5 the whole image of 32x32",
        compute=fields,
        expected={"C1": 5, "S2": 6, "C5": 32},
        unit="pixels",
    ),
    Fact(
        id="lenet5-squashing",
        where="LeCun 1998, appendix A",
        says="f(a) = 1.7159 tanh(2a/3) takes 1 to 1 and -1 to -1, where its second derivative is largest",
        compute=squashing,
        expected={"f(1)": 1.0, "f(-1)": -1.0, "place of the largest |f''|": 1.0},
        tolerance=0.02,
    ),
]
