"""A dataset from labelled images: holds out test and validation images, and finds the shape that all share."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from common.data import decode
from common.data.dataset_info import Info, fingerprint
from common.data.sources import ImageSource, Record
from common.data.splits import Dataset, held_out_note, held_out_share, hold_out, make_dataset, refuse_empty
from common.errors import UserError

T = TypeVar("T")


@runtime_checkable
class Labelled(Protocol):
    """Stored images, encoded, with their labels and keys: names that are the same on every machine."""

    @property
    def keys(self) -> Sequence[str]:
        """The key of each image."""

    @property
    def labels(self) -> Sequence[int]:
        """The index of each image's class."""

    def __len__(self) -> int:
        """The number of images."""

    def __getitem__(self, index: int) -> Record:
        """The image at 0 <= index < len."""

    def subset(self, indices: Int[np.ndarray, " subset"]) -> "Labelled":
        """The images with these indices."""


def dataset_of_splits(
    name: str,
    class_names: tuple[str, ...],
    splits: tuple[Labelled, Labelled | None, Labelled | None],
    config: ConfigDict,
    notes: Sequence[str],
) -> Dataset[ImageSource]:
    """The dataset of training, test and validation images; a split that is None is held out if the config asks for it.

    The images' headers give what the config leaves open: with `channels` 0 images are grey if all training images are;
    with `resize` and `crop` 0 all images must have one size. Raises a UserError that names the image that differs.
    """
    train, test, validation = splits
    refuse_empty(name, {"train_split": train, "test_split": test, "validation": validation})
    notes = [*notes]
    held_out_test = test is None
    if test is None:
        rest, held_out = hold_out(np.array(train.labels), class_names, config.holdout)
        train, test = train.subset(rest), train.subset(held_out)
        notes.append(held_out_note(config.holdout))
    if validation is None and (share := held_out_share(config)):
        rest, held_out = hold_out(np.array(train.labels), class_names, share, "validation")
        train, validation = train.subset(rest), train.subset(held_out)
        notes.append(held_out_note(share, "validated"))
    shape = _common_shape(train, [test, validation] if validation else [test], config)
    kept = fingerprint(
        f"{split}/{key} {class_names[label]}"
        for split, images in (("train", train), ("test", test), ("validation", validation))
        if images is not None
        for key, label in zip(images.keys, images.labels, strict=True)
    )
    facts = Info(name, len(class_names), class_names, shape, 0, 0, fingerprint=kept)
    return make_dataset(train, test, facts, config, validation, notes, held_out_test)


def common_size(train: Labelled, others: Sequence[Labelled], skip_bad: bool) -> tuple[int, int]:
    """The common height and width of all images. Raises UserError naming the first that differs."""
    common = None
    for images in (train, *others):
        for name, (height, width, _) in _headers(images, decode.read_shape, skip_bad):
            common = common or (height, width)
            if (height, width) != common:
                raise UserError(
                    f"images differ in size: '{name}' has {height} x {width} pixels, others have "
                    f"{common[0]} x {common[1]}; set config.data.resize to one side for all"
                )
    if common is None:
        raise UserError(f"none of the images can be read; the first is '{train[0].name}'")
    return common


def _common_shape(train: Labelled, others: Sequence[Labelled], config: ConfigDict) -> tuple[int, int, int]:
    """Height, width and channels of the stored images; 0 where the config decides.

    As few headers as possible are read; with `skip_bad`, unreadable ones are passed over.
    """
    channels, height, width = config.channels, 0, 0
    if not channels:
        # The first colour image decides, so that only grey datasets are read to the end.
        channels = 3 if any(found == 3 for _, found in _headers(train, decode.read_channels, config.skip_bad)) else 1
    if not config.resize and not config.crop:
        height, width = common_size(train, others, config.skip_bad)
    return height, width, channels


def _headers(images: Labelled, read: Callable[[decode.File, str], T], skip_bad: bool) -> Iterator[tuple[str, T]]:
    """The name of each image, with what `read` finds in its header."""
    for index in range(len(images)):
        record = images[index]
        assert not isinstance(record.image, np.ndarray)  # they are encoded
        try:
            yield record.name, read(record.image, record.name)
        except decode.BadImageError:
            if not skip_bad:
                raise
