"""Figures of a run's course: loss, error and learning rate over epochs."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from common.report.figures import GREY, INK, TEST, TRAIN

Points = tuple[Sequence[float], Sequence[float]]  # epochs, and a value at each


def curves(
    train: Sequence[dict[str, Any]],
    watched: Sequence[dict[str, Any]],
    split: str,
    steps_per_epoch: float,
    shown_step: int,
) -> Figure:
    """Loss and error over epochs, from records of `metrics.read`, whose errors are fractions.

    watched: the records of `split`, 'test' or 'validation'; the one at `shown_step` is marked. An axis is logarithmic
    if its values span a factor of eight or more.
    """
    figure = Figure(figsize=(10, 3.9), layout=ConstrainedLayoutEngine(wspace=0.05))
    left, right = figure.subplots(1, 2)
    for axes, key, label, scale in ((left, "loss", "mean loss", 1), (right, "error", "error (% of images)", 100)):
        for records, colour, name in ((train, TRAIN, "training"), (watched, TEST, split)):
            epochs, values = _series(records, key, steps_per_epoch, scale)
            axes.plot(epochs, values, color=colour, lw=1.8, marker="o" if len(epochs) <= 40 else "", ms=4, label=name)
        at = _series([record for record in watched if record["step"] == shown_step], key, steps_per_epoch, scale)
        axes.plot(*at, "o", ms=11, mfc="none", mec=INK, mew=1.3, label="checkpoint of this report")
        scale_values(axes, [scale * record[key] for record in (*train, *watched)])
        over_epochs(axes, label)
    right.legend(frameon=False)
    return figure


def _series(
    records: Sequence[dict[str, Any]], key: str, steps_per_epoch: float, scale: float
) -> tuple[list[float], list[float]]:
    return [record["step"] / steps_per_epoch for record in records], [scale * record[key] for record in records]


def scale_values(axes: Axes, values: Sequence[float]) -> None:
    """Makes the axis logarithmic if small values would look like 0 otherwise; zeros are then below the axis."""
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    if not positive or max(positive) < 8 * min(positive):
        axes.set_ylim(bottom=0)
        return
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(min(positive) / 1.3, max(positive) * 1.3)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain_number))
    axes.yaxis.set_minor_formatter(NullFormatter())


def over_epochs(axes: Axes, label: str) -> None:
    """Makes the horizontal axis show epochs, and labels the values."""
    axes.set(xlabel="epochs", ylabel=label, xlim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, color="#e6e6e6", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def learning_rate(recorded: Points, planned: Points) -> Figure:
    """The learning rates that a run recorded, as points, and those of its schedule, as a line; either may be empty."""
    figure = Figure(figsize=(9.6, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(*planned, color=GREY, lw=1.6, label="schedule")
    axes.plot(*recorded, "o", color=TRAIN, ms=4, label="recorded")
    over_epochs(axes, "learning rate")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


def _plain_number(value: float, _: int) -> str:
    return f"{value:g}"
