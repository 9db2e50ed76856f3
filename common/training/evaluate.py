"""The error of a state on a test set: every example once, whatever the batch size and the number of devices."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, PyTree
from ml_collections import ConfigDict

from common.data import pipeline
from common.data.normalize import make_normalize
from common.data.pixel_statistics import PixelStatistics
from common.data.sources import Source
from common.devices import compilation
from common.models import Classifier
from common.training.steps import eval_step
from common.training.totals import Totals, means, no_totals

EvalStep = Callable[[PyTree, Array, Array, Array], tuple[Totals, Array]]


def compile_eval_step(classifier: Classifier, data: ConfigDict, statistics: PixelStatistics | None = None) -> EvalStep:
    """Compiles the function (variables, images, labels, mask) -> (Totals, counts of each class) for stored images.

    data: that section of a config.
    """
    transform = make_normalize(data, statistics)
    return compilation.jit(functools.partial(eval_step, classifier=classifier, transform=transform))


def run_over(function: Callable[..., PyTree], batches: Iterable[tuple[Any, ...]]) -> Iterator[PyTree]:
    """Yields function(*batch) for each batch; while a result is read, the next batch is already on the device."""
    results = itertools.starmap(function, batches)
    before = next(results, None)
    for result in results:
        yield before
        before = result
    if before is not None:
        yield before


def evaluate(
    step: EvalStep, variables: PyTree, source: Source, batch_size: int, mesh: Mesh
) -> tuple[dict[str, float], Int[np.ndarray, "2 classes"]]:
    """Mean loss and error rates (fractions) over `source`, and each class's numbers of examples and of errors.

    Raises RuntimeError if any example was missed.
    """
    batches = pipeline.eval_batches(source, batch_size, mesh)
    sums, counts = no_totals(), np.zeros((2, 1), np.int32)
    for new, new_counts in run_over(functools.partial(step, variables), batches):
        sums, counts = sums + new, counts + new_counts
    if int(sums.count) != len(source):
        raise RuntimeError(f"evaluated {int(sums.count)} of {len(source)} examples")
    return means(sums), np.asarray(counts)
