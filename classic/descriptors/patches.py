"""Small patches of pixels on a regular grid (Coates, Lee & Ng 2011, sections 3.1 and 3.2)."""

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from numpy.lib.stride_tricks import sliding_window_view

from classic.descriptors.enlarge import enlarged
from classic.descriptors.record import Descriptors, grid_starts, on_grid
from classic.options import COUNT, SIZE

DEFAULTS = {
    "scale": 1,  # images are enlarged this many times first
    "size": 6,  # side of a patch, pixels
    "step": 1,  # pixels from one patch to the next
    "normalise": "contrast",  # 'mean' subtracts a patch's mean, 'contrast' also divides by its deviation, 'none' neither
    "constant": 10.0,  # added to the variance (grey levels squared), so that noise in flat patches stays small
}
CHOICES = {"normalise": ("contrast", "mean", "none")}
RANGES = {"scale": COUNT, "size": COUNT, "step": COUNT, "constant": SIZE}


def describe(images: UInt8[np.ndarray, "n h w c"], options: ConfigDict) -> Descriptors:
    """Patches of d = size^2 c grey levels (0 to 255 before normalisation), one at each point of a grid.

    `UserError` for images smaller than a patch.
    """
    images = enlarged(images, options.scale)
    n, height, width, channels = images.shape
    size = options.size
    rows = grid_starts(height, size, options.step, "config.describe.size")
    columns = grid_starts(width, size, options.step, "config.describe.size")
    windows = sliding_window_view(images, (size, size), axis=(1, 2))[:, rows[:, None], columns[None, :]]
    # From (..., channel, row, column) to a small image's own order.
    vectors = np.moveaxis(windows, 3, -1).reshape(n, len(rows) * len(columns), size * size * channels)
    vectors = vectors.astype(np.float32)
    if options.normalise != "none":
        vectors -= vectors.mean(axis=-1, keepdims=True)
    if options.normalise == "contrast":
        variance = np.einsum("ntd,ntd->nt", vectors, vectors) / vectors.shape[-1]
        vectors /= np.sqrt(variance + max(options.constant, 1e-6))[..., None]
    return on_grid(vectors, _centres(rows, size, height), _centres(columns, size, width))


def _centres(starts: np.ndarray, size: int, length: int) -> np.ndarray:
    return ((starts + size / 2) / length).astype(np.float32)
