"""Convolutional layers with few maps, for a single image, as fused sums; for XLA's CPU backend.

Training on one image at a time, an update of LeNet-5 spends most of its time in five products with 6 or 16 maps, too
small for a library of matrix products. As sums they take a third of the time, and an update half of it (one Zen 4
core). Rounding is that of any other sum.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from common.devices.convolutions import fused

Image = Float[Array, "1 height width channels"]
Kernel = Float[Array, "kernel_height kernel_width channels maps"]
Maps = Float[Array, "1 out_height out_width maps"]

_VECTORS = (8, 16)  # maps in a vector; those that a layer lacks are zeros
_WEIGHTS = 4096  # at most: LeNet-5's C3 has 2,400, and larger kernels were not timed


def is_faster(images: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """True for shapes of images and kernel at which this beats a product, without padding and at stride 1."""
    height, width, channels, maps = kernel
    small = maps <= _VECTORS[-1] and height * width * channels * maps <= _WEIGHTS
    return images[0] == 1 and small and images[1] > height and images[2] > width


def layer(image: Image, kernel: Kernel, bias: Float[Array, " maps"], function: Callable[[Array], Array]) -> Maps:
    """`function` of each sum, which is the convolution without padding, plus the bias; the kernel is not flipped.

    Differentiable in reverse mode only. function: of each number of an array.
    """
    sums = _sums(image, _filled_up(kernel), _filled_up(bias))
    return fused.elementwise(function, sums)[..., : len(bias)]


@jax.custom_vjp
def _sums(image: Image, kernel: Kernel, bias: Float[Array, " maps"]) -> Maps:
    """The sums of maps that fill a vector."""
    height, width, channels, maps = kernel.shape
    _, rows, columns, _ = image.shape
    image = lax.optimization_barrier(image)
    pixels = (
        image[:, i : rows - height + i + 1, j : columns - width + j + 1, channel, None]
        for i in range(height)
        for j in range(width)
        for channel in range(channels)
    )
    terms = zip(pixels, fused.vectors(kernel), strict=True)
    return fused.total((pixel * vector for pixel, vector in terms), bias)


def _forward(image: Image, kernel: Kernel, bias: Float[Array, " maps"]) -> tuple[Maps, tuple[Image, Kernel]]:
    return _sums(image, kernel, bias), (image, kernel)


def _backward(kept: tuple[Image, Kernel], gradient: Maps) -> tuple[Image, Kernel, Float[Array, " maps"]]:
    image, kernel = kept
    gradient = lax.optimization_barrier(gradient)
    of_columns = fused.total(row.reshape(-1) for row in gradient[0])
    of_bias = of_columns.reshape(-1, gradient.shape[-1]).sum(0)
    return _image_gradient(image, kernel, gradient), _kernel_gradient(image, kernel, gradient), of_bias


_sums.defvjp(_forward, _backward)


def _image_gradient(image: Image, kernel: Kernel, gradient: Maps) -> Image:
    """The gradient of the patches, which is a sum over maps, added up where they overlap: in rows, then in columns."""
    height, width, channels, maps = kernel.shape
    _, out_height, out_width, _ = gradient.shape
    slopes, weights = fused.vectors(gradient.reshape(-1, maps).T), lax.optimization_barrier(kernel.reshape(-1, maps))
    of_patches = fused.total(weights[:, number, None] * slope for number, slope in enumerate(slopes))
    of_patches = of_patches.reshape(height, width, channels, out_height, out_width)
    of_rows = fused.total(_shifted(of_patches[:, j], 3, j, width) for j in range(width))
    of_image = fused.total(_shifted(of_rows[i], 1, i, height) for i in range(height))
    return of_image.transpose(1, 2, 0)[None]


def _shifted(values: Float[Array, "*shape"], axis: int, places: int, size: int) -> Float[Array, "*larger"]:
    """Values moved by some places along an axis that becomes size - 1 numbers longer; the rest are zeros."""
    edges = [(0, 0)] * values.ndim
    edges[axis] = (places, size - 1 - places)
    return jnp.pad(values, edges)


def _kernel_gradient(image: Image, kernel: Kernel, gradient: Maps) -> Kernel:
    """The sum over the columns of the maps, and then over their rows."""
    height, width, *_ = kernel.shape
    _, out_height, out_width, _ = gradient.shape
    bands = jnp.stack([image[0, i : i + out_height] for i in range(height)], axis=1)  # the rows that a row of maps sees
    bands, slopes = lax.optimization_barrier((bands, gradient[0]))
    of_rows = fused.total(
        bands[:, :, x : x + width, :, None] * slopes[:, x, None, None, None] for x in range(out_width)
    )
    return fused.total(of_rows)


def _filled_up(values: Float[Array, "*places maps"]) -> Float[Array, "*places numbers"]:
    """Values with zeros for the rest of a vector."""
    size = next(size for size in _VECTORS if size >= values.shape[-1])
    edges = [(0, 0)] * (values.ndim - 1) + [(0, size - values.shape[-1])]
    return jnp.pad(values, edges)
