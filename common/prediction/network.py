"""A trained network as one compiled function of a batch of stored images: classes, features and heat maps."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from common.data.preparation import PreparedPixels
from common.devices import compilation
from common.devices import mesh as mesh_lib
from common.prediction import layers
from common.prediction.heat_maps import Explain
from common.prediction.layers import Tap
from common.run import trained
from common.run.trained import Run

AnyArray = Array | np.ndarray

_BATCH = 64  # images at once on a device, enough to keep it busy
_EXPLAINED = 16  # images at once when their gradients or attention are computed, too


class BatchOutputs(NamedTuple):
    """The results for a batch.

    log_probabilities: log-softmax of the logits. features: the value at the tap, if one was asked for. heat: maps of
    how much each part of an image speaks for its likeliest class.
    """

    log_probabilities: Float[AnyArray, "images classes"]
    features: Float[AnyArray, "images ..."] | None = None
    heat: Float[AnyArray, "images rows columns"] | None = None


def batch_size(run: Run, files: int, explained: bool = False) -> int:
    """The number of images in a batch, for this many files.

    On each device it is a power of two or the most that fit, so that other numbers of files can reuse the program.
    """
    most = min(_EXPLAINED if explained else _BATCH, run.config.evaluate.batch_size)
    each = -(-files // run.mesh.size)
    return run.mesh.size * min(1 << (each - 1).bit_length(), most)


def compiled(
    run: Run, size: int, tap: Tap | None = None, explain: Explain | None = None
) -> Callable[[Sequence[PreparedPixels]], BatchOutputs]:
    """The function from at most `size` prepared images to their results; fewer are padded, so that it compiles once."""
    compute = compilation.jit(functools.partial(_compute, run, tap, explain))

    def results(images: Sequence[PreparedPixels]) -> BatchOutputs:
        stored = np.stack([*images, *[images[-1]] * (size - len(images))])
        rows = mesh_lib.local_rows(size, run.mesh)
        found: BatchOutputs = compute(run.variables, mesh_lib.place_rows(stored[rows], run.mesh))
        return jax.tree.map(lambda values: np.asarray(values)[: len(images)], found)

    return results


def _compute(run: Run, tap: Tap | None, explain: Explain | None, variables: PyTree, images: Array) -> BatchOutputs:
    """The results for a batch of stored images, in float32."""
    inputs = trained.network_input(run, images)
    module, taps = run.classifier.module, [tap] if tap else []
    if explain is None:
        outputs, kept = layers.read(module, variables, inputs, taps)
        heat = None
    else:
        outputs, kept, heat = explain(run.classifier, variables, inputs, taps)
    log_probabilities = jax.nn.log_softmax(run.classifier.logits(outputs).astype(jnp.float32))
    return BatchOutputs(log_probabilities, layers.by_image(tap, kept[tap]) if tap else None, heat)
