"""Test error of a state: every example once, whatever the batch size and the number of devices."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree
from ml_collections import ConfigDict

from common.data import pipeline
from common.data.datasets import Source
from common.data.normalize import make_normalize
from common.data.pixel_statistics import PixelStatistics
from common.devices import compilation
from common.models import Classifier
from common.training.steps import Totals, eval_step, no_totals

EvalStep = Callable[[PyTree, Array, Array, Array], Totals]


def make_eval_step(classifier: Classifier, config: ConfigDict, statistics: PixelStatistics | None = None) -> EvalStep:
    """Compile (variables, images, labels, mask) -> Totals for stored images."""
    transform = make_normalize(config.data, statistics)
    return compilation.jit(functools.partial(eval_step, classifier=classifier, transform=transform))


def run_over(function: Callable[..., PyTree], batches: Iterable[tuple[Any, ...]]) -> Iterator[PyTree]:
    """Yields function(*batch) for each batch; the next one is on its way to the device while a result is read."""
    results = itertools.starmap(function, batches)
    before = next(results, None)
    for result in results:
        yield before
        before = result
    if before is not None:
        yield before


def evaluate(step: EvalStep, variables: PyTree, source: Source, batch_size: int, mesh: Mesh) -> dict[str, float]:
    """Mean loss and error rates (fractions) over `source`; raises RuntimeError if any example was missed."""
    sums = no_totals()
    for images, labels, mask in pipeline.eval_batches(source, batch_size, mesh):
        sums = sums + step(variables, images, labels, mask)
    if int(sums.count) != len(source):
        raise RuntimeError(f"evaluated {int(sums.count)} of {len(source)} examples")
    return means(sums)


def means(sums: Totals) -> dict[str, float]:
    """The totals as numbers for one example: loss, error and top5_error (fractions), and how many examples."""
    loss, errors, top5_errors, count = jax.device_get((sums.loss, sums.errors, sums.top5_errors, sums.count))
    return {
        "loss": float(loss / max(count, 1)),
        "error": float(errors / max(count, 1)),
        "top5_error": float(top5_errors / max(count, 1)),
        "examples": int(count),
    }
