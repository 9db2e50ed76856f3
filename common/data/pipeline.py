"""Batches on the device, from memory or streamed.

`train_feed` returns one of two feeds with the same methods: `take(step, count, room)` returns the batches of `count`
updates from `step` on, and `select` picks one of them inside the compiled step. Arrays that fit on the device stay
there, and only indices are sent. Grain reads, decodes and batches everything else ahead of time.
"""

import dataclasses
from collections.abc import Iterator
from typing import TypeGuard

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, Int32, Int64

from common.data import order
from common.data.sources import ArraySource, Example, ImageSource, Source, read_in_threads
from common.devices import mesh as mesh_lib

_PREPARING = 1  # keeps these random numbers apart from the order's, which have the same seed
_PIECE = 32  # examples that a thread reads at once, if the rows of a batch divide into as many
DEVICE_BYTES = 2 * 2**30  # larger arrays are not kept on the device

Resident = tuple[Array, Array, Array | np.ndarray]  # all images, all labels, and a row of indices for each batch


@dataclasses.dataclass(frozen=True)
class ResidentFeed:
    """The whole training set on every device; a batch is one row of indices into it."""

    images: Array
    labels: Int[Array, " examples"]
    batch_size: int
    seed: int
    shuffle: str
    mesh: Mesh
    classes: order.Classes | None = None

    def take(self, step: int, count: int, room: int) -> Resident:
        """All images and labels, and the indices of `count` batches in an array with room for `room`."""
        size = self.batch_size
        rows = np.zeros((room, size), np.int32)
        chosen = order.indices(self.seed, self.shuffle, len(self.labels), step * size, count * size, self.classes)
        rows[:count] = chosen.reshape(count, size)
        if self.mesh.size == 1:  # the compiled update copies the rows itself, in a tenth of the time
            return self.images, self.labels, rows
        return self.images, self.labels, mesh_lib.place(rows, mesh_lib.batched(self.mesh, axis=1))

    @staticmethod
    def select(batches: Resident, i: int | Int[Array, ""]) -> tuple[Array, Array]:
        """The i-th batch's images and labels."""
        images, labels, rows = batches
        return images[rows[i]], labels[rows[i]]


class StreamedFeed:
    """Batches that Grain reads and decodes ahead in threads; each process reads its own rows of each batch."""

    def __init__(
        self,
        source: Source,
        mesh: Mesh,
        start_step: int,
        *,
        batch_size: int,
        seed: int,
        shuffle: str,
        workers: int,
        classes: order.Classes | None = None,
    ):
        self._mesh = mesh
        part = mesh_lib.local_rows(batch_size, mesh)
        examples = ShuffledRows(source, seed, shuffle, batch_size, part.start, part.stop - part.start, classes)
        self._pieces, self._in_batch = _pieces(examples, start_step, workers)
        self._step = start_step

    def take(self, step: int, count: int, room: int) -> tuple[Array, Array]:
        """Images and labels of `count` batches, in arrays with room for `room`; steps must follow one another."""
        if step != self._step:
            raise ValueError(f"asked for the batch of step {step} while at step {self._step}")
        self._step += count
        pieces = [next(self._pieces) for _ in range(count * self._in_batch)]
        pieces += pieces[-self._in_batch :] * (room - count)
        joined = (np.concatenate([piece[key] for piece in pieces]) for key in ("image", "label"))
        parts = (values.reshape(room, -1, *values.shape[1:]) for values in joined)
        images, labels = (mesh_lib.place_rows(part, self._mesh, axis=1) for part in parts)
        return images, labels

    @staticmethod
    def select(batches: tuple[Array, Array], i: int | Int[Array, ""]) -> tuple[Array, Array]:
        """The i-th batch's images and labels."""
        images, labels = batches
        return images[i], labels[i]


Feed = ResidentFeed | StreamedFeed


