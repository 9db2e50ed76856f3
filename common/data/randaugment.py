"""RandAugment on the device (Cubuk et al. 2019, arXiv:1909.13719): a few random operations on each image.

The sixteen operations and their strengths are those of the paper's code, which also trained the plain Vision
Transformer (Beyer, Zhai, Kolesnikov 2022); each gives the same pixels as Pillow. That code's lengths of 100 and 40
pixels, meant for images of 224, become the same fraction of the image's side.

Under `vmap` a `switch` computes all its branches for every image, so there are few of them: eight operations share a
lookup in a table of new values, five share a warp by a matrix, and choosing between tables or matrices is cheap. CPUs
take one image at a time and compute only its operation: 0.5 ms for 224x224 pixels on one core, against 30 under `vmap`.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key, UInt8

from common.data.normalize import Colour
from common.devices import loops
from common.errors import UserError

GREY = 128  # fills the area outside the image
MAX_MAGNITUDE = 30  # the paper's largest; strengths are proportional to the magnitude; AutoAugment stops at 10

_OLD = np.arange(256)

Image = UInt8[Array, "height width channels"]
Table = Int[Array, "channels 256"]


class Choice(NamedTuple):
    """The operation on one image, or on each image of a batch.

    operation: index into OPERATIONS. sign: of the angle, shear or translation, -1 or 1. row, column: the centre of
    the square that 'cutout' makes grey, as fractions of the sides.
    """

    operation: Int[Array, "*batch"]
    sign: Float[Array, "*batch"]
    row: Float[Array, "*batch"]
    column: Float[Array, "*batch"]


def randaugment(
    key: Key[Array, ""],
    images: Float[Array, "batch height width channels"],
    *,
    layers: int,
    magnitude: float,
    low: Colour,
    high: Colour,
) -> Float[Array, "batch height width channels"]:
    """The images after `layers` random operations each, drawn uniformly and with replacement.

    low, high: the images' black and white (of all channels, or of each); the operations see them as 0 and 255.
    Raises UserError for images that are neither grey nor RGB.
    """
    if images.shape[-1] not in (1, 3):
        raise UserError(
            f"RandAugment needs images of 1 or 3 channels, not {images.shape[-1]}; set config.data.channels"
        )
    pixels = jnp.round(jnp.clip((images - low) * (255.0 / (high - low)), 0.0, 255.0)).astype(jnp.uint8)
    for layer in range(layers):
        pixels = distort(pixels, draw(jax.random.fold_in(key, layer), len(images)), magnitude)
    return pixels.astype(images.dtype) * ((high - low) / 255.0) + low


def draw(key: Key[Array, ""], count: int) -> Choice:
    """A random operation for each of `count` images."""
    operation_key, sign_key, place_key = jax.random.split(key, 3)
    row, column = jax.random.uniform(place_key, (count, 2)).T
    return Choice(
        operation=jax.random.randint(operation_key, (count,), 0, len(OPERATIONS)),
        sign=jnp.where(jax.random.bernoulli(sign_key, shape=(count,)), 1.0, -1.0),
        row=row,
        column=column,
    )


def distort(
    images: UInt8[Array, "batch height width channels"], choices: Choice, magnitude: float
) -> UInt8[Array, "batch height width channels"]:
    """Each image after its chosen operation."""
    return loops.map_examples(functools.partial(distort_one, magnitude=magnitude), images, choices)


def distort_one(image: Image, choice: Choice, magnitude: float) -> Image:
    """One image after its chosen operation."""
    return jax.lax.switch(
        jnp.asarray(_GROUP_OF)[choice.operation],
        [functools.partial(group, magnitude=magnitude) for group in _GROUPS],
        image,
        choice,
    )


def _tabled(image: Image, choice: Choice, magnitude: float) -> Image:
    tables = [functools.partial(table, magnitude=magnitude) for table in TABLES.values()]
    table = jax.lax.switch(jnp.clip(choice.operation, 0, len(TABLES) - 1), tables, image)
    return table.astype(jnp.uint8)[jnp.arange(image.shape[-1]), image]


def _color(image: Image, choice: Choice, magnitude: float) -> Image:
    return _blend(luminance(image)[..., None], image, magnitude).astype(jnp.uint8)


def _sharpness(image: Image, choice: Choice, magnitude: float) -> Image:
    return _blend(smooth(image), image, magnitude).astype(jnp.uint8)


def _cutout(image: Image, choice: Choice, magnitude: float) -> Image:
    """The image with a grey square around the chosen place, clipped to the image."""
    height, width, _ = image.shape
    reach = int(4 * magnitude * min(height, width) / 224)
    row, column = jnp.floor(choice.row * height), jnp.floor(choice.column * width)
    y, x = jnp.mgrid[:height, :width]
    cut = (y >= row - reach) & (y < row + reach) & (x >= column - reach) & (x < column + reach)
    return jnp.where(cut[..., None], jnp.uint8(GREY), image)


def luminance(image: Image) -> Int[Array, "height width"]:
    """Pillow's grey values (ITU-R 601-2), 0..255."""
    red, green, blue = (image[..., i % image.shape[-1]].astype(jnp.int32) for i in range(3))
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def smooth(image: Image) -> Int[Array, "height width channels"]:
    """Pillow's SMOOTH: the mean of nine pixels, where the middle one counts five times; the border stays."""
    values = image.astype(jnp.int32)
    height, width, _ = values.shape
    nine = sum(values[i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3))
    inside = (2 * (nine + 4 * values[1:-1, 1:-1]) + 13) // 26
    return values.at[1:-1, 1:-1].set(inside)


