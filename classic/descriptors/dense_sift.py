"""Upright SIFT descriptors on a regular grid, by OpenCV."""

import functools
import math
from concurrent import futures
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Int, UInt8
from ml_collections import ConfigDict

from classic.descriptors.enlarge import enlarged, grey, opponent
from classic.descriptors.record import Descriptors, grid_starts
from classic.descriptors.sift import LENGTH, normalised, upright
from classic.options import COUNT

DEFAULTS: dict[str, Any] = {
    "scale": 2,  # images are first enlarged by this factor
    "sizes": (16,),  # sides of the described squares, pixels of the enlarged image; each side has its own grid
    "step": 4,  # pixels from one square to the next
    "colour": "grey",  # channels to describe: 'grey', 'rgb' or 'opponent'; their descriptors are joined
    "root": True,  # True: RootSIFT, L1 norm, then square root (Arandjelovic & Zisserman 2012); False: unit L2 norm
}
CHOICES = {"colour": ("grey", "rgb", "opponent")}
RANGES = {"scale": COUNT, "sizes": COUNT, "step": COUNT}

_BLUR = 8  # pixels on each side that a gradient of OpenCV's blurred image depends on, at most


def describe(images: UInt8[np.ndarray, "n h w c"], options: ConfigDict) -> Descriptors:
    """One descriptor at each point of the grids; d is 128 for each channel.

    A square in a flat part of the image has a descriptor of zeros. Raises UserError for images smaller than a square.
    """
    large = _channels(enlarged(images, options.scale), options.colour)
    n, height, width, channels = large.shape
    points, places = _grid(height, width, tuple(options.sizes), options.step)
    vectors = np.empty((n, len(places), channels, LENGTH), np.float32)

    def fill(i: int) -> None:
        sift = cv2.SIFT_create()
        for channel in range(channels):
            image = np.ascontiguousarray(large[i, :, :, channel])
            _, found = sift.compute(image, points)
            found[_flat(image, options)] = 0
            vectors[i, :, channel] = normalised(found, options.root)

    with futures.ThreadPoolExecutor() as pool:
        list(pool.map(fill, range(n)))
    return Descriptors(
        vectors.reshape(n, len(places), channels * LENGTH),
        np.broadcast_to(places, (n, *places.shape)),
        np.ones((n, len(places)), bool),
    )


def sides(height: int, width: int, options: ConfigDict) -> Int[np.ndarray, " t"]:
    """The side of the square that each descriptor of an image of these pixels describes, in the enlarged image."""
    counts = [
        math.prod(len(_centres(length * options.scale, size, options.step)) for length in (height, width))
        for size in options.sizes
    ]
    return np.repeat(options.sizes, counts)


def _flat(image: UInt8[np.ndarray, "h w"], options: ConfigDict) -> Bool[np.ndarray, " t"]:
    """True for each descriptor whose square and surroundings have one grey level.

    There OpenCV's blur leaves rounding errors at some levels, such as 100, and SIFT scales these to full length.
    """
    found = []
    for size in options.sizes:
        # Cells share gradients with the next half cell, an eighth of the side, outside the square.
        reach = math.ceil(size * (1 / 2 + 1 / 8)) + _BLUR
        box = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        rows, columns = (_centres(length, size, options.step) for length in image.shape)
        found.append((cv2.dilate(image, box) == cv2.erode(image, box))[np.ix_(rows, columns)].ravel())
    return np.concatenate(found)


def _centres(length: int, size: int, step: int) -> Int[np.ndarray, " n"]:
    """The middle pixels of the squares along an axis. OpenCV would round half pixels to even numbers."""
    return grid_starts(length, size, step, "config.describe.sizes") + size // 2


def _channels(images: UInt8[np.ndarray, "n h w c"], colour: str) -> UInt8[np.ndarray, "n h w k"]:
    if colour == "grey" or images.shape[-1] == 1:
        return grey(images)[..., None]
    return images if colour == "rgb" else np.round(opponent(images)).astype(np.uint8)


@functools.lru_cache(maxsize=8)
def _grid(height: int, width: int, sizes: tuple[int, ...], step: int) -> tuple[tuple, np.ndarray]:
    """OpenCV's keypoints at all points of the grids, and their (y, x) as shares of height and width."""
    points, places = [], []
    for size in sizes:
        rows, columns = (_centres(length, size, step) for length in (height, width))
        for y in rows.tolist():
            for x in columns.tolist():
                points.append(upright(y, x, size))
                places.append(((y + 0.5) / height, (x + 0.5) / width))
    return tuple(points), np.array(places, np.float32)
