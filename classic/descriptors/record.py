"""The descriptors of a batch of images, as every describer returns them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from common.errors import UserError


class Descriptors(NamedTuple):
    """The descriptors of n images at t places each.

    vectors: the d numbers that describe a place.
    centres: the place (y, x), in shares of the image's height and width, at least 0 and less than 1.
    present: False for the zeros that fill up an image with fewer than t descriptors.
    """

    vectors: Float32[np.ndarray, "n t d"]
    centres: Float32[np.ndarray, "n t 2"]
    present: Bool[np.ndarray, "n t"]


def on_grid(
    vectors: Float32[np.ndarray, "n t d"], rows: Float32[np.ndarray, " i"], columns: Float32[np.ndarray, " j"]
) -> Descriptors:
    """Descriptors at every point of a grid, row by row; t = i j, and `rows` and `columns` are in [0, 1)."""
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(1, -1, 2).astype(np.float32)
    n, t = vectors.shape[:2]
    return Descriptors(vectors, np.broadcast_to(grid, (n, t, 2)), np.ones((n, t), bool))


def grid_starts(length: int, size: int, step: int, what: str) -> np.ndarray:
    """The first pixels of windows of `size` pixels, `step` pixels apart; as a whole they are centred in `length`.

    what: the option that holds the size, for the `UserError` if no window fits.
    """
    if size > length:
        raise UserError(f"{what} is {size} pixels, but the (enlarged) images are {length} pixels high or wide")
    count = (length - size) // step + 1
    return (length - size - (count - 1) * step) // 2 + step * np.arange(count)
