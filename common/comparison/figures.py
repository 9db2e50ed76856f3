"""Figures of a comparison: the curves of several groups of runs, and their results with intervals."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from common.claims.verdicts import LEVEL, mean_and_half_width
from common.comparison.runs import Compared, Group
from common.report.curve_figures import over_epochs, scale_values
from common.report.figures import INK, shortened

# Okabe and Ito's colours, without the pale yellow; after the last they repeat with another line style.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1a1a1a")
_LINES = ("-", "-.", ":")

Values = Float[np.ndarray, "*values"] | float
Curve = tuple[Float[np.ndarray, " records"], Float[np.ndarray, " records"], Float[np.ndarray, " records"]]


def curves(groups: Sequence[Group]) -> Figure:
    """Loss and error over epochs: evaluations bold, training thin and dashed; a pipeline, fitted once, is a level line.

    Several seeds are shown as their mean at the steps that all have recorded, with its 95% interval as a band.
    """
    figure = Figure(figsize=(10, 4.4), layout=ConstrainedLayoutEngine(wspace=0.05))
    left, right = figure.subplots(1, 2)
    for axes, key, label, scale in ((left, "loss", "mean loss", 1.0), (right, "error", "error (% of images)", 100.0)):
        values = []
        for number, group in enumerate(groups):
            colour, line = _COLOURS[number % len(_COLOURS)], _LINES[number // len(_COLOURS) % len(_LINES)]
            values += _draw(axes, group, key, scale, colour, line)
        scale_values(axes, values)
        over_epochs(axes, label)
    # Matplotlib's own search for labels ignores those that begin with an underscore, as a run's name may do.
    handles = [line for line in right.lines if not str(line.get_label()).startswith("_child")]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 3), frameon=False)
    return figure


def _draw(axes: Axes, group: Group, key: str, scale: float, colour: str, line: str) -> list[float]:
    """Draws one group and returns the values drawn."""
    label = shortened(group.name) + (f" ({len(group.runs)} seeds)" if len(group.runs) > 1 else "")
    epochs, means, halves = mean_curve(group.runs, group.runs[0].watched, key)
    if not group.runs[0].is_network:
        if key == "error" and len(means):
            axes.axhline(scale * means[-1], color=colour, lw=1.6, ls=":", label=f"{label}, fitted once")
        return [scale * float(value) for value in means] if key == "error" else []
    if np.isfinite(halves).any():
        low, high = ends(means, halves, 1.0 if key == "error" else np.inf)
        axes.fill_between(epochs, scale * low, scale * high, color=colour, alpha=0.18, lw=0)
    marker = "o" if len(epochs) <= 40 else ""
    axes.plot(epochs, scale * means, color=colour, lw=2.0, ls=line, marker=marker, ms=3.5, label=label)
    trained, losses, _ = mean_curve(group.runs, "train", key)
    alone = "o" if len(trained) == 1 else ""  # a line of one point is invisible
    axes.plot(trained, scale * losses, color=colour, lw=1.0, ls="--", marker=alone, ms=3.5, mfc="none")
    return [scale * float(value) for value in (*means, *losses)]


def mean_curve(runs: Sequence[Compared], split: str, key: str) -> Curve:
    """Epochs, mean values and half-widths of their 95% intervals, at the steps that all runs have recorded.

    The half-width is infinite for one run. A pipeline's epochs are 0.
    """
    found = [{r["step"]: r[key] for r in run.records if r["split"] == split and key in r} for run in runs]
    steps = sorted(set.intersection(*map(set, found)))
    pairs = [mean_and_half_width([one[step] for one in found], LEVEL, random=True) for step in steps]
    epochs = [runs[0].epochs(step) if runs[0].is_network else 0.0 for step in steps]
    means, halves = ([pair[i] for pair in pairs] for i in (0, 1))
    return np.array(epochs, float), np.array(means, float), np.array(halves, float)


def ends(means: Values, halves: Values, largest: float = 1.0) -> tuple[Values, Values]:
    """The ends of the intervals of errors, fractions, or of losses: from 0 to the largest possible value."""
    return np.clip(means - halves, 0.0, largest), np.clip(means + halves, 0.0, largest)


def results(names: Sequence[str], errors: Sequence[Sequence[float]]) -> Figure:
    """The groups from top to bottom: each seed's error as a point and, for several, the mean with its 95% interval.

    errors: fractions, for the runs of each group. A group without errors is left out; the others have the same colours
    as their curves.
    """
    shown = [number for number, values in enumerate(errors) if values]
    figure = Figure(figsize=(9.6, 0.42 * len(shown) + 0.8), layout="constrained")
    axes = figure.subplots()
    for place, number in enumerate(shown):
        values, colour = errors[number], _COLOURS[number % len(_COLOURS)]
        mean, half = mean_and_half_width(values, LEVEL, random=True)
        if np.isfinite(half):
            low, high = ends(mean, half)
            lengths = 100 * np.array([[mean - low], [high - mean]])
            axes.errorbar(100 * mean, place, xerr=lengths, fmt="|", ms=14, color=INK, lw=1.4, capsize=4)
        axes.plot([100 * value for value in values], [place] * len(values), "o", color=colour, ms=6, alpha=0.75)
    axes.set_yticks(range(len(shown)), [shortened(names[number]) for number in shown])
    axes.set(xlabel="error (% of images)", ylim=(len(shown) - 0.5, -0.5))
    axes.grid(True, axis="x", color="#e6e6e6", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
