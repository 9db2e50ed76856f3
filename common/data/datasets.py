"""Where examples come from: bundled digits, prepared TFDS datasets, folders of images.

Every source is read at random, `source[i]`, and knows nothing of jax; what a dataset's classes, sizes and names are
comes from the data. `config` is the `data` section of a validated config throughout.
"""

import dataclasses
import functools
import hashlib
import importlib
import os
from collections.abc import Iterable, Sequence
from concurrent import futures
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Int32, UInt8
from ml_collections import ConfigDict

from common.data import decode
from common.errors import UserError, unknown

ARRAYS_BYTES = 4 * 2**30  # memory 'auto' decodes a dataset into memory up to this size
_CHUNK = 256  # examples that a decoding thread takes at a time
# Decoding smaller images than this is mostly Python, which threads slow down (MNIST by a third on two cores).
_THREADED_BYTES = 2**15


class Example(TypedDict):
    """One labelled image: integer pixels are 0..255, float ones have the dataset's own scale."""

    image: UInt8[np.ndarray, "height width channels"] | Float[np.ndarray, "height width channels"]
    label: np.int32


@runtime_checkable
class Source(Protocol):
    """Examples that are read at random, from any thread; can be pickled.

    A source that reads several examples faster together has `__getitems__(indices) -> list[Example]` as well.
    """

    def __len__(self) -> int:
        """How many examples there are."""

    def __getitem__(self, index: int) -> Example:
        """The example at 0 <= index < len, ready for the network but for augmentation."""


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Examples in memory."""

    images: UInt8[np.ndarray, "examples height width channels"] | Float[np.ndarray, "examples height width channels"]
    labels: Int32[np.ndarray, " examples"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        return Example(image=self.images[index], label=self.labels[index])


@dataclasses.dataclass(frozen=True)
class Head:
    """The first `size` examples of another source."""

    source: Source
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        return self.source[range(self.size)[index]]

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        return _read(self.source, [range(self.size)[i] for i in indices])


@dataclasses.dataclass(frozen=True)
class Info:
    """Facts about a dataset.

    image_shape: (height, width, channels) of what the network is fed, after channels, resize and pad.
    train_size, test_size: numbers of examples, after `limit`.
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_size: int
    test_size: int


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training and test examples, and the facts they share."""

    train: Source
    test: Source
    info: Info


class NotPreparedError(UserError):
    """A dataset that exists but has not been prepared on this machine; `info` is what is known of it already."""

    def __init__(self, message: str, info: Info):
        super().__init__(message)
        self.info = info


# The module with `open_dataset(name, config) -> Dataset`, which decodes nothing yet.
_KINDS = {"tfds": "common.data.tfds_source", "folder": "common.data.folder"}


def load(config: ConfigDict) -> Dataset:
    """The dataset that a `data` section describes, decoded into memory or not as `memory` says.

    UserError when it does not exist or is not what the section expects of it.
    """
    dataset = _limited(_open(config), config.limit)
    in_memory = config.memory == "arrays" or (config.memory == "auto" and _decoded_bytes(dataset) <= ARRAYS_BYTES)
    if not in_memory:
        return dataset
    return dataclasses.replace(dataset, train=to_arrays(dataset.train), test=to_arrays(dataset.test))


def load_info(config: ConfigDict) -> Info:
    """The facts alone, with no image decoded.

    A TFDS dataset that TFDS knows but that is not prepared here has its facts too, but for sizes, which are 0.
    """
    try:
        return _limited(_open(config), config.limit).info
    except NotPreparedError as error:
        return error.info


def to_arrays(source: Source) -> ArraySource:
    """Every example of a source, decoded in threads."""
    if isinstance(source, ArraySource):
        return source
    first = source[0]["image"]
    images = np.empty((len(source), *first.shape), first.dtype)
    labels = np.empty(len(source), np.int32)
    chunks = [range(i, min(i + _CHUNK, len(source))) for i in range(0, len(source), _CHUNK)]
    with futures.ThreadPoolExecutor(os.cpu_count() if first.nbytes >= _THREADED_BYTES else 1) as pool:
        for _ in pool.map(functools.partial(_fill, images, labels, source), chunks):
            pass  # reraises what went wrong in a thread
    return ArraySource(images, labels)


def fixed_order(keys: Iterable[str]) -> Int[np.ndarray, " keys"]:
    """A permutation of the keys that looks random, and that depends on nothing but the keys.

    The order of hashes: adding or removing keys leaves the others in the order they were in, on every machine.
    """
    digests = [hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8).digest() for key in keys]
    return np.argsort(np.array([int.from_bytes(digest) for digest in digests], np.uint64), kind="stable")


def hold_out(
    labels: Int[np.ndarray, " examples"], class_names: Sequence[str], fraction: float
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Indices of the examples to train on and to test on: the first `fraction` of each class is held out.

    At least one example of each class goes to either side. UserError for a class that has only one.
    """
    test = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise UserError(
                f"class '{class_names[label]}' has one image; expected two at least, to hold one out for testing"
            )
        test.append(members[: int(np.clip(round(fraction * len(members)), 1, len(members) - 1))])
    held_out = np.isin(np.arange(len(labels)), np.concatenate(test))
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _parse(config: ConfigDict) -> tuple[str, str]:
    """'digits' -> ('digits', ''), 'tfds:mnist' -> ('tfds', 'mnist'); UserError for another kind of source."""
    kind, _, name = config.source.partition(":")
    if (kind == "digits" and not name) or (kind in _KINDS and name):
        return kind, name
    raise unknown("config.data.source", config.source, ("digits", "tfds:NAME", "folder:PATH"))


