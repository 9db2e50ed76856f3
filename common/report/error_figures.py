"""Figures of a network's mistakes and of its confidence on a test set."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.report.calibration import Calibration
from common.report.figures import GREY, INK, TEST, TRAIN, shortened

COUNTED_CLASSES = 30  # with more classes, a confusion matrix has no room for counts
NAMED_CLASSES = 100  # with more classes, its axes have no room for names

# Blues without its palest quarter, so that a single mistake is visible.
_MISTAKES = LinearSegmentedColormap.from_list("mistakes", colormaps["Blues"](np.linspace(0.25, 1.0, 64)))


def confusion(counts: Int[np.ndarray, "classes classes"], class_names: Sequence[str]) -> Figure:
    """Examples by true class (rows) and predicted class (columns).

    Mistakes are coloured by their count. Correct predictions are grey, because they outnumber the mistakes.
    Counts are written for up to 30 classes, names for up to 100.
    """
    size = len(counts)
    wrong = np.ma.masked_equal(counts - np.diag(np.diag(counts)), 0)
    highest = int(wrong.max()) if wrong.count() else 1
    side = float(np.clip(2.5 + 0.42 * size, 5.5, 14.0))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.ma.masked_equal(np.eye(size), 0), cmap="Greys", vmin=0, vmax=7)
    # Colours follow the square root of the count, so that one frequent mistake does not leave the others pale.
    norm = PowerNorm(0.5, vmin=min(1, highest - 1), vmax=highest)
    shades = axes.imshow(wrong, cmap=_MISTAKES, norm=norm)
    if size <= COUNTED_CLASSES:
        _write_counts(axes, counts, norm, font_size=float(np.clip(130 / size, 7, 11)))
    _name_classes(axes, class_names)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_xticks(np.arange(1, size) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, size) - 0.5, minor=True)
    axes.grid(True, which="minor", color="#ececec", lw=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color("#bdbdbd")
    bar = figure.colorbar(shades, ax=axes, shrink=0.5, aspect=24, label="misclassified images")
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    bar.outline.set_visible(False)
    return figure


def _write_counts(axes: Axes, counts: Int[np.ndarray, "classes classes"], norm: Normalize, font_size: float) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):
        count = counts[row, column]
        on_dark = row != column and norm(count) > 0.55
        axes.text(
            column, row, f"{count}", ha="center", va="center", fontsize=font_size, color="white" if on_dark else INK
        )


def _name_classes(axes: Axes, class_names: Sequence[str]) -> None:
    names = [shortened(name) for name in class_names]
    if len(names) > NAMED_CLASSES:
        return
    font_size = float(np.clip(620 / len(names), 6, 10))
    upright = max(map(len, names)) > 3 or len(names) > COUNTED_CLASSES
    axes.set_xticks(range(len(names)), names, rotation=90 if upright else 0, fontsize=font_size)
    axes.set_yticks(range(len(names)), names, fontsize=font_size)


def class_errors(
    class_names: Sequence[str], examples: Int[np.ndarray, " classes"], errors: Float[np.ndarray, " classes"]
) -> Figure:
    """Bars of the error of each class, from top to bottom; `errors` are fractions, `examples` numbers of images."""
    figure = Figure(figsize=(9.6, 0.27 * len(class_names) + 0.7), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(class_names)), 100 * errors, color=TEST, height=0.7)
    for place, (count, error) in enumerate(zip(examples, errors, strict=True)):
        axes.text(100 * error, place, f" {error:.1%} of {count:,}", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(class_names)), [shortened(name) for name in class_names])
    axes.set(xlabel="error (% of images)", xlim=(0, 120 * errors.max() or 1), ylim=(len(class_names) - 0.5, -0.5))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def confused_pairs(pairs: Sequence[tuple[str, str, int]]) -> Figure:
    """Bars of how many images of one class are taken for another, from top to bottom."""
    figure = Figure(figsize=(9.6, 0.27 * len(pairs) + 0.7), layout="constrained")
    axes = figure.subplots()
    counts = [count for _, _, count in pairs]
    axes.barh(range(len(pairs)), counts, color=TEST, height=0.7)
    for place, count in enumerate(counts):
        axes.text(count, place, f" {count:,}", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(pairs)), [f"{shortened(true)} taken for {shortened(said)}" for true, said, _ in pairs])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="misclassified images", xlim=(0, 1.1 * max(counts)), ylim=(len(pairs) - 0.5, -0.5))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def reliability(found: Calibration) -> Figure:
    """The accuracy in each bin of confidence, with the diagonal; below it, the share of the images in each bin."""
    figure = Figure(figsize=(6.2, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    width, filled = 1 / found.bins, found.counts > 0
    middles = ((np.arange(found.bins) + 0.5) * width)[filled]
    above.bar(middles, found.accuracies[filled], width=0.92 * width, color=TEST, label="accuracy")
    for middle, confidence, accuracy in zip(middles, found.confidences[filled], found.accuracies[filled], strict=True):
        above.plot([middle, middle], [accuracy, confidence], color=TRAIN, lw=2.2, solid_capstyle="butt")
    above.plot(middles, found.confidences[filled], "_", color=TRAIN, ms=13, mew=2.2, label="mean confidence")
    above.plot([0, 1], [0, 1], color=GREY, lw=1.2, ls="--", label="calibrated")
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    figure.legend(frameon=False, loc="outside upper center", ncols=3)  # bars may be anywhere inside
    below.bar(middles, found.counts[filled] / found.counts.sum(), width=0.92 * width, color=GREY)
    below.set(xlabel="confidence (probability of the top prediction)", ylabel="share of images", ylim=(0, 1))
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
