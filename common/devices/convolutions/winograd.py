"""3x3 convolutions with 2.25 multiplications for each output instead of 9: Winograd's F(4x4, 3x3).

The image is cut into tiles of 4x4 outputs, which see 6x6 inputs. Tiles and kernel are transformed to 36 points, at each
of which the convolution is one matrix product over the channels (Lavin and Gray 2016, section 4). Each transformation
is a matrix product as well, with the Kronecker product of its matrix by itself: that compiles in a quarter of the time
that additions of slices take, and is as fast.

The price is rounding: in float32 the results differ from those in float64 by 3e-6 of their deviation instead of 3e-7.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

Images = Float[Array, "batch height width channels"]
Kernel = Float[Array, "3 3 channels features"]
Maps = Float[Array, "batch height width features"]

_TILE = 4  # outputs on a side
_SEEN = 6  # inputs on a side
_CHANNELS = 96  # at least
_WORTH = 0.95  # the expected share of XLA's time, at most

# Interpolation at the points 0, 1, -1, 2, -2 and infinity.
_OF_INPUTS = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_OF_KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float32,
)
_OF_OUTPUTS = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32)


def is_faster(images: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """True where a convolution of these shapes, at stride 1 and padded by 1, is faster than XLA's on a CPU.

    The expected time, as a share of XLA's, is a fit to 71 shapes on two Zen 4 cores: batches of 1 to 32, maps of 7 to
    224 pixels, 64 to 512 channels, the forward pass and both gradients. The multiplications and the transformations of
    tiles grow with the area that the tiles cover, which is larger than the maps if their sides are no multiples of 4.
    The transformations of the kernel take the same time for any number of images. Measured shares: 0.5 for 8 images of
    28x28 pixels with 256 and 512 channels, 0.75 at 14x14 with 256, 0.9 at 13x13 with 384 and 256. With 64 channels they
    range from 0.5 to 1.15.
    """
    batch, height, width, _ = images
    if kernel[:2] != (3, 3) or min(kernel[2:]) < _CHANNELS:
        return False
    down, across = _tiles(height, width)
    covered = down * across * _TILE**2 / (height * width)
    products, of_tiles = 0.49, sum(6.2 / channels for channels in kernel[2:])
    of_kernel = 130 / (batch * height * width)
    return covered * (products + of_tiles) + of_kernel < _WORTH


@jax.custom_vjp
def convolution(images: Images, kernel: Kernel) -> Maps:
    """The maps of a 3x3 kernel at stride 1 over images padded by 1. Differentiable in reverse mode only."""
    batch, height, width, channels = images.shape
    down, across = _tiles(height, width)
    of_kernel = _transformed(_OF_KERNEL, kernel.reshape(9, -1)).reshape(_SEEN**2, channels, -1)
    products = lax.optimization_barrier(jnp.matmul(_points_of(images), of_kernel))
    tiles = _transformed(_OF_OUTPUTS, products.reshape(_SEEN**2, -1)).reshape(_TILE, _TILE, batch, down, across, -1)
    maps = tiles.transpose(2, 3, 0, 4, 1, 5).reshape(batch, _TILE * down, _TILE * across, -1)
    return maps[:, :height, :width]


def _forward(images: Images, kernel: Kernel) -> tuple[Maps, tuple[Images, Kernel]]:
    return convolution(images, kernel), (images, kernel)


def _backward(kept: tuple[Images, Kernel], gradient: Maps) -> tuple[Images, Kernel]:
    """The gradient of the images is a convolution with the turned kernel; that of the kernel is the transposed form."""
    images, kernel = kept
    batch, height, width, features = gradient.shape
    down, across = _tiles(height, width)
    padded = jnp.pad(gradient, ((0, 0), (0, _TILE * down - height), (0, _TILE * across - width), (0, 0)))
    tiles = padded.reshape(batch, down, _TILE, across, _TILE, features).transpose(2, 4, 0, 1, 3, 5)
    of_tiles = _transformed(_OF_OUTPUTS.T, tiles.reshape(_TILE**2, -1)).reshape(_SEEN**2, -1, features)
    products = lax.dot_general(_points_of(images), of_tiles, (((1,), (1,)), ((0,), (0,))))
    of_kernel = _transformed(_OF_KERNEL.T, products.reshape(_SEEN**2, -1)).reshape(kernel.shape)
    return convolution(gradient, kernel[::-1, ::-1].swapaxes(2, 3)), of_kernel


convolution.defvjp(_forward, _backward)


def _tiles(height: int, width: int) -> tuple[int, int]:
    """The numbers of rows and columns of tiles that cover maps of this size."""
    return -(-height // _TILE), -(-width // _TILE)


def _points_of(images: Images) -> Float[Array, "36 tiles channels"]:
    """The transformed tiles of images."""
    batch, height, width, channels = images.shape
    down, across = _tiles(height, width)
    after = _TILE * down + _TILE - 1 - height, _TILE * across + _TILE - 1 - width
    padded = jnp.pad(images, ((0, 0), (1, after[0]), (1, after[1]), (0, 0)))
    blocks = padded.reshape(batch, down + 1, _TILE, across + 1, _TILE, channels).transpose(2, 4, 0, 1, 3, 5)
    # A tile is a block of 4x4 inputs with the first two rows and columns of the next blocks.
    beyond = _SEEN - _TILE
    rows = jnp.concatenate([blocks[:, :, :, :down], blocks[:beyond, :, :, 1:]])
    seen = jnp.concatenate([rows[..., :across, :], rows[:, :beyond, :, :, 1:]], axis=1)
    return _transformed(_OF_INPUTS, seen.reshape(_SEEN**2, -1)).reshape(_SEEN**2, -1, channels)


def _transformed(matrix: np.ndarray, values: Float[Array, "places all"]) -> Float[Array, "points all"]:
    """Tiles, of which `values` has the two axes as one, transformed along both. The barrier keeps copies out of it."""
    return np.kron(matrix, matrix) @ lax.optimization_barrier(values)
