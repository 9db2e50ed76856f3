"""How the training state lies on the mesh: one rule for every array, and a table that shows what came of it.

With `fsdp` of one every array is replicated. Otherwise (fully sharded data parallel, the third stage of Rajbhandari
et al. 2020, "ZeRO") each device of an `fsdp` row holds its part of every large array of the state. While an update
is computed activations stay split over the batch, so that XLA gathers the weights of a layer where the layer needs
them, and adds up gradients to where their part is kept.
"""

import collections
import contextlib
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from common.devices import mesh as mesh_lib

SMALLEST = 1024  # arrays of fewer numbers are replicated: gathering them costs more than it saves

Devices = Mesh | AbstractMesh


def partition(shape: tuple[int, ...], mesh: Devices) -> PartitionSpec:
    """Which axis of an array is split over `fsdp`: the largest that divides evenly, of equal ones the last.

    The first axis is taken only where no other divides: blocks that run as a loop have their parameters stacked along
    it, and each turn of the loop reads one entry.
    """
    parts = mesh.shape["fsdp"]
    if parts == 1 or math.prod(shape) < SMALLEST:
        return PartitionSpec()
    divisible = [axis for axis, size in enumerate(shape) if size % parts == 0]
    later = [axis for axis in divisible if axis > 0] or divisible
    if not later:
        return PartitionSpec()
    axis = max(later, key=lambda axis: (shape[axis], axis))
    return PartitionSpec(*[None] * axis, "fsdp")


def of(tree: PyTree, mesh: Devices) -> PyTree:
    """The sharding of every array (or of what stands for one by its shape) of a tree."""
    return jax.tree.map(lambda leaf: NamedSharding(mesh, partition(leaf.shape, mesh)), tree)


def like(tree: PyTree, mesh: Mesh) -> PyTree:
    """The shapes, types and shardings of a tree, as checkpoints are restored onto."""

    def struct(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, partition(leaf.shape, mesh)))

    return jax.tree.map(struct, tree)


def make_sharded(make: Callable[[], PyTree], mesh: Mesh) -> PyTree:
    """What `make()` returns, each array made where it stays: no device ever holds the whole state."""
    # Each parameter's random numbers are a program of their own, run once: optimizing it would take longer.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
    return jax.jit(make, out_shardings=of(jax.eval_shape(make), mesh), compiler_options=options)()


def constrain(tree: PyTree, mesh: Mesh) -> PyTree:
    """The tree inside a compiled function, with every array laid out as the rule says."""
    return jax.lax.with_sharding_constraint(tree, of(tree, mesh))


@contextlib.contextmanager
def split_activations(mesh: Mesh) -> Iterator[None]:
    """While functions are compiled inside: what every layer returns stays split over the batch.

    XLA would otherwise be free to split activations as the weights are split, and to exchange those instead.
    """
    if mesh.shape["fsdp"] == 1:
        yield
        return

    def intercept(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        outputs = call(*args, **kwargs)
        return jax.tree.map(lambda leaf: _split(leaf, mesh), outputs) if context.method_name == "__call__" else outputs

    with nn.intercept_methods(intercept):
        yield


def _split(leaf: Any, mesh: Mesh) -> Any:
    """A traced array whose first axis can be a batch, constrained to be split along it."""
    if isinstance(leaf, jax.core.Tracer) and leaf.ndim > 1 and leaf.shape[0] % mesh.size == 0:
        return jax.lax.with_sharding_constraint(leaf, mesh_lib.batched(mesh))
    return leaf


def bytes_per_device(tree: PyTree, mesh: Devices) -> int:
    """Memory that each device needs for a tree laid out by the rule."""
    return sum(_bytes(leaf, mesh) for leaf in jax.tree.leaves(tree))


def _bytes(leaf: Any, mesh: Devices) -> int:
    return math.prod(NamedSharding(mesh, partition(leaf.shape, mesh)).shard_shape(leaf.shape)) * leaf.dtype.itemsize


def table(state: PyTree, mesh: Devices) -> str:
    """Array, shape, sharding and bytes on each device, for every parameter; below, the sums of the state's parts.

    Arrays of the same name but for numbers, shape and sharding share a line, which says how many they are.
    """
    groups = collections.Counter(_entry(path, leaf, mesh) for path, leaf in jax.tree.leaves_with_path(state.params))
    rows = [("parameter", "shape", "sharding", "bytes on each device")]
    for (name, shape, spec, size), count in groups.items():
        rows.append((name, shape, spec, f"{size:,}" + (f" x {count}" if count > 1 else "")))
    for name in ("params", "model_state", "opt_state", "ema"):
        part = getattr(state, name)
        if not part:
            continue
        whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(part))
        rows.append((f"all of {name}", "", f"{whole:,} bytes", f"{bytes_per_device(part, mesh):,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _entry(path: tuple, leaf: Any, mesh: Devices) -> tuple[str, str, str, int]:
    """A parameter's line in the table; numbers in its name are left out."""
    name = re.sub(r"\d+", "*", "/".join(key.key for key in path))
    axes = [axis or "-" for axis in partition(leaf.shape, mesh)]
    return name, "x".join(map(str, leaf.shape)), ",".join(axes) or "replicated", _bytes(leaf, mesh)
