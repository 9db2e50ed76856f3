"""An image with its tangent vectors: the changes by which small distortions begin (Simard, LeCun & Denker 1993)."""

import numpy as np
from jaxtyping import Float32, UInt8
from ml_collections import ConfigDict
from scipy import ndimage

from classic.descriptors.record import Descriptors, on_grid
from classic.options import POSITIVE

DEFAULTS = {
    "sigma": 1.0,  # pixels; the deviation of the Gaussian that smooths images, so that they have derivatives
}
CHOICES: dict = {}
RANGES = {"sigma": POSITIVE}


def describe(images: UInt8[np.ndarray, "n h w c"], options: ConfigDict) -> Descriptors:
    """One descriptor of d = 8 h w c numbers for each image: the smoothed pixels, in [0, 1], and 7 tangent vectors.

    The vectors are those of shifts to the side and upwards, rotation, a change of size, the two hyperbolic
    deformations, which stretch one axis and compress the other, and the thickness of strokes.
    """
    bright = images.astype(np.float32) / 255
    height, width = images.shape[1:3]
    y, x = (np.arange(length, dtype=np.float32) - (length - 1) / 2 for length in (height, width))
    y, x = y[:, None, None], x[:, None]
    across, down = _smoothed(bright, options.sigma, (0, 1)), _smoothed(bright, options.sigma, (1, 0))
    vectors = [
        _smoothed(bright, options.sigma, (0, 0)),
        across,
        down,
        y * across - x * down,
        x * across + y * down,
        x * across - y * down,
        y * across + x * down,
        across**2 + down**2,
    ]
    centre = np.full(1, 0.5, np.float32)
    return on_grid(np.stack(vectors, axis=1).reshape(len(images), 1, -1), centre, centre)


def _smoothed(
    images: Float32[np.ndarray, "n h w c"], sigma: float, order: tuple[int, int]
) -> Float32[np.ndarray, "n h w c"]:
    """Images under a Gaussian's derivative of the given order along rows' and columns' axes."""
    return ndimage.gaussian_filter(images, (0, sigma, sigma, 0), order=(0, *order, 0), mode="nearest")
