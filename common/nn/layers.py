"""Layers that several families share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, PyTree

from common.devices import pooling
from common.errors import UserError

Images = Float[Array, "batch height width channels"]
Pooled = Float[Array, "batch out_height out_width channels"]
Padding = tuple[int, int]


def local_response_norm(
    x: Float[Array, "*batch channels"],
    *,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    divide_by_size: bool = False,
) -> Float[Array, "*batch channels"]:
    """Each activation divided by (k + alpha * sum of squares over `size` neighbouring channels)^beta.

    Krizhevsky 2012, section 3.3: the window of channel i is i - (size - 1) / 2 .. i + (size - 1) / 2, cut off at
    the first and last channel. `divide_by_size` divides alpha by `size`, as in the author's code, Caffe and PyTorch
    but not in the printed formula. Computed in float32, returned in the type of `x`. Differentiable in reverse mode
    only. Raises ValueError for an even `size`, which has no middle.
    """
    if size % 2 == 0:
        raise ValueError(f"a window of {size} channels has no middle; expected an odd size")
    alpha = alpha / size if divide_by_size else alpha
    return _normalize(x.astype(jnp.float32), size, alpha, beta, k).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _normalize(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    """The equation itself: x * scale^-beta with scale = k + alpha * window(x^2)."""
    return x * _inverse_power(k + alpha * _window_sum(x * x, size), beta)


def _normalize_forward(x: Array, size: int, alpha: float, beta: float, k: float) -> tuple[Array, Array]:
    return _normalize(x, size, alpha, beta, k), x


def _normalize_backward(size: int, alpha: float, beta: float, k: float, x: Array, gradient: Array) -> tuple[Array]:
    """dL/dx_i = g_i s_i^-beta - 2 alpha beta x_i * window(g_j x_j s_j^(-beta - 1)), since the window is symmetric.

    The scale is computed again, which is cheaper than writing it to memory and reading it back.
    """
    scale = k + alpha * _window_sum(x * x, size)
    direct = gradient * _inverse_power(scale, beta)
    return (direct - 2 * alpha * beta * x * _window_sum(x * direct / scale, size),)


_normalize.defvjp(_normalize_forward, _normalize_backward)


def _window_sum(values: Array, size: int) -> Array:
    """Sum over `size` channels around each: shifted slices, which XLA fuses into one pass over memory."""
    channels, half = values.shape[-1], size // 2
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(half, half)])
    slices = [jax.lax.slice_in_dim(padded, i, i + channels, axis=-1) for i in range(size)]
    return functools.reduce(jnp.add, slices)


def _inverse_power(scale: Array, beta: float) -> Array:
    """scale^-beta; the papers' 3/4 is computed with roots, several times faster than a general power on CPUs."""
    if beta == 0.75:
        root = jax.lax.rsqrt(scale)
        return root * jnp.sqrt(root)
    return scale**-beta


def ceil_padding(size: int, window: int, stride: int) -> Padding:
    """The padding (before, after) that lets windows cover all of `size` pixels: the 'ceil' rule of Caffe's pooling."""
    count = max(-(-(size - window) // stride), 0) + 1
    return 0, max((count - 1) * stride + window - size, 0)


def max_pool(images: Images, window: int, stride: int, padding: tuple[Padding, Padding] = ((0, 0), (0, 0))) -> Pooled:
    """The largest value in each window of `window` x `window` pixels; padding (rows, columns) never wins."""
    return pooling.max_pool(images, window, stride, padding)


def ceil_max_pool(images: Images, window: int, stride: int) -> Pooled:
    """Max pooling whose last windows may extend beyond the edge, to cover every pixel: see `ceil_padding`."""
    rows, columns = (ceil_padding(length, window, stride) for length in images.shape[1:3])
    return max_pool(images, window, stride, (rows, columns))


def adaptive_average_pool(images: Images, size: int) -> Pooled:
    """Means over size x size bins that cover an image of any size, as in PyTorch's layer of that name.

    Bin i covers rows floor(i H / size) to ceil((i + 1) H / size); if H is not a multiple, bins overlap or repeat.
    """
    if images.shape[1:3] == (size, size):
        return images
    rows, columns = (jnp.asarray(_bin_weights(length, size), images.dtype) for length in images.shape[1:3])
    return jnp.einsum("ih,bhwc,jw->bijc", rows, images, columns)


def _bin_weights(length: int, bins: int) -> np.ndarray:
    """[bins, length]: the weight of each pixel in each bin's mean."""
    edges = np.arange(bins + 1) * length
    first, last = edges[:-1] // bins, -(-edges[1:] // bins)
    positions = np.arange(length)
    inside = (positions >= first[:, None]) & (positions < last[:, None])
    return inside / inside.sum(axis=1, keepdims=True)


class Dropout(nn.Module):
    """Flax's `Dropout`, with its random numbers, whose mask is written to memory once.

    XLA would compute the random numbers again wherever the mask is read, in the forward and the backward pass. A TPU's
    compiler expects an update of ViT-B/16 to take 116 ms instead of 149 with the mask in memory (docs/scaling.md).
    """

    rate: float
    deterministic: bool

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """In training a share `rate` of the numbers is 0 and the others are divided by 1 - rate."""
        if self.rate == 0 or self.deterministic:
            return x
        kept = kept_units(self.make_rng("dropout"), self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate), 0)


def kept_units(key: Array, rate: float, shape: tuple[int, ...]) -> Bool[Array, "*shape"]:
    """A mask that is False with probability `rate`, independently at each place."""
    return jax.lax.optimization_barrier(jax.random.bernoulli(key, 1 - rate, shape))


def identity(outputs: PyTree) -> PyTree:
    """Returns its argument: for networks whose outputs are logits, and in place of a normalisation."""
    return outputs


def check_image_size(network: str, image_shape: tuple[int, ...], smallest: int, hint: str) -> None:
    """Raises UserError, ending in `hint`, for images (height, width, channels) with a side below `smallest` pixels."""
    height, width = image_shape[:2]
    if min(height, width) < smallest:
        raise UserError(f"{network} takes images of {smallest}x{smallest} pixels or more, got {height}x{width}: {hint}")
