"""Small patches of pixels on a regular grid (Coates, Lee & Ng 2011, sections 3.1 and 3.2)."""

from concurrent import futures

import numpy as np
from jaxtyping import Float32, UInt8
from ml_collections import ConfigDict
from numpy.lib.stride_tricks import sliding_window_view

from classic.descriptors.enlarge import enlarged
from classic.descriptors.record import Descriptors, grid_starts, on_grid
from classic.options import COUNT, SIZE

_TOGETHER = 4  # images that a thread prepares at a time; they stay in its core's cache
_LEAST = 1e-6  # the least variance to divide by: a flat patch becomes zeros

DEFAULTS = {
    "scale": 1,  # images are first enlarged by this factor
    "size": 6,  # side of a patch, pixels
    "step": 1,  # pixels from one patch to the next
    "normalise": "contrast",  # 'mean' subtracts a patch's mean, 'contrast' also divides by its deviation; or 'none'
    "constant": 10.0,  # added to the variance (grey levels squared), so that noise in flat patches stays small
}
CHOICES = {"normalise": ("contrast", "mean", "none")}
RANGES = {"scale": COUNT, "size": COUNT, "step": COUNT, "constant": SIZE}


def describe(images: UInt8[np.ndarray, "n h w c"], options: ConfigDict) -> Descriptors:
    """Patches of d = size^2 c grey levels (0 to 255 before normalisation), one at each point of a grid.

    Raises UserError for images smaller than a patch.
    """
    images = enlarged(images, options.scale)
    n, height, width, channels = images.shape
    size = options.size
    rows = grid_starts(height, size, options.step, "config.describe.size")
    columns = grid_starts(width, size, options.step, "config.describe.size")
    vectors = np.empty((n, len(rows) * len(columns), size * size * channels), np.float32)

    def fill(part: slice) -> None:
        windows = sliding_window_view(images[part], (size, size), axis=(1, 2))[:, rows[:, None], columns[None, :]]
        # From (..., channel, row, column) to (..., row, column, channel).
        vectors[part] = np.moveaxis(windows, 3, -1).reshape(-1, *vectors.shape[1:])
        _normalise(vectors[part], options.normalise, options.constant)

    with futures.ThreadPoolExecutor() as pool:
        list(pool.map(fill, (slice(start, start + _TOGETHER) for start in range(0, n, _TOGETHER))))
    return on_grid(vectors, _centres(rows, size, height), _centres(columns, size, width))


def _normalise(vectors: Float32[np.ndarray, "m t d"], kind: str, constant: float) -> None:
    """Normalises patches in place (Coates et al. 2011, section 3.1)."""
    if kind != "none":
        vectors -= vectors.mean(axis=-1, keepdims=True)
    if kind == "contrast":
        variance = np.einsum("mtd,mtd->mt", vectors, vectors) / vectors.shape[-1]
        vectors /= np.sqrt(variance + max(constant, _LEAST))[..., None]


def _centres(starts: np.ndarray, size: int, length: int) -> np.ndarray:
    return ((starts + size / 2) / length).astype(np.float32)
