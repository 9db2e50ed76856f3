"""Pictures of a trained Vision Transformer: attention, rollout, distances, position and patch embeddings.

`python -m vit.pictures --workdir=DIR` draws them for a run, on images of its test set; the report has them too.
`vit.analysis` has a function for every array in them.
"""

import pathlib
from typing import cast

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from common.report.figures import pixels, show_image
from common.run import trained
from common.run.trained import Run
from vit import analysis
from vit.analysis import MEASURED, AnyArray, Stored
from vit.embeddings import Grid
from vit.model import VisionTransformer

Picture = tuple[str, str, Figure]  # title, caption, drawing

_SHOWN, _HEADS_SHOWN = 6, 8  # images and heads in pictures of attention


def pictures(run: Run, images: Stored, labels: Int[AnyArray, " batch"]) -> list[Picture]:
    """(title, caption, figure) for a report on a run, from some of its test images as stored."""
    module, params = cast(VisionTransformer, run.classifier.module), run.variables["params"]
    grid = module.grid(images.shape[1:3])
    drawn = _attention_pictures(run, images, labels, grid)
    table = analysis.position_table(module, params, grid)
    if table is not None:
        similarity = analysis.position_similarity(table, grid)
        caption = _SIMILARITY.format(low=similarity.min())
        drawn.append(("Position embeddings", caption, _similarity_figure(similarity)))
    if module.stages is None:  # a hybrid's patches are of features
        components = analysis.patch_components(params["embedding"]["kernel"])
        drawn.append(("Patch embedding", _COMPONENTS.format(count=len(components)), _components_figure(components)))
    return drawn


_HEADS = (
    "Attention of each head of the last layer to each patch, as the classifier reads it: the class token's row of the "
    "attention matrix or, with average pooling, the mean of all rows. Colours are relative to each map's largest value."
)
_ROLLOUT = (
    "The share of each patch that reaches the classifier through all layers: heads averaged, half identity for the "
    "residual connection, layers multiplied (attention rollout). Below, each image is dimmed where its rollout is low, "
    "as in the paper's Figures 6 and 14."
)
_DISTANCE = (
    "Distance in the image between a patch and those it attends to, weighted by the attention: one point for each head "
    "and layer, averaged over {count} images (the paper's Figures 7 and 11). The line is the distance for uniform "
    "attention to all patches."
)
_SIMILARITY = (
    "One map for each patch: the cosine similarity of its position embedding to those of all patches, from {low:.2f} "
    "(blue) to 1 (yellow) (the paper's Figure 7, centre)."
)
_COMPONENTS = "The first {count} principal components of the filters that embed a patch (the paper's Figure 7, left)."


def _attention_pictures(run: Run, images: Stored, labels: Int[AnyArray, " batch"], grid: Grid) -> list[Picture]:
    module, size = cast(VisionTransformer, run.classifier.module), (images.shape[1], images.shape[2])
    chosen = one_of_each(np.asarray(labels))[:_SHOWN]
    shown, names = images[chosen], [run.info.class_names[label] for label in np.asarray(labels)[chosen]]
    weights = analysis.attention_of_run(run, shown)
    heads = analysis.pooled_attention(weights[-1], grid).swapaxes(0, 1)[:_HEADS_SHOWN]
    heads = np.stack([analysis.heat_map(maps, size) for maps in heads])
    rolled = np.asarray(analysis.heat_map(analysis.pooled_attention(analysis.rollout(weights), grid), size))
    distance = analysis.measured_distance(run, images)
    everywhere = float(analysis.distances(grid, module.patch_pixels).mean())
    return [
        ("Attention of the last layer", _HEADS, _heads_figure(shown, names, heads)),
        ("Attention rollout", _ROLLOUT, _rollout_figure(shown, names, rolled)),
        (
            "Mean attention distance",
            _DISTANCE.format(count=min(len(images), MEASURED)),
            _distance_figure(distance, everywhere),
        ),
    ]


def one_of_each(labels: Int[np.ndarray, " batch"]) -> Int[np.ndarray, " batch"]:
    """Indices of images with these labels: the first of each class, then all others."""
    _, first = np.unique(labels, return_index=True)
    return np.concatenate([first, np.setdiff1d(np.arange(len(labels)), first)])


def _heads_figure(images: Stored, names: list[str], heads: Float[np.ndarray, "heads batch height width"]) -> Figure:
    """A row for each image: the image, then each head's attention."""
    figure = Figure(figsize=(1.3 * (1 + len(heads)) + 0.8, 1.4 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), 1 + len(heads), squeeze=False)
    for row, (image, name) in enumerate(zip(np.asarray(images), names, strict=True)):
        show_image(grid[row, 0], image)
        grid[row, 0].set_title(name, fontsize=9)
        for axes, maps in zip(grid[row, 1:], heads, strict=True):
            drawn = _show_map(axes, maps[row])
    for number, axes in enumerate(grid[0, 1:]):
        axes.set_title(f"head {number}", fontsize=9)
    figure.colorbar(drawn, ax=grid, shrink=0.4, label="relative attention")
    return figure


