"""The training loop.

`fit` is a run from its config to its last checkpoint, in the order it happens; every name it calls on the way is a
module that can be read and tested alone.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, PyTree
from ml_collections import ConfigDict

from common import models
from common.data import augment, datasets, normalize, pipeline, pixel_statistics
from common.data.pixel_statistics import PixelStatistics
from common.devices import mesh as mesh_lib
from common.devices import sharding
from common.devices.profiling import Profiler
from common.errors import UserError
from common.models import Classifier
from common.optim import duration, optimizers, plan, schedules
from common.pretrained import initial
from common.processes import distributed
from common.processes.preemption import Preempted, Watch
from common.processes.watchdog import Watchdog
from common.run import summary, workdir
from common.run.checkpoints import Checkpoints
from common.run.metrics import Writer
from common.training.evaluate import evaluate, make_eval_step
from common.training.state import TrainState, create_state
from common.training.steps import NEVER, Totals, curvature_step, diverged, make_train_call, no_totals, train_step


def fit(config: ConfigDict, folder: pathlib.Path) -> dict[str, Any]:
    """Train as the config says, going on from what `folder` holds; returns the run's summary (the primary's, else {}).

    Raises UserError for what the user can mend and Preempted when stopped by a signal; in both cases every
    checkpoint that was saved is complete.
    """
    mesh = mesh_lib.make_mesh(config.mesh)
    mesh_lib.check_batch(config.train.batch_size, config.train.accumulate, mesh)
    dataset = datasets.load(config.data)
    classifier = models.make_classifier(config.model, dataset.info)
    check(config, classifier)
    due = plan.make_plan(config, len(dataset.train))
    optimizer, schedule = make_optimizer(config, len(dataset.train))
    workdir.open_workdir(folder, config, dataset.info, write=distributed.is_primary())
    pixels = pixel_statistics.for_run(config, folder, dataset.train, write=distributed.is_primary())

    with (
        Watch() as watch,
        Watchdog(config.mesh.hang_timeout) as watchdog,
        sharding.split_activations(mesh),
        open_checkpoints(config, folder, len(dataset.train)) as checkpoints,
    ):
        fresh = functools.partial(create_state, classifier, optimizer, config)
        restored = checkpoints.restore_latest(jax.eval_shape(fresh), mesh)
        state = restored or initial.start(sharding.make_sharded(fresh, mesh), classifier, config)
        first = step = int(state.step)
        print(summary.opening(config, classifier, dataset.info, state, mesh, due, folder, step))
        if step >= due.total and summary.exists(folder):
            return summary.read(folder)

        feed = pipeline.train_feed(dataset.train, config, mesh, step)
        update = sharding.kept(make_train_step(config, classifier, optimizer, pixels), mesh)
        train_call = make_train_call(update, feed.select)
        refresh_curvature = make_curvature_refresh(config, classifier, dataset.train, pixels)
        eval_step = watchdog.beats(make_eval_step(classifier, config, pixels))
        sums = mesh_lib.replicate(no_totals(), mesh)
        with (
            Writer(folder, step, due, config.train.batch_size, distributed.is_primary()) as writer,
            Profiler(config.profile, folder) as profiler,
            distributed.noticing(),
        ):
            while step < due.total:
                watchdog.beat()
                profiler.at(step)
                if due.starts_epoch(step):
                    state = refresh_curvature(state, step)
                with writer.waiting():
                    count = due.updates_from(step)
                    batches = feed.take(step, count, due.per_call)
                state, sums = train_call(state, sums, batches, count)
                step += count
                stopping = watch.stopping()
                writer.progress(step)
                error = None
                if due.log(step):
                    writer.train(step, sums, learning_rate(schedule, state))
                    sums = mesh_lib.replicate(no_totals(), mesh)
                if due.evaluate(step):
                    values = evaluate(eval_step, state.variables(), dataset.test, config.evaluate.batch_size, mesh)
                    writer.test(step, values)
                    error = values["error"]
                    state = observe(state, config, error)
                if due.save(step) or stopping:
                    stop_if_diverged(state, sums)
                    checkpoints.save(step, state, error)
                if stopping:
                    checkpoints.wait()
                    raise Preempted(step)
        if not distributed.is_primary():
            return {}
        return summary.write(folder, config, resumed_from=first, skipped=sorted(dataset.bad))


def open_checkpoints(config: ConfigDict, folder: pathlib.Path, num_examples: int) -> Checkpoints:
    """The run's checkpoints, kept as the config's `checkpoint` section says."""
    times = (config.checkpoint.every, config.checkpoint.keep_every)
    every, forever = (duration.to_steps(time, num_examples, config.train.batch_size) for time in times)
    if forever % max(every, 1):
        raise UserError(
            f"config.checkpoint.keep_every is '{config.checkpoint.keep_every}' ({forever} updates), but there is a "
            f"checkpoint every {every}; use a multiple of config.checkpoint.every"
        )
    return Checkpoints(folder, config.checkpoint.keep, forever)


def check(config: ConfigDict, classifier: Classifier) -> None:
    """UserError where the config asks of this network what it cannot do."""
    if optimizers.uses_curvature(config.optimizer) and classifier.curvature is None:
        raise UserError(
            f"config.optimizer.name '{config.optimizer.name}' needs a curvature, which this variant of "
            f"'{config.model.family}' does not provide; use 'momentum' or 'adamw'"
        )
    blended = {"train.label_smoothing": config.train.label_smoothing, "augment.mixup": config.augment.mixup}
    for name, value in blended.items():
        if value and not classifier.soft_labels:
            raise UserError(
                f"config.{name} is {value}, but the loss of this variant of '{config.model.family}' takes class "
                "indices only; set it to 0"
            )


def make_optimizer(config: ConfigDict, num_examples: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimizer of a config for a training set of `num_examples`, and its learning-rate schedule."""
    total = plan.make_plan(config, num_examples).total
    schedule = schedules.make_schedule(config.schedule, total, num_examples, config.train.batch_size)
    return optimizers.make_chain(config.optimizer, schedule, plateau=config.schedule.name == "plateau"), schedule


