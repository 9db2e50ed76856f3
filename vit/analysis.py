"""Numbers behind the pictures of a Vision Transformer: attention, rollout, distances and embeddings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PyTree, UInt8

from common.run import trained
from common.run.trained import Run
from vit.embeddings import Grid, PatchEmbedding, cross_axes, sincos2d
from vit.model import EncoderBlock, VisionTransformer

AnyArray = Array | np.ndarray
Attention = Float[AnyArray, "layers batch heads tokens tokens"]
Stored = UInt8[AnyArray, "batch height width channels"] | Float[AnyArray, "batch height width channels"]

MEASURED, _AT_ONCE = 128, 8  # images that distances are averaged over (Figure 11), and images in one call


@functools.partial(jax.jit, static_argnums=0)
def attention(
    module: VisionTransformer, variables: PyTree, images: Float[AnyArray, "batch height width channels"]
) -> Float[Array, "layers batch heads tokens tokens"]:
    """The attention weights of every layer and head on images that are ready for the network; rows are queries."""
    _, state = module.apply(variables, images, train=False, mutable=["intermediates"])
    blocks = state["intermediates"]["Transformer"]
    if module.scan:
        return _kept(blocks["encoderblock"])
    return jnp.stack([_kept(blocks[f"encoderblock_{number}"]) for number in range(module.depth)])


@functools.partial(jax.jit, static_argnums=0)
def token_maps(
    module: VisionTransformer, variables: PyTree, images: Float[AnyArray, "batch height width channels"]
) -> Float[Array, "layers batch rows columns hidden"]:
    """The embeddings of the patches, then every block's output for them, on the patches' grid.

    `images` are ready for the network. The class token, if there is one, is left out.
    """
    _, state = module.apply(variables, images, capture_intermediates=_is_block, mutable=["intermediates"])
    kept = state["intermediates"]
    embedded, blocks = kept["embedding"]["__call__"][0], kept["Transformer"]
    if module.scan:
        outputs = blocks["encoderblock"]["__call__"][0]
    else:
        outputs = jnp.stack([blocks[f"encoderblock_{number}"]["__call__"][0] for number in range(module.depth)])
    patches = embedded.shape[1] * embedded.shape[2]
    outputs = outputs[:, :, -patches:].reshape(-1, *embedded.shape)
    return jnp.concatenate([embedded[None], outputs]).astype(jnp.float32)


def _is_block(module: nn.Module, method: str) -> bool:
    return method == "__call__" and isinstance(module, EncoderBlock | PatchEmbedding)


def _kept(block: PyTree) -> Array:
    return block["MultiHeadDotProductAttention_0"]["attention"][0]


def attention_of_run(run: Run, images: Stored) -> Float[np.ndarray, "layers batch heads tokens tokens"]:
    """`attention` of a trained run on images as the dataset stores them."""
    return np.asarray(attention(run.classifier.module, run.variables, trained.network_input(run, jnp.asarray(images))))


def pooled_attention(
    attention: Float[AnyArray, "*layers tokens tokens"], grid: Grid
) -> Float[AnyArray, "*layers rows columns"]:
    """The attention that the classifier's input pays to each patch: the class token's row or, without one, the mean.

    The class token's attention to itself is left out, so the sum over patches may be below 1.
    """
    prefix = attention.shape[-1] - grid[0] * grid[1]
    rows = attention[..., 0, prefix:] if prefix else attention.mean(axis=-2)
    return rows.reshape(*attention.shape[:-2], *grid)


def rollout(attention: Attention) -> Float[AnyArray, "batch tokens tokens"]:
    """The share of each input token in each output token (Abnar and Zuidema 2020; Figures 6 and 14).

    Heads are averaged, the residual connection counts as half identity, rows are normalised, and each layer is
    multiplied from the left. Rows are output tokens and sum to 1.
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
    """Values of patches resized to images of `size` (height, width), bilinearly; each image's largest value is 1."""
    resized = jax.image.resize(jnp.asarray(patches), (len(patches), *size), "bilinear")
    return resized / jnp.maximum(resized.max(axis=(1, 2), keepdims=True), 1e-12)


def mean_attention_distance(attention: Attention, grid: Grid, patch_pixels: int) -> Float[np.ndarray, "layers heads"]:
    """The attention-weighted distance in pixels from a patch to the others, averaged over images and patches.

    Figures 7 (right) and 11. The class token is left out as query and as key, and each row is normalised again.
    """
    patches = grid[0] * grid[1]
    weights = np.asarray(attention, np.float64)[..., -patches:, -patches:]
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return (weights * distances(grid, patch_pixels)).sum(axis=-1).mean(axis=(1, 3))


def measured_distance(run: Run, images: Stored) -> Float[np.ndarray, "layers heads"]:
    """`mean_attention_distance` of a run on the first 128 of these images."""
    module, images = run.classifier.module, images[:MEASURED]
    grid = module.grid(images.shape[1:3])
    parts = [images[i : i + _AT_ONCE] for i in range(0, len(images), _AT_ONCE)]
    measured = [mean_attention_distance(attention_of_run(run, part), grid, module.patch_pixels) for part in parts]
    return np.average(measured, axis=0, weights=[len(part) for part in parts])


def distances(grid: Grid, patch_pixels: int) -> Float[np.ndarray, "patches patches"]:
    """Distances in pixels between the centres of all pairs of patches, in raster order."""
    places = np.moveaxis(np.mgrid[: grid[0], : grid[1]], 0, -1).reshape(-1, 2) * patch_pixels
    return np.linalg.norm(places[:, None] - places[None], axis=-1)


def position_similarity(
    table: Float[AnyArray, "1 tokens hidden"], grid: Grid
) -> Float[np.ndarray, "rows columns rows columns"]:
    """Cosine similarities of the position embeddings of all pairs of patches (Figure 7, centre)."""
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
    """The position embeddings that the network adds to the tokens of a grid of patches; None if it adds none."""
    parameters = params["Transformer"].get("posembed_input", {})
    if module.position == "learned":
        return parameters["pos_embedding"]
    if module.position == "learned_2d":
        return cross_axes(parameters["x_embedding"], parameters["y_embedding"])[None]
    return sincos2d(grid, module.hidden_size)[None] if module.position == "sincos2d" else None
