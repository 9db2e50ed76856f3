"""The descriptors of a batch of images, as every describer returns them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from ml_collections import ConfigDict

from common.errors import UserError

Images = UInt8[np.ndarray, "n h w c"]


class Descriptors(NamedTuple):
    """Descriptors of n images, t places each.

    vectors: the d numbers that describe a place.
    centres: the place (y, x), each in [0, 1) of the image's height and width.
    present: False where an image has fewer than t descriptors; the rest is filled up with zeros.
    """

    vectors: Float32[np.ndarray, "n t d"]
    centres: Float32[np.ndarray, "n t 2"]
    present: Bool[np.ndarray, "n t"]


Describer = Callable[[Images, ConfigDict], Descriptors]


def on_grid(
    vectors: Float32[np.ndarray, "n t d"], rows: Float32[np.ndarray, " i"], columns: Float32[np.ndarray, " j"]
) -> Descriptors:
    """Descriptors at every point of a grid, row by row; t = i j, and `rows` and `columns` are in [0, 1)."""
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(1, -1, 2).astype(np.float32)
    n, t = vectors.shape[:2]
    return Descriptors(vectors, np.broadcast_to(grid, (n, t, 2)), np.ones((n, t), bool))


def grid_starts(length: int, size: int, step: int, what: str) -> np.ndarray:
    """First pixels of the windows of `size` pixels, `step` apart and centred as a whole in `length` pixels.

    what: the option that holds the size, for the `UserError` if no window fits.
    """
    if size > length:
        raise UserError(f"{what} is {size} pixels, but the (enlarged) images are {length} pixels high or wide")
    count = (length - size) // step + 1
    return (length - size - (count - 1) * step) // 2 + step * np.arange(count)
