"""The training loop: a run from its config to its last checkpoint, top to bottom in the order things happen."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from common import config_checks
from common.data import augment, datasets, normalize, order, pipeline, pixel_statistics, sources
from common.data.sources import ImageSource, Source
from common.data.splits import Dataset
from common.devices import mesh as mesh_lib
from common.devices import sharding
from common.devices.profiling import Profiler
from common.models import Classifier, make_classifier
from common.nn.losses import balanced_weights
from common.optim import optimizers
from common.optim.plan import make_plan
from common.pretrained import initial
from common.processes import distributed
from common.processes.preemption import Preempted, Watch
from common.processes.watchdog import Watchdog
from common.run import checkpoints, history, lock, metrics, summary, threads, trackers, workdir
from common.run.checkpoints import Checkpoints
from common.run.metrics import Writer
from common.run.opening import opening_lines
from common.training import curvature
from common.training.evaluate import compile_eval_step, evaluate
from common.training.state import TrainState, create_state
from common.training.steps import Transform, check_support, compile_update, step_options
from common.training.totals import no_totals, stop_if_diverged


def fit(config: ConfigDict, folder: pathlib.Path) -> dict[str, Any]:
    """Trains as the config says, starting from the last checkpoint in `folder`, if any; returns the run's summary.

    With several processes only the primary returns the summary, the others {}. Raises UserError for mistakes that the
    user can fix and Preempted when a signal stops the run; every saved checkpoint is then complete.
    """
    dataset = datasets.open_dataset(config.data, workdir.stored_info(folder))
    config_checks.check_holdout(config.data, dataset)
    normalize.check_white(config, dataset.info)
    classifier = make_classifier(config.model, dataset.info)
    mesh = threads.make_mesh(config, classifier)  # the first use of a device
    workdir.check_agreement(config, dataset.info)
    mesh_lib.check_batch(config.train.batch_size, config.train.accumulate, mesh)
    primary = distributed.is_primary()
    check_support(config, classifier)
    trackers.check(config.tracker)
    plan = make_plan(config, len(dataset.train))
    optimizer, schedule = optimizers.make_optimizer(config, len(dataset.train))
    # Classes are counted before images are decoded: arrays have the labels of images that replace unreadable ones.
    classes, class_weights = _balanced(config, dataset)
    dataset = datasets.decoded(dataset, config.data, test=config.evaluate.test)
    workdir.check_readable(config, dataset.bad)
    plan = plan.with_per_call(pipeline.is_resident(dataset.train))

    with (
        lock.held(folder, primary),
        Watch() as watch,
        Watchdog(config.mesh.hang_timeout) as watchdog,
        sharding.split_activations(mesh),
    ):
        stored_run = workdir.open_workdir(folder, config, dataset.info, write=primary)
        statistics = pixel_statistics.for_training(config, folder, dataset.train, stored_run is not None, write=primary)
        transform = augment.make_input_transform(config.data, config.augment, statistics)
        fresh = functools.partial(create_state, classifier, optimizer, config.seed, config.optimizer.ema > 0)
        like = jax.eval_shape(fresh)  # shapes alone, which a checkpoint has to fit
        mesh_lib.check_memory(like, mesh)
        state = checkpoints.restore_latest(folder, like, mesh)
        if state is None:
            state = sharding.make_sharded(fresh, mesh)
            state = initial.start(state, classifier, config, dataset.info.class_names)
        first = step = int(state.step)
        split, watched = ("test", dataset.test) if dataset.validation is None else ("validation", dataset.validation)
        early_stopping = metrics.EarlyStopping(folder, split, step, config.train.patience)
        stopped = early_stopping.should_stop
        print(opening_lines(config, classifier, dataset, state, mesh, plan, folder, step, stopped))
        trained = step >= plan.total or stopped
        if trained and (complete := summary.read_complete(folder, config.evaluate)):
            return complete if primary else {}
        if trained:
            config = history.config_of_ended(config, stored_run, step, plan.total, summary.exists(folder))
        history.start(folder, state, stored_run, config, dataset.info, write=primary)
        if primary and not trained:
            summary.remove(folder)
        skipped = summary.Skipped(folder, dataset.bad, stored_run is not None, write=primary)

        feed = pipeline.train_feed(
            dataset.train,
            mesh,
            step,
            batch_size=config.train.batch_size,
            seed=config.seed,
            shuffle=config.data.shuffle,
            workers=config.data.workers,
            classes=classes,
        )
        update = compile_update(
            feed.select,
            mesh,
            classifier=classifier,
            optimizer=optimizer,
            transform=transform,
            class_weights=class_weights,
            **step_options(config),
        )
        refresh = _curvature_refresh(config, classifier, dataset, transform)
        eval_step = watchdog.beats(compile_eval_step(classifier, config.data, statistics))
        evaluate_on = functools.partial(evaluate, eval_step, batch_size=config.evaluate.batch_size, mesh=mesh)
        sums, class_counts = mesh_lib.replicate(checkpoints.saved_totals(folder, step), mesh), None
        times = checkpoints.saved_times(folder, step)
        with (
            Checkpoints(folder, config.checkpoint.keep, plan.keep_every) as checkpointer,
            Writer(
                folder,
                step,
                plan,
                config.train.batch_size,
                dataset.info.num_classes,
                primary,
                trackers.start(config, folder, resumed=stored_run is not None) if primary else None,
                times,
            ) as writer,
            Profiler(config.profile, folder) as profiler,
            distributed.exit_on_lost_process(),
        ):
            while step < plan.total and not early_stopping.should_stop:
                watchdog.beat()
                profiler.at(step, state)
                if plan.starts_epoch(step):
                    state = refresh(state, step)
                with writer.waiting():
                    count = plan.updates_from(step)
                    batches = feed.take(step, count, plan.per_call)
                state, sums = update(state, sums, batches, count)
                step += count
                stopping = watch.stopping()
                writer.progress(step)
                error, is_best = None, False
                if plan.logs_after(step):
                    writer.train(step, sums, optimizers.learning_rate(schedule, state.opt_state, step))
                    sums = mesh_lib.replicate(no_totals(), mesh)
                if plan.evaluates_after(step):
                    writer.begin_evaluation(state)
                    values, class_counts = evaluate_on(state.variables(), watched)
                    writer.evaluated(step, split, values)
                    error = values["error"]
                    early_stopping.add(error)
                    is_best = error == early_stopping.lowest  # of equal errors the last counts, so each is saved
                    if config.schedule.name == "plateau":
                        state = state.replace(
                            opt_state=optimizers.reduce_on_plateau(state.opt_state, config.schedule, error)
                        )
                if plan.saves_after(step) or is_best or early_stopping.should_stop or stopping:
                    stop_if_diverged(state, sums)
                    skipped.save()
                    checkpointer.save(step, state, error, sums, writer.unrecorded())
                if stopping:
                    checkpointer.wait()
                    raise Preempted(step)
            # A run that was shortened has no record at its last checkpoint; a damaged file may have lost it.
            if trained and not metrics.is_recorded(folder, split, step):
                values, class_counts = evaluate_on(state.variables(), watched)
                checkpoints.save_error(folder, step, values["error"])  # so that it takes part in the choice of the best
                writer.evaluated(step, split, values)
            if dataset.validation is not None:  # only the network that validation has chosen reads the test set
                checkpointer.wait()
                step, state, _ = checkpoints.restore_first(folder, checkpoints.best_first(folder), like, mesh)
                class_counts = None
            if class_counts is None and config.evaluate.test:  # also if a run was stopped just before its summary
                values, class_counts = evaluate_on(state.variables(), dataset.test)
                if not metrics.is_recorded(folder, "test", step):
                    writer.evaluated(step, "test", values)
            on_train = evaluate_on(state.variables(), dataset.train)[0] if config.evaluate.train_set else {}
        messages = skipped.save()
        if not primary:
            return {}
        class_errors = {} if class_counts is None else summary.class_errors(dataset.info.class_names, class_counts)
        size = summary.size(classifier, state.variables())
        best = checkpoints.best_first(folder)[0] if dataset.validation is None else step
        return summary.write(folder, config, size, class_errors, on_train, first, messages, best)


def _balanced(
    config: ConfigDict, dataset: Dataset[ImageSource]
) -> tuple[order.Classes | None, Float[np.ndarray, " classes"] | None]:
    """The training examples of each class, to be drawn equally often, and the weights of the classes' losses.

    Each is None if the config does not ask for it.
    """
    by_class = class_weights = None
    if config.data.sampling == "balanced":
        by_class = order.by_class(sources.stored_labels(dataset.train))
    if config.train.class_weights == "balanced":
        class_weights = balanced_weights(sources.stored_labels(dataset.train), dataset.info.num_classes)
    return by_class, class_weights


def _curvature_refresh(
    config: ConfigDict, classifier: Classifier, dataset: Dataset[Source], transform: Transform
) -> curvature.Refresh:
    """The function (state, step) -> the state with a new estimate of its curvature, if the optimizer uses one.

    All processes read the same examples for it. The function raises UserError for an image that not all of them can
    read: another image would take its place in some, and their parameters would differ from then on.
    """
    source = dataset.train
    bad: dict[str, object] = {}
    if isinstance(source, ImageSource) and source.bad is not None:
        source = dataclasses.replace(source, bad=bad)  # apart from what each process finds in its own rows of a batch
    estimate = curvature.make_refresh(config.optimizer, classifier, source, transform, config.seed)
    if source is dataset.train or not optimizers.uses_curvature(config.optimizer):
        return estimate

    def refresh(state: TrainState, step: int) -> TrainState:
        state = estimate(state, step)
        workdir.check_readable(config, bad)
        dataset.bad.update(bad)
        return state

    return refresh
