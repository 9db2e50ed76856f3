"""Sections of a report that show the course of a run: learning curves and learning rates."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from common import config as config_lib
from common.optim.optimizers import make_optimizer
from common.optim.plan import make_plan
from common.report import curve_figures
from common.report.page import Picture, Section
from common.run import metrics
from common.run.trained import Run

_SCHEDULE_POINTS = 500
_FIRST = 3  # the first evaluations, in which running averages may lag
_LAG = 1.5  # it is a lag if the errors have at least this ratio and differ by five points
_LAG_POINTS = 0.05
# Options that change the loss in training alone, in words.
_IN_TRAINING = {
    "train.label_smoothing": "label smoothing",
    "augment.mixup": "mixup",
    "augment.cutmix": "CutMix",
    "train.class_weights": "class weights",
    "model.auxiliary": "auxiliary classifiers",
}


def curves(run: Run, folder: pathlib.Path) -> list[Section]:
    """Loss and error over epochs; empty for a run without records."""
    split = "validation" if run.info.validation_size else "test"
    train, watched = metrics.read(folder, "train"), metrics.read(folder, split)
    if not (train or watched):
        return []
    epoch = make_plan(run.config, run.info.train_size).epoch
    caption = (
        "Loss and error over passes through the training set. Training values are means over the updates since the "
        "previous record, measured on images with their random distortions and, if there is any, with dropout. "
        f"{split.capitalize()} values are measured on the whole {split} set at that moment. So the training curve can "
        f"lie above the {split} curve."
    )
    options = config_lib.flat(run.config)
    if changes := [words for option, words in _IN_TRAINING.items() if options.get(option)]:
        caption += (
            f" The training loss includes {', '.join(changes)} and the {split} loss does not: compare the errors, not "
            "the losses."
        )
    if "batch_stats" in run.variables and lags(train, watched):
        caption += (
            f" In the first epochs the {split} error is far above the training error, because batch normalisation uses "
            f"the mean and variance of each batch in training, but running averages of them for {split} images. These "
            "averages lag behind while the weights change fast. The gap closes when the learning rate falls and they "
            "catch up."
        )
    figure = curve_figures.curves(train, watched, split, epoch, run.step)
    return [Section("curves", "Learning curves", caption, [Picture(figure, "loss and error over epochs")])]


def lags(train: Sequence[dict[str, Any]], watched: Sequence[dict[str, Any]]) -> bool:
    """True if one of the first evaluations has an error far above that of the training record at its step.

    Far above means at least 1.5 times as large, and at least five points larger.
    """
    errors = {record["step"]: record["error"] for record in train}
    pairs = [(record["error"], errors[record["step"]]) for record in watched[:_FIRST] if record["step"] in errors]
    return any(tested >= max(_LAG * trained, trained + _LAG_POINTS) for tested, trained in pairs)


def learning_rate(run: Run, folder: pathlib.Path) -> list[Section]:
    """The learning rates of the run; empty for a run without records of them."""
    records = [record for record in metrics.read(folder, "train") if "learning_rate" in record]
    if not records:
        return []
    epoch = make_plan(run.config, run.info.train_size).epoch
    recorded = [r["step"] / epoch for r in records], [r["learning_rate"] for r in records]
    planned = _planned(run.config, run.info.train_size, records[-1]["step"])
    name, caption = run.config.schedule.name, "The learning rate of the last update before each record, as points."
    if name == "plateau":
        caption += " The schedule is 'plateau', which lowers the rate when the watched error has stopped falling."
    else:
        caption += f" The line is the schedule of the config, '{name}', update by update."
        at_records = _rates(run.config, run.info.train_size, np.array([record["step"] for record in records]))
        if not np.allclose(recorded[1], at_records, rtol=1e-3):
            caption += " Points beside it come from a part of the run that had another schedule."
    figure = curve_figures.learning_rate(recorded, ([step / epoch for step in planned[0]], planned[1]))
    return [Section("rate", "Learning rate", caption, [Picture(figure, "learning rate over epochs")])]


def _planned(config: ConfigDict, train_size: int, last: int) -> tuple[list[float], list[float]]:
    """Steps up to the last one, and the schedule's rates for the updates that lead to them.

    Both are empty for 'plateau', which depends on the run's errors.
    """
    if config.schedule.name == "plateau":
        return [], []
    steps = np.unique(np.linspace(1, last, min(last, _SCHEDULE_POINTS)).round().astype(np.int32))
    return [float(step) for step in steps], [float(rate) for rate in _rates(config, train_size, steps)]


def _rates(config: ConfigDict, train_size: int, steps: Int[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """The schedule's rates for the updates that lead to these steps."""
    return np.broadcast_to(jax.vmap(make_optimizer(config, train_size)[1])(steps - 1), steps.shape)
