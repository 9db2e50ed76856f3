"""An image with copies that are shifted to each side, as one descriptor (Schoelkopf, Burges & Vapnik 1996)."""

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from classic.descriptors.record import Descriptors, on_grid
from classic.options import COUNT
from common.errors import UserError

DEFAULTS = {
    "by": 1,  # pixels from an image to its copies
}
CHOICES: dict = {}
RANGES = {"by": COUNT}


def describe(images: UInt8[np.ndarray, "n h w c"], options: ConfigDict) -> Descriptors:
    """One descriptor of d = 5 h w c values in [0, 1] for each image: its pixels, then those of 4 copies.

    The copies are shifted up, down, to the left and to the right. What enters from outside is 0. Raises UserError for
    images that are shifted out of themselves.
    """
    n, height, width, _ = images.shape
    if options.by >= min(height, width):
        raise UserError(
            f"config.describe.by is {options.by}, but images have {height} x {width} pixels; expected fewer pixels"
        )
    by = options.by
    padded = np.pad(images, ((0, 0), (by, by), (by, by), (0, 0)))
    corners = ((by, by), (2 * by, by), (0, by), (by, 2 * by), (by, 0))
    copies = np.stack([padded[:, y : y + height, x : x + width] for y, x in corners], axis=1)
    centre = np.full(1, 0.5, np.float32)
    return on_grid(copies.reshape(n, 1, -1).astype(np.float32) / 255, centre, centre)
