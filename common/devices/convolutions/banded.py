"""Convolutions with few maps as products with banded matrices, for XLA's CPU backend.

A product of patches and a 5x5 kernel of 6 maps has 6 columns, and a CPU multiplies matrices with so few columns at a
tenth of its rate. Here a row of the product is a strip of the image, as high as the kernel and several outputs wide,
and the matrix holds the kernel once for each of these outputs, shifted. It multiplies zeros as well, and it copies
fewer pixels. With 32 to 512 images an update of one convolution of LeNet-1 or LeNet-5 takes 0.35 to 0.6 of the time,
and a whole update of LeNet-5 with 128 images 0.7 (one core of an Intel Xeon with AVX-512).
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Images = Float[Array, "batch height width channels"]
Kernel = Float[Array, "kernel_height kernel_width channels maps"]
Maps = Float[Array, "batch out_height out_width maps"]

_COLUMNS = 80  # of a banded matrix, at most: more columns hold more zeros, fewer are multiplied more slowly
_IMAGES, _NUMBERS = 16, 200  # the matrix pays off from this many images on, or up to this kernel size
_MAPS = 32  # more maps make patches times a kernel fast enough


def is_faster(images: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """True for shapes of images and kernel at which this beats the product of patches."""
    worth_making = images[0] >= _IMAGES or math.prod(kernel) <= _NUMBERS
    return worth_making and kernel[-1] <= _MAPS and images[2] > kernel[1]


def convolution(images: Images, kernel: Kernel, strides: int = 1) -> Maps:
    """Convolution without padding; the kernel is not flipped. Rounding is that of any other product."""
    (height, width, _, maps), (batch, rows, columns, _) = kernel.shape, images.shape
    out_height, out_width = (rows - height) // strides + 1, (columns - width) // strides + 1
    outputs = _outputs_of_a_strip(out_width, maps)
    seen = (outputs - 1) * strides + width
    starts = range(0, out_width * strides, outputs * strides)
    strips = jnp.stack([images[:, :, start : start + seen].reshape(batch, rows, -1) for start in starts], axis=2)
    if batch >= _IMAGES:  # XLA would cut the strips again for each row of the kernel: LeNet-5 takes 0.8 of the time
        strips = lax.optimization_barrier(strips)
    last = rows - height + 1
    strips = jnp.concatenate([strips[:, start : start + last : strides] for start in range(height)], axis=-1)
    matrix = banded_matrix(kernel, outputs, strides)
    return (strips.reshape(-1, len(matrix)) @ matrix).reshape(batch, out_height, out_width, maps)


def _outputs_of_a_strip(out_width: int, maps: int) -> int:
    """The largest divisor of a row of outputs with at most _COLUMNS values in all maps, or 1."""
    return next((n for n in range(out_width, 1, -1) if out_width % n == 0 and n * maps <= _COLUMNS), 1)


def banded_matrix(kernel: Kernel, outputs: int, strides: int) -> Float[Array, "inputs outputs_maps"]:
    """The matrix that takes a strip of pixels [kernel_height, seen, channels] to its outputs [outputs, maps].

    A kernel's row is padded to seen + strides numbers and repeated. Cut into rows of `seen` numbers, the sequence
    holds it once for each output, each time `strides` numbers later.
    """
    height, width, channels, maps = kernel.shape
    seen = (outputs - 1) * strides + width
    padded = jnp.pad(kernel, ((0, 0), (0, seen + strides - width), (0, 0), (0, 0)))
    repeated = jnp.broadcast_to(padded[:, None], (height, outputs, *padded.shape[1:]))
    sequence = repeated.reshape(height, -1, channels, maps)[:, : outputs * seen]
    shifted = sequence.reshape(height, outputs, seen, channels, maps).transpose(0, 2, 3, 1, 4)
    return shifted.reshape(math.prod((height, seen, channels)), outputs * maps)
