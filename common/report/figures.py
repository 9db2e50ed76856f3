"""Figures of images, filters and feature maps: functions from data to a matplotlib `Figure`, without a screen.

Colours are Okabe and Ito's, or scales of one or two hues. People with any kind of colour vision can tell them apart.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage

from common.data.preparation import Pixels
from common.errors import count_of
from common.report import fonts

INK, GREY = "#1a1a1a", "#6b6b6b"
TRAIN, TEST = "#d55e00", "#0072b2"  # vermilion and blue
FILTERS_SHOWN, MAPS_SHOWN, CLASSES_SHOWN = 96, 8, 10
_NAME_LENGTH = 24
_LABEL = 1.5  # the width of a row's label, in tiles
_GAP = 0.06  # between tiles, of their width


class Maps(NamedTuple):
    """The output of a layer for one image; with `own_scales` each map is drawn on its own scale."""

    layer: str
    values: Float[np.ndarray, "height width maps"]
    own_scales: bool = False


def shortened(name: str) -> str:
    """The name of a class or run, cut if it is too long for a picture, in characters that Matplotlib can draw.

    Matplotlib does not read any part of it as a formula.
    """
    short = name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…"
    fonts.prepare(short)
    return short.replace("$", r"\$")


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
    axes, (rows, columns) = figure.subplots(), filter_grid(kernel.shape[-1])
    ratio, largest = kernel.shape[0] / kernel.shape[1], float(np.abs(kernel).max()) or 1.0
    colours = kernel.shape[2] == 3
    for number, weights in enumerate(coloured(kernel) if colours else np.moveaxis(kernel, -1, 0).mean(-1)):
        place = divmod(number, columns)
        shades = tile(axes, *place, weights, ratio, cmap="RdBu_r", vmin=-largest, vmax=largest)
    finish_tiles(axes, rows, columns, ratio)
    if not colours:
        bar = figure.colorbar(shades, ax=axes, label="weight", aspect=14, shrink=0.9)
        bar.outline.set_visible(False)


def coloured(kernel: Float[np.ndarray, "height width 3 filters"]) -> Float[np.ndarray, "filters height width 3"]:
    """Filters as pictures, where zero is grey and a filter's largest weight is a full colour.

    Filters whose largest weight is below a fifth of the largest of all stay pale, so that dead filters look dead.
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
    """One image, the eight maps of each layer that vary most, and the probabilities of the top ten predictions.

    Each layer, or with `own_scales` each map, has its own scale, from its smallest value (dark) to its largest
    (bright). The layer's smallest and largest values are written on the left.
    """
    ratio = image.shape[0] / image.shape[1]
    figure = Figure(figsize=(9.6, 0.95 * ratio * (len(layers) + 1) + 1.5), layout="constrained")
    heights = [0.95 * ratio * (len(layers) + 1), 1.2]
    above, below = figure.subplots(2, 1, gridspec_kw={"height_ratios": heights})
    tile_image(above, 0, _LABEL, image)
    _row_label(above, 0.5 * ratio, "image", f"{image.shape[0]}×{image.shape[1]}")
    for row, (layer, values, own_scales) in enumerate(layers, start=1):
        height, width, count = values.shape
        details = f"{height}×{width}, {count_of(count, 'map')}\n{values.min():.3g} to {values.max():.3g}"
        _row_label(above, (row + 0.5) * ratio, layer, details)
        for column, index in enumerate(most_varying(values)):
            shown = values[..., index]
            scale = shown if own_scales else values
            colours: dict[str, Any] = {"cmap": "cividis", "vmin": scale.min(), "vmax": scale.max()}
            tile(above, row, _LABEL + column, shown, ratio, **colours)
    finish_tiles(above, len(layers) + 1, _LABEL + MAPS_SHOWN, ratio)
    _bars(below, probabilities, class_names)
    below.set_ylabel("probability")
    return figure


def most_varying(values: Float[np.ndarray, "height width maps"]) -> Int[np.ndarray, " shown"]:
    """Indices of the maps that vary most over the image, at most eight, in the layer's order."""
    return np.sort(np.argsort(-values.std((0, 1)), kind="stable")[:MAPS_SHOWN])


def _row_label(axes: Axes, place: float, title: str, details: str) -> None:
    axes.text(0, place, title, fontsize=10.5, weight="bold", color=INK, va="bottom")
    axes.text(0, place, details, fontsize=8.5, color=GREY, va="top")


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


def tile(
    axes: Axes,
    row: float,
    column: float,
    values: Shaped[np.ndarray, "height width *colours"],
    ratio: float = 1.0,
    **options: Any,
) -> AxesImage:
    """Draws a picture into a cell of a grid on one axes; separate axes for each picture would take ten times as long.

    ratio: the height of a cell, whose width is 1. row: in heights of a cell, and not always a whole number. options:
    for matplotlib's `imshow`. Call `finish_tiles` last.
    """
    half = _GAP / 2
    extent = (column + half, column + 1 - half, (row + 1) * ratio - half, row * ratio + half)
    return axes.imshow(values, extent=extent, **options)


def tile_image(axes: Axes, row: float, column: float, image: Pixels) -> None:
    """Draws an image into a cell of its shape."""
    tile(axes, row, column, pixels(image), image.shape[0] / image.shape[1], cmap="gray", vmin=0, vmax=255)


def finish_tiles(axes: Axes, rows: float, columns: float, ratio: float = 1.0) -> None:
    """Makes all cells of a grid visible, without a frame."""
    axes.set(xlim=(0, columns), ylim=(rows * ratio, 0), aspect="equal")
    axes.set_axis_off()


def name_row(axes: Axes, row: float, column: float, text: str, ratio: float = 1.0) -> None:
    """Writes the name of a row, upright, to the left of a cell."""
    axes.text(column, (row + 0.5) * ratio, text, rotation=90, va="center", ha="right", fontsize=8.5, color=GREY)


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
