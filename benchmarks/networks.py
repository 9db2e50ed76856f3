"""The networks that benchmarks use, without a dataset."""

from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict

CLASSES = 1000
_GREY = ("lenet",)  # families for images of one channel


def image_shape(family: str, side: int) -> tuple[int, int, int]:
    """Height, width and channels of a family's square images."""
    return side, side, 1 if family in _GREY else 3


def of(family: str, variant: str, side: int, **changes: Any) -> tuple[ConfigDict, Any]:
    """The `model` section of a variant with these changes, and its `models.Classifier` for square images.

    side: of the images, in pixels. UserError for unknown names and for images that the network cannot take.
    """
    from common import models  # slow imports

    section = models.section(family, variant, **changes)
    info = SimpleNamespace(num_classes=CLASSES, class_names=(), image_shape=image_shape(family, side))
    return section, models.make_classifier(section, info)
