"""Batches on the device, from memory or streamed.

`train_feed` returns one of two feeds with the same face: `take(step, count)` hands over the batches of `count`
updates from `step` on, `select` picks one of them inside the compiled step. Arrays that fit live on the device
whole, and only indices travel; anything else is read, decoded and batched by Grain ahead of time.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, Int32, Int64
from ml_collections import ConfigDict

from common.data import order
from common.data.sources import ArraySource, ImageSource, Source, read_in_threads
from common.devices import mesh as mesh_lib

_PREPARING = 1  # tells this use of the seed from the order's
DEVICE_BYTES = 2 * 2**30  # arrays up to this size are kept on the device


@dataclasses.dataclass(frozen=True)
class ResidentFeed:
    """The whole training set on every device; a batch is a row of indices into it."""

    images: Array
    labels: Int[Array, " examples"]
    batch_size: int
    seed: int
    shuffle: str
    mesh: Mesh

    def take(self, step: int, count: int, room: int) -> tuple[Array, Array, Array]:
        """Images, labels and the indices of `count` batches, in an array with room for `room`."""
        size = self.batch_size
        rows = order.indices(self.seed, self.shuffle, len(self.labels), step * size, count * size)
        rows = np.pad(rows.reshape(count, size), ((0, room - count), (0, 0))).astype(np.int32)
        return self.images, self.labels, mesh_lib.place(rows, mesh_lib.batched(self.mesh, axis=1))

    @staticmethod
    def select(batches: tuple[Array, Array, Array], i: int | Int[Array, ""]) -> tuple[Array, Array]:
        """The i-th batch's images and labels."""
        images, labels, rows = batches
        return images[rows[i]], labels[rows[i]]


class StreamedFeed:
    """Batches that Grain reads and decodes ahead in threads; each process reads its own slice of each batch."""

    def __init__(self, source: Source, config: ConfigDict, mesh: Mesh, start_step: int):
        self._mesh = mesh
        rows = mesh_lib.local_rows(config.train.batch_size, mesh)
        self._batches = iter(_host_batches(source, config, start_step, rows))
        self._step = start_step

    def take(self, step: int, count: int, room: int) -> tuple[Array, Array]:
        """Images and labels of `count` batches, in arrays with room for `room`; steps must follow one another."""
        if step != self._step:
            raise ValueError(f"asked for the batch of step {step} while at step {self._step}")
        self._step += count
        batches = [next(self._batches) for _ in range(count)]
        batches += batches[-1:] * (room - count)
        parts = (np.stack([batch[key] for batch in batches]) for key in ("image", "label"))
        return tuple(mesh_lib.place_rows(part, self._mesh, axis=1) for part in parts)

    @staticmethod
    def select(batches: tuple[Array, Array], i: int | Int[Array, ""]) -> tuple[Array, Array]:
        """The i-th batch's images and labels."""
        images, labels = batches
        return images[i], labels[i]


Feed = ResidentFeed | StreamedFeed


def train_feed(source: Source, config: ConfigDict, mesh: Mesh, start_step: int) -> Feed:
    """The training batches of a run from `start_step` on."""
    if resident(source):
        images, labels = mesh_lib.replicate((source.images, source.labels), mesh)
        return ResidentFeed(images, labels, config.train.batch_size, config.seed, config.data.shuffle, mesh)
    return StreamedFeed(source, config, mesh, start_step)


def resident(source: Source) -> bool:
    """Whether the examples are in memory and small enough for the device."""
    return isinstance(source, ArraySource) and source.images.nbytes <= DEVICE_BYTES


@dataclasses.dataclass(frozen=True)
class _Shuffled:
    """The examples of this process in the order training reads them, for Grain's workers: position -> example.

    What is random in preparing an example depends on the seed and on its position in the stream of all processes.
    """

    source: Source
    seed: int
    shuffle: str
    batch_size: int
    first: int  # this process's first row in each batch
    rows: int  # how many rows of each batch are this process's

    def __call__(self, position: int) -> dict[str, Any]:
        step, row = divmod(int(position), self.rows)
        at = step * self.batch_size + self.first + row
        index = int(order.indices(self.seed, self.shuffle, len(self.source), at, 1)[0])
        if isinstance(self.source, ImageSource):
            return self.source.draw(index, np.random.default_rng((self.seed, at, _PREPARING)))
        return self.source[index]


def _host_batches(source: Source, config: ConfigDict, start_step: int, part: slice) -> Iterator[dict[str, np.ndarray]]:
    """The rows `part` of each batch, which are this process's, from `start_step` on, read ahead in threads."""
    import grain  # slow to import, and not needed for arrays on the device

    rows = part.stop - part.start
    example = _Shuffled(source, config.seed, config.data.shuffle, config.train.batch_size, part.start, rows)
    endless = 2**31 * rows
    dataset = grain.MapDataset.range(start_step * rows, start_step * rows + endless).map(example).batch(rows)
    threads = max(config.data.workers, 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * threads)
    return iter(dataset.to_iter_dataset(options))


def eval_batches(
    source: Source, batch_size: int, mesh: Mesh
) -> Iterator[tuple[Array, Int[Array, " batch"], Bool[Array, " batch"]]]:
    """(images, labels, mask) over every example exactly once; the last batch is padded, the mask says with what.

    Batches are no larger than the source, but for what its devices need. Each process reads the rows on its own.
    """
    size = -(-min(batch_size, len(source)) // mesh.size) * mesh.size
    part = mesh_lib.local_rows(size, mesh)
    for start in range(0, len(source), size):
        rows = np.arange(start + part.start, start + part.stop)
        # What lies beyond the last example is filled with it, so that the batch has its size in every process.
        images, labels = gather(source, np.minimum(rows, len(source) - 1))
        yield tuple(mesh_lib.place_rows(array, mesh) for array in (images, labels, rows < len(source)))


def gather(source: Source, chosen: Int64[np.ndarray, " batch"]) -> tuple[np.ndarray, Int32[np.ndarray, " batch"]]:
    """The chosen examples' images and labels, stacked."""
    if isinstance(source, ArraySource):
        return source.images[chosen], source.labels[chosen]
    examples = read_in_threads(source, [int(i) for i in chosen])
    return np.stack([e["image"] for e in examples]), np.array([e["label"] for e in examples], np.int32)
