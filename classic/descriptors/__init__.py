"""Describers by name: modules with DEFAULTS, CHOICES, RANGES and describe.

DEFAULTS, CHOICES, RANGES                               options, see `classic.options.check`
describe(images, options) -> Descriptors                the descriptors of a batch of images [n h w c]
"""

from types import ModuleType

from classic.descriptors import dense_sift, deslanted, hog, patches, pixels, shifts, sift, tangents
from classic.descriptors.record import Descriptors

__all__ = ["DESCRIBERS", "Descriptors"]

DESCRIBERS: dict[str, ModuleType] = {
    "sift": sift,
    "dense_sift": dense_sift,
    "hog": hog,
    "patches": patches,
    "pixels": pixels,
    "deslanted": deslanted,
    "shifts": shifts,
    "tangents": tangents,
}
