"""Variables by name: trained ones as they are given, and the shapes of those that a network has."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from flax import traverse_util
from jaxtyping import PyTree

from common.anatomy import layer_table
from common.models import Classifier

Flat = dict[str, Any]  # arrays, or their shapes, by name: 'params/conv1/kernel'


class Given(NamedTuple):
    """Trained variables (arrays by collection) and their origin in words.

    classifier: the network of a run; None for a file. class_names: of a run, or those that the config.json of a folder
    gives; () if they are unknown. notes: sentences to print.
    """

    variables: PyTree
    origin: str
    classifier: Classifier | None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def shapes(module: nn.Module, classifier: Classifier) -> PyTree:
    """The shapes of a module's variables on the classifier's images."""
    return jax.tree.map(lambda shape: shape, _shapes(module, classifier.input_shape))  # a tree of its own


_shapes = functools.lru_cache(8)(layer_table.variable_shapes)  # tracing a deep network takes a second


def flatten(tree: PyTree) -> Flat:
    """The arrays of a tree, or their shapes, by name."""
    return traverse_util.flatten_dict(tree, sep="/")


def unflatten(flat: Mapping[str, Any]) -> PyTree:
    """The inverse of `flatten`."""
    return traverse_util.unflatten_dict(flat, sep="/")


def is_untrained(array: Any) -> bool:
    """True for the shape that stands for an array without weights."""
    return isinstance(array, jax.ShapeDtypeStruct)


def wrong_shape(origin: str, name: str, given: Any, wanted: Any) -> str:
    """The message about an array of another shape than the network's."""
    return f"{origin} is another network: '{name}' is {given.shape}, expected {wanted.shape}"
