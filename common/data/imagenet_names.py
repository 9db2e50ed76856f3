"""ImageNet's 1,000 classes, which datasets call by WordNet's ids and published networks by words, in the same order."""

import dataclasses
from collections.abc import Sequence

from common.data.dataset_info import Info

_ENDS = {"ids": ("n01440764", "n15075141"), "words": ("tench", "toilet tissue")}  # the first and the last class


def words() -> tuple[str, ...]:
    """The classes in words, all different."""
    from tensorflow_datasets.datasets.siscore import labels  # slow to import

    full: list[str] = labels.IMAGENET_LABELS_LIST
    short = [name.partition(",")[0] for name in full]
    # Two kinds of crane and of maillot have the same first name.
    return tuple(one if short.count(one) == 1 else name for one, name in zip(short, full, strict=True))


def spelling(class_names: Sequence[str]) -> str:
    """The spelling of ImageNet's classes that these are, 'ids' or 'words'; '' for other classes.

    Publishers write the words in several ways, so those of the first and the last class decide.
    """
    if len(class_names) != 1000:
        return ""
    ends = tuple(name.partition(",")[0].lower() for name in (class_names[0], class_names[-1]))
    return next((kind for kind, known in _ENDS.items() if ends == known), "")


def same(first: Sequence[str], second: Sequence[str]) -> bool:
    """True if both are ImageNet's classes, however they are spelled."""
    return bool(spelling(first) and spelling(second))


def respelled(info: Info, known: Info) -> Info:
    """The facts of a dataset, with the class names of `known` if both have ImageNet's classes."""
    are_same = same(info.class_names, known.class_names)
    return dataclasses.replace(info, class_names=known.class_names) if are_same else info
