"""The layout of the training state on the mesh: one rule for every array, and a table that shows the result.

If `fsdp` is one, every array is replicated. Otherwise (fully sharded data parallelism, the third stage of Rajbhandari
et al. 2020, "ZeRO") each device of an `fsdp` row holds its part of every large array of the state. Activations stay
split over the batch during an update, so XLA gathers a layer's weights where the layer needs them and reduces each
gradient to the devices that hold its part.
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

from common.devices import compilation
from common.devices import mesh as mesh_lib

SMALLEST = 1024  # arrays of fewer numbers are replicated: gathering them costs more than it saves

Devices = Mesh | AbstractMesh


def partition(shape: tuple[int, ...], mesh: Devices) -> PartitionSpec:
    """The split of an array over `fsdp`: along its largest axis that divides evenly, the last one if several are equal.

    The first axis is used only if no other divides: a network that runs its blocks as a loop stacks their parameters
    along it, and each iteration reads one entry.
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


def shardings(tree: PyTree, mesh: Devices) -> PyTree:
    """The sharding of every leaf of a tree of arrays, or of anything else that has a shape."""
    return jax.tree.map(lambda leaf: NamedSharding(mesh, partition(leaf.shape, mesh)), tree)


def sharded_structs(tree: PyTree, mesh: Mesh) -> PyTree:
    """The shapes, types and shardings of a tree: the target that a checkpoint is restored to."""

    def struct(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, partition(leaf.shape, mesh)))

    return jax.tree.map(struct, tree)


def make_sharded(make: Callable[[], PyTree], mesh: Mesh) -> PyTree:
    """The result of `make()`, with each array made where it stays, so that no device ever holds the whole state."""
    # This program runs once: optimizing it (random numbers for each parameter) would take longer than it saves.
    options = {"xla_backend_optimization_level": 0} if compilation.on_cpu() else {}
    return jax.jit(make, out_shardings=shardings(jax.eval_shape(make), mesh), compiler_options=options)()


def constrain(state: PyTree, mesh: Mesh) -> PyTree:
    """The state, constrained to its own layout; for use in a compiled function that returns it."""
    return jax.lax.with_sharding_constraint(state, shardings(state, mesh))


@contextlib.contextmanager
def split_activations(mesh: Mesh) -> Iterator[None]:
    """Keeps the output of every layer split over the batch in functions that are compiled inside this context.

    Otherwise XLA may split activations as it splits the weights, and exchange activations instead of weights.
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
    """A traced array, constrained to be split along its first axis if that could be the batch."""
    if isinstance(leaf, jax.core.Tracer) and leaf.ndim > 1 and leaf.shape[0] % mesh.size == 0:
        return jax.lax.with_sharding_constraint(leaf, mesh_lib.batched(mesh))
    return leaf


def bytes_per_device(tree: PyTree, mesh: Devices) -> int:
    """The memory in bytes that each device needs for a tree in this layout."""
    return sum(_bytes(leaf, mesh) for leaf in jax.tree.leaves(tree))


def _bytes(leaf: Any, mesh: Devices) -> int:
    return math.prod(NamedSharding(mesh, partition(leaf.shape, mesh)).shard_shape(leaf.shape)) * leaf.dtype.itemsize


def table(state: PyTree, mesh: Devices) -> str:
    """The name, shape, sharding and bytes per device of every parameter, then the sums of the state's parts.

    Arrays whose names differ only in numbers and that share shape and sharding have one line, with their count.
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
    """A parameter's line in the table, with numbers in its name replaced by `*`."""
    name = re.sub(r"\d+", "*", jax.tree_util.keystr(path, simple=True, separator="/"))
    axes = [axis or "-" for axis in partition(leaf.shape, mesh)]
    return name, "x".join(map(str, leaf.shape)), ",".join(axes) or "replicated", _bytes(leaf, mesh)