def _open(config: ConfigDict) -> Dataset:
    kind, name = _parse(config)
    if kind == "digits":
        return _digits(config)
    return importlib.import_module(_KINDS[kind]).open_dataset(name, config)


def _digits(config: ConfigDict) -> Dataset:
    """Scikit-learn's bundled 8x8 handwritten digits (UCI's test set of 1,797)."""
    from sklearn.datasets import load_digits  # takes most of a second

    if (config.train_split, config.test_split) != ("train", "test"):
        raise UserError("config.data.source 'digits' has no splits to choose; config.data.holdout sizes its test set")
    digits = load_digits()
    order = fixed_order(map(str, range(len(digits.target))))
    preparation = decode.Preparation.from_config(config)
    pixels = np.round(digits.images[order, :, :, None] * (255 / 16)).astype(np.uint8)
    images = np.stack([decode.prepare_image(image, preparation) for image in pixels])
    labels = digits.target[order].astype(np.int32)
    class_names = tuple(str(name) for name in digits.target_names)
    train, test = hold_out(labels, class_names, config.holdout)
    return Dataset(
        ArraySource(images[train], labels[train]),
        ArraySource(images[test], labels[test]),
        Info("digits", len(class_names), class_names, images.shape[1:], len(train), len(test)),
    )


def _limited(dataset: Dataset, limit: int) -> Dataset:
    """Only the first `limit` training examples; 0 is all."""
    if not limit:
        return dataset
    size = len(dataset.train)
    if limit > size:
        raise UserError(f"config.data.limit is {limit}, but '{dataset.info.name}' has {size} training examples")
    train = dataset.train
    if isinstance(train, ArraySource):
        train = ArraySource(train.images[:limit], train.labels[:limit])
    else:
        train = Head(train, limit)
    return dataclasses.replace(dataset, train=train, info=dataclasses.replace(dataset.info, train_size=limit))


def _decoded_bytes(dataset: Dataset) -> int:
    examples = len(dataset.train) + len(dataset.test)
    return examples * dataset.train[0]["image"].nbytes


def _fill(images: np.ndarray, labels: np.ndarray, source: Source, chunk: range) -> None:
    """Decode one chunk of a source into its place."""
    for i, example in zip(chunk, _read(source, chunk), strict=True):
        images[i], labels[i] = example["image"], example["label"]


def _read(source: Source, indices: Sequence[int]) -> list[Example]:
    together = getattr(source, "__getitems__", None)
    return together(indices) if together else [source[i] for i in indices]
