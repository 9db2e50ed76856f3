"""Random access to examples: in memory, or prepared from a stored image at each access.

Nothing here imports JAX.
"""

import collections
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import NamedTuple, Protocol, TypedDict, TypeVar, runtime_checkable

import numpy as np
from absl import logging
from jaxtyping import Float, Int, Int32, UInt8

from common.data.decode import BadImageError
from common.data.preparation import Pixels, Preparation, prepare_image
from common.devices import host
from common.errors import UserError

ItemT = TypeVar("ItemT")
T = TypeVar("T")

ARRAYS_BYTES = 4 * 2**30  # the largest dataset that is kept in memory unless the config asks for it
_CHUNK = 256  # examples that a thread reads at once
_CHUNK_OF_BATCH = 16  # examples of a batch that a thread reads at once; batches are smaller than datasets
# Decoding smaller images is mostly Python, which threads slow down (MNIST by a third on two cores).
_THREADED_BYTES = 2**15


class Example(TypedDict):
    """One labelled image: integer pixels are 0..255, float pixels have the dataset's own scale."""

    image: UInt8[np.ndarray, "height width channels"] | Float[np.ndarray, "height width channels"]
    label: np.int32


@runtime_checkable
class Source(Protocol):
    """Examples with random access from any thread; can be pickled.

    A source that reads several examples faster together also has `__getitems__(indices) -> list[Example]`.
    """

    def __len__(self) -> int:
        """The number of examples."""

    def __getitem__(self, index: int) -> Example:
        """The example at 0 <= index < len, prepared for the network but not augmented."""


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Examples in memory."""

    images: UInt8[np.ndarray, "examples height width channels"] | Float[np.ndarray, "examples height width channels"]
    labels: Int32[np.ndarray, " examples"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        return Example(image=self.images[index], label=self.labels[index])


class Record(NamedTuple):
    """One labelled image as stored: pixels, or a file's bytes or path; errors call it `name`."""

    image: Pixels | bytes | os.PathLike
    label: int
    name: str


@runtime_checkable
class Records(Protocol):
    """Stored images with random access from any thread; can be pickled. See `Source` for `__getitems__`."""

    def __len__(self) -> int:
        """The number of records."""

    def __getitem__(self, index: int) -> Record:
        """The record at 0 <= index < len."""


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some of other records, by their indices."""

    records: Records
    indices: Sequence[int] | Int[np.ndarray, " subset"]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        return self.records[int(self.indices[index])]

    def __getitems__(self, indices: Sequence[int]) -> list[Record]:
        return read_all(self.records, [int(self.indices[i]) for i in indices])


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """Stored images, prepared for the network at each access.

    bad: collects the messages about unreadable images. The next readable image in the stored order takes the place of
    each; if `bad` is None, the first one raises BadImageError instead.
    """

    records: Records
    preparation: Preparation
    bad: dict[str, object] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        return self.draw(index, None)

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        if self.bad is not None:
            return [self[i] for i in indices]
        return [self._example(record, None) for record in read_all(self.records, indices)]

    def draw(self, index: int, rng: np.random.Generator | None) -> Example:
        """The example as training sees it; if the part of the image is random, `rng` draws it."""
        index = range(len(self))[index]
        if self.bad is None:
            return self._example(self.records[index], rng)
        for nearby in itertools.chain(range(index, len(self)), range(index)):
            try:
                return self._example(self.records[nearby], rng)
            except BadImageError as error:
                _tell_once(self.bad, str(error))
        raise UserError(f"none of the {len(self)} training images can be read; the first: {next(iter(self.bad))}")

    def _example(self, record: Record, rng: np.random.Generator | None) -> Example:
        image = prepare_image(record.image, self.preparation, rng, record.name)
        return Example(image=image, label=np.int32(record.label))


def _tell_once(bad: dict[str, object], error: str) -> None:
    mine = object()
    if bad.setdefault(error, mine) is mine:  # atomic, so that only one of several threads warns
        logging.warning("%s; the next image takes its place (unreadable so far: %d)", error, len(bad))


def read_in_threads(source: Source, indices: Sequence[int]) -> list[Example]:
    """Several examples, decoded on all processors."""
    parts = [indices[start : start + _CHUNK_OF_BATCH] for start in range(0, len(indices), _CHUNK_OF_BATCH)]
    with futures.ThreadPoolExecutor(host.cores()) as pool:
        return [example for part in pool.map(functools.partial(read_all, source), parts) for example in part]


def read_ahead(read: Callable[[ItemT], T], items: Iterable[ItemT], threads: int, ahead: int) -> Iterator[T]:
    """The result for each item in turn; threads work at most `ahead` items ahead of the one asked for."""
    with futures.ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque[futures.Future[T]] = collections.deque()
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def chunks(source: Source | Records, size: int = _CHUNK) -> list[range]:
    """The indices of a source in order, in parts of at most `size`."""
    return [range(len(source))[start : start + size] for start in range(0, len(source), size)]


def read_all(source: Source | Records, indices: Sequence[int]) -> list:
    """Several examples or records, read together if the source can do that."""
    together = getattr(source, "__getitems__", None)
    return together(indices) if together else [source[i] for i in indices]


def to_arrays(source: Source) -> ArraySource:
    """Every example of a source, decoded in threads."""
    first = source[0]["image"]
    images = np.empty((len(source), *first.shape), first.dtype)
    labels = np.empty(len(source), np.int32)
    with futures.ThreadPoolExecutor(host.cores() if first.nbytes >= _THREADED_BYTES else 1) as pool:
        for _ in pool.map(functools.partial(_fill, images, labels, source), chunks(source)):
            pass  # iterating raises again what a thread raised
    return ArraySource(images, labels)


def _fill(images: np.ndarray, labels: np.ndarray, source: Source, chunk: range) -> None:
    """Decodes one chunk of a source into its place."""
    for i, example in zip(chunk, read_all(source, chunk), strict=True):
        images[i], labels[i] = example["image"], example["label"]


def stored_labels(source: Source) -> Int[np.ndarray, " examples"]:
    """The label of every example. No image is decoded, but every record of a streamed TFDS dataset is read."""
    if isinstance(source, ArraySource):
        return source.labels
    if not isinstance(source, ImageSource):
        raise TypeError(f"expected examples of this package, got {type(source).__name__}")
    return np.array([record.label for chunk in chunks(source) for record in read_all(source.records, chunk)], np.int32)
