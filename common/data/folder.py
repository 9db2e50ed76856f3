"""A folder of images as a dataset: one sub-folder a class, named after it.

    PATH/train/<class>/*  and  PATH/test/<class>/* (or PATH/val/<class>/*)
    PATH/<class>/*        a fraction of each class (`holdout`) is then held out for testing

Classes are sorted by name, examples are in a fixed order that looks random, hidden files are ignored.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from common.data import decode
from common.data.datasets import Dataset, Example, Info, fixed_order, hold_out
from common.errors import UserError


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Image files and their labels."""

    root: pathlib.Path
    files: tuple[str, ...]  # relative to the root
    labels: tuple[int, ...]
    preparation: decode.Preparation

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example:
        image = decode.read(self.root / self.files[index], self.preparation.channels)
        return Example(image=decode.prepare_image(image, self.preparation), label=np.int32(self.labels[index]))

    def subset(self, indices: Int[np.ndarray, " subset"]) -> "FolderSource":
        """Some of the files."""
        files, labels = (tuple(values[i] for i in indices) for values in (self.files, self.labels))
        return dataclasses.replace(self, files=files, labels=labels)


def open_dataset(name: str, config: ConfigDict) -> Dataset:
    """The training and test images below the folder `name`; no pixel is decoded yet.

    What the config leaves open is read from the files' headers: with `channels` 0 images are grey if all training
    images are, with `resize` 0 all images have to be of one size. UserError names the folder or file that is not as
    it should be.
    """
    root = pathlib.Path(name).expanduser().absolute()
    train_root, test_root = _split_folders(root, config)
    class_names = _class_names(train_root)
    if len(class_names) < 2:
        found = f"only one, '{class_names[0]}'" if class_names else "none"
        raise UserError(f"'{train_root}' should have one sub-folder for each class, two at least; it has {found}")
    preparation = decode.Preparation.from_config(config)
    train = _list_files(train_root, class_names, preparation)
    if test_root is None:
        rest, held_out = hold_out(np.array(train.labels), class_names, config.holdout)
        train, test = train.subset(rest), train.subset(held_out)
    else:
        test = _list_files(test_root, class_names, preparation)
    shape = _common_shape(train, test)
    preparation = dataclasses.replace(preparation, channels=shape[2])
    train, test = (dataclasses.replace(source, preparation=preparation) for source in (train, test))
    info = Info(root.name, len(class_names), class_names, preparation.shape(*shape), len(train), len(test))
    return Dataset(train, test, info)


def _split_folders(root: pathlib.Path, config: ConfigDict) -> tuple[pathlib.Path, pathlib.Path | None]:
    """The folders of training and of test classes; None where the test set is to be held out."""
    if not root.is_dir():
        raise UserError(f"no folder '{root}'{decode.similar_name(root)}")
    train, test = root / config.train_split, root / config.test_split
    if not test.is_dir() and config.test_split == "test" and (root / "val").is_dir():
        test = root / "val"
    for folder, default in ((train, "train"), (test, "test")):
        if not folder.is_dir() and folder.name != default:
            raise UserError(f"no folder '{folder}'{decode.similar_name(folder)}")
    if train.is_dir():
        return train, test if test.is_dir() else None
    if test.is_dir():
        raise UserError(f"'{root}' has {test.name}/ but no train/; expected both, or one sub-folder for each class")
    return root, None


def _class_names(root: pathlib.Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in _visible(root) if entry.is_dir()))


def _visible(folder: pathlib.Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _list_files(root: pathlib.Path, class_names: Sequence[str], preparation: decode.Preparation) -> FolderSource:
    """The files of all classes below a folder, in their fixed order."""
    labels = {}
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
    return FolderSource(root, tuple(labels), tuple(labels.values()), preparation).subset(fixed_order(labels))


def _common_shape(train: FolderSource, test: FolderSource) -> tuple[int, int, int]:
    """Height, width and channels of the images as they are in the files; the first image's size if they differ."""
    height, width, _ = decode.read_shape(train.root / train.files[0])
    channels = train.preparation.channels
    if not channels:
        # The first colour image decides, so that only a grey dataset is read whole.
        channels = 3 if any(decode.read_shape(train.root / file)[2] == 3 for file in train.files) else 1
    if not train.preparation.resize:
        for source in (train, test):
            _check_sizes(source, height, width)
    return height, width, channels


def _check_sizes(source: FolderSource, height: int, width: int) -> None:
    for file in source.files:
        shape = decode.read_shape(source.root / file)
        if shape[:2] != (height, width):
            raise UserError(
                f"images differ in size: '{source.root / file}' has {shape[0]} x {shape[1]} pixels, others have "
                f"{height} x {width}; set config.data.resize to one side for all"
            )
