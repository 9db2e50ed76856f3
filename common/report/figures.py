"""The figures of a report: functions from data to a matplotlib `Figure`; nothing is shown on a screen.

Colours are Okabe and Ito's, or scales of one or two hues, which people with any kind of colour vision can tell apart.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure, FigureBase
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

INK, GREY = "#1a1a1a", "#6b6b6b"
TRAIN, TEST = "#d55e00", "#0072b2"  # vermilion and blue
COUNTED_CLASSES = 30  # the most classes for which a confusion matrix has room for counts
NAMED_CLASSES = 100  # and for names on its axes
FILTERS_SHOWN, MAPS_SHOWN, CLASSES_SHOWN = 96, 8, 10
_NAME_LENGTH = 24

# Blues without its palest quarter, so that a single mistake is visible.
_MISTAKES = LinearSegmentedColormap.from_list("mistakes", colormaps["Blues"](np.linspace(0.25, 1.0, 64)))


class Maps(NamedTuple):
    """The output of a layer for one image."""

    layer: str
    values: Float[np.ndarray, "height width maps"]


def curves(
    train: Sequence[dict[str, Any]],
    watched: Sequence[dict[str, Any]],
    split: str,
    steps_per_epoch: float,
    shown_step: int,
) -> Figure:
    """Loss and error over epochs, from records of `metrics.read`, whose errors are fractions.

    watched: those of `split`, 'test' or 'validation'; the one at `shown_step` is marked. An axis is logarithmic where
    its values span a factor of eight or more.
    """
    figure = Figure(figsize=(10, 3.9), layout=ConstrainedLayoutEngine(wspace=0.05))
    left, right = figure.subplots(1, 2)
    for axes, key, label, scale in ((left, "loss", "mean loss", 1), (right, "error", "error (% of images)", 100)):
        for records, colour, name in ((train, TRAIN, "training"), (watched, TEST, split)):
            epochs, values = _series(records, key, steps_per_epoch, scale)
            axes.plot(epochs, values, color=colour, lw=1.8, marker="o" if len(epochs) <= 40 else "", ms=4, label=name)
        at = _series([record for record in watched if record["step"] == shown_step], key, steps_per_epoch, scale)
        axes.plot(*at, "o", ms=11, mfc="none", mec=INK, mew=1.3, label="checkpoint of this report")
        _scale_values(axes, [scale * record[key] for record in (*train, *watched)])
        axes.set(xlabel="epochs", ylabel=label, xlim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(True, color="#e6e6e6", lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False)
    return figure


def _series(
    records: Sequence[dict[str, Any]], key: str, steps_per_epoch: float, scale: float
) -> tuple[list[float], list[float]]:
    return [record["step"] / steps_per_epoch for record in records], [scale * record[key] for record in records]


def _scale_values(axes: Axes, values: Sequence[float]) -> None:
    """Makes the axis logarithmic where small values would otherwise lie on it; zeros then run off the bottom."""
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    if not positive or max(positive) < 8 * min(positive):
        axes.set_ylim(bottom=0)
        return
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(min(positive) / 1.3, max(positive) * 1.3)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain_number))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _plain_number(value: float, _: int) -> str:
    return f"{value:g}"


def confusion(counts: Int[np.ndarray, "classes classes"], class_names: Sequence[str]) -> Figure:
    """Examples by true class (rows) and predicted class (columns).

    Mistakes are coloured by their count. Correct predictions are grey, because their counts would drown the mistakes.
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
    """Bars of the error of each class, from top to bottom; `errors` are fractions of the numbers of `examples`."""
    figure = Figure(figsize=(9.6, 0.27 * len(class_names) + 0.7), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(class_names)), 100 * errors, color=TEST, height=0.7)
    for place, (count, error) in enumerate(zip(examples, errors, strict=True)):
        axes.text(100 * error, place, f" {error:.1%} of {count:,}", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(class_names)), [shortened(name) for name in class_names])
    axes.set(xlabel="error (% of images)", xlim=(0, 120 * errors.max() or 1), ylim=(len(class_names) - 0.5, -0.5))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def shortened(name: str) -> str:
    """The name of a class, cut where it is too long for a picture."""
    return name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…"


def filters(kernel: Float[np.ndarray, "height width channels filters"]) -> Figure:
    """The kernels of the layer that reads the image, at most 96 of them.

    Kernels for grey images share one scale: blue is negative, white zero, red positive. Kernels for colour images are
    drawn in colour, each on its own scale around grey, which is zero; see `coloured`.
    """
    kernel = kernel[..., :FILTERS_SHOWN].astype(np.float32)
    rows, columns = filter_grid(kernel.shape[-1])
    cell = 8.4 / max(columns, 6)
    figure = Figure(figsize=(cell * columns + 1.0, cell * rows + 0.2), layout="constrained")
    draw_filters(figure, kernel)
    return figure


