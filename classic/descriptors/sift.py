"""SIFT descriptors at keypoints that a detector finds (Lowe 2004; corners as in Csurka et al. 2004)."""

from concurrent import futures
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from ml_collections import ConfigDict

from classic import corners
from classic.descriptors.enlarge import enlarged, grey
from classic.descriptors.record import Descriptors
from classic.options import COUNT, POSITIVE, SIZE

LENGTH = 128  # 4 x 4 cells x 8 orientations (Lowe 2004, section 6)
SPAN = 6  # side of the described square over the keypoint's size: OpenCV's 4 cells are 1.5 sizes wide

DEFAULTS: dict[str, Any] = {
    "scale": 2,  # images are first enlarged by this factor
    "detector": "dog",  # SIFT's differences of Gaussians, or corners: 'harris', 'shi_tomasi', 'noble'
    "max_keypoints": 64,  # only the strongest of an image are kept
    "contrast": 0.04,  # 'dog': the least contrast on OpenCV's scale, where Lowe's 0.03 is 0.09
    "edge": 10.0,  # 'dog': the largest ratio of principal curvatures (Lowe 2004, section 4.1)
    "size": 16.0,  # corners: side of the described square, pixels of the enlarged image
    "root": True,  # True: RootSIFT, L1 norm, then square root (Arandjelovic & Zisserman 2012); False: unit L2 norm
}
CHOICES = {"detector": ("dog", *corners.MEASURES)}
RANGES = {"scale": COUNT, "max_keypoints": COUNT, "contrast": SIZE, "edge": POSITIVE, "size": POSITIVE}


class Keypoint(NamedTuple):
    """A described place of an enlarged image: centre in pixels, diameter in pixels, angle in degrees, strength."""

    y: float
    x: float
    size: float
    angle: float
    response: float


def describe(images: UInt8[np.ndarray, "n h w c"], options: ConfigDict) -> Descriptors:
    """The descriptors of each image's strongest keypoints; t is `max_keypoints` and d is 128.

    An image may have no keypoint.
    """
    n, height, width, _ = images.shape
    t = options.max_keypoints
    vectors, centres = np.zeros((n, t, LENGTH), np.float32), np.zeros((n, t, 2), np.float32)
    present = np.zeros((n, t), bool)
    large = grey(enlarged(images, options.scale))
    shape = np.array(large.shape[1:], np.float32)

    def fill(i: int) -> None:
        points, found = _described(large[i], options)
        count = len(points)
        if count:
            vectors[i, :count] = normalised(found, options.root)
            # A pixel's centre is at 1/2; a keypoint may lie up to half a pixel outside the image.
            places = (np.array([point.pt[::-1] for point in points], np.float32) + 0.5) / shape
            centres[i, :count] = np.clip(places, 0, np.nextafter(np.float32(1), np.float32(0)))
            present[i, :count] = True

    with futures.ThreadPoolExecutor() as pool:
        list(pool.map(fill, range(n)))
    return Descriptors(vectors, centres, present)


def keypoints(image: UInt8[np.ndarray, "h w c"], options: ConfigDict) -> list[Keypoint]:
    """The keypoints of one image, strongest first, in pixels of the enlarged image: for pictures."""
    points, _ = _described(grey(enlarged(image[None], options.scale))[0], options)
    return [Keypoint(p.pt[1], p.pt[0], p.size, p.angle, p.response) for p in points]


def normalised(descriptors: Float32[np.ndarray, "m d"], root: bool) -> Float32[np.ndarray, "m d"]:
    """RootSIFT with `root`, else descriptors of unit length. Zeros, which describe a flat patch, stay zeros."""
    norm = np.linalg.norm(descriptors, ord=1 if root else 2, axis=-1, keepdims=True)
    unit = descriptors / np.where(norm > 0, norm, 1)
    return np.sqrt(unit) if root else unit


def upright(y: int, x: int, size: float, response: float = 1.0) -> cv2.KeyPoint:
    """OpenCV's keypoint for the upright square of `size` pixels around a pixel."""
    # OpenCV would take its default angle, -1, for a small rotation.
    return cv2.KeyPoint(float(x), float(y), size / SPAN, 0.0, response, 0)


def _described(image: UInt8[np.ndarray, "h w"], options: ConfigDict) -> tuple[list, np.ndarray]:
    """OpenCV's keypoints, strongest first, and their descriptors, which OpenCV scales to a norm of about 512."""
    sift = cv2.SIFT_create(contrastThreshold=options.contrast, edgeThreshold=options.edge)
    if options.detector == "dog":
        points = sorted(sift.detect(image, None), key=_rank)[: options.max_keypoints]
    else:
        found = corners.corners(image, options.detector, most=options.max_keypoints)
        points = [upright(y, x, options.size, 1.0 / (i + 1)) for i, (y, x) in enumerate(found.tolist())]
    if not points:
        return [], np.zeros((0, LENGTH), np.float32)
    kept, descriptors = sift.compute(image, points)
    return list(kept), descriptors


def _rank(point: Any) -> tuple[float, ...]:
    """A key that sorts keypoints by strength, and equally strong ones always in the same way."""
    return (-point.response, point.pt[1], point.pt[0], point.size, point.angle)