def make_input_transform(
    config: ConfigDict, statistics: PixelStatistics | None = None
) -> Callable[[Array, Array], Array]:
    """(key, stored images) -> the normalized and randomly distorted images that an update sees."""
    normalized = normalize.make_normalize(config.data, statistics)
    black, white = normalize.black_and_white(config.data, statistics)
    colours = normalize.principal_colours(config.data, statistics) if config.augment.pca_colour else None
    distort = augment.make_augment(config.augment, black, white, colours)

    def transform(key: Array, images: Array) -> Array:
        return distort(key, normalized(images))

    return transform


def make_train_step(
    config: ConfigDict,
    classifier: Classifier,
    optimizer: optax.GradientTransformation,
    statistics: PixelStatistics | None = None,
) -> Callable[[TrainState, Array, Array], tuple[TrainState, Totals]]:
    """`steps.train_step` for this run: (state, images, labels) -> (state, totals)."""
    transform = make_input_transform(config, statistics)
    return functools.partial(train_step, classifier=classifier, optimizer=optimizer, transform=transform, config=config)


def make_curvature_refresh(
    config: ConfigDict, classifier: Classifier, source: datasets.Source, statistics: PixelStatistics | None = None
) -> Callable[[TrainState, int], TrainState]:
    """(state, step) -> the state with its curvature estimated anew; unchanged where the optimizer uses none.

    The examples are a function of (seed, step), so a resumed run draws the same ones.
    """
    if not optimizers.uses_curvature(config.optimizer):
        return lambda state, step: state
    transform = make_input_transform(config, statistics)
    estimate = jax.jit(functools.partial(curvature_step, classifier=classifier, transform=transform))
    count = min(config.optimizer.curvature_examples, len(source))

    def refresh(state: TrainState, step: int) -> TrainState:
        chosen = np.random.default_rng((config.seed, step)).choice(len(source), count, replace=False)
        return estimate(state, *pipeline.gather(source, chosen))

    return refresh


def learning_rate(schedule: optax.Schedule, state: TrainState) -> float:
    """The rate of the last update, with the factor that a plateau schedule has reached."""
    plateau = optimizers.plateau_state(state.opt_state)
    scale = 1.0 if plateau is None else float(plateau.plateau.scale)
    return scale * float(schedule(max(int(state.step) - 1, 0)))


def observe(state: TrainState, config: ConfigDict, error: float) -> TrainState:
    """The state after a plateau schedule, if that is the schedule, has heard of a test error."""
    if config.schedule.name != "plateau":
        return state
    return state.replace(opt_state=optimizers.observe(state.opt_state, config.schedule, error))


def stop_if_diverged(state: TrainState, sums: Totals) -> None:
    """UserError, naming the step, when a loss, parameter or batch statistic is not finite: that is never saved."""
    step = int(sums.bad_step)
    if step == NEVER and not all_finite((state.params, state.model_state)):
        step = int(state.step)
    if step != NEVER:
        raise diverged(step)


@jax.jit
def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether no number in a tree of arrays is NaN or infinite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
