"""Datasets in shards: files that hold many labelled images each, such as Parquet and tar files.

The name of a shard or of its folder gives its split: train-00000-of-00002.parquet, test/0.tar. Shards without the name
of a split are for training. Without a test set, a fraction of each class (`holdout`) is held out. Examples have a fixed
order that looks random, because stored ones are often sorted by class.
"""

import collections
import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence, Set
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from common.data.dataset_info import Info, kept_order
from common.data.formats import labelled, listing
from common.data.sources import ImageSource, Record
from common.data.splits import (
    OTHER_NAMES,
    TEST_NAMES,
    VALIDATION_NAMES,
    Dataset,
    accepted_names,
    fixed_order,
    held_out_share,
    unused_note,
)
from common.errors import UserError, listed
from common.files import as_text


@runtime_checkable
class Images(Protocol):
    """Encoded images with random access from any thread; can be pickled."""

    def __len__(self) -> int:
        """The number of images."""

    def __getitem__(self, index: int) -> tuple[bytes | os.PathLike, str]:
        """The image at 0 <= index < len, and what errors call it."""


class Shards(NamedTuple):
    """The content of some shards.

    keys: a name for each image, the same on every machine. labels: the name of each image's class. class_names: all
    classes in their order, or None if the shards do not give it.
    """

    images: Images
    keys: Sequence[str]
    labels: Sequence[str]
    class_names: tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class Examples:
    """Some images of shards and their labels."""

    images: Images
    indices: Int[np.ndarray, " examples"]  # of the images
    keys: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Record:
        image, name = self.images[int(self.indices[index])]
        return Record(image, self.labels[index], name)

    def subset(self, indices: Int[np.ndarray, " subset"]) -> "Examples":
        """The images with these indices."""
        keys, labels = (tuple(values[i] for i in indices) for values in (self.keys, self.labels))
        return Examples(self.images, self.indices[indices], keys, labels)


Reader = Callable[[pathlib.Path, Sequence[pathlib.Path]], Shards]  # takes the folder and some of its shards


def open_dataset(name: str, config: ConfigDict, known: Info | None, suffix: str, read: Reader) -> Dataset[ImageSource]:
    """The training, test and validation images in the shards below the folder `name`; no pixel is decoded.

    known: stored facts, whose order of classes is kept if the classes are the same. The images' headers give what the
    config leaves open, as in `labelled.dataset_of_splits`. Raises a UserError that names the folder, shard or image at
    fault.
    """
    root = listing.existing_folder(name)
    files = _files_by_split(root, suffix, config)
    train, test, validation = _used_splits(root, files, config)
    shared = _shared_shards(files, (train, test, validation), config)
    found = read(root, files[train])
    class_names = _class_names(found, root, known)
    tested, validated = (
        _labelled(read(root, files[split]), class_names, root) if split else None for split in (test, validation)
    )
    notes = [f"{shared} of the {len(files[test])} test shards are also training shards"] if test and shared else []
    if test in VALIDATION_NAMES and test != config.test_split:
        notes.append(f"tested on the split '{test}', as there is no test set")
    for split in (*VALIDATION_NAMES, *OTHER_NAMES):
        if split in files.keys() - {train, test, validation}:
            notes.append(unused_note(f"the split '{split}'", split))
    splits = (_labelled(found, class_names, root), tested, validated)
    return labelled.dataset_of_splits(as_text(root.name), class_names, splits, config, notes)


def _files_by_split(root: pathlib.Path, suffix: str, config: ConfigDict) -> dict[str, list[pathlib.Path]]:
    """The shards below a folder, by the split in their names; those without one are for training."""
    given = (config.train_split, config.test_split, config.validation)
    names = ["train", *TEST_NAMES, *filter(None, given)]  # the given ones last: they are returned as they are written
    splits: dict[str, list[pathlib.Path]] = {}
    found = listing.files_below(root)
    for file in found:
        if file.lower().endswith(suffix):
            shard = pathlib.PurePath(file)
            split = _split_of(shard, names) or _split_of(shard, OTHER_NAMES) or "train"
            splits.setdefault(split, []).append(root / file)
    if not splits:
        raise UserError(f"'{root}' has no {suffix} files" + (f"; it has {listed(found)}" if found else ""))
    return splits


