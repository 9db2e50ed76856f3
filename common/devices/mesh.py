"""Which devices a run uses, and how batches lie on them.

The mesh has two axes, and a batch is split over both. Along `data` everything else is replicated (data parallel).
Along `fsdp` the parameters, the optimizer state and the averaged parameters are split too, on the axis that
`devices/sharding.py` chooses. `jax.jit` inserts the communication, so batch statistics are global.
"""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import PyTree
from ml_collections import ConfigDict

from common.errors import UserError

AXES = ("data", "fsdp")


def make_mesh(config: ConfigDict) -> Mesh:
    """The mesh of a config's `mesh` section: the first `devices` devices or all of them, `fsdp` of them in a row."""
    devices = jax.devices()
    count = config.devices or len(devices)
    if count > len(devices):
        raise UserError(f"config.mesh.devices is {count}, but there are only {len(devices)} ({devices[0].platform})")
    if jax.process_count() > 1 and count < len(devices):
        raise UserError(
            f"config.mesh.devices is {count}, but {jax.process_count()} processes have {len(devices)}, which all take "
            "part; set it to 0"
        )
    fsdp = count if config.fsdp == -1 else config.fsdp
    if count % fsdp:
        raise UserError(f"config.mesh.fsdp is {fsdp}, which does not divide {count} devices; use a divisor, or -1")
    # In the order of processes, so that the devices of an `fsdp` row are those with the fastest links between them.
    return Mesh(np.array(devices[:count]).reshape(-1, fsdp), AXES)


def available(config: ConfigDict) -> Mesh:
    """The mesh of a config where it has that many devices; else all devices, without splitting parameters.

    For tools that open a run which may have been trained on a larger machine.
    """
    if config.devices <= len(jax.devices()) and config.get("fsdp", 1) == 1:
        return make_mesh(ConfigDict({"devices": config.devices, "fsdp": 1}))
    return make_mesh(ConfigDict({"devices": 0, "fsdp": 1}))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """`axis` of the array is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXES))


def place(tree: PyTree, sharding: Sharding) -> PyTree:
    """Arrays that every process has whole, laid out as `sharding`; each process copies only its devices' parts."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda array: _place_part(np.asarray(array), sharding), tree)


def _place_part(array: np.ndarray, sharding: Sharding) -> jax.Array:
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Copy every array of a tree to every device."""
    return place(tree, replicated(mesh))


def local_rows(size: int, mesh: Mesh) -> slice:
    """Which rows of a batch of `size` lie on this process's devices; they follow one another."""
    indices = batched(mesh).addressable_devices_indices_map((size,)).values()
    spans = sorted(rows.indices(size)[:2] for (rows,) in indices)
    return slice(spans[0][0], spans[-1][1])


def place_rows(local: np.ndarray, mesh: Mesh, axis: int = 0) -> jax.Array:
    """A batch split over all devices along `axis`, of which `local` is this process's part (`local_rows`)."""
    return jax.make_array_from_process_local_data(batched(mesh, axis), local)


def check_batch(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """UserError unless each part of a batch splits evenly over the devices."""
    part = batch_size // accumulate
    if part % mesh.size:
        raise UserError(
            f"config.train.batch_size {batch_size}{f' in {accumulate} parts' if accumulate > 1 else ''} does not split "
            f"over {mesh.size} devices; use a multiple of {mesh.size * accumulate}, or --config.mesh.devices=1"
        )
