"""The views of a test image that the papers average over: pure functions of one stored image.

Each takes a whole image, square or not, whose shorter side is the scale of the test, the side of the squares that the
network takes, and the interpolation (`config.data.interpolation`) of those that are shrunk to this side.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

from common.data.preparation import Pixels, Preparation, prepare_image
from common.errors import UserError

Views = UInt8[np.ndarray, "views rows columns channels"] | Float[np.ndarray, "views rows columns channels"]
Crop = UInt8[np.ndarray, "side side channels"] | Float[np.ndarray, "side side channels"]
Cut = Callable[[Pixels, int, str], Views]

_GRID = 5  # VGG's crops along each axis


def as_stored(image: Pixels, side: int, interpolation: str = "bilinear") -> Views:
    """The image itself."""
    return image[None]


def whole(image: Pixels, side: int, interpolation: str = "bilinear") -> Views:
    """The image and its mirror image, for a network applied to whole images (Simonyan 2014, section 3.2).

    The longer side is cut at both ends to a multiple of an eighth of the shorter one (32 pixels of 256), so that a
    network is compiled for dozens of shapes rather than for hundreds.
    """
    shorter = min(image.shape[:2])
    step = max(shorter // 8, 1)
    height, width = (length - (length - shorter) % step for length in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return _with_mirrors([image[top : top + height, left : left + width]])


def centre_crop(image: Pixels, side: int, interpolation: str = "bilinear") -> Views:
    """The square in the middle."""
    return _square(image, side, 0.5, 0.5)[None]


def ten_crops(image: Pixels, side: int, interpolation: str = "bilinear") -> Views:
    """Crops at the corners and centre of the middle square, and their mirror images (Krizhevsky 2012, section 4.1)."""
    middle = _square(image, min(image.shape[:2]), 0.5, 0.5)
    return _with_mirrors(_corners_and_centre(middle, side))


def three_square_crops(image: Pixels, side: int, interpolation: str = "bilinear") -> Views:
    """36 views of three squares, to be taken at four scales (Szegedy 2014, section 7).

    The squares are on the left, in the middle and on the right of a landscape image, or at the top, in the middle and
    at the bottom of a portrait one. The views of each are the crops at its four corners and its centre, the square
    itself shrunk to `side`, and the mirror images of these six.
    """
    shrink, crops = Preparation(resize=side, interpolation=interpolation), []
    for place in (0.0, 0.5, 1.0):
        square = _square(image, min(image.shape[:2]), place, place)
        crops += [*_corners_and_centre(square, side), prepare_image(square, shrink)]
    return _with_mirrors(crops)


def grid_crops(image: Pixels, side: int, interpolation: str = "bilinear") -> Views:
    """Crops on a regular 5x5 grid over the whole image, and their mirror images (Simonyan 2014, section 3.2)."""
    places = np.linspace(0.0, 1.0, _GRID)
    return _with_mirrors([_square(image, side, down, right) for down in places for right in places])


def _corners_and_centre(image: Pixels, side: int) -> list[Crop]:
    places = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))
    return [_square(image, side, *place) for place in places]


def _square(image: Pixels, side: int, down: float, right: float) -> Crop:
    """The square at these fractions of the way from top to bottom and from left to right."""
    height, width = image.shape[:2]
    if min(height, width) < side:
        raise UserError(f"no {side}x{side} crop fits in a test image of {height}x{width} pixels; use larger --scales")
    top, left = round(down * (height - side)), round(right * (width - side))
    return image[top : top + side, left : left + side]


def _with_mirrors(crops: list[Crop] | list[Pixels]) -> Views:
    views = np.stack(crops)
    return np.concatenate([views, views[:, :, ::-1]])