def _used_splits(
    root: pathlib.Path, files: dict[str, list[pathlib.Path]], config: ConfigDict
) -> tuple[str, str | None, str | None]:
    """The names of the training, test and validation splits; None for one that is held out or not wanted."""
    train = config.train_split
    wanted = "" if held_out_share(config) is not None else config.validation
    validation = _first_split(files.keys(), wanted, VALIDATION_NAMES) if wanted else None
    test = _first_split(files.keys() - {train, validation}, config.test_split, TEST_NAMES)
    found = {"train_split": train in files, "validation": validation or not wanted}
    found["test_split"] = test or config.test_split in TEST_NAMES
    if config.test_split == train and not found["test_split"]:
        raise UserError(f"config.data.test_split '{train}' is trained on; choose another split")
    for option, is_there in found.items():
        if not is_there:
            raise UserError(
                f"'{root}' has no shards of config.data.{option} '{config[option]}'; it has {listed(sorted(files))}"
            )
    return train, test, validation


def _shared_shards(
    files: Mapping[str, Sequence[pathlib.Path]], splits: tuple[str, str | None, str | None], config: ConfigDict
) -> int:
    """The number of test shards that are trained on, through links. Raises UserError for such validation shards."""
    train, test, validation = ({os.path.realpath(file) for file in files.get(split or "", ())} for split in splits)
    for split, used in ((config.train_split, train), (config.test_split, test)):
        if both := len(validation & used):
            raise UserError(
                f"config.data.validation '{config.validation}' has {both} of the shards of '{split}'; choose another "
                "split, or a share of the training set, such as '10%'"
            )
    return len(test & train)


def _split_of(shard: pathlib.PurePath, names: Sequence[str]) -> str | None:
    """The split among `names` that the shard's name has, or else the nearest folder's; None without one.

    If a part of the path has several of them, it counts only if one contains the others, as 'train_clean' contains
    'train'.
    """
    for part in reversed(shard.parts):
        found = {name.lower(): name for name in names if _has(part, name)}
        longest = max(found, key=len, default="")
        if found and all(_has(longest, name) for name in found):
            return found[longest]
    return None


def _has(text: str, name: str) -> bool:
    """True if a text has the name as a word, or as several, in any case; a number may follow, as in val2017."""
    number = r"\d*" if name[-1:].isalpha() else ""
    return re.search(rf"(?<![a-z0-9]){re.escape(name.lower())}{number}(?![a-z0-9])", text.lower()) is not None


def _first_split(splits: Set[str], name: str, alternatives: Sequence[str]) -> str | None:
    """The split of that name or, if the name is one of `alternatives`, the first of these; None without one."""
    return next((name for name in accepted_names(name, alternatives) if name in splits), None)


def _class_names(found: Shards, root: pathlib.Path, known: Info | None) -> tuple[str, ...]:
    names = found.class_names or listing.class_order(set(found.labels))
    if len(names) < 2:
        raise UserError(f"'{root}' should have at least two classes; it has {listed(names) or 'none'}")
    if twice := [name for name, count in collections.Counter(names).items() if count > 1]:
        raise UserError(f"'{root}' has several classes of the name {listed(twice)}; expected a name for each")
    return kept_order(names, known)


def _labelled(found: Shards, class_names: tuple[str, ...], root: pathlib.Path) -> Examples:
    """The images of shards in their fixed order, with the indices of their classes."""
    indices = {name: i for i, name in enumerate(class_names)}
    for name in sorted(set(found.labels) - indices.keys()):
        index = found.labels.index(name)
        raise UserError(f"'{found.keys[index]}' in '{root}' has label '{name}'; expected one of the training classes")
    order = fixed_order(found.keys)
    labels = tuple(indices[name] for name in found.labels)
    return Examples(found.images, np.arange(len(labels)), tuple(found.keys), labels).subset(order)
