"""What a Vision Transformer looks at: attention, rollout, distances, position and patch embeddings.

`python -m vit.pictures --workdir=DIR` draws them for a trained run, on images of its test set; the report has them
too. Every number is made by a function that returns an array.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, UInt8
from matplotlib.figure import Figure

from common import trained
from common.figures import show_image
from common.trained import Run
from vit.embeddings import Grid, cross_axes, sincos2d
from vit.model import VisionTransformer

AnyArray = Array | np.ndarray
Attention = Float[AnyArray, "layers batch heads tokens tokens"]
Stored = UInt8[AnyArray, "batch height width channels"] | Float[AnyArray, "batch height width channels"]
Picture = tuple[str, str, Figure]  # title, caption, drawing

_SHOWN, _HEADS_SHOWN = 6, 8  # images and heads in pictures of attention
_MEASURED, _AT_ONCE = 128, 8  # images that distances are means of (Figure 11), and images of one call


@functools.partial(jax.jit, static_argnums=0)
def attention(
    module: VisionTransformer, variables: PyTree, images: Float[AnyArray, "batch height width channels"]
) -> Float[Array, "layers batch heads tokens tokens"]:
    """Every layer's and head's attention weights on images as the network is fed them; rows are queries."""
    _, state = module.apply(variables, images, train=False, mutable=["intermediates"])
    blocks = state["intermediates"]["Transformer"]
    if module.scan:
        return _kept(blocks["encoderblock"])
    return jnp.stack([_kept(blocks[f"encoderblock_{number}"]) for number in range(module.depth)])


def _kept(block: PyTree) -> Array:
    return block["MultiHeadDotProductAttention_0"]["attention"][0]


def pooled_attention(
    attention: Float[AnyArray, "*layers tokens tokens"], grid: Grid
) -> Float[AnyArray, "*layers rows columns"]:
    """What the classifier's input takes from each patch: the class token's row or, without one, the mean of all rows.

    The class token's attention to itself is left out, so that the sum over patches may be below 1.
    """
    prefix = attention.shape[-1] - grid[0] * grid[1]
    rows = attention[..., 0, prefix:] if prefix else attention.mean(axis=-2)
    return rows.reshape(*attention.shape[:-2], *grid)


def rollout(attention: Attention) -> Float[AnyArray, "batch tokens tokens"]:
    """How much of each input token reaches each output token (Abnar and Zuidema 2020; Figures 6 and 14).

    Heads are averaged, the residual connection counts as half identity, rows are normalised, and layers multiplied,
    the last from the left. Rows are output tokens and sum to 1.
    """
    layers = attention.mean(axis=2)
    layers = 0.5 * layers + 0.5 * np.eye(layers.shape[-1], dtype=layers.dtype)
    layers = layers / layers.sum(axis=-1, keepdims=True)
    total = layers[0]
    for layer in layers[1:]:
        total = layer @ total
    return total


def heat_map(
    patches: Float[AnyArray, "batch rows columns"], size: tuple[int, int]
) -> Float[Array, "batch height width"]:
    """Values of patches as images of `size` (height, width): bilinear, each image's largest value 1."""
    resized = jax.image.resize(jnp.asarray(patches), (len(patches), *size), "bilinear")
    return resized / jnp.maximum(resized.max(axis=(1, 2), keepdims=True), 1e-12)


def mean_attention_distance(attention: Attention, grid: Grid, patch_pixels: int) -> Float[np.ndarray, "layers heads"]:
    """Pixels between a patch and what it attends to, weighted by the attention; mean over images and patches.

    Figures 7 (right) and 11. The class token is left out on both sides and the rest of each row normalised.
    """
    patches = grid[0] * grid[1]
    weights = np.asarray(attention, np.float64)[..., -patches:, -patches:]
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return (weights * distances(grid, patch_pixels)).sum(axis=-1).mean(axis=(1, 3))


def measured_distance(run: Run, images: Stored) -> Float[np.ndarray, "layers heads"]:
    """`mean_attention_distance` of a run on the first 128 of some images, as stored."""
    module, images = run.classifier.module, images[:_MEASURED]
    grid = module.grid(images.shape[1:3])
    parts = [images[i : i + _AT_ONCE] for i in range(0, len(images), _AT_ONCE)]
    measured = [mean_attention_distance(_attention(run, part), grid, module.patch_pixels) for part in parts]
    return np.average(measured, axis=0, weights=[len(part) for part in parts])


