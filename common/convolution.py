"""Convolution as XLA has it, but for two things that its CPU backend is slow at.

There the gradient to a kernel takes three to nine times as long as the convolution itself where the kernel is 1x1 or
reads many channels, and grouped convolutions leave most of the processor idle. Both are the same arithmetic as
operations that are fast: matrix products, and one convolution for each group.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Images = Float[Array, "batch height width channels"]
Kernel = Float[Array, "kernel_height kernel_width in_channels features"]
Maps = Float[Array, "batch out_height out_width features"]
Strides = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]

_CHANNELS = 32  # a kernel's inputs from which products are faster than XLA's gradient, for kernels of up to 3x3


def convolve(
    lhs: Images,
    rhs: Kernel,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    feature_group_count: int = 1,
    **options: Any,
) -> Maps:
    """What lax.conv_general_dilated computes, for the `conv_general_dilated` of flax.linen.Conv.

    Images and kernels lie as Flax has them. On CPU it can be differentiated in reverse mode only.
    """
    plain = functools.partial(lax.conv_general_dilated, window_strides=window_strides, padding=padding, **options)
    dilated = any(step != 1 for name in ("lhs_dilation", "rhs_dilation") for step in options.get(name) or ())
    if jax.default_backend() != "cpu" or dilated or rhs.ndim != 4:
        return plain(lhs, rhs, feature_group_count=feature_group_count)
    if feature_group_count > 1:
        inputs, kernels = (jnp.split(array, feature_group_count, axis=-1) for array in (lhs, rhs))
        one = functools.partial(convolve, window_strides=window_strides, padding=padding, **options)
        return jnp.concatenate([one(x, kernel) for x, kernel in zip(inputs, kernels, strict=True)], axis=-1)
    area, channels = math.prod(rhs.shape[:2]), rhs.shape[2]
    if area > 1 and (area > 9 or channels < _CHANNELS):
        return plain(lhs, rhs)
    return _convolve(lhs, rhs, tuple(window_strides), tuple(map(tuple, padding)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(images: Images, kernel: Kernel, strides: Strides, padding: Pads) -> Maps:
    return _plain(images, kernel, strides, padding)


def _plain(images: Images, kernel: Kernel, strides: Strides, padding: Pads) -> Maps:
    return lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _forward(images: Images, kernel: Kernel, strides: Strides, padding: Pads) -> tuple[Maps, tuple[Images, Kernel]]:
    return _plain(images, kernel, strides, padding), (images, kernel)


def _backward(strides: Strides, padding: Pads, kept: tuple[Images, Kernel], gradient: Maps) -> tuple[Images, Kernel]:
    images, kernel = kept
    _, to_images = jax.vjp(lambda images: _plain(images, kernel, strides, padding), images)
    return (*to_images(gradient), _kernel_gradient(images, kernel.shape, strides, padding, gradient))


def _kernel_gradient(images: Images, shape: tuple[int, ...], strides: Strides, padding: Pads, gradient: Maps) -> Kernel:
    """For each place in the window, what it saw of the images times what came back: a product over all windows."""
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    rows, columns = gradient.shape[1:3]
    down, right = strides

    def at(row: int, column: int) -> Array:
        stop = (len(padded), row + (rows - 1) * down + 1, column + (columns - 1) * right + 1, shape[2])
        seen = lax.slice(padded, (0, row, column, 0), stop, (1, down, right, 1))
        return jnp.einsum("bhwc,bhwf->cf", seen, gradient)

    return jnp.stack([jnp.stack([at(row, column) for column in range(shape[1])]) for row in range(shape[0])])


_convolve.defvjp(_forward, _backward)
