"""The diagonal curvature for second-order optimizers, estimated again before each epoch on a few examples."""

import functools
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from common.data import pipeline
from common.data.sources import Source
from common.devices import compilation
from common.models import Classifier
from common.optim import optimizers
from common.training.state import TrainState
from common.training.steps import Transform, curvature_step

Refresh = Callable[[TrainState, int], TrainState]


def make_refresh(
    section: ConfigDict, classifier: Classifier, source: Source, transform: Transform, seed: int
) -> Refresh:
    """Returns a function (state, step) -> the state with a new estimate of its curvature, if the optimizer uses one.

    section: a config's `optimizer`. The examples are a function of (seed, step), so a resumed run draws the same ones.
    The loss has no class weights here, and all examples are equally likely.
    """
    if not optimizers.uses_curvature(section):
        return lambda state, step: state
    estimate = compilation.jit(functools.partial(curvature_step, classifier=classifier, transform=transform))
    count = min(section.curvature_examples, len(source))

    def refresh(state: TrainState, step: int) -> TrainState:
        chosen = np.random.default_rng((seed, step)).choice(len(source), count, replace=False)
        return estimate(state, *pipeline.gather(source, chosen))

    return refresh
