"""The order of training examples: a pure function of (seed, position).

Training reads an endless stream of examples, pass after pass over the data; a batch may straddle two passes. Positions
count examples from the start of the run, so a step's batch does not depend on earlier ones. A pass has every example
once or, with balanced sampling, the same number of examples with equally frequent classes.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Int, Int64

_CLASS = 2  # keeps these random numbers apart from those of the passes and of `pipeline`, which have the same seed


@dataclasses.dataclass(frozen=True, eq=False)
class Classes:
    """The indices of each class's examples; classes without examples are left out."""

    members: tuple[Int64[np.ndarray, " _"], ...]


def by_class(labels: Int[np.ndarray, " examples"]) -> Classes:
    """The classes of a training set, for balanced sampling."""
    by_label = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[by_label], return_index=True)
    return Classes(tuple(np.split(by_label, starts[1:])))


def indices(
    seed: int, shuffle: str, num_examples: int, start: int, count: int, classes: Classes | None = None
) -> Int64[np.ndarray, " count"]:
    """Indices of the examples at the `count` stream positions from `start` on.

    shuffle: 'epoch' draws a new order for each pass, 'once' draws one order for all passes (LeNet-5), 'none' keeps
    the stored order (LeCun 1989). classes: with 'epoch', draws each class equally often (see `_balanced`).
    """
    positions = np.arange(start, start + count)
    epochs, offsets = np.divmod(positions, num_examples)
    if shuffle == "none":
        return offsets
    result = np.empty(count, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        result[here] = _pass(seed, int(epoch) if shuffle == "epoch" else 0, num_examples, classes)[offsets[here]]
    return result


@functools.lru_cache(maxsize=2)
def _pass(seed: int, epoch: int, num_examples: int, classes: Classes | None) -> Int64[np.ndarray, " examples"]:
    order = np.random.default_rng((seed, epoch)).permutation(num_examples)
    return order if classes is None else _balanced(seed, epoch, num_examples, classes)[order]


def _balanced(seed: int, epoch: int, num_examples: int, classes: Classes) -> Int64[np.ndarray, " examples"]:
    """The examples of a pass, unshuffled: the classes take turns, starting where the last pass ended.

    So the counts of any two classes differ by at most one. Each class is drawn without replacement, across passes: all
    its examples in random order, then all again.
    """
    count = len(classes.members)
    start = epoch * num_examples
    result = np.empty(num_examples, np.int64)
    for offset in range(min(count, num_examples)):
        turn, number = divmod(start + offset, count)
        places = len(range(offset, num_examples, count))
        members = classes.members[number]
        rounds = max(num_examples // (count * len(members)), 1)  # about as many as fit into a pass
        result[offset::count] = _draws(seed, number, members, rounds, turn, places)
    return result


def _draws(
    seed: int, number: int, members: Int64[np.ndarray, " members"], rounds: int, first: int, count: int
) -> Int64[np.ndarray, " count"]:
    """The draws first .. first + count of class `number`; its random orders are drawn `rounds` at a time."""
    size = rounds * len(members)
    blocks = range(first // size, -(-(first + count) // size))
    drawn = [
        np.random.default_rng((seed, number, block, _CLASS)).permuted(np.tile(members, (rounds, 1)), axis=1).ravel()
        for block in blocks
    ]
    return np.concatenate(drawn)[first - blocks.start * size :][:count]
