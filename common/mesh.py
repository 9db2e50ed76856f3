"""Which devices a run uses and how arrays lie on them.

One named mesh axis, `data`: batches are split over it, everything else is replicated. `jax.jit` inserts the
all-reduce of gradients by itself (what `pmap` once did by hand), and batch statistics are global.
"""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree
from ml_collections import ConfigDict

from common.errors import UserError


def create(config: ConfigDict) -> Mesh:
    """A mesh of the first `config.devices` devices, or of all of them."""
    devices = jax.devices()
    count = config.devices or len(devices)
    if count > len(devices):
        raise UserError(f"config.mesh.devices is {count}, but this machine has {len(devices)} {devices[0].platform}")
    return Mesh(np.array(devices[:count]), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """`axis` of the array is split over the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Copy every array of a tree to every device."""
    return jax.device_put(tree, replicated(mesh))


def check_batch(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """UserError unless each part of a batch splits evenly over the devices."""
    part = batch_size // accumulate
    if part % mesh.size:
        raise UserError(
            f"config.train.batch_size {batch_size}{f' in {accumulate} parts' if accumulate > 1 else ''} does not split "
            f"over {mesh.size} devices; use a multiple of {mesh.size * accumulate}, or --config.mesh.devices=1"
        )
