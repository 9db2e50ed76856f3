"""Convolutions of a single image with few maps as fused sums, for XLA's CPU backend.

Training on one image at a time, an update of LeNet-5 spends most of its time in five products with 6 or 16 maps, too
small for a library of matrix products. As sums they take a third of the time, and an update 0.77 of it (one Zen 4
core). Rounding is that of any other sum.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from common.devices.convolutions import fused
from common.devices.convolutions.patches import patches

Image = Float[Array, "1 height width channels"]
Kernel = Float[Array, "kernel_height kernel_width channels maps"]
Maps = Float[Array, "1 out_height out_width maps"]

_VECTORS = (8, 16)  # numbers of maps, filled up with zeros
_WEIGHTS = 4096  # at most: LeNet-5's C3 has 2,400, and larger kernels were not timed


def is_faster(images: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """True for shapes of images and kernel at which this beats a product, without padding and at stride 1."""
    height, width, channels, maps = kernel
    small = maps <= _VECTORS[-1] and height * width * channels * maps <= _WEIGHTS
    return images[0] == 1 and small and images[1] > height and images[2] > width


@jax.custom_vjp
def convolution(image: Image, kernel: Kernel) -> Maps:
    """Convolution without padding; the kernel is not flipped. Differentiable in reverse mode only."""
    height, width, channels, maps = kernel.shape
    _, rows, columns, _ = image.shape
    image = lax.optimization_barrier(image)
    pixels = (
        image[:, i : rows - height + i + 1, j : columns - width + j + 1, channel, None]
        for i in range(height)
        for j in range(width)
        for channel in range(channels)
    )
    terms = zip(pixels, fused.vectors(_filled_up(kernel)), strict=True)
    return fused.total(pixel * vector for pixel, vector in terms)[..., :maps]


def _forward(image: Image, kernel: Kernel) -> tuple[Maps, tuple[Image, Kernel]]:
    return convolution(image, kernel), (image, kernel)


def _backward(kept: tuple[Image, Kernel], gradient: Maps) -> tuple[Image, Kernel]:
    image, kernel = kept
    return _image_gradient(image, kernel, gradient), _kernel_gradient(image, kernel, gradient)


convolution.defvjp(_forward, _backward)


def _image_gradient(image: Image, kernel: Kernel, gradient: Maps) -> Image:
    """The gradient of the patches, which is a sum over maps, added up where patches overlap."""
    height, width, channels, maps = kernel.shape
    to_image = jax.linear_transpose(lambda image: patches(image, height, width), image)
    slopes, weights = fused.vectors(gradient.reshape(-1, maps).T), lax.optimization_barrier(kernel.reshape(-1, maps))
    of_patches = fused.total(weights[:, number, None] * slope for number, slope in enumerate(slopes))
    return to_image(of_patches.reshape(height, width, channels, *gradient.shape[:3]))[0]


def _kernel_gradient(image: Image, kernel: Kernel, gradient: Maps) -> Kernel:
    """The sum over the columns of the maps, and then over their rows."""
    height, width, _, maps = kernel.shape
    _, out_height, out_width, _ = gradient.shape
    bands = jnp.stack([image[0, i : i + out_height] for i in range(height)], axis=1)  # the rows that a row of maps sees
    bands, slopes = lax.optimization_barrier((bands, _filled_up(gradient)[0]))
    of_rows = fused.total(
        bands[:, :, x : x + width, :, None] * slopes[:, x, None, None, None] for x in range(out_width)
    )
    return fused.total(of_rows)[..., :maps]


def _filled_up(values: Float[Array, "*places maps"]) -> Float[Array, "*places numbers"]:
    """Values with zeros for the rest of a vector."""
    size = next(size for size in _VECTORS if size >= values.shape[-1])
    edges = [(0, 0)] * (values.ndim - 1) + [(0, size - values.shape[-1])]
    return jnp.pad(values, edges)
