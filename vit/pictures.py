"""Pictures of a trained Vision Transformer: attention, rollout, distances, position and patch embeddings.

`python -m vit.pictures --workdir=DIR` draws them for a run, on images of its test set; the report has them too.
`vit.analysis` has a function for every array in them.
"""

from typing import Any, cast

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from common.data.preparation import Pixels
from common.report.figures import finish_tiles, name_row, pixels, shortened, show_image, tile, tile_image
from common.run import trained
from common.run.trained import Run
from vit import analysis
from vit.analysis import MEASURED, AnyArray, Stored
from vit.embeddings import Grid
from vit.model import VisionTransformer

Picture = tuple[str, str, Figure]  # title, caption, drawing

_SHOWN, _HEADS_SHOWN = 6, 8  # images of rollouts, and heads in pictures of attention
_IMAGES_OF_HEADS = 4
_MAP: dict[str, Any] = {"cmap": "inferno", "vmin": 0, "vmax": 1}


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
    if module.stages is None:  # a hybrid's patches come from features, not from pixels
        components = analysis.patch_components(params["embedding"]["kernel"])
        drawn.append(("Patch embedding", _COMPONENTS.format(count=len(components)), _components_figure(components)))
    return drawn


def feature_maps(
    run: Run, inputs: Float[AnyArray, "1 height width channels"]
) -> list[tuple[str, Float[np.ndarray, "rows columns hidden"]]]:
    """The patches' embeddings and the output of every block for an image, as maps on the grid of patches."""
    maps = np.asarray(analysis.token_maps(run.classifier.module, run.variables, inputs))[:, 0]
    return [("embedding" if number == 0 else f"block {number}", values) for number, values in enumerate(maps)]


