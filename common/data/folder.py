"""A folder of images as a dataset, with one sub-folder for each class.

    PATH/train/<class>/*  and  PATH/test/<class>/* (or val, valid, validation)
    PATH/<class>/*        a fraction of each class (`holdout`) is held out for testing

Classes are sorted by name. Examples have a fixed order that looks random. Hidden files are ignored.
"""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from common.data import decode
from common.data.datasets import Dataset, Info, as_dataset, fixed_order, held_out_note, held_out_share, hold_out
from common.data.sources import ImageSource, Record
from common.errors import UserError

_VALIDATION_FOLDERS = ("val", "valid", "validation")  # names for the same
_TEST_FOLDERS = ("test", *_VALIDATION_FOLDERS)  # the first that exists


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

    def subset(self, indices: Int[np.ndarray, " subset"]) -> "Files":
        """The files with these indices."""
        files, labels = (tuple(values[i] for i in indices) for values in (self.files, self.labels))
        return dataclasses.replace(self, files=files, labels=labels)


def open_dataset(name: str, config: ConfigDict) -> Dataset[ImageSource]:
    """The training and test images below the folder `name`; no pixel is decoded.

    The files' headers give what the config leaves open: with `channels` 0 images are grey if all training images are;
    with `resize` and `crop` 0 all images must have one size. UserError names the folder or file that is wrong.
    """
    root = pathlib.Path(name).expanduser().absolute()
    train_root, test_root, validation_root = _split_folders(root, config)
    class_names = _class_names(train_root)
    if len(class_names) < 2:
        found = f"only one, '{class_names[0]}'" if class_names else "none"
        raise UserError(f"'{train_root}' should have one sub-folder for each class, at least two; it has {found}")
    train = _list_files(train_root, class_names)
    test = validation = None
    notes = _notes(root, train_root, test_root, validation_root)
    if test_root is not None:
        test = _list_files(test_root, class_names)
    else:
        rest, held_out = hold_out(np.array(train.labels), class_names, config.holdout)
        train, test = train.subset(rest), train.subset(held_out)
        notes.append(held_out_note(config.holdout))
    if validation_root is not None:
        validation = _list_files(validation_root, class_names)
    elif share := held_out_share(config):
        rest, held_out = hold_out(np.array(train.labels), class_names, share, "validation")
        train, validation = train.subset(rest), train.subset(held_out)
        notes.append(held_out_note(share, "validated"))
    shape = _common_shape(train, [test, validation] if validation else [test], config)
    facts = Info(root.name, len(class_names), class_names, shape, len(train), len(test))
    return as_dataset(train, test, facts, config, validation, notes)


def _split_folders(
    root: pathlib.Path, config: ConfigDict
) -> tuple[pathlib.Path, pathlib.Path | None, pathlib.Path | None]:
    """The folders of the training, test and validation classes; None if there is none or images are held out."""
    if not root.is_dir():
        raise UserError(f"no folder '{root}'{decode.similar_name(root)}")
    train, test, validation = root / config.train_split, root / config.test_split, None
    if (wanted := config.get("validation", "")) and held_out_share(config) is None:
        validation = _first_folder(root, wanted, _VALIDATION_FOLDERS, but=test)
    test = _first_folder(root, config.test_split, _TEST_FOLDERS, but=validation)
    for folder, defaults in ((train, ("train",)), (test, _TEST_FOLDERS), (validation, ())):
        if folder is not None and not folder.is_dir() and folder.name not in defaults:
            raise UserError(f"no folder '{folder}'{decode.similar_name(folder)}")
    if train.is_dir():
        return train, test if test.is_dir() else None, validation
    if test.is_dir():
        raise UserError(f"'{root}' has {test.name}/ but no train/; expected both, or one sub-folder for each class")
    return root, None, validation


def _first_folder(root: pathlib.Path, name: str, alternatives: Sequence[str], but: pathlib.Path | None) -> pathlib.Path:
    """The folder of that name, or the first of its alternatives, where it has some, that exists and is another."""
    names = (name, *alternatives) if name in alternatives else (name,)
    folders = [root / name for name in names if root / name != but]
    return next((folder for folder in folders if folder.is_dir()), root / name)


def _notes(
    root: pathlib.Path, train: pathlib.Path, test: pathlib.Path | None, validation: pathlib.Path | None
) -> list[str]:
    """Sentences on the folders that are tested on and on those that are not used."""
    notes = []
    if test is not None and test.name in _VALIDATION_FOLDERS:
        notes.append(f"tested on '{test}', as there is no folder for testing")
    for name in _VALIDATION_FOLDERS:
        if train != root and (root / name).is_dir() and root / name not in (test, validation):
            notes.append(f"'{root / name}' is not used; config.data.validation={name} selects checkpoints on it")
    return notes


def _class_names(root: pathlib.Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in _visible(root) if entry.is_dir()))


def _visible(folder: pathlib.Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _list_files(root: pathlib.Path, class_names: Sequence[str]) -> Files:
    """The files of all classes below a folder, in their fixed order."""
    labels: dict[str, int] = {}
    for name in _class_names(root):
        if name not in class_names:
            raise UserError(f"class '{root / name}' has no training images; expected one of the training classes")
        entries = _visible(root / name)
        if not entries:
            raise UserError(f"class '{root / name}' has no images")
        for entry in entries:
            if entry.is_dir():
                raise UserError(f"'{entry.path}' is a folder; expected only images in the folder of a class")
        labels |= dict.fromkeys((f"{name}/{entry.name}" for entry in entries), class_names.index(name))
    if not labels:
        raise UserError(f"'{root}' should have one sub-folder for each class; it has none")
    return Files(root, tuple(labels), tuple(labels.values())).subset(fixed_order(labels))


def _common_shape(train: Files, others: Sequence[Files], config: ConfigDict) -> tuple[int, int, int]:
    """Height, width and channels of the stored images; 0 where the config decides.

    As few headers as possible are read; `skip_bad` passes over those that cannot be read.
    """
    channels, height, width = config.channels, 0, 0
    if not channels:
        # The first colour image decides, so that only grey datasets are read to the end.
        channels = 3 if any(shape[2] == 3 for _, shape in _shapes(train, config.skip_bad)) else 1
    if not config.resize and not config.crop:
        height, width = _one_size(train, others, config.skip_bad)
    return height, width, channels


def _one_size(train: Files, others: Sequence[Files], skip_bad: bool) -> tuple[int, int]:
    """The common height and width of all images; UserError naming the first that differs."""
    common = None
    for path, shape in itertools.chain.from_iterable(_shapes(files, skip_bad) for files in (train, *others)):
        common = common or shape[:2]
        if shape[:2] != common:
            raise UserError(
                f"images differ in size: '{path}' has {shape[0]} x {shape[1]} pixels, others have "
                f"{common[0]} x {common[1]}; set config.data.resize to one side for all"
            )
    if common is None:
        raise UserError(f"none of the images in '{train.root}' can be read")
    return common


def _shapes(files: Files, skip_bad: bool) -> Iterator[tuple[pathlib.Path, tuple[int, int, int]]]:
    """Each file with the shape in its header."""
    for file in files.files:
        try:
            yield files.root / file, decode.read_shape(files.root / file)
        except decode.BadImageError:
            if not skip_bad:
                raise
