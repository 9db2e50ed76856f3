"""The regions of an image over which codes are pooled, and the weights of the spatial pyramid."""

import numpy as np
from jaxtyping import Bool, Float32

from common.errors import unknown

# Layouts as grids of (rows, columns). The regions are the cells of each grid in turn, row by row.
LAYOUTS: dict[str, tuple[tuple[int, int], ...]] = {
    "whole": ((1, 1),),
    "quadrants": ((2, 2),),  # Coates, Lee & Ng 2011
    "stripes": ((1, 1), (3, 1)),  # whole image and three horizontal stripes (Sanchez & Perronnin 2011)
    "pyramid1": ((1, 1), (2, 2)),
    "pyramid2": ((1, 1), (2, 2), (4, 4)),  # Lazebnik, Schmid & Ponce 2006
}


def regions(
    centres: Float32[np.ndarray, "n t 2"], present: Bool[np.ndarray, "n t"], layout: str
) -> Bool[np.ndarray, "n t r"]:
    """The descriptors that lie in each region of a layout; an absent descriptor lies in none.

    centres: (y, x) in [0, 1) of each descriptor. Raises UserError for an unknown layout.
    """
    parts = []
    for rows, columns in _grids(layout):
        cell = np.floor(centres[..., 0] * rows) * columns + np.floor(centres[..., 1] * columns)
        parts.append(cell[..., None] == np.arange(rows * columns))
    return np.concatenate(parts, axis=-1) & present[..., None]


def weights(layout: str) -> Float32[np.ndarray, " r"]:
    """The weight of each region's histogram in the pyramid match kernel (Lazebnik et al. 2006, section 3).

    With L + 1 grids, level 0 weighs 1 / 2^L and level l >= 1 weighs 1 / 2^(L - l + 1). Histogram intersection is
    homogeneous, so weighting the histograms weights the kernel. Raises UserError for an unknown layout.
    """
    grids = _grids(layout)
    top = len(grids) - 1
    levels = [1 / 2**top if level == 0 else 1 / 2 ** (top - level + 1) for level in range(top + 1)]
    return np.repeat(levels, [rows * columns for rows, columns in grids]).astype(np.float32)


def _grids(layout: str) -> tuple[tuple[int, int], ...]:
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    return LAYOUTS[layout]