def distances(grid: Grid, patch_pixels: int) -> Float[np.ndarray, "patches patches"]:
    """Pixels between the centres of each two patches, in raster order."""
    places = np.stack(np.mgrid[: grid[0], : grid[1]], axis=-1).reshape(-1, 2) * patch_pixels
    return np.linalg.norm(places[:, None] - places[None], axis=-1)


def position_similarity(
    table: Float[AnyArray, "1 tokens hidden"], grid: Grid
) -> Float[np.ndarray, "rows columns rows columns"]:
    """Cosine similarity of each two patches' position embeddings (Figure 7, centre)."""
    vectors = np.asarray(table, np.float64)[0, -grid[0] * grid[1] :]
    vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors @ vectors.T).reshape(*grid, *grid)


def patch_components(
    kernel: Float[AnyArray, "height width channels hidden"], count: int = 28
) -> Float[np.ndarray, "components height width channels"]:
    """The first principal components of the patch embedding's filters, of norm 1 (Figure 7, left: 28 of them)."""
    filters = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]).T
    _, _, components = np.linalg.svd(filters - filters.mean(axis=0), full_matrices=False)
    return components[:count].reshape(-1, *kernel.shape[:-1])


def position_table(module: VisionTransformer, params: PyTree, grid: Grid) -> Float[AnyArray, "1 tokens hidden"] | None:
    """What the network adds to the tokens of a grid of patches, None if nothing."""
    parameters = params["Transformer"].get("posembed_input", {})
    if module.position == "learned":
        return parameters["pos_embedding"]
    if module.position == "learned_2d":
        return cross_axes(parameters["x_embedding"], parameters["y_embedding"])[None]
    return sincos2d(grid, module.hidden_size)[None] if module.position == "sincos2d" else None


def pictures(run: Run, images: Stored, labels: Int[AnyArray, " batch"]) -> list[Picture]:
    """(title, caption, figure) for a report on a run, from some of its test images as stored."""
    module, params = run.classifier.module, run.variables["params"]
    grid = module.grid(images.shape[1:3])
    drawn = _attention_pictures(run, images, labels, grid)
    table = position_table(module, params, grid)
    if table is not None:
        similarity = position_similarity(table, grid)
        caption = _SIMILARITY.format(low=similarity.min())
        drawn.append(("Position embeddings", caption, _similarity_figure(similarity)))
    if module.stages is None:  # a hybrid's patches are of features
        components = patch_components(params["embedding"]["kernel"])
        drawn.append(("Patch embedding", _COMPONENTS.format(count=len(components)), _components_figure(components)))
    return drawn


_HEADS = (
    "What each head of the last layer takes from each patch for the classifier's input: the class token's row of the "
    "attention matrix or, with average pooling, the mean of all rows. Bright is most, for each picture by itself."
)
_ROLLOUT = (
    "How much of each patch reaches the classifier's input through all layers: heads averaged, half identity for the "
    "residual connection, layers multiplied (attention rollout, as in the paper's Figures 6 and 14)."
)
_DISTANCE = (
    "How far apart in the image a patch and what it attends to are, weighted by the attention: one point for each head "
    "and layer, mean over {count} images (the paper's Figures 7 and 11). The line is what attention to all patches "
    "alike would give."
)
_SIMILARITY = (
    "At each patch's place, the cosine similarity of its position embedding to those of all patches, from {low:.2f} "
    "(blue) to 1 (yellow) (the paper's Figure 7, centre)."
)
_COMPONENTS = "The first {count} principal components of the filters that embed a patch (the paper's Figure 7, left)."


