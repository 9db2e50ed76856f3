"""Counts of the networks of a family, by variant, found by tracing; each network is traced once in a process.

family, variant, changes: as `models.section` takes them. side: of the square images, in pixels.
"""

import functools
import math
from typing import Any

import jax
from flax import linen as nn

from common import models
from common.anatomy import layer_table
from common.anatomy.layer_table import Row


@functools.cache
def rows(
    family: str, variant: str, side: int = 224, classes: int = 1000, channels: int = 3, **changes: Any
) -> dict[str, Row]:
    """The rows of the layer table by name; the whole network is ''."""
    module = _network(family, variant, classes, changes)
    return {row.name: row for row in layer_table.rows(module, (side, side, channels))}


@functools.cache
def parameters(
    family: str, variant: str, side: int = 224, classes: int = 1000, channels: int = 3, **changes: Any
) -> int:
    """The number of trained values."""
    module = _network(family, variant, classes, changes)
    shapes = layer_table.variable_shapes(module, (side, side, channels))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))


@functools.cache
def multiply_adds(
    family: str, variant: str, side: int = 224, classes: int = 1000, channels: int = 3, **changes: Any
) -> int:
    """The multiply-adds of matrix products and convolutions for one image, forwards."""
    module, shape = _network(family, variant, classes, changes), (side, side, channels)
    return layer_table.multiply_adds_per_image(module, layer_table.variable_shapes(module, shape), shape)


def _network(family: str, variant: str, classes: int, changes: dict[str, Any]) -> nn.Module:
    return models.family_module(family).network(models.section(family, variant, **changes), classes)
