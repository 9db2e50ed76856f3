"""Compiled programs applied to a few images at a time, so that memory stays bounded."""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

BATCH_BYTES = 2**27  # of the largest intermediate array


def batch_size(bytes_per_image: int) -> int:
    """The number of images whose intermediate arrays fit into `BATCH_BYTES`; at least 1."""
    return max(1, BATCH_BYTES // max(1, bytes_per_image))


def in_batches(
    program: Callable, arrays: Mapping[str, np.ndarray], size: int, inputs: Sequence[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """`program(arrays, *inputs)` over all images, `size` at a time; returns its outputs, a tuple, joined.

    The last batch is filled up with zeros, so that the program is compiled for one shape.
    """
    count = len(inputs[0])
    size = min(size, count)
    on_device = jax.device_put(dict(arrays))
    results: list[np.ndarray] = []
    for start in range(0, count, size):
        batch = [values[start : start + size] for values in inputs]
        here = len(batch[0])
        if here < size:
            batch = [np.concatenate([part, np.zeros((size - here, *part.shape[1:]), part.dtype)]) for part in batch]
        outputs = jax.device_get(program(on_device, *batch))
        if not results:
            results = [np.empty((count, *output.shape[1:]), output.dtype) for output in outputs]
        for result, output in zip(results, outputs, strict=True):
            result[start : start + here] = output[:here]
    return tuple(results)
