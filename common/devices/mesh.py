"""The mesh of devices, and the layout of batches on it.

The mesh has two axes, and a batch is split over both. Along `data` everything else is replicated (data parallelism).
Along `fsdp` the parameters, the optimizer state and the averaged parameters are split too, on the axis that
`devices/sharding.py` chooses. `jax.jit` inserts the communication, so batch statistics are global.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import PyTree
from ml_collections import ConfigDict

from common.devices import host
from common.errors import UserError

AXES = ("data", "fsdp")


def make_mesh(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of a config's `mesh` section: the first `devices` devices (0: all), in rows of `fsdp`.

    devices: to choose from, by default this machine's.
    """
    devices = jax.devices() if devices is None else devices
    count = config.devices or len(devices)
    if count > len(devices):
        raise UserError(f"config.mesh.devices is {count}, but there are only {len(devices)} ({devices[0].platform})")
    if jax.process_count() > 1 and count < len(devices):
        raise UserError(
            f"config.mesh.devices is {count}, but the {jax.process_count()} processes have {len(devices)} devices, and "
            "every one must take part; set it to 0"
        )
    fsdp = count if config.fsdp == -1 else config.fsdp
    if count % fsdp:
        raise UserError(f"config.mesh.fsdp is {fsdp}, which does not divide {count} devices; use a divisor, or -1")
    # In process order, so that the devices of an `fsdp` row have the fastest links between them.
    return Mesh(np.array(devices[:count]).reshape(-1, fsdp), AXES)


def available(config: ConfigDict) -> Mesh:
    """The mesh of a config if this machine has that many devices, else all its devices; parameters are not split.

    This is for tools that open a run, which may have been trained on a larger machine.
    """
    devices = config.devices if config.devices <= len(jax.devices()) else 0
    return make_mesh(ConfigDict({"devices": devices, "fsdp": 1}))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding in which every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The sharding in which `axis` of the array is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXES))


def place(tree: PyTree, sharding: Sharding) -> PyTree:
    """A tree, laid out as `sharding` says; every process has the whole arrays and copies only its devices' parts."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda array: _place_part(np.asarray(array), sharding), tree)


def _place_part(array: np.ndarray, sharding: Sharding) -> jax.Array:
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """A tree with every array copied to every device."""
    return place(tree, replicated(mesh))


def local_rows(size: int, mesh: Mesh) -> slice:
    """The rows of a batch of `size` that lie on this process's devices; they are contiguous."""
    indices = batched(mesh).addressable_devices_indices_map((size,)).values()
    spans = sorted(rows.indices(size)[:2] for (rows,) in filter(None, indices))
    return slice(spans[0][0], spans[-1][1])


def place_rows(local: np.ndarray, mesh: Mesh, axis: int = 0) -> jax.Array:
    """A batch split over all devices along `axis`; `local` is this process's part of it (`local_rows`)."""
    return jax.make_array_from_process_local_data(batched(mesh, axis), local)


def check_batch(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Raises UserError unless each part of a batch splits evenly over the devices."""
    part = batch_size // accumulate
    if part % mesh.size:
        raise UserError(
            f"config.train.batch_size {batch_size}{f' in {accumulate} parts' if accumulate > 1 else ''} does not split "
            f"over {mesh.size} devices; use a multiple of {mesh.size * accumulate}, or --config.mesh.devices=1"
        )


def check_memory(state: PyTree, mesh: Mesh) -> None:
    """Raises UserError for a training state, arrays or their shapes, that alone is larger than the devices' memory.

    On a CPU such a run would otherwise fill the memory until the system ends it without a word.
    """
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    stats = jax.local_devices()[0].memory_stats() or {}  # None on CPU
    room = stats["bytes_limit"] * mesh.shape["fsdp"] if "bytes_limit" in stats else host.memory()
    if size > room:
        raise UserError(
            f"the network and its optimizer take {size / 1e9:,.1f} GB, more than the {room / 1e9:,.1f} GB of memory "
            "here; make config.model or the images smaller"
        )
