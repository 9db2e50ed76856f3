"""Builders that write datasets in the TFDS format from their original files, without TensorFlow."""

import importlib
from typing import Any

# The module and the class of each builder, by TFDS's name of the dataset.
_CLASSES = {
    "cifar10": ("cifar", "Cifar10"),
    "cifar100": ("cifar", "Cifar100"),
    "fashion_mnist": ("mnist", "FashionMnist"),
    "mnist": ("mnist", "Mnist"),
    "usps": ("usps", "Usps"),
}


def names() -> tuple[str, ...]:
    """The names of the datasets."""
    return tuple(_CLASSES)


def builder_class(name: str) -> Any:
    """The `tfds.core.GeneratorBasedBuilder` of a dataset.

    Its `ORIGINALS` are the sets of files (`formats.originals`) that it can read; the first can be downloaded.
    """
    module, kind = _CLASSES[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), kind)