_HEADS = (
    "Attention of each head of the last layer to each patch, as the classifier reads it: the class token's row of the "
    "attention matrix or, with average pooling, the mean of all rows. The first row of an image has the attention on "
    "its own grid of {rows}×{columns} patches, the second the same values smoothed to the image's size. Colours are "
    "relative to each map's largest value."
)
_ROLLOUT = (
    "Each patch's share in what reaches the classifier through all layers: heads averaged, half identity for the "
    "residual connection, layers multiplied (attention rollout). The second row shows it on its own grid of "
    "{rows}×{columns} patches, the third smoothed to the image's size. Below, each image is dimmed where its smoothed "
    "rollout is low, as in the paper's Figures 6 and 14."
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
    module = cast(VisionTransformer, run.classifier.module)
    chosen = one_of_each(np.asarray(labels))[:_SHOWN]
    shown, names = images[chosen], [shortened(run.info.class_names[label]) for label in np.asarray(labels)[chosen]]
    weights = analysis.attention_of_run(run, shown)
    heads = np.asarray(analysis.pooled_attention(weights[-1], grid))[:_IMAGES_OF_HEADS, :_HEADS_SHOWN]
    rolled = np.asarray(analysis.pooled_attention(analysis.rollout(weights), grid))
    facts = {"rows": grid[0], "columns": grid[1]}
    distance = analysis.measured_distance(run, images)
    everywhere = float(analysis.distances(grid, module.patch_pixels).mean())
    return [
        ("Attention of the last layer", _HEADS.format(**facts), _heads_figure(shown[: len(heads)], names, heads)),
        ("Attention rollout", _ROLLOUT.format(**facts), _rollout_figure(shown, names, rolled)),
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


def _heads_figure(images: Stored, names: list[str], heads: Float[np.ndarray, "batch heads rows columns"]) -> Figure:
    """Two rows for each image: the image and each head's attention on its own grid, then the attention smoothed."""
    count, between = heads.shape[1], 2.3  # rows from one image to the next, with room for its name
    ratio = images.shape[1] / images.shape[2]
    figure = Figure(figsize=(1.3 * (1 + count) + 1.2, 1.25 * between * ratio * len(images) + 0.4), layout="constrained")
    axes = figure.subplots()
    for number, (image, name, maps) in enumerate(zip(np.asarray(images), names, heads, strict=False)):
        own = between * number
        tile_image(axes, own, 0, image)
        axes.text(0.5, own * ratio, name, ha="center", va="bottom", fontsize=9)
        for column, (values, smooth) in enumerate(zip(_relative(maps), _smoothed(maps, image), strict=True)):
            tile(axes, own, 1.2 + column, values, ratio, **_MAP)
            drawn = tile(axes, own + 1, 1.2 + column, smooth, ratio, **_MAP)
        name_row(axes, own, 1.2, "own grid", ratio)
        name_row(axes, own + 1, 1.2, "smoothed", ratio)
    for number in range(count):
        axes.text(1.7 + number, 0, f"head {number}", ha="center", va="bottom", fontsize=9)
    finish_tiles(axes, between * len(images), 1.2 + count, ratio)
    figure.colorbar(drawn, ax=axes, shrink=0.4, label="relative attention")
    return figure


def _rollout_figure(images: Stored, names: list[str], rolled: Float[np.ndarray, "batch rows columns"]) -> Figure:
    """A column for each image: the image, its rollout on its own grid and smoothed, and the image dimmed by it."""
    ratio = images.shape[1] / images.shape[2]
    figure = Figure(figsize=(1.3 * len(images) + 1.2, 5.2 * ratio + 0.4), layout="constrained")
    axes = figure.subplots()
    for column, (image, name, share) in enumerate(zip(np.asarray(images), names, rolled, strict=True)):
        tile_image(axes, 0, column, image)
        axes.text(column + 0.5, 0, name, ha="center", va="bottom", fontsize=9)
        tile(axes, 1, column, _relative(share[None])[0], ratio, **_MAP)
        smooth = _smoothed(share[None], image)[0]
        drawn = tile(axes, 2, column, smooth, ratio, **_MAP)
        shades = pixels(image)
        dimmed = (shades * smooth.reshape(smooth.shape + (1,) * (shades.ndim - 2))).astype(np.uint8)
        tile(axes, 3, column, dimmed, ratio, cmap="gray", vmin=0, vmax=255)
    for row, text in enumerate(("image", "own grid", "smoothed", "dimmed")):
        name_row(axes, row, 0, text, ratio)
    finish_tiles(axes, 4, len(images), ratio)
    figure.colorbar(drawn, ax=axes, label="relative rollout", shrink=0.5)
    return figure


def _relative(maps: Float[np.ndarray, "maps rows columns"]) -> Float[np.ndarray, "maps rows columns"]:
    """Maps divided by their largest values."""
    return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-12)


def _smoothed(maps: Float[np.ndarray, "maps rows columns"], image: Pixels) -> Float[np.ndarray, "maps height width"]:
    """Maps at the image's size, divided by their largest values."""
    return np.asarray(analysis.heat_map(maps, (image.shape[0], image.shape[1])))


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
        show_image(axes, component)
        axes.set_title(number, fontsize=8)
    return figure


def main() -> None:
    """Writes every picture of a trained run as a PNG file."""
    from absl import flags

    from common.data import datasets, pipeline
    from common.errors import UserError
    from common.files import user_path, whole_file, writing

    if not flags.FLAGS.workdir:
        raise UserError("--workdir is missing; for example --workdir=runs/vit_digits")
    folder = user_path(flags.FLAGS.workdir)
    run = trained.load(folder)
    if not isinstance(run.classifier.module, VisionTransformer):
        raise UserError(f"{folder} holds a '{run.config.model.family}' network; these pictures are of 'vit' networks")
    out = user_path(flags.FLAGS.out or folder / "pictures")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    test = datasets.load_test(run.config.data, known=run.info)
    for title, _, figure in pictures(run, *pipeline.gather(test, np.arange(min(MEASURED, len(test))))):
        path = out / f"{title.lower().replace(' ', '_')}.png"
        with whole_file(path) as file:
            figure.savefig(file, format="png", dpi=150)
        print(path)


if __name__ == "__main__":
    from absl import flags

    from common import launch

    flags.DEFINE_string("workdir", None, "folder of a trained run")
    flags.DEFINE_string("out", None, "folder for the pictures; default WORKDIR/pictures")
    launch.run(main)