def filter_grid(count: int) -> tuple[int, int]:
    """The rows and columns of a picture of `count` filters."""
    columns = min(count, 8 if count <= 32 else 16)
    return -(-count // columns), columns


def draw_filters(figure: FigureBase, kernel: Float[np.ndarray, "height width channels filters"]) -> None:
    """Draws filters in rows on a figure or on a part of one."""
    largest = float(np.abs(kernel).max()) or 1.0
    grid = figure.subplots(*filter_grid(kernel.shape[-1]), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    if kernel.shape[2] == 3:
        for axes, picture in zip(grid.flat, coloured(kernel), strict=False):
            axes.imshow(picture)
        return
    for axes, weights in zip(grid.flat, np.moveaxis(kernel, -1, 0), strict=False):
        shades = axes.imshow(weights.mean(-1), cmap="RdBu_r", vmin=-largest, vmax=largest)
    bar = figure.colorbar(shades, ax=grid, label="weight", aspect=14, shrink=0.9)
    bar.outline.set_visible(False)


def coloured(kernel: Float[np.ndarray, "height width 3 filters"]) -> Float[np.ndarray, "filters height width 3"]:
    """Filters as pictures, in which zero is grey and a filter's largest weight is a full colour.

    Filters with less than a fifth of the largest weight of all stay pale, so that dead filters are not blown up.
    """
    largest = np.abs(kernel).max((0, 1, 2))
    scale = np.maximum(np.maximum(largest, 0.2 * largest.max()), np.finfo(np.float32).tiny)
    return np.moveaxis(0.5 + 0.5 * kernel / scale, -1, 0)


def through_the_network(
    image: UInt8[np.ndarray, "height width channels"] | Float[np.ndarray, "height width channels"],
    layers: Sequence[Maps],
    probabilities: Float[np.ndarray, " classes"],
    class_names: Sequence[str],
) -> Figure:
    """One image, the eight maps of each layer that vary most, and the probabilities of the ten likeliest classes.

    Each layer has its own scale, from its smallest value (dark) to its largest (bright), which is written on the left.
    """
    figure = Figure(figsize=(9.6, 1.12 * (len(layers) + 2) + 0.3), layout="constrained")
    grid = figure.add_gridspec(len(layers) + 2, MAPS_SHOWN + 1, width_ratios=[1.5] + [1] * MAPS_SHOWN)
    _row_label(figure.add_subplot(grid[0, 0]), "image", f"{image.shape[0]}×{image.shape[1]}")
    show_image(figure.add_subplot(grid[0, 1]), image)
    for row, (layer, values) in enumerate(layers, start=1):
        height, width, count = values.shape
        maps = "map" if count == 1 else "maps"
        details = f"{height}×{width}, {count} {maps}\n{values.min():.3g} to {values.max():.3g}"
        _row_label(figure.add_subplot(grid[row, 0]), layer, details)
        for column, index in enumerate(liveliest(values), start=1):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(values[..., index], cmap="cividis", vmin=values.min(), vmax=values.max())
            axes.set_axis_off()
    _row_label(figure.add_subplot(grid[-1, 0]), "probability", "")
    _bars(figure.add_subplot(grid[-1, 1:]), probabilities, class_names)
    return figure


def liveliest(values: Float[np.ndarray, "height width maps"]) -> Int[np.ndarray, " shown"]:
    """Indices of the maps that vary most over the image, at most eight, in the layer's order."""
    return np.sort(np.argsort(-values.std((0, 1)), kind="stable")[:MAPS_SHOWN])


def _row_label(axes: Axes, title: str, details: str) -> None:
    axes.set_axis_off()
    axes.text(0, 0.62, title, fontsize=11, weight="bold", color=INK, va="center", transform=axes.transAxes)
    axes.text(0, 0.5, details, fontsize=8.5, color=GREY, va="top", transform=axes.transAxes)


def _bars(axes: Axes, probabilities: Float[np.ndarray, " classes"], class_names: Sequence[str]) -> None:
    shown = np.sort(np.argsort(-probabilities, kind="stable")[:CLASSES_SHOWN])
    axes.bar(range(len(shown)), probabilities[shown], color=TEST, width=0.6)
    names = [shortened(class_names[index]) for index in shown]
    slanted: dict[str, Any] = (
        {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 6 else {}
    )
    axes.set_xticks(range(len(shown)), names, **slanted)
    axes.set(ylim=(0, 1), yticks=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)


def show_image(
    axes: Axes, image: UInt8[np.ndarray, "height width channels"] | Float[np.ndarray, "height width channels"]
) -> None:
    """Draws an image without a frame."""
    axes.imshow(pixels(image), cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()


def pixels(
    image: UInt8[np.ndarray, "height width channels"] | Float[np.ndarray, "height width channels"],
) -> UInt8[np.ndarray, "height width *colours"]:
    """An image ready to be shown: [height, width] if grey, [height, width, 3] in colour.

    Float images, whose scale depends on the dataset, are stretched: the smallest value is 0 and the largest 255.
    """
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = np.round((image - low) * (255 / ((high - low) or 1.0))).astype(np.uint8)
    return image[:, :, 0] if image.shape[-1] == 1 else image
