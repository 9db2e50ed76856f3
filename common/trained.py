"""A trained run, opened for use: what evaluation, prediction and reports start from."""

import dataclasses
import functools
import pathlib

import jax
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree
from ml_collections import ConfigDict

from common import evaluate as evaluation
from common import mesh as mesh_lib
from common import models, train, workdir
from common.checkpoints import Checkpoints
from common.data import augment, datasets
from common.data.datasets import Info
from common.errors import UserError
from common.models import Classifier
from common.state import create_state


@dataclasses.dataclass(frozen=True)
class Run:
    """A network with the variables of one of its checkpoints."""

    config: ConfigDict
    info: Info
    classifier: Classifier
    variables: PyTree
    step: int
    mesh: Mesh


def load(folder: pathlib.Path, step: int | None = None) -> Run:
    """The run in `folder` at `step`; by default at the lowest test error among its checkpoints."""
    config, info = workdir.load_config(folder), workdir.load_info(folder)
    classifier = models.create(config.model, info)
    optimizer, _ = train.make_optimizer(config, info.train_size)
    like = jax.eval_shape(functools.partial(create_state, classifier, optimizer, config))
    mesh = mesh_lib.create(config.mesh)
    with Checkpoints(folder, read_only=True) as checkpoints:
        known = checkpoints.steps()
        if not known:
            raise UserError(f"no checkpoint in {folder}; train first with python -m common.main")
        if step is not None and step not in known:
            raise UserError(f"no checkpoint of step {step} in {folder}; there are {', '.join(map(str, known))}")
        chosen = step or checkpoints.best_step() or known[-1]
        state = checkpoints.restore(chosen, like, mesh)
    return Run(config, info, classifier, state.variables(), chosen, mesh)


def evaluate(run: Run) -> dict[str, float]:
    """Loss and error on the run's own test set."""
    dataset = datasets.load(run.config.data)
    step = evaluation.make_eval_step(run.classifier, run.config)
    return evaluation.evaluate(step, run.variables, dataset.test, run.config.evaluate.batch_size, run.mesh)


def network_input(run: Run, images: Array) -> Float[Array, "batch height width channels"]:
    """Stored images (uint8 or float, already of the network's size) on the scale that the network is fed."""
    low, high = run.config.data.pixel_range
    return augment.preprocess(images, pixel_range=(low, high))


def outputs(run: Run, images: Array) -> PyTree:
    """What the network makes of stored images; `run.classifier.logits` reads classes off it."""
    return _apply(run.classifier.module, run.variables, network_input(run, images))


@functools.partial(jax.jit, static_argnums=0)
def _apply(module: nn.Module, variables: PyTree, images: Array) -> PyTree:
    return module.apply(variables, images, train=False)
