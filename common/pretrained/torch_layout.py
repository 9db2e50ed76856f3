"""PyTorch's state dictionaries and our variables, converted into each other: names, and the order of axes.

A family lists its arrays as `Entry`s (see its `weights.py`); the functions here convert them. PyTorch keeps
convolutions as [outputs, inputs, height, width] and we as [height, width, inputs, outputs]; its dense layers are
[outputs, inputs], ours [inputs, outputs]; and it flattens maps channel by channel where we flatten pixel by pixel.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util
from jaxtyping import PyTree

from common.errors import UserError, listed, missing_and_extra

State = Mapping[str, np.ndarray]

_AXES = {"convolution": (3, 2, 0, 1), "dense": (1, 0)}  # of ours, in PyTorch's order


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array under its two names.

    ours: path in our variables, such as 'params/conv1/kernel'. theirs: PyTorch's name.
    layout: 'same', 'convolution' or 'dense'. map_channels: the channels of the flattened square map that a
    dense layer reads; 0 elsewhere.
    """

    ours: str
    theirs: str
    layout: str = "same"
    map_channels: int = 0


def convolution(ours: str, theirs: str, bias: bool = True) -> list[Entry]:
    """A convolution's kernel and bias; names without the last part."""
    kernel = Entry(f"params/{ours}/kernel", f"{theirs}.weight", "convolution")
    return [kernel, *([Entry(f"params/{ours}/bias", f"{theirs}.bias")] if bias else [])]


def dense(ours: str, theirs: str, map_channels: int = 0) -> list[Entry]:
    """A dense layer's kernel and bias."""
    kernel = Entry(f"params/{ours}/kernel", f"{theirs}.weight", "dense", map_channels)
    return [kernel, Entry(f"params/{ours}/bias", f"{theirs}.bias")]


def batch_norm(ours: str, theirs: str) -> list[Entry]:
    """A batch normalisation's scale, bias and running statistics."""
    return [
        Entry(f"params/{ours}/scale", f"{theirs}.weight"),
        Entry(f"params/{ours}/bias", f"{theirs}.bias"),
        Entry(f"batch_stats/{ours}/mean", f"{theirs}.running_mean"),
        Entry(f"batch_stats/{ours}/var", f"{theirs}.running_var"),
    ]


def to_ours(state: State, entries: Sequence[Entry], like: PyTree, unused: Iterable[str] = ()) -> dict[str, Any]:
    """Our variables with the arrays of a state dictionary.

    like: our variables or their shapes. unused: beginnings of names that may be left over; 'num_batches_tracked'
    always may. Raises UserError, which names the array that is missing, left over or of another shape.
    """
    shapes = traverse_util.flatten_dict(like, sep="/")
    theirs = {entry.theirs for entry in entries}
    missing = [name for name in sorted(theirs) if name not in state]
    extra = [name for name in sorted(set(state) - theirs) if not name.startswith(tuple(unused))]
    extra = [name for name in extra if "num_batches_tracked" not in name]
    if missing or extra:
        raise UserError(
            f"the checkpoint is another network's: it {missing_and_extra(missing, extra)}; choose its variant"
        )
    arrays = {}
    for entry in entries:
        array, shape = np.asarray(state[entry.theirs]), shapes[entry.ours].shape
        if array.shape != tuple(shape[axis] for axis in _AXES.get(entry.layout, range(len(shape)))):
            raise UserError(
                f"the checkpoint's '{entry.theirs}' has shape {array.shape}, which does not fit '{entry.ours}' of "
                f"shape {shape}"
            )
        arrays[entry.ours] = _to_ours(array, entry)
    return traverse_util.unflatten_dict(arrays, sep="/")


def to_theirs(variables: PyTree, entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """The state dictionary of our variables. Raises UserError for arrays without an entry, which a file would lack."""
    arrays = traverse_util.flatten_dict(variables, sep="/")
    if lost := sorted(arrays.keys() - {entry.ours for entry in entries}):
        raise UserError(f"the published network has no place for {listed(lost)}, which this network has")
    return {entry.theirs: _to_theirs(np.asarray(arrays[entry.ours]), entry) for entry in entries}


def _to_ours(array: np.ndarray, entry: Entry) -> np.ndarray:
    """A view of the array wherever that is possible, to save memory."""
    if entry.layout == "convolution":
        return array.transpose(2, 3, 1, 0)
    if entry.layout == "same":
        return array
    if entry.map_channels:
        side = _side(array.shape[1], entry)
        maps = array.reshape(-1, entry.map_channels, side, side)
        array = maps.transpose(0, 2, 3, 1).reshape(len(array), -1)
    return array.T


def _to_theirs(array: np.ndarray, entry: Entry) -> np.ndarray:
    if entry.layout == "convolution":
        return np.ascontiguousarray(array.transpose(_AXES["convolution"]))
    if entry.layout == "same":
        return array
    array = array.T
    if entry.map_channels:
        side = _side(array.shape[1], entry)
        maps = array.reshape(-1, side, side, entry.map_channels)
        array = maps.transpose(0, 3, 1, 2).reshape(len(array), -1)
    return np.ascontiguousarray(array)


def _side(inputs: int, entry: Entry) -> int:
    """The side of the square map that a dense layer reads."""
    side = math.isqrt(inputs // entry.map_channels)
    if side * side * entry.map_channels != inputs:
        raise UserError(f"'{entry.theirs}' reads {inputs} numbers, which are not a square map of {entry.map_channels}")
    return side