def _rollout_figure(images: Stored, names: list[str], rolled: Float[np.ndarray, "batch height width"]) -> Figure:
    """A column for each image: the image, its rollout, and the image dimmed by its rollout."""
    figure = Figure(figsize=(1.3 * len(images) + 0.8, 1.3 * 3 + 0.2), layout="constrained")
    grid = figure.subplots(3, len(images), squeeze=False)
    for column, image, name, share in zip(grid.T, np.asarray(images), names, rolled, strict=True):
        show_image(column[0], image)
        column[0].set_title(name, fontsize=9)
        drawn = _show_map(column[1], share)
        shades = pixels(image)
        share = share.reshape(share.shape + (1,) * (shades.ndim - 2))
        column[2].imshow(np.uint8(shades * share), cmap="gray", vmin=0, vmax=255)
        column[2].set_axis_off()
    figure.colorbar(drawn, ax=grid[1], label="relative rollout")
    return figure


def _show_map(axes: Axes, values: Float[np.ndarray, "height width"]) -> AxesImage:
    """Values from 0 to 1 as colours, without a frame."""
    axes.set_axis_off()
    return axes.imshow(values, cmap="inferno", vmin=0, vmax=1)


def _distance_figure(distance: Float[np.ndarray, "layers heads"], everywhere: float) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    layers = np.arange(1, len(distance) + 1)
    for number, head in enumerate(distance.T):
        axes.plot(layers, head, "o", color="#0072b2", markersize=4, alpha=0.7, label="" if number else "one head")
    axes.axhline(everywhere, color="#6b6b6b", lw=1, ls="--", label="uniform attention")
    highest = 1.15 * max(distance.max(), everywhere) or 1.0  # with a single patch all distances are 0
    axes.set(xlabel="layer", ylabel="mean attention distance (pixels)", xticks=layers, ylim=(0, highest))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    return figure


def _similarity_figure(similarity: Float[np.ndarray, "rows columns rows columns"]) -> Figure:
    """The maps of at most 14 rows and columns of patches, as one image with gaps; an axes for each would be slow."""
    height, width = similarity.shape[:2]
    rows, columns = (np.unique(np.linspace(0, n - 1, min(n, 14)).astype(int)) for n in (height, width))
    maps = np.pad(similarity[np.ix_(rows, columns)], ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    mosaic = maps.swapaxes(1, 2).reshape(len(rows) * (height + 1), len(columns) * (width + 1))[:-1, :-1]
    side = max(0.6, 3 / len(rows))
    figure = Figure(figsize=(side * len(columns) + 1.4, side * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(mosaic, cmap="cividis", vmin=similarity.min(), vmax=1, interpolation="nearest")
    for axis, shown, size in ((axes.xaxis, columns, width), (axes.yaxis, rows, height)):
        axis.set_ticks(np.arange(len(shown)) * (size + 1) + (size - 1) / 2, shown + 1)
    axes.set(xlabel="column of the patch", ylabel="row of the patch")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(drawn, shrink=0.6, label="cosine similarity")
    return figure


def _components_figure(components: Float[np.ndarray, "components height width channels"]) -> Figure:
    columns = 7
    rows = -(-len(components) // columns)
    figure = Figure(figsize=(1.1 * columns, 1.25 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (axes, component) in enumerate(zip(grid.flat, components, strict=False), 1):
        low, high = component.min(), component.max()
        show_image(axes, (255 * (component - low) / (high - low)).astype(np.uint8))
        axes.set_title(number, fontsize=8)
    return figure


def main() -> None:
    """Writes every picture of a trained run as a PNG file."""
    from absl import flags

    from common.data import datasets, pipeline
    from common.errors import UserError

    if not flags.FLAGS.workdir:
        raise UserError("--workdir is missing; for example --workdir=runs/vit_digits")
    folder = pathlib.Path(flags.FLAGS.workdir).expanduser()
    run = trained.load(folder)
    if not isinstance(run.classifier.module, VisionTransformer):
        raise UserError(f"{folder} holds a '{run.config.model.family}' network; these pictures are of 'vit' networks")
    test = datasets.load(run.config.data).test
    out = pathlib.Path(flags.FLAGS.out or folder / "pictures").expanduser()
    out.mkdir(parents=True, exist_ok=True)
    for title, _, figure in pictures(run, *pipeline.gather(test, np.arange(min(MEASURED, len(test))))):
        path = out / f"{title.lower().replace(' ', '_')}.png"
        figure.savefig(path, dpi=150)
        print(path)


if __name__ == "__main__":
    from absl import flags

    from common import launch

    flags.DEFINE_string("workdir", None, "folder of a trained run")
    flags.DEFINE_string("out", None, "folder for the pictures; default WORKDIR/pictures")
    launch.run(main)
