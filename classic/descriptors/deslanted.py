"""The pixels of an image whose slant is taken out, as one descriptor (LeCun et al. 1998, section III-A).

Pixels count by their brightness, so that a shape has to be bright on a dark ground, as MNIST's digits are;
`config.data.invert` swaps the two.
"""

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from ml_collections import ConfigDict

from classic.descriptors.enlarge import grey
from classic.descriptors.record import Descriptors, grid_starts, on_grid
from classic.options import SIZE

DEFAULTS = {
    "crop": 0,  # side of the square in the middle that is kept, pixels; 0 keeps the whole image
}
CHOICES: dict = {}
RANGES = {"crop": SIZE}


def describe(images: UInt8[np.ndarray, "n h w c"], options: ConfigDict) -> Descriptors:
    """One descriptor of d = h w c values in [0, 1] for each image, or d = crop^2 c with `crop`.

    Raises UserError for images smaller than `crop`.
    """
    upright = deslanted(images)
    if options.crop:
        rows, columns = (
            slice(start, start + options.crop)
            for length in upright.shape[1:3]
            for start in grid_starts(length, options.crop, length, "config.describe.crop")
        )
        upright = upright[:, rows, columns]
    centre = np.full(1, 0.5, np.float32)
    return on_grid(upright.reshape(len(images), 1, -1), centre, centre)


def deslanted(images: UInt8[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n h w c"]:
    """The images with each row shifted to the side, so that a principal axis of the bright pixels is vertical.

    The shift is in proportion to the row's distance from the centre of mass, which stays where it is. Values are in
    [0, 1], interpolated linearly along the row, and 0 where a row enters from outside.
    """
    bright = images.astype(np.float32) / 255
    n, height, width, channels = images.shape
    slants, centres = axes(grey(images))
    shifts = slants[:, None] * (np.arange(height) - centres[:, None])
    # With one column of zeros on each side, all that lies outside has a place.
    padded = np.pad(bright, ((0, 0), (0, 0), (1, 1), (0, 0)))
    places = np.arange(width) + shifts[..., None]
    left = np.floor(places)
    share = (places - left)[..., None].astype(np.float32)
    before, after = (
        np.take_along_axis(padded, np.clip(left + step, 0, width + 1).astype(np.intp)[..., None], axis=2)
        for step in (1, 2)
    )
    return (1 - share) * before + share * after


def axes(images: UInt8[np.ndarray, "n h w"]) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """The slant of each image's bright pixels, columns to the right for each row down, and the row of their centre.

    The slant is the covariance of the pixels' columns and rows over the variance of their rows; 0 if they have none.
    """
    mass = images.astype(np.float64)
    across, down = mass.sum(axis=1), mass.sum(axis=2)
    rows, columns = _centres(down), _centres(across)
    y = np.arange(mass.shape[1]) - rows[:, None]
    x = np.arange(mass.shape[2]) - columns[:, None]
    product = np.einsum("nhw,nh,nw->n", mass, y, x, optimize=True)
    variance = np.einsum("nh,nh->n", down, y**2)
    return product / np.where(variance > 0, variance, 1), rows


def _centres(mass: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, " n"]:
    """The centre of mass along an axis, pixels; 0 where there is no mass."""
    total = mass.sum(axis=1)
    return mass @ np.arange(mass.shape[1]) / np.where(total > 0, total, 1)
