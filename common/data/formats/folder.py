"""A folder of images as a dataset, labelled by sub-folders or by a CSV file.

    PATH/train/<class>/*  and  PATH/test/<class>/* (or val, valid, validation)
    PATH/train.csv        and  PATH/test.csv (or val.csv, ...), each with the columns image and label
    PATH/<class>/*

Without a test set, a fraction of each class (`holdout`) is held out. Classes are sorted by name, or by number if all
names are numbers. Examples have a fixed order that looks random.
"""

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from common.data import decode
from common.data.dataset_info import Info, kept_order
from common.data.formats import labelled, listing
from common.data.formats.listing import Listing
from common.data.sources import ImageSource, Record
from common.data.splits import (
    OTHER_NAMES,
    TEST_NAMES,
    VALIDATION_NAMES,
    Dataset,
    accepted_names,
    fixed_order,
    held_out_share,
    make_dataset,
    overlap_note,
    unused_note,
)
from common.errors import UserError, count_of, listed
from common.files import as_text

_Folders = dict[str, set[str]]  # names of files by folder
_LIKE_SPLITS = {*TEST_NAMES, *OTHER_NAMES, "train", "training"}


class Places(NamedTuple):
    """The folder or CSV file of each split, or None."""

    train: pathlib.Path | None
    test: pathlib.Path | None
    validation: pathlib.Path | None


@dataclasses.dataclass(frozen=True)
class Files:
    """Image files and their labels."""

    root: pathlib.Path
    files: tuple[str, ...]  # relative to the root
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Record:
        path = self.root / self.files[index]
        return Record(path, self.labels[index], str(path))

    @property
    def keys(self) -> tuple[str, ...]:
        """The files' names below the root."""
        return self.files

    def subset(self, indices: Int[np.ndarray, " subset"]) -> "Files":
        """The files with these indices."""
        files, labels = (tuple(values[i] for i in indices) for values in (self.files, self.labels))
        return dataclasses.replace(self, files=files, labels=labels)


def open_dataset(name: str, config: ConfigDict, known: Info | None = None) -> Dataset[ImageSource]:
    """The training, test and validation images below the folder `name`; no pixel is decoded.

    known: stored facts, whose order of classes is kept if the classes are the same.
    The files' headers give what the config leaves open, as in `labelled.dataset_of_splits`. Raises a UserError that
    names the folder or file that is wrong.
    """
    root = listing.existing_folder(name)
    places = _find_splits(root, config)
    assert places.train is not None  # `_find_splits` refuses a folder without training images
    found = listing.read(places.train, allow_missing=config.skip_bad)
    class_names = _class_names(found, root, config, known)
    tested, validated = (
        None if place is None else listing.read(place, allow_missing=config.skip_bad)
        for place in (places.test, places.validation)
    )
    train = _labelled(found, class_names)
    test, validation = (None if one is None else _labelled(one, class_names) for one in (tested, validated))
    notes = [*_notes(root, places), *_nested_note(found), *_overlap_notes(found, tested, validated, config)]
    return labelled.dataset_of_splits(as_text(root.name), class_names, (train, test, validation), config, notes)


def open_test(name: str, config: ConfigDict, known: Info, everything: bool) -> Dataset[ImageSource]:
    """The test images below the folder `name`, which may have no training images, in the classes of `known`.

    everything: test on all images of a folder without splits, not just on those that training holds out.
    """
    root = listing.existing_folder(name)
    places = _find_splits(root, config, trains=False)
    if places.test is None and not (everything and places.train == root):
        return open_dataset(name, config, known)
    test = _labelled(listing.read(places.test or root, allow_missing=config.skip_bad), known.class_names)
    train = Files(test.root, (), ())
    height, width = (0, 0) if config.resize or config.crop else labelled.common_size(test, [], config.skip_bad)
    shape = (height, width, known.image_shape[2])
    facts = dataclasses.replace(known, name=as_text(root.name), image_shape=shape)
    return make_dataset(train, test, facts, config)


def _find_splits(root: pathlib.Path, config: ConfigDict, trains: bool = True) -> Places:
    """The splits that a config asks for; those that are held out of the training images are None.

    trains: whether missing training images are a UserError.
    """
    train = listing.find(root, config.train_split)
    if train is None and config.train_split != "train" and trains:
        raise _no_split(root, config.train_split)
    validation, wanted = None, config.validation
    if wanted and held_out_share(config) is None:
        taken = listing.find(root, config.test_split)
        validation = _first_split(root, wanted, VALIDATION_NAMES, taken)
        if validation is None and trains:
            raise _no_split(root, wanted)
    optional = config.test_split in TEST_NAMES
    test = _first_split(root, config.test_split, TEST_NAMES, validation, train if optional else None)
    if test is None and not optional:
        raise _no_split(root, config.test_split)
    beside = test or validation
    if train is None and beside is not None and trains:
        raise UserError(
            f"'{root}' has {beside.name}{'/' * beside.is_dir()} but no train/; expected both, or one sub-folder for "
            f"each class{listing.table_hint(root, config.train_split)}"
        )
    return Places(train or root, test, validation)