def _blend(degenerate: ArrayLike, image: ArrayLike, magnitude: float) -> Int[Array, "..."]:
    """Extrapolation from `degenerate` (factor 0) through the image (factor 1), clipped to 0..255 and rounded down."""
    factor = 0.18 * magnitude + 0.1
    degenerate, image = jnp.asarray(degenerate, jnp.float32), jnp.asarray(image, jnp.float32)
    return jnp.clip(degenerate + factor * (image - degenerate), 0.0, 255.0).astype(jnp.int32)


def _for_all_channels(image: Image, new: Int[ArrayLike, " 256"]) -> Table:
    return jnp.broadcast_to(new, (image.shape[-1], 256))


def _autocontrast(image: Image, magnitude: float) -> Table:
    """Maps each channel's smallest value to 0 and its largest to 255; a channel with one value stays."""
    low, high = (f(image, axis=(0, 1)).astype(jnp.int32)[:, None] for f in (jnp.min, jnp.max))
    stretched = jnp.clip(255 * (_OLD - low) // jnp.maximum(high - low, 1), 0, 255)
    return jnp.where(high > low, stretched, _OLD)


def _equalize(image: Image, magnitude: float) -> Table:
    """Spreads each channel's values so that all are about equally frequent."""
    counts = histogram(image)
    largest = jnp.take_along_axis(counts, jnp.max(image, axis=(0, 1)).astype(jnp.int32)[:, None], axis=1)
    step = (image.shape[0] * image.shape[1] - largest) // 255
    below = jnp.cumsum(counts, axis=1) - counts
    spread = jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255)
    return jnp.where(step > 0, spread, _OLD)


def _invert(image: Image, magnitude: float) -> Table:
    return _for_all_channels(image, 255 - _OLD)


def _posterize(image: Image, magnitude: float) -> Table:
    dropped = 8 - min(int(0.4 * magnitude), 8)  # bits
    return _for_all_channels(image, (_OLD >> dropped) << dropped)


def _solarize(image: Image, magnitude: float) -> Table:
    return _for_all_channels(image, jnp.where(int(25.6 * magnitude) > _OLD, _OLD, 255 - _OLD))


def _solarize_add(image: Image, magnitude: float) -> Table:
    return _for_all_channels(image, jnp.where(_OLD < 128, jnp.minimum(_OLD + int(11 * magnitude), 255), _OLD))


def _contrast(image: Image, magnitude: float) -> Table:
    grey = luminance(image)
    mean = (2 * jnp.sum(grey) + grey.size) // (2 * grey.size)
    return _for_all_channels(image, _blend(mean, _OLD, magnitude))


def _brightness(image: Image, magnitude: float) -> Table:
    return _for_all_channels(image, _blend(0.0, _OLD, magnitude))


def histogram(image: Image) -> Table:
    """The number of pixels with each value, by channel."""
    channels = jnp.arange(image.shape[-1])
    return jnp.zeros((image.shape[-1], 256), jnp.int32).at[channels, image].add(1)


def _warped(image: Image, choice: Choice, magnitude: float) -> Image:
    """The image warped by the chosen matrix: each pixel takes the value at its source, grey outside the image."""
    height, width, _ = image.shape
    y, x = jnp.mgrid[:height, :width] + 0.5
    matrix = _matrix(height, width, choice, magnitude)
    column, row = (jnp.floor(a * x + b * y + c).astype(jnp.int32) for a, b, c in matrix)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    found = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
    return jnp.where(inside[..., None], found, jnp.uint8(GREY))


def _matrix(height: int, width: int, choice: Choice, magnitude: float) -> Float[Array, "2 3"]:
    """(a b c), (d e f): the source of a pixel (x, y) is x' = a x + b y + c, y' = d x + e y + f."""
    angle = choice.sign * math.radians(3.0 * magnitude)
    slant = choice.sign * 0.03 * magnitude
    part = choice.sign * 10 / 224 * magnitude
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    matrices = {
        "rotate": [
            [cos, -sin, (width - cos * width + sin * height) / 2],
            [sin, cos, (height - sin * width - cos * height) / 2],
        ],
        "shear_x": [[1.0, slant, 0.0], [0.0, 1.0, 0.0]],
        "shear_y": [[1.0, 0.0, 0.0], [slant, 1.0, 0.0]],
        "translate_x": [[1.0, 0.0, part * width], [0.0, 1.0, 0.0]],
        "translate_y": [[1.0, 0.0, 0.0], [0.0, 1.0, part * height]],
    }
    chosen = jnp.clip(choice.operation - len(TABLES), 0, len(WARPS) - 1)
    return jnp.asarray([matrices[name] for name in WARPS], jnp.float32)[chosen]


TABLES = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "invert": _invert,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "contrast": _contrast,
    "brightness": _brightness,
}
WARPS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (*TABLES, *WARPS, "color", "sharpness", "cutout")
_GROUPS = (_tabled, _warped, _color, _sharpness, _cutout)
_GROUP_OF = (0,) * len(TABLES) + (1,) * len(WARPS) + (2, 3, 4)
