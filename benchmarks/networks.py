"""The networks that benchmarks use, without a dataset."""

import dataclasses
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict

CLASSES = 1000
_GREY = ("lenet",)  # families for images of one channel


@dataclasses.dataclass(frozen=True)
class Size:
    """The size at which a network is timed: images in an update, their side in pixels, and classes.

    smallest: a side at which the network can be built quickly, for tests.
    """

    batch: int = 8
    side: int = 224
    classes: int = CLASSES
    smallest: int = 32


# The networks that are raced on a CPU, as FAMILY:VARIANT. Batches are small where an update takes about a second.
RACED = {
    "lenet:lenet5_modern": Size(128, 32, 10),
    "resnet:resnet20": Size(128, 32, 10, 16),
    "resnet:resnet56": Size(128, 32, 10, 16),
    "alexnet:two_column": Size(smallest=64),
    "alexnet:one_column": Size(smallest=64),
    "vgg:vgg16": Size(batch=4),
    "googlenet:googlenet": Size(smallest=224),  # the first dense layer of an auxiliary classifier reads 4x4 positions
    "resnet:resnet50_modern": Size(),
    "vit:s16": Size(),
    "vit:ti16": Size(),
}


def size_of(family: str, variant: str) -> Size:
    """The size at which a variant is timed unless another is asked for."""
    return RACED.get(f"{family}:{variant}", Size())


def image_shape(family: str, side: int) -> tuple[int, int, int]:
    """Height, width and channels of a family's square images."""
    return side, side, 1 if family in _GREY else 3


def build(family: str, variant: str, side: int, classes: int = CLASSES, **changes: Any) -> tuple[ConfigDict, Any]:
    """The `model` section of a variant with these changes, and its `models.Classifier` for square images.

    side: of the images, in pixels. Raises UserError for unknown names and for images that the network cannot take.
    """
    from common import models  # slow imports

    section = models.section(family, variant, **changes)
    info = SimpleNamespace(num_classes=classes, class_names=(), image_shape=image_shape(family, side))
    return section, models.make_classifier(section, info)
