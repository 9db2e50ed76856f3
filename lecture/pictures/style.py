"""The look that the lecture's pictures share."""

import io
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from common.report.figures import GREY, INK

MARK = "#d55e00"  # vermilion, for the place that a picture is about


def panels(columns: int, width: float = 9.6, height: float = 3.2, rows: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure and its axes: an array of `rows` x `columns`, one-dimensional for a single row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, grid[0] if rows == 1 else grid


def plain(axes: Axes) -> None:
    """Removes the upper and the right edge, and draws a pale grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)


def titled(axes: Axes, title: str, below: str = "") -> None:
    """Adds a title, and a line in grey below the axes."""
    axes.set_title(title, fontsize=10.5, weight="bold", color=INK)
    if below:
        axes.set_xlabel(below, fontsize=9, color=GREY)


def numbers(axes: Axes, values: Float[np.ndarray, "rows columns"], form: str = "{:.0f}", **colours: Any) -> None:
    """Draws a small map with its values written into it."""
    colours = {"cmap": "Greys", "vmin": 0, "vmax": 22, **colours}
    shown = axes.imshow(values, **colours)
    for (row, column), value in np.ndenumerate(values):
        light = np.mean(shown.cmap(shown.norm(value))[:3]) > 0.5
        text = form.format(value).replace("-", "\N{MINUS SIGN}")
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=INK if light else "white")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#bdbdbd")


def outline(axes: Axes, row: int, column: int, height: int, width: int) -> None:
    """Draws a frame round some positions of a map."""
    corner = (column - 0.5, row - 0.5)
    axes.add_patch(Rectangle(corner, width, height, fill=False, ec=MARK, lw=2.5, clip_on=False, zorder=5))


def save(figure: Figure, path: pathlib.Path) -> None:
    """Writes a figure as a small PNG of 128 colours. The same picture always gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, facecolor="white")
    picture = Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
