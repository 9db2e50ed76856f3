"""Figures of single test images: their top predictions, and the effect of covering parts of them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from common.data.preparation import Pixels
from common.report.figures import GREY, INK, TRAIN, shortened, show_image
from common.report.occlusion import Sensitivity

_HARM = 0.01  # the smallest fall in probability that is worth showing
_RIGHT, _OTHER = "#f2a070", "#9ecae1"  # an orange and a blue that leave text readable
_COLUMNS, BARS = 4, 5  # BARS: the most predictions for an image


def top_predictions(
    images: Sequence[Pixels],
    labels: Int[np.ndarray, " images"],
    probabilities: Float[np.ndarray, "images classes"],
    class_names: Sequence[str],
) -> Figure:
    """Images with their true classes and bars of the top five predictions (Krizhevsky 2012, Figure 4, left)."""
    rows, bars = -(-len(images) // _COLUMNS), min(BARS, len(class_names))
    layout = ConstrainedLayoutEngine(h_pad=0.04, w_pad=0.12, hspace=0.02)
    figure = Figure(figsize=(9.6, (2.36 + 0.278 * bars) * rows), layout=layout)
    grid = figure.add_gridspec(2 * rows, _COLUMNS, height_ratios=[1.7, 0.2 * bars] * rows)
    for number, (image, label, row) in enumerate(zip(images, labels, probabilities, strict=True)):
        down, across = divmod(number, _COLUMNS)
        picture = figure.add_subplot(grid[2 * down, across])
        show_image(picture, image)
        picture.set_title(shortened(class_names[label]), fontsize=11, weight="bold", color=INK, pad=4)
        _ranking(figure.add_subplot(grid[2 * down + 1, across]), row, int(label), class_names)
    return figure


def _ranking(axes: Axes, probabilities: Float[np.ndarray, " classes"], label: int, class_names: Sequence[str]) -> None:
    """Draws a bar for each of the top predictions, the first at the top, with its name; the true class is orange."""
    shown = np.argsort(-probabilities, kind="stable")[:BARS]
    colours = [_RIGHT if index == label else _OTHER for index in shown]
    axes.barh(range(len(shown)), [1.0] * len(shown), color="#f2f2f2", height=0.8)
    axes.barh(range(len(shown)), probabilities[shown], color=colours, height=0.8)
    for place, index in enumerate(shown):
        weight = "bold" if index == label else "normal"
        axes.text(0.025, place, shortened(class_names[index]), va="center", fontsize=9, color=INK, weight=weight)
        percent = f"{probabilities[index]:.1%}"
        axes.text(0.985, place, percent, va="center", ha="right", fontsize=8, color=INK, weight=weight)
    axes.set(xlim=(0, 1), ylim=(len(shown) - 0.5, -0.5))
    axes.set_axis_off()


def occlusion(images: Sequence[Pixels], found: Sensitivity, titles: Sequence[str]) -> Figure:
    """Images above their occlusion maps; the square is drawn where it lowers the probability most.

    A cell of a map is a position of the square's centre; the brighter it is, the more the probability of the true class
    falls. Where the probability rises, the cell is as dark as where nothing changes.
    """
    layout = ConstrainedLayoutEngine(wspace=0.04, hspace=0.03)
    figure = Figure(figsize=(1.1 + 1.7 * len(images), 4.2), layout=layout)
    grid = figure.subplots(2, len(images), squeeze=False)
    for number, (image, title) in enumerate(zip(images, titles, strict=True)):
        above, below = grid[:, number]
        show_image(above, image)
        above.set_title(shortened(title), fontsize=10.5, weight="bold", color=INK)
        row, column = np.unravel_index(found.probabilities[number].argmin(), found.probabilities[number].shape)
        corner = float(found.columns[column] - found.side / 2), float(found.rows[row] - found.side / 2)
        if found.uncovered[number] - found.probabilities[number].min() > _HARM:
            above.add_patch(Rectangle(corner, found.side, found.side, fill=False, ec=TRAIN, lw=1.8))
        shades = _map(below, found, number, image.shape[:2])
    bar = figure.colorbar(shades, ax=grid, label="fall in the probability of the true class", shrink=0.9, aspect=24)
    bar.outline.set_visible(False)
    return figure


def _map(axes: Axes, found: Sensitivity, number: int, size: tuple[int, int]) -> AxesImage:
    """Draws the map of one image, in the image's coordinates."""
    half = np.diff(found.rows[:2]).sum() / 2, np.diff(found.columns[:2]).sum() / 2
    top, bottom = found.rows[0] - half[0], found.rows[-1] + half[0]
    left, right = found.columns[0] - half[1], found.columns[-1] + half[1]
    falls = found.uncovered[number] - found.probabilities[number]
    shades = axes.imshow(falls, cmap="inferno", vmin=0.0, vmax=1.0, extent=(left, right, bottom, top))
    axes.set(xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    worst = f"{found.uncovered[number]:.0%} uncovered\n{found.probabilities[number].min():.0%} at worst"
    axes.set_xlabel(worst, fontsize=8.5, color=GREY)
    return shades