def _attention_pictures(run: Run, images: Stored, labels: Int[AnyArray, " batch"], grid: Grid) -> list[Picture]:
    module, size = run.classifier.module, images.shape[1:3]
    shown = images[_one_of_each(np.asarray(labels))[:_SHOWN]]
    weights = _attention(run, shown)
    heads = pooled_attention(weights[-1], grid).swapaxes(0, 1)[:_HEADS_SHOWN]
    columns = {f"head {number}": heat_map(maps, size) for number, maps in enumerate(heads)}
    rolled = {"rollout": heat_map(pooled_attention(rollout(weights), grid), size)}
    distance = measured_distance(run, images)
    everywhere = float(distances(grid, module.patch_pixels).mean())
    return [
        ("Attention of the last layer", _HEADS, _maps_figure(shown, columns)),
        ("Attention rollout", _ROLLOUT, _maps_figure(shown, rolled)),
        (
            "Mean attention distance",
            _DISTANCE.format(count=min(len(images), _MEASURED)),
            _distance_figure(distance, everywhere),
        ),
    ]


def _attention(run: Run, images: Stored) -> Float[np.ndarray, "layers batch heads tokens tokens"]:
    return np.asarray(attention(run.classifier.module, run.variables, trained.network_input(run, jnp.asarray(images))))


def _one_of_each(labels: Int[np.ndarray, " batch"]) -> Int[np.ndarray, " batch"]:
    """Indices of the images, the first of each class before all others."""
    _, first = np.unique(labels, return_index=True)
    return np.concatenate([first, np.setdiff1d(np.arange(len(labels)), first)])


def _maps_figure(images: Stored, columns: dict[str, AnyArray]) -> Figure:
    """A row for each image: the image, then each column's map over it."""
    figure = Figure(figsize=(1.3 * (1 + len(columns)), 1.3 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), 1 + len(columns), squeeze=False)
    for row, image in enumerate(np.asarray(images)):
        for axes in grid[row]:
            show_image(axes, image)
        for axes, maps in zip(grid[row, 1:], columns.values(), strict=True):
            axes.imshow(np.asarray(maps[row]), cmap="inferno", vmin=0, vmax=1, alpha=0.75)
    for axes, name in zip(grid[0, 1:], columns, strict=True):
        axes.set_title(name, fontsize=9)
    return figure


def _distance_figure(distance: Float[np.ndarray, "layers heads"], everywhere: float) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    layers = np.arange(1, len(distance) + 1)
    for head in distance.T:
        axes.plot(layers, head, "o", color="#0072b2", markersize=4, alpha=0.7)
    axes.axhline(everywhere, color="#6b6b6b", lw=1, ls="--", label="attention to all patches alike")
    highest = 1.15 * max(distance.max(), everywhere)
    axes.set(xlabel="layer", ylabel="mean attention distance (pixels)", xticks=layers, ylim=(0, highest))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    return figure


def _similarity_figure(similarity: Float[np.ndarray, "rows columns rows columns"]) -> Figure:
    """At most 14 rows and columns of patches."""
    rows, columns = (np.unique(np.linspace(0, n - 1, min(n, 14)).astype(int)) for n in similarity.shape[:2])
    figure = Figure(figsize=(0.6 * len(columns), 0.6 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for index, axes in np.ndenumerate(grid):
        axes.imshow(similarity[rows[index[0]], columns[index[1]]], cmap="cividis", vmin=similarity.min(), vmax=1)
        axes.set_axis_off()
    return figure


def _components_figure(components: Float[np.ndarray, "components height width channels"]) -> Figure:
    columns = 7
    rows = -(-len(components) // columns)
    figure = Figure(figsize=(1.1 * columns, 1.1 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, component in zip(grid.flat, components, strict=False):
        low, high = component.min(), component.max()
        show_image(axes, np.uint8(255 * (component - low) / (high - low)))
    return figure


def main() -> None:
    """Write every picture of a trained run as a PNG file."""
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
    for title, _, figure in pictures(run, *pipeline.gather(test, np.arange(min(_MEASURED, len(test))))):
        path = out / f"{title.lower().replace(' ', '_')}.png"
        figure.savefig(path, dpi=150)
        print(path)


if __name__ == "__main__":
    from absl import flags

    from common import launch

    flags.DEFINE_string("workdir", None, "folder of a trained run")
    flags.DEFINE_string("out", None, "folder for the pictures; default WORKDIR/pictures")
    launch.run(main)
