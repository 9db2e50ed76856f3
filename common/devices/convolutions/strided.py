"""Strided convolutions whose gradient of the images is computed in parts without zeros, for XLA's CPU backend.

XLA computes this gradient as a convolution over the maps' gradient with zeros between its pixels, on one core if there
are few maps. With stride s, the pixels of an image fall into s x s grids. Those of one grid were multiplied by the same
places of the kernel, so the gradient of each grid is a convolution with these places alone (two Zen 4 cores):

| images, kernel at stride 2 | XLA, ms | parts, ms |
|---|---|---|
| 128 x 32x32x16, 3x3x16x32 | 12.0 | 5.4 |
| 128 x 16x16x32, 3x3x32x64 | 4.4 | 2.8 |
| 8 x 56x56x128, 3x3x128x128 | 17.4 | 12.1 |
| 8 x 14x14x512, 3x3x512x512 | 18.1 | 14.4 |
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Images = Float[Array, "batch height width channels"]
Kernel = Float[Array, "kernel_height kernel_width channels features"]
Maps = Float[Array, "batch out_height out_width features"]
Padding = tuple[tuple[int, int], tuple[int, int]]

_CHANNELS = 16  # at least; images of fewer are a network's input, whose gradient nobody needs


def is_faster(images: tuple[int, ...], kernel: tuple[int, ...], strides: Sequence[int]) -> bool:
    """True where `convolution` takes these shapes and strides, and its gradient is faster than XLA's on a CPU."""
    (down, across), (height, width, channels, _) = strides, kernel
    strided = down == across > 1 and min(height, width) >= down
    return strided and images[1] % down == images[2] % down == 0 and channels >= _CHANNELS


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(images: Images, kernel: Kernel, stride: int, padding: Padding) -> Maps:
    """The maps of a kernel at a stride along both axes. Differentiable in reverse mode only.

    padding: rows above and below, columns to the left and right.
    """
    return _plain(images, kernel, (stride, stride), padding)


def _forward(images: Images, kernel: Kernel, stride: int, padding: Padding) -> tuple[Maps, tuple[Images, Kernel]]:
    return convolution(images, kernel, stride, padding), (images, kernel)


def _backward(stride: int, padding: Padding, kept: tuple[Images, Kernel], gradient: Maps) -> tuple[Images, Kernel]:
    images, kernel = kept
    to_kernel = jax.linear_transpose(lambda kernel: _plain(images, kernel, (stride, stride), padding), kernel)
    turned = kernel.swapaxes(2, 3)
    rows, columns = (
        [_places(start, *of_axis, stride) for start in range(stride)]
        for of_axis in zip(images.shape[1:], kernel.shape, gradient.shape[1:], padding, strict=False)
    )
    grids = [
        jnp.stack([_plain(gradient, turned[i, j], (1, 1), (above, left)) for j, left in columns], axis=3)
        for i, above in rows
    ]
    return jnp.stack(grids, axis=2).reshape(images.shape), *to_kernel(gradient)


convolution.defvjp(_forward, _backward)


def _places(
    start: int, pixels: int, length: int, maps: int, padding: tuple[int, int], stride: int
) -> tuple[slice, tuple[int, int]]:
    """The places of a kernel that multiplied every `stride`-th pixel from `start` on, and the padding of the gradient.

    The places are in reverse order. All is along one axis.

    Args:
      start: the first pixel.
      pixels: number of pixels.
      length: of the kernel.
      maps: number of outputs.
      padding: of the images.
      stride: of the convolution.
    """
    # Place a of the kernel multiplies pixel p for map o if p = stride o + a - padding.
    first, offset = (start + padding[0]) % stride, (start + padding[0]) // stride
    places = range(first, length, stride)
    before = len(places) - 1 - offset
    return slice(places[-1], first - 1 if first else None, -stride), (before, pixels // stride + offset - maps)


def _plain(images: Images, kernel: Kernel, strides: tuple[int, int], padding: Padding) -> Maps:
    return lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
