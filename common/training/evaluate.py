"""The error of a state on a test set: every example once, whatever the batch size and the number of devices."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jax.sharding import Mesh
from jaxtyping import Array, PyTree
from ml_collections import ConfigDict

from common.data import pipeline
from common.data.normalize import make_normalize
from common.data.pixel_statistics import PixelStatistics
from common.data.sources import Source
from common.devices import compilation
from common.models import Classifier
from common.training.steps import eval_step
from common.training.totals import Totals, means, no_totals

EvalStep = Callable[[PyTree, Array, Array, Array], Totals]


def compile_eval_step(classifier: Classifier, data: ConfigDict, statistics: PixelStatistics | None = None) -> EvalStep:
    """Compiles (variables, images, labels, mask) -> Totals for stored images; `data` is that section of a config."""
    transform = make_normalize(data, statistics)
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
    batches = pipeline.eval_batches(source, batch_size, mesh)
    sums = no_totals()
    for new in run_over(functools.partial(step, variables), batches):
        sums = sums + new
    if int(sums.count) != len(source):
        raise RuntimeError(f"evaluated {int(sums.count)} of {len(source)} examples")
    return means(sums)