def _first_split(
    root: pathlib.Path,
    name: str,
    alternatives: Sequence[str],
    taken: pathlib.Path | None,
    train: pathlib.Path | None = None,
) -> pathlib.Path | None:
    """The split of that name or, if the name is one of `alternatives`, the first of these.

    Another name than the given one never stands for the split `taken`. train: the training images of a dataset that
    may lack this split; a folder beside them whose labels are unknown is then passed over.
    """
    for candidate in accepted_names(name, alternatives):
        place = listing.find(root, candidate)
        if place is None or _is_unlabelled(place, train) or (candidate != name and _same(place, taken)):
            continue
        return place
    return None


def _same(first: pathlib.Path, second: pathlib.Path | None) -> bool:
    """True if both are the same folder or file, perhaps through a link."""
    return second is not None and os.path.realpath(first) == os.path.realpath(second)


def _is_unlabelled(place: pathlib.Path, train: pathlib.Path | None) -> bool:
    """True for a folder without classes beside training images that a CSV file labels, as in Kaggle's contests."""
    return train is not None and train.is_file() and place.is_dir() and not listing.has_folders(place)


def _no_split(root: pathlib.Path, name: str) -> UserError:
    return UserError(f"no folder '{root / name}'{decode.similar_name(root / name)}{listing.table_hint(root, name)}")


def _class_names(found: Listing, root: pathlib.Path, config: ConfigDict, known: Info | None) -> tuple[str, ...]:
    """The classes of the training images. Raises UserError unless there are at least two."""
    names = listing.class_order(set(found.classes.values()))
    if found.source == root and names and all(_is_like_split(name) for name in names):
        raise UserError(
            f"'{root}' has the sub-folders {listed(names)}, which look like splits rather than classes; name them "
            "train and test, or set config.data.train_split and config.data.test_split"
        )
    if len(names) < 2:
        said = f"only one, '{names[0]}'" if names else f"none{listing.table_hint(root, config.train_split)}"
        kind = "one sub-folder for each class" if found.source == found.root else "labels of classes"
        raise UserError(f"'{found.source}' should have {kind}, at least two; it has {said}")
    return kept_order(names, known)


def _is_like_split(name: str) -> bool:
    """True for the name of a split, alone or before a number or another word: 'Train', 'val2017', 'test_images'."""
    return re.split(r"[^a-z]", name.lower())[0] in _LIKE_SPLITS


def _labelled(found: Listing, class_names: Sequence[str]) -> Files:
    """The files of a listing in their fixed order, with the indices of their classes."""
    indices = {name: i for i, name in enumerate(class_names)}
    for name in sorted(set(found.classes.values()) - indices.keys()):
        raise UserError(f"{found.called(name)} has no training images; expected one of the training classes")
    if not found.classes:
        raise UserError(f"'{found.source}' should have one sub-folder for each class; it has none")
    labels = tuple(indices[name] for name in found.classes.values())
    return Files(found.root, tuple(found.classes), labels).subset(fixed_order(found.classes))


def _notes(root: pathlib.Path, places: Places) -> list[str]:
    """Sentences about the split used for testing, and about splits that are not used."""
    notes = []
    if places.test is not None and places.test.stem in VALIDATION_NAMES:
        notes.append(f"tested on '{places.test}', as there is no test set")
    for name in (*TEST_NAMES, *OTHER_NAMES) if places.train != root else ():
        place = listing.find(root, name)
        if place is None or any(_same(place, used) for used in places):
            continue
        if _is_unlabelled(place, places.train):
            notes.append(f"'{place}' is not used: it has no sub-folders of classes, and no CSV file labels its images")
        elif name != "test":
            notes.append(unused_note(f"'{place}'", name))
    for name in TEST_NAMES:
        if hint := listing.table_hint(root, name):
            notes.append(f"'{name}.csv' is not used{hint}")
    return notes


def _nested_note(found: Listing) -> list[str]:
    """A sentence about images in sub-folders of a class, if there are any."""
    if found.source != found.root:
        return []
    nested = next((file for file in found.classes if file.count("/") > 1), None)
    return [f"images in sub-folders of a class, such as '{found.root / nested}', belong to it"] if nested else []


def _overlap_notes(train: Listing, test: Listing | None, validation: Listing | None, config: ConfigDict) -> list[str]:
    """A sentence about test images that are trained on. Raises UserError for such validation images."""
    if test is None and validation is None:
        return []
    trained, tested, validated = (_by_folder(found) if found else {} for found in (train, test, validation))
    for split, folders in ((config.train_split, trained), (config.test_split, tested)):
        if shared := _shared(validated, folders):
            raise UserError(
                f"config.data.validation '{config.validation}' shares {count_of(shared, 'image')} with '{split}'; "
                "choose another folder, or a share of the training set, such as '10%'"
            )
    shared = _shared(tested, trained)
    return [overlap_note(shared, len(test.classes))] if test and shared else []


def _shared(first: _Folders, second: _Folders) -> int:
    """The number of files that two splits have in common."""
    return sum(len(first[folder] & second[folder]) for folder in first.keys() & second.keys())


def _by_folder(found: Listing) -> _Folders:
    """The names of the files in each folder, however they are reached: neither folders nor files are links."""
    real_folder = functools.cache(lambda folder: os.path.realpath(found.root / folder))
    kept: _Folders = {}
    for file in found.classes:
        if file in found.links:
            folder, name = os.path.split(os.path.realpath(found.root / file))
        else:
            above, _, name = file.rpartition("/")
            folder = real_folder(above)
        kept.setdefault(folder, set()).add(name)
    return kept
