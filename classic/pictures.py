"""The figures of a classic run's report: functions from data to a matplotlib `Figure`."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Circle

from classic import corners
from classic.descriptors.enlarge import enlarged, grey
from classic.descriptors.sift import Keypoint
from common.data.preparation import Pixels
from common.report.figures import GREY, INK, TEST, TRAIN, shortened, show_image

_HEIGHT = 128  # pixels that small images are enlarged to before corners are found in them
_CORNERS = 40  # the strongest of an image


def enlargement(image: Pixels) -> int:
    """The factor by which an image is enlarged before corners and keypoints are found in it."""
    return max(_HEIGHT // min(image.shape[:2]), 1)


def points(
    images: Sequence[Pixels],
    keypoints: Sequence[Sequence[Keypoint]],
    titles: Sequence[str],
) -> Figure:
    """Images with Harris corners, the eigenvalues of their structure tensors, and SIFT keypoints, in three rows.

    keypoints: in pixels of the images enlarged by `enlargement`. In the second row the larger eigenvalue is blue and
    the smaller red, so edges are blue, corners violet to red, and flat regions black.
    """
    figure = Figure(figsize=(1.1 + 1.75 * len(images), 5.7), layout=ConstrainedLayoutEngine(wspace=0.03, hspace=0.03))
    grid = figure.subplots(3, len(images), squeeze=False)
    for column, (image, found, title) in enumerate(zip(images, keypoints, titles, strict=True)):
        large = enlarged(image[None], enlargement(image))
        brightness = grey(large)[0]
        for axes in grid[:, column]:
            show_image(axes, large[0])
        at = corners.corners(brightness, "harris", most=_CORNERS, radius=2)
        grid[0, column].plot(at[:, 1], at[:, 0], "+", color=TRAIN, ms=6, mew=1.4)
        grid[0, column].set_title(shortened(title), fontsize=10.5, weight="bold", color=INK)
        grid[1, column].imshow(_eigenvalue_colours(brightness))
        for point in found:
            _draw_keypoint(grid[2, column], point)
    for axes, text in zip(grid[:, 0], ("Harris corners", "eigenvalues", "SIFT keypoints"), strict=True):
        axes.text(
            -0.06, 0.5, text, transform=axes.transAxes, rotation=90, va="center", ha="right", fontsize=10, color=GREY
        )
    return figure


def _eigenvalue_colours(image: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """The square roots of the eigenvalues as colours, each on the image's own scale."""
    values = np.sqrt(corners.eigenvalues(corners.structure_tensor(image.astype(np.float32) / 255)))
    large, small = (values[..., i] / (values[..., i].max() or 1.0) for i in (0, 1))
    return np.stack([small, small * 0.25, large], axis=-1)


def _draw_keypoint(axes: Axes, point: Keypoint) -> None:
    axes.add_patch(Circle((point.x, point.y), point.size / 2, fill=False, ec=TRAIN, lw=1.2))
    turn = np.deg2rad(point.angle)
    end = point.x + point.size / 2 * np.cos(turn), point.y + point.size / 2 * np.sin(turn)
    axes.plot([point.x, end[0]], [point.y, end[1]], color=TRAIN, lw=1.2)


def vocabulary(patches: Sequence[Sequence[Pixels]]) -> Figure:
    """Patches of images, a column for each word."""
    rows = max(map(len, patches))
    figure = Figure(
        figsize=(0.58 * len(patches) + 0.2, 0.58 * rows + 0.2),
        layout=ConstrainedLayoutEngine(wspace=0.02, hspace=0.02, w_pad=0.02, h_pad=0.02),
    )
    grid = figure.subplots(rows, len(patches), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for column, of_word in enumerate(patches):
        for row, patch in enumerate(of_word):
            show_image(grid[row, column], patch)
    return figure


def evidence(
    images: Sequence[Pixels], maps: Sequence[Float[np.ndarray, "rows columns"]], titles: Sequence[str]
) -> Figure:
    """Images above maps of what spoke for a class (red) and against it (blue), each map on its own scale."""
    figure = Figure(figsize=(1.1 + 1.7 * len(images), 4.1), layout=ConstrainedLayoutEngine(wspace=0.04, hspace=0.03))
    grid = figure.subplots(2, len(images), squeeze=False)
    for (above, below), image, values, title in zip(grid.T, images, maps, titles, strict=True):
        show_image(above, image)
        above.set_title(shortened(title), fontsize=10.5, weight="bold", color=INK)
        largest = float(np.abs(values).max()) or 1.0
        height, width = image.shape[:2]
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        show_image(below, image)
        below.imshow(
            values, cmap="RdBu_r", vmin=-largest, vmax=largest, extent=extent, alpha=0.75, interpolation="bilinear"
        )
        ends = f"{values.min():.2g} to {values.max():.2g}"
        below.text(0.5, -0.04, ends, transform=below.transAxes, ha="center", va="top", fontsize=8.5, color=GREY)
    return figure


def costs(names: Sequence[str], seconds: Sequence[float], speeds: Sequence[str]) -> Figure:
    """Bars of the time that each stage took, with its speed."""
    figure = Figure(figsize=(9.6, 0.34 * len(names) + 0.7), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(names)), seconds, color=TEST, height=0.7)
    for place, (taken, speed) in enumerate(zip(seconds, speeds, strict=True)):
        axes.text(taken, place, f" {taken:,.1f} s{speed}", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="seconds", xlim=(0, 1.35 * max(seconds) or 1), ylim=(len(names) - 0.5, -0.5))
    axes.spines[["top", "right"]].set_visible(False)
    return figure
