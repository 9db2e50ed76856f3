"""A trained run, opened for evaluation, prediction and reports."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PyTree
from ml_collections import ConfigDict

from common import models
from common.data import pipeline, pixel_statistics
from common.data.dataset_info import Info
from common.data.normalize import make_normalize
from common.data.pixel_statistics import PixelStatistics
from common.data.sources import Source
from common.devices import compilation
from common.devices import mesh as mesh_lib
from common.errors import UserError, unknown
from common.models import Classifier
from common.optim.optimizers import make_optimizer
from common.processes import distributed
from common.run import checkpoints, workdir
from common.training.evaluate import run_over
from common.training.state import create_state


@runtime_checkable
class Trained(Protocol):
    """The part of a trained run, of a network or a pipeline, that is enough to read images and report on them."""

    @property
    def config(self) -> ConfigDict:
        """The options of the run, with a `data` section."""

    @property
    def info(self) -> Info:
        """The facts of the dataset that it was trained on."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A network with the variables of one of its checkpoints.

    statistics: of its training set, if they normalise its images. other_source: whether its config names another source
    of images than it was trained on.
    """

    config: ConfigDict
    info: Info
    classifier: Classifier
    variables: PyTree
    step: int
    mesh: Mesh
    statistics: PixelStatistics | None = None
    other_source: bool = False


def load(folder: pathlib.Path, checkpoint: str = "", config: ConfigDict | None = None) -> Run:
    """The run in `folder` at a checkpoint: 'best' (the lowest error), 'last', or a step.

    '' is the best for a run with a validation set, and the last for one without. Without one, the lowest error is a
    test error, and choosing by it would flatter the network. If the best or the last cannot be read, a warning says so
    and the next one takes its place.

    config: the same experiment, but perhaps with other options that leave the network alone (test data, the batch size
    of evaluation, devices). Raises UserError for a folder without a run, for another experiment, and for a step that
    was not saved.
    """
    info = workdir.load_info(folder)
    if config is None:
        config = stored = workdir.load_config(folder)
    else:
        stored = workdir.check_same(folder, config, evaluating=True)
    classifier = models.make_classifier(config.model, info)
    optimizer, _ = make_optimizer(config, info.train_size)
    averaged = config.optimizer.ema > 0
    like = jax.eval_shape(functools.partial(create_state, classifier, optimizer, config.seed, averaged))
    # A run may start from one of another number of devices, and all devices of several processes have to take part.
    mesh = mesh_lib.available(config.mesh if distributed.count() == 1 else ConfigDict({"devices": 0}))
    default = "best" if info.validation_size else "last"
    step, state, _ = checkpoints.restore_first(folder, _candidates(folder, checkpoint or default), like, mesh)
    other_source = config.data.source != stored.data.source
    statistics = pixel_statistics.of_trained_run(config, folder)
    return Run(config, info, classifier, state.variables(), step, mesh, statistics, other_source)


def _candidates(folder: pathlib.Path, checkpoint: str) -> list[int]:
    """The steps to try in turn for a choice of checkpoint. Raises UserError if there is none."""
    known = checkpoints.steps(folder)
    if not known:
        raise UserError(f"no checkpoint in {folder}; train first with python -m common.main")
    if checkpoint == "best":
        return checkpoints.best_first(folder)
    if checkpoint == "last":
        return known[::-1]
    if not checkpoint.isdecimal():
        raise unknown("checkpoint", checkpoint, ("best", "last", *map(str, known)))
    if int(checkpoint) not in known:
        raise UserError(f"no checkpoint of step {checkpoint} in {folder}; there are {', '.join(map(str, known))}")
    return [int(checkpoint)]


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A run's predictions for every example of a source, in the source's order.

    predicted: the class with the largest logit. losses: in the classifier's own unit. log_probabilities: log-softmax
    of the logits. The probabilities themselves can be too small for a float: LeNet-5's logits are hundreds apart.
    """

    labels: Int[np.ndarray, " examples"]
    predicted: Int[np.ndarray, " examples"]
    losses: Float[np.ndarray, " examples"]
    log_probabilities: Float[np.ndarray, "examples classes"]

    @property
    def error(self) -> float:
        """The fraction of examples that are misclassified."""
        return float(np.mean(self.predicted != self.labels))


def predictions(run: Run, source: Source) -> Predictions:
    """The run's predictions for every example of a source."""
    batches = pipeline.eval_batches(source, run.config.evaluate.batch_size, run.mesh)
    parts = []
    for mask, *values in run_over(functools.partial(_predict, run), batches):
        kept = np.asarray(mask)
        parts.append([np.asarray(value)[kept] for value in values])
    return Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _predict(run: Run, images: Array, labels: Array, mask: Array) -> tuple[Array, ...]:
    """The mask, then the fields of `Predictions` for one batch."""
    inputs = network_input(run, images)
    return mask, labels, *_compiled()(run.classifier, run.variables, inputs, labels)


@functools.cache
def _compiled() -> Callable:
    return compilation.jit(_predict_inputs, static_argnums=0)


def _predict_inputs(
    classifier: Classifier, variables: PyTree, inputs: Array, labels: Array
) -> tuple[Int[Array, " batch"], Float[Array, " batch"], Float[Array, "batch classes"]]:
    outputs = classifier.module.apply(variables, inputs, train=False)
    logits = classifier.logits(outputs)
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    return logits.argmax(-1), classifier.loss(outputs, labels), log_probabilities


def network_input(run: Run, images: Array) -> Float[Array, "batch height width channels"]:
    """Stored images (uint8 or float, of the network's size) on the scale that the network is fed."""
    return make_normalize(run.config.data, run.statistics)(images)
