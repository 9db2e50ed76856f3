"""Tokens of an image: linear patch embedding (equation 1) and position embeddings (section 3.1, appendix D.4)."""

import math

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from common.errors import UserError

POSITIONS = ("learned", "learned_2d", "sincos2d", "none")
Grid = tuple[int, int]  # rows and columns of patches
_normal = nn.initializers.normal(0.02)


class PatchEmbedding(nn.Module):
    """Each flattened patch times E: a convolution whose stride is its kernel size, computed as a matrix product.

    patch_size: side of a patch, which divides the height and the width. features: hidden size D.
    """

    features: int
    patch_size: int
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns features"]:
        """One vector for each patch."""
        batch, height, width, channels = images.shape
        size = self.patch_size
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (size, size, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        rows, columns = height // size, width // size
        patches = images.astype(self.dtype).reshape(batch, rows, size, columns, size, channels)
        patches = patches.swapaxes(2, 3).reshape(batch, rows, columns, size * size * channels)
        return patches @ kernel.reshape(-1, self.features).astype(self.dtype) + bias.astype(self.dtype)


class PositionEmbedding(nn.Module):
    """Adds to each token a vector for its position.

    kind: 'learned' is the paper's, one vector for each token in raster order, the class token's first; 'learned_2d'
        is appendix D.4's, half a vector for each column and half for each row; 'sincos2d' is fixed (see `sincos2d`);
        'none' adds nothing. Only 'learned' has an entry for the class token. The other kinds need none, because the
        class token is itself a learned vector.
    """

    kind: str = "learned"

    @nn.compact
    def __call__(self, tokens: Float[Array, "batch tokens hidden"], grid: Grid) -> Float[Array, "batch tokens hidden"]:
        """Tokens with positions; the last ones are the patches of the `grid` in raster order."""
        _, count, hidden = tokens.shape
        if self.kind == "none":
            return tokens
        if self.kind == "learned":
            return tokens + self.param("pos_embedding", _normal, (1, count, hidden)).astype(tokens.dtype)
        if self.kind == "learned_2d":
            across = self.param("x_embedding", _normal, (grid[1], hidden // 2))
            down = self.param("y_embedding", _normal, (grid[0], hidden // 2))
            table = cross_axes(across, down)
        else:
            table = jnp.asarray(sincos2d(grid, hidden), jnp.float32)
        table = jnp.pad(table, ((count - len(table), 0), (0, 0)))
        return tokens + table.astype(tokens.dtype)


def cross_axes(across: Float[Array, "columns half"], down: Float[Array, "rows half"]) -> Float[Array, "patches hidden"]:
    """The vector of each patch's column followed by that of its row, in raster order of the patches."""
    rows, columns, half = len(down), len(across), across.shape[-1]
    across = jnp.broadcast_to(across[None], (rows, columns, half))
    down = jnp.broadcast_to(down[:, None], (rows, columns, half))
    return jnp.concatenate([across, down], axis=-1).reshape(rows * columns, 2 * half)


def sincos2d(grid: Grid, hidden: int, temperature: float = 10_000.0) -> Float[np.ndarray, "patches {hidden}"]:
    """(sin(x w), cos(x w), sin(y w), cos(y w)) of each patch's column x and row y, in raster order.

    The hidden // 4 frequencies are w_i = temperature^(-i / (hidden / 4 - 1)) (Beyer, Zhai, Kolesnikov 2022).
    """
    y, x = np.mgrid[: grid[0], : grid[1]].reshape(2, -1, 1)
    frequencies = temperature ** -np.linspace(0.0, 1.0, hidden // 4)
    return np.concatenate(
        [np.sin(x * frequencies), np.cos(x * frequencies), np.sin(y * frequencies), np.cos(y * frequencies)], axis=1
    )


def resize_positions(
    table: Float[np.ndarray, "1 tokens hidden"], old_grid: Grid, new_grid: Grid, prefix_tokens: int = 1
) -> Float[np.ndarray, "1 new_tokens hidden"]:
    """Position embeddings of a grid of patches, interpolated to another grid (section 3.2).

    Interpolation is bilinear, with the corners of both grids aligned. The first `prefix_tokens` entries, such as the
    class token's, stay as they are; the others are in raster order. Raises UserError for a table that does not fit
    `old_grid`.
    """
    tokens, hidden = table.shape[1:]
    if tokens != prefix_tokens + math.prod(old_grid):
        raise UserError(
            f"{tokens} position embeddings do not fit {prefix_tokens} and a grid of {old_grid[0]}x{old_grid[1]} patches"
        )
    prefix, patches = np.split(table[0].astype(np.float64), [prefix_tokens])
    down, across = (interpolation(old, new) for old, new in zip(old_grid, new_grid, strict=True))
    resized = np.einsum("ir,rch,jc->ijh", down, patches.reshape(*old_grid, hidden), across)
    return np.concatenate([prefix, resized.reshape(-1, hidden)])[None].astype(table.dtype)


def interpolation(old: int, new: int) -> Float[np.ndarray, "{new} {old}"]:
    """The matrix of linear interpolation from `old` to `new` points; the first points coincide, and so do the last."""
    places = np.linspace(0, old - 1, new)
    return np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(old)))
