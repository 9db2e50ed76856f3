"""Converts parameters of separate blocks (encoderblock_0, ...) to those of stacked ones (encoderblock), and back."""

import re
from collections.abc import Mapping

import jax
import numpy as np
from flax import traverse_util
from jaxtyping import PyTree

Arrays = dict[str, np.ndarray]  # by '/'-joined name
Shapes = dict[str, tuple[int, ...]]

_STACKED = "Transformer/encoderblock/"


def to_tree(arrays: Mapping[str, np.ndarray]) -> PyTree:
    """Arrays by '/'-joined name as a nested dictionary."""
    return traverse_util.unflatten_dict(dict(arrays), sep="/")


def flatten(params: PyTree) -> Arrays:
    """The arrays of a nested dictionary by '/'-joined name."""
    return {name: np.asarray(array) for name, array in traverse_util.flatten_dict(params, sep="/").items()}


def unstack_blocks(params: PyTree) -> PyTree:
    """Parameters of a network with `scan=True` as those of one with `scan=False`; others are returned unchanged."""
    transformer = dict(params["Transformer"])
    if "encoderblock" not in transformer:
        return params
    stacked = transformer.pop("encoderblock")
    for number in range(len(jax.tree.leaves(stacked)[0])):
        transformer[f"encoderblock_{number}"] = jax.tree.map(lambda array, n=number: array[n], stacked)
    return {**params, "Transformer": transformer}


def stack_blocks(params: PyTree) -> PyTree:
    """The reverse of `unstack_blocks`."""
    transformer = dict(params["Transformer"])
    numbered = sorted((number, name) for name in transformer if (number := block_number(name)) is not None)
    if not numbered:
        return params
    blocks = [transformer.pop(name) for _, name in numbered]
    transformer["encoderblock"] = jax.tree.map(lambda *arrays: np.stack(arrays), *blocks)
    return {**params, "Transformer": transformer}


def block_shapes(like: PyTree) -> Shapes:
    """Shapes by name, with separate blocks."""
    shapes = {}
    for name, leaf in traverse_util.flatten_dict(like, sep="/").items():
        inside = name.removeprefix(_STACKED)
        if inside == name:
            shapes[name] = leaf.shape
        else:
            shapes |= {f"Transformer/encoderblock_{i}/{inside}": leaf.shape[1:] for i in range(leaf.shape[0])}
    return shapes


def block_number(module: str) -> int | None:
    """The number in a block's name; None for other names."""
    match = re.fullmatch(r"encoderblock_(\d+)", module)
    return int(match[1]) if match else None


def block_of(name: str) -> int | None:
    """The number of the block that an array belongs to; None for other arrays."""
    return next((n for n in map(block_number, name.split("/")) if n is not None), None)
