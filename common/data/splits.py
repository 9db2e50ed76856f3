"""A dataset's training, test and validation examples, and the ways to hold some of them out.

`config` is always the `data` section of a validated config.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from common.data.dataset_info import Info
from common.data.preparation import Preparation
from common.data.sources import ImageSource, Records, Source
from common.errors import UserError

VALIDATION_NAMES = ("val", "valid", "validation")  # names for the same split
TEST_NAMES = ("test", *VALIDATION_NAMES)  # the first that exists
OTHER_NAMES = ("testing", "dev", "eval", "evaluation")  # of splits that are used only if the config names them

_PURPOSES = {"train_split": "training", "test_split": "test", "validation": "validation"}

SourceT = TypeVar("SourceT", bound=Source, covariant=True)  # `ImageSource` for a dataset that is only opened


@dataclasses.dataclass(frozen=True)
class Dataset(Generic[SourceT]):
    """Training, test and perhaps validation examples, and the facts they share.

    notes: sentences that a user should read before training, such as which images are tested on. held_out: whether the
    test examples are the part `holdout` of the source's training examples.
    """

    train: SourceT
    test: SourceT
    info: Info
    bad: dict[str, object] = dataclasses.field(default_factory=dict)  # messages about unreadable images
    validation: SourceT | None = None
    notes: tuple[str, ...] = ()
    held_out: bool = False


def make_dataset(
    train: Records,
    test: Records,
    facts: Info,
    config: ConfigDict,
    validation: Records | None = None,
    notes: Sequence[str] = (),
    held_out: bool = False,
) -> Dataset[ImageSource]:
    """A dataset from its stored images; `facts` has their stored shape, and sizes that are ignored."""
    info = dataclasses.replace(
        with_input_shape(facts, config),
        train_size=len(train),
        test_size=len(test),
        validation_size=0 if validation is None else len(validation),
    )
    # If the section does not choose between grey and colour, the data do.
    channels = info.image_shape[2]
    in_training, in_testing = (
        dataclasses.replace(Preparation.from_config(config, train=random), channels=channels)
        for random in (True, False)
    )
    bad: dict[str, object] = {}
    training = ImageSource(train, in_training, bad if config.skip_bad else None)
    validating = None if validation is None else ImageSource(validation, in_testing)
    return Dataset(training, ImageSource(test, in_testing), info, bad, validating, tuple(notes), held_out)


def refuse_empty(name: str, splits: Mapping[str, Sized | None]) -> None:
    """Raises UserError for a split of the dataset `name` without images; None is a split that is not used.

    splits: by the option that chooses them, such as 'test_split'.
    """
    for option, images in splits.items():
        if images is not None and not len(images):
            raise UserError(
                f"'{name}' has no {_PURPOSES[option]} images: its split is empty; config.data.{option} chooses another"
            )


def with_input_shape(facts: Info, config: ConfigDict) -> Info:
    """The facts of a dataset, with the shape of the network's input instead of the stored images'."""
    return dataclasses.replace(facts, image_shape=Preparation.from_config(config).shape(*facts.image_shape))


def unused_note(what: str, name: str) -> str:
    """A sentence about a split of this name that a run does not use, and the option that would use it."""
    use = f"test_split={name} tests" if name in OTHER_NAMES else f"validation={name} selects checkpoints"
    return f"{what} is not used; config.data.{use} on it"


def overlap_note(shared: int, size: int) -> str:
    """A sentence about the part of a test set of this size that is trained on."""
    return f"{shared:,} of the {size:,} test images are also training images"


def accepted_names(name: str, alternatives: Sequence[str]) -> tuple[str, ...]:
    """The names that a split may have, in the order to look for them: `name` and, if it is one of them, its synonyms.

    alternatives: `VALIDATION_NAMES` or `TEST_NAMES`.
    """
    return (name, *alternatives) if name in alternatives else (name,)


def fixed_order(keys: Iterable[str]) -> Int[np.ndarray, " keys"]:
    """A permutation of the keys that looks random but depends only on the keys: the order of their hashes.

    It is the same on every machine, and adding or removing keys leaves the order of the others unchanged.
    """
    digests = [hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8).digest() for key in keys]
    return np.argsort(np.array([int.from_bytes(digest) for digest in digests], np.uint64), kind="stable")


def hold_out(
    labels: Int[np.ndarray, " examples"], class_names: Sequence[str], fraction: float, purpose: str = "testing"
) -> tuple[Int[np.ndarray, " rest"], Int[np.ndarray, " held_out"]]:
    """Indices of the examples that stay and of those that are held out, the first `fraction` of each class.

    Both parts get at least one example of each class. Raises UserError for a class that has only one.
    """
    by_class = np.argsort(labels, kind="stable")
    present, starts, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    if sizes.min() < 2:
        name = class_names[present[np.argmin(sizes)]]
        raise UserError(f"class '{name}' has one image; expected at least two, to hold one out for {purpose}")
    counts = np.clip(np.round(fraction * sizes).astype(int), 1, sizes - 1)
    rank = np.arange(len(labels)) - np.repeat(starts, sizes)  # of each example within its class
    held_out = np.zeros(len(labels), bool)
    held_out[by_class] = rank < np.repeat(counts, sizes)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def held_out_share(config: ConfigDict) -> float | None:
    """The fraction of the training set that `validation` of a `data` section asks for; None if it names a split."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*%", config.validation)
    return float(found[1]) / 100 if found else None


def held_out_note(fraction: float, purpose: str = "tested") -> str:
    """The sentence for `Dataset.notes` about held-out training images."""
    return f"{purpose} on {100 * fraction:.4g}% of each class, held out of the training images"
