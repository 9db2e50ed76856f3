"""The order of training examples: a pure function of (seed, position).

Training reads an endless stream of examples, pass after pass over the data, and drops none; a batch may straddle two
passes. Positions count examples from the start of the run, so a step's batch does not depend on earlier ones.
"""

import functools

import numpy as np
from jaxtyping import Int64


def indices(seed: int, shuffle: str, num_examples: int, start: int, count: int) -> Int64[np.ndarray, " count"]:
    """Indices of the examples at stream positions start .. start + count.

    shuffle: 'epoch' draws a new order for each pass, 'once' draws one order for all passes (LeNet-5), 'none' keeps
    the stored order (LeCun 1989).
    """
    positions = np.arange(start, start + count)
    epochs, offsets = np.divmod(positions, num_examples)
    if shuffle == "none":
        return offsets
    result = np.empty(count, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        result[here] = _permutation(seed, int(epoch) if shuffle == "epoch" else 0, num_examples)[offsets[here]]
    return result


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, num_examples: int) -> Int64[np.ndarray, " examples"]:
    return np.random.default_rng((seed, epoch)).permutation(num_examples)