def train_feed(
    source: Source,
    mesh: Mesh,
    start_step: int,
    *,
    batch_size: int,
    seed: int,
    shuffle: str,
    workers: int,
    classes: order.Classes | None = None,
) -> Feed:
    """The training batches of a run from `start_step` on.

    batch_size: examples in a batch, over all processes. seed, shuffle, classes: decide the order, see
    `order.indices`. workers: threads that read and decode ahead, if examples are streamed.
    """
    if is_resident(source):
        images, labels = mesh_lib.replicate((source.images, source.labels), mesh)
        return ResidentFeed(images, labels, batch_size, seed, shuffle, mesh, classes)
    return StreamedFeed(
        source, mesh, start_step, batch_size=batch_size, seed=seed, shuffle=shuffle, workers=workers, classes=classes
    )


def is_resident(source: Source) -> TypeGuard[ArraySource]:
    """True if the examples are in memory and small enough for the device."""
    return isinstance(source, ArraySource) and source.images.nbytes <= DEVICE_BYTES


@dataclasses.dataclass(frozen=True)
class ShuffledRows:
    """The examples of this process in training order, for Grain's threads: position -> example.

    Random preparation depends only on the seed and on the example's position in the stream of all processes.
    """

    source: Source
    seed: int
    shuffle: str
    batch_size: int
    first: int  # this process's first row in each batch
    rows: int  # this process's number of rows in each batch
    classes: order.Classes | None = None

    def __call__(self, position: int) -> Example:
        """The example at a position of this process's own stream."""
        step, row = divmod(int(position), self.rows)
        at = step * self.batch_size + self.first + row
        index = int(order.indices(self.seed, self.shuffle, len(self.source), at, 1, self.classes)[0])
        if isinstance(self.source, ImageSource):
            return self.source.draw(index, np.random.default_rng((self.seed, at, _PREPARING)))
        return self.source[index]


def _pieces(examples: ShuffledRows, start_step: int, workers: int) -> tuple[Iterator[dict[str, np.ndarray]], int]:
    """The rows of this process from `start_step` on, in pieces that threads read ahead, and the pieces in a batch.

    Sixteen threads that read whole batches would hold 64 of them: 40 GB, with 4096 images of 224x224 pixels in each.
    """
    import grain  # slow to import, and not needed for arrays on the device

    rows, threads = examples.rows, max(workers, 1)
    size = max(size for size in range(1, min(rows, _PIECE) + 1) if rows % size == 0)
    first, endless = start_step * rows, 2**31 * rows
    dataset = grain.MapDataset.range(first, first + endless).map(examples).batch(size)
    ahead = max(4 * threads, 2 * (rows // size))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    return iter(dataset.to_iter_dataset(options)), rows // size


def eval_batches(
    source: Source, batch_size: int, mesh: Mesh
) -> Iterator[tuple[Array, Int[Array, " batch"], Bool[Array, " batch"]]]:
    """Batches (images, labels, mask) of every example exactly once; the mask is False where the last one is padded.

    Batches are no larger than the source, rounded up to a multiple of the devices. Each process reads its own rows.
    """
    size = -(-min(batch_size, len(source)) // mesh.size) * mesh.size
    part = mesh_lib.local_rows(size, mesh)
    for start in range(0, len(source), size):
        rows = np.arange(start + part.start, start + part.stop)
        # The last example fills the rest, so that the batch has the same size in every process.
        images, labels = gather(source, np.minimum(rows, len(source) - 1))
        arrays = (images, labels, rows < len(source))
        images, labels, mask = (mesh_lib.place_rows(array, mesh) for array in arrays)
        yield images, labels, mask


def gather(source: Source, chosen: Int64[np.ndarray, " batch"]) -> tuple[np.ndarray, Int32[np.ndarray, " batch"]]:
    """The chosen examples' images and labels, stacked."""
    if isinstance(source, ArraySource):
        return source.images[chosen], source.labels[chosen]
    examples = read_in_threads(source, [int(i) for i in chosen])
    return np.stack([e["image"] for e in examples]), np.array([e["label"] for e in examples], np.int32)
