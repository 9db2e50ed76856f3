"""Pictures of images under their heat maps: in a report, and as files of `python -m common.predict --explain`."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from common.data.preparation import Pixels, PreparedPixels
from common.files import user_path, whole_file, writing
from common.prediction.images import HEAT_MAP, Prepared
from common.report.figures import INK, finish_tiles, name_row, shortened, show_image, tile, tile_image

# A heat map over an image, enlarged bilinearly.
_OVER: dict[str, Any] = {"alpha": 0.55, "interpolation": "bilinear"}


class Pictures:
    """A folder of pictures, one for each image: the image as the network sees it, under its heat map."""

    def __init__(self, folder: str, method: str):
        """Raises UserError if the folder cannot be made, before anything is computed."""
        self.folder, self.method = user_path(folder), method
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._taken: set[str] = set()

    def add(
        self,
        images: Sequence[Prepared],
        heat: Float[np.ndarray, "images rows columns"],
        best: Sequence[tuple[str, float]],
    ) -> None:
        """Writes NAME.heat.png for each image file NAME.*; a repeated name gets a number.

        best: the likeliest class of each image and its probability.
        """
        for image, values, (name, probability) in zip(images, heat, best, strict=True):
            title = f"{shortened(name)}, {probability:.1%}\n{self.method}"
            with whole_file(self.folder / self._free(image.file.name)) as fresh:
                figure(image.pixels, values, title).savefig(fresh, dpi=100)

    def _free(self, name: str) -> str:
        stem, _ = os.path.splitext(name)
        number, free = 1, stem + HEAT_MAP
        while free in self._taken:
            number += 1
            free = f"{stem}_{number}{HEAT_MAP}"
        self._taken.add(free)
        return free


def heat_maps(
    images: Sequence[Pixels], heat: Float[np.ndarray, "images rows columns"], titles: Sequence[str]
) -> Figure:
    """Three rows: images, their heat maps on the maps' own grid, and the same maps smoothed over the images."""
    ratio, count = images[0].shape[0] / images[0].shape[1], len(images)
    drawn = Figure(figsize=(0.5 + 1.3 * count, 0.6 + 3.9 * ratio), layout="constrained")
    axes = drawn.subplots()
    for column, (image, values, title) in enumerate(zip(images, heat, titles, strict=True)):
        scale = {"cmap": "inferno", "vmin": 0, "vmax": float(values.max()) or 1.0}
        tile_image(axes, 0, column, image)
        tile(axes, 1, column, values, ratio, **scale)
        tile_image(axes, 2, column, image)
        tile(axes, 2, column, values, ratio, **scale, **_OVER)
        axes.text(column + 0.5, -0.02, title, ha="center", va="bottom", fontsize=9, color=INK)
    for row, text in enumerate(("image", "own grid", "smoothed")):
        name_row(axes, row, 0, text, ratio)
    finish_tiles(axes, 3, count, ratio)
    return drawn


def figure(pixels: PreparedPixels, heat: Float[np.ndarray, "rows columns"], title: str) -> Figure:
    """The image with its heat map over it, enlarged bilinearly, from nothing (dark) to the map's largest value.

    Of a map that is 0 everywhere the title says so.
    """
    height, width = pixels.shape[:2]
    drawn = Figure(figsize=(3.6, 3.6 * height / width + 0.5), layout="constrained")
    axes = drawn.subplots()
    show_image(axes, pixels)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(heat, cmap="inferno", vmin=0, vmax=float(heat.max()) or 1.0, extent=extent, **_OVER)
    nothing = "" if heat.any() else ": no part speaks for it"
    axes.set_title(title + nothing, fontsize=10, color=INK)
    return drawn
