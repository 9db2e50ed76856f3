"""Histograms of oriented gradients (Dalal & Triggs 2005), by scikit-image: one descriptor for each block of cells."""

from concurrent import futures

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from skimage import feature

from classic.descriptors.enlarge import enlarged
from classic.descriptors.record import Descriptors, on_grid
from classic.options import COUNT
from common.errors import UserError

DEFAULTS = {
    "scale": 1,  # images are first enlarged by this factor
    "orientations": 9,  # unsigned, over 180 degrees
    "cell": 8,  # side of a cell, pixels
    "block": 2,  # side of a block, cells; a block is normalised as a whole, and neighbouring blocks overlap
}
CHOICES: dict = {}
RANGES = {"scale": COUNT, "orientations": COUNT, "cell": COUNT, "block": COUNT}


def describe(images: UInt8[np.ndarray, "n h w c"], options: ConfigDict) -> Descriptors:
    """One descriptor for each block of cells, d = orientations block^2.

    At each pixel the colour with the strongest gradient counts. Blocks are normalised by L2-Hys: they are scaled to
    unit length, clipped at 0.2, and scaled to unit length again. Raises UserError for images smaller than a block.
    """
    large = enlarged(images, options.scale)
    _, height, width, _ = large.shape
    cells = np.array([height, width]) // options.cell
    if cells.min() < options.block:
        raise UserError(
            f"config.describe.block of {options.block} cells of {options.cell} pixels does not fit into (enlarged) "
            f"images of {height} x {width} pixels"
        )

    def blocks(image: np.ndarray) -> np.ndarray:
        return feature.hog(
            image,
            orientations=options.orientations,
            pixels_per_cell=(options.cell, options.cell),
            cells_per_block=(options.block, options.block),
            feature_vector=False,
            channel_axis=-1,
        ).astype(np.float32)

    with futures.ThreadPoolExecutor() as pool:
        found = np.stack(list(pool.map(blocks, large)))
    rows, columns = (
        ((np.arange(count) + options.block / 2) * options.cell / length).astype(np.float32)
        for count, length in zip(found.shape[1:3], (height, width), strict=True)
    )
    return on_grid(found.reshape(len(images), len(rows) * len(columns), -1), rows, columns)
