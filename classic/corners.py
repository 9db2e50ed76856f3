"""Corners from the structure tensor: Harris & Stephens (1988), Shi & Tomasi (1994), Noble (1988).

If a window moves by d, its pixels change by d^T M d, where M is the structure tensor. M's eigenvalues distinguish flat
regions (both small), edges (one large) and corners (both large).
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int, UInt8

from common.errors import UserError, unknown

Image = Float32[np.ndarray, "h w"]

DEFAULT_K = 0.05  # Harris & Stephens's constant; no response is positive for 0.25 or more
_EPS = 1e-6  # keeps Noble's measure finite where the image is flat


class Tensor(NamedTuple):
    """The structure tensor [[yy, xy], [xy, xx]] at each pixel."""

    yy: Image
    xy: Image
    xx: Image


def structure_tensor(image: Image, sigma: float = 1.5, derivative_sigma: float = 1.0) -> Tensor:
    """Products of the gradients, summed in a Gaussian window (Harris & Stephens 1988, section 3).

    sigma: deviation of the window. derivative_sigma: deviation of the Gaussian that smooths the image before the
    central differences. Both are in pixels. The image is mirrored at its border.
    """
    smooth = _blurred(image, derivative_sigma)
    dx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=1, scale=0.5, borderType=cv2.BORDER_REFLECT_101)
    dy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=1, scale=0.5, borderType=cv2.BORDER_REFLECT_101)
    return Tensor(_blurred(dy * dy, sigma), _blurred(dx * dy, sigma), _blurred(dx * dx, sigma))


def eigenvalues(tensor: Tensor) -> Float32[np.ndarray, "h w 2"]:
    """Both eigenvalues of the structure tensor at each pixel, the larger one first; neither is below 0."""
    mean = (tensor.yy + tensor.xx) / 2
    spread = np.sqrt(((tensor.yy - tensor.xx) / 2) ** 2 + tensor.xy**2)
    return np.stack([mean + spread, np.maximum(mean - spread, 0)], axis=-1)


def harris(tensor: Tensor, k: float = DEFAULT_K) -> Image:
    """det(M) - k trace(M)^2: positive at corners, negative on edges, near 0 in flat regions."""
    return tensor.yy * tensor.xx - tensor.xy**2 - np.float32(k) * (tensor.yy + tensor.xx) ** 2


def shi_tomasi(tensor: Tensor) -> Image:
    """The smaller eigenvalue (Shi & Tomasi 1994)."""
    return eigenvalues(tensor)[..., 1]


def noble(tensor: Tensor) -> Image:
    """The determinant of M over its trace, which has no constant to choose (Noble 1988)."""
    return (tensor.yy * tensor.xx - tensor.xy**2) / (tensor.yy + tensor.xx + np.float32(_EPS))


MEASURES: dict[str, Callable[[Tensor], Image]] = {"harris": harris, "shi_tomasi": shi_tomasi, "noble": noble}


def peaks(response: Image, threshold: float = 0.01, radius: int = 1, most: int = 0) -> Int[np.ndarray, "corners 2"]:
    """The (y, x) of local maxima, strongest first: corners by non-maximum suppression.

    threshold: least response, as a share of the image's largest. radius: a maximum is the largest value in the square
    of 2 radius + 1 pixels around it; a plateau has one maximum, its first pixel. most: how many are kept, 0 for all.
    An image without a positive response has no maximum. Raises UserError for a response that is not finite.
    """
    if not np.isfinite(response).all():
        raise UserError("the corner response holds numbers that are not finite")
    top = response.max()
    if top <= 0:
        return np.zeros((0, 2), int)
    largest = cv2.dilate(response, np.ones((2 * radius + 1,) * 2, np.uint8))
    places = np.argwhere((response == largest) & (response > threshold * top))
    places = places[np.argsort(-response[tuple(places.T)], kind="stable")]
    kept: list[np.ndarray] = []
    taken = np.zeros(response.shape, bool)
    for y, x in places:
        if not taken[y, x]:
            kept.append(np.array([y, x]))
            taken[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1] = True
            if len(kept) == most:
                break
    return np.array(kept, int).reshape(-1, 2)


def corners(
    image: UInt8[np.ndarray, "h w"], measure: str = "harris", most: int = 0, radius: int = 1
) -> Int[np.ndarray, "corners 2"]:
    """The (y, x) of an image's corners by a measure of `MEASURES`, strongest first; see `peaks`."""
    if measure not in MEASURES:
        raise unknown("corner measure", measure, MEASURES)
    return peaks(MEASURES[measure](structure_tensor(image.astype(np.float32) / 255)), most=most, radius=radius)


def _blurred(image: Image, sigma: float) -> Image:
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101) if sigma else image
