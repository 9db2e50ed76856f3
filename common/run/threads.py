"""The threads that XLA computes with on a CPU: one for each core, but only one for updates that are too small to share.

XLA gives the operations of a program to a pool of threads. For operations as small as those of LeNet-5 with one image,
that takes longer than computing them: docs/performance.md has the measured speeds. JAX starts the pool together with
its first device, so a run chooses before.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from common.anatomy import layer_table
from common.devices import compilation
from common.devices import mesh as mesh_lib
from common.models import Classifier

# Multiply-adds of an update, forwards. LeNet-5 gains from a single thread up to eight images (3.3 million).
SMALL = 2_000_000

_MOST_IMAGES = 16  # beyond these nothing is counted, since that takes up to a second
_VARIABLE = "PJRT_NPROC"  # the size of the pool


def make_mesh(config: ConfigDict, classifier: Classifier) -> Mesh:
    """The mesh of a run, as `common.devices.mesh` makes it; a CPU that JAX starts for it has as many threads as suit.

    The number is left to JAX in several processes, if an accelerator may be there, and if PJRT_NPROC is set.
    """
    small = _may_choose() and is_small(config.train.batch_size, classifier)
    with _one_thread() if small else contextlib.nullcontext():
        return mesh_lib.make_mesh(config.mesh)


def is_small(batch_size: int, classifier: Classifier) -> bool:
    """True if an update with `batch_size` images has at most `SMALL` multiply-adds; starts no device."""
    if batch_size > _MOST_IMAGES:
        return False
    with compilation.compiled_for("cpu"):  # otherwise formulations ask a device
        shapes = layer_table.variable_shapes(classifier.module, classifier.input_shape)
        work = layer_table.multiply_adds_per_image(classifier.module, shapes, classifier.input_shape)
    return batch_size * work <= SMALL


def _may_choose() -> bool:
    return _VARIABLE not in os.environ and not jax.distributed.is_initialized() and not _has_accelerator_plugin()


def _has_accelerator_plugin() -> bool:
    """True if JAX may find an accelerator, which uses the pool for other work."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return False
    installed = importlib.metadata.entry_points(group="jax_plugins")
    return bool(installed) or any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The environment of a pool of one thread, for this process alone."""
    os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
