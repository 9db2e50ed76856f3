"""Random changes of training images on the device: pure functions of a key and a batch.

RandAugment is in `common.data.randaugment`; mixup and CutMix, which also change labels, are in `common.data.mixing`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Key

from common.data.normalize import Colour
from common.errors import UserError

_LUMA = {1: (1.0,), 3: (0.299, 0.587, 0.114)}  # weights of a pixel's channels, Rec. 601
_ERASE_ATTEMPTS = 20

Images = Float[Array, "batch height width channels"]


class Distortion(NamedTuple):
    """A planar affine map of each image about its centre.

    The point x pixels right of the centre and y below it moves to
    (scale * squeeze * (x + shear * y) + right, scale / squeeze * y + down).
    """

    down: Float[Array, " batch"]
    right: Float[Array, " batch"]
    scale: Float[Array, " batch"]
    squeeze: Float[Array, " batch"]
    shear: Float[Array, " batch"]


def affine(
    key: Key[Array, ""],
    images: Images,
    *,
    translate: float,
    scale: float,
    squeeze: float,
    shear: float,
    probability: float,
    background: Colour,
) -> Images:
    """LeNet-5's distortions (LeCun 1998, section III): translation, scaling, squeezing and horizontal shear.

    Each image is distorted with `probability` and otherwise unchanged. The amounts are independent and uniform in
    +-translate pixels (down and right), 1 +- scale, 1 +- squeeze (across, its inverse down) and +-shear (columns per
    row). The paper's 540,000 distorted copies among 600,000 images correspond to a probability of 0.9.
    """
    ranges = jnp.array([translate, translate, scale, squeeze, shear])
    draws = jax.random.uniform(key, (len(images), 6))
    down, right, larger, squeezed, sheared = (ranges * (2.0 * draws[:, :5] - 1.0)).T
    distorted = warp(images, Distortion(down, right, 1.0 + larger, 1.0 + squeezed, sheared), background)
    return _where(draws[:, 5] < probability, distorted, images)


def warp(images: Images, distortion: Distortion, background: Colour) -> Images:
    """Each image under its distortion, interpolated bilinearly; `background` surrounds the image."""
    height, width = images.shape[1:3]
    down, right, scale, squeeze, shear = (amount[:, None] for amount in distortion)
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    y = (jnp.arange(height) - middle_row - down) * (squeeze / scale)
    x = (jnp.arange(width) - middle_column - right) / (scale * squeeze)
    x = x[:, None, :] - (shear * y)[:, :, None]
    padded = _framed(images, 1, background)
    return jax.vmap(_sample)(padded, y[:, :, None] + middle_row, x + middle_column)


def _sample(
    padded: Float[Array, "padded_height padded_width channels"],
    rows: Float[Array, "height 1"],
    columns: Float[Array, "height width"],
) -> Float[Array, "height width channels"]:
    """Values at (rows, columns) of an image that has one pixel of background around it, interpolated bilinearly."""
    top, bottom, down = _neighbours(rows, padded.shape[0] - 2)
    left, right, across = _neighbours(columns, padded.shape[1] - 2)
    down, across = down[..., None], across[..., None]
    above = padded[top, left] * (1.0 - across) + padded[top, right] * across
    below = padded[bottom, left] * (1.0 - across) + padded[bottom, right] * across
    return above * (1.0 - down) + below * down


def _neighbours(
    positions: Float[Array, "*shape"], size: int
) -> tuple[Int[Array, "*shape"], Int[Array, "*shape"], Float[Array, "*shape"]]:
    """The indices of the padded axis on both sides of each position, and the position's distance from the first."""
    positions = jnp.clip(positions, -1.0, size)
    first = jnp.floor(positions)
    index = first.astype(jnp.int32) + 1
    return index, jnp.minimum(index + 1, size + 1), positions - first


def mirror(key: Key[Array, ""], images: Images) -> Images:
    """Each image flipped left to right with probability 1/2."""
    return _where(jax.random.uniform(key, (len(images),)) < 0.5, images[:, :, ::-1], images)


def pad_and_crop(key: Key[Array, ""], images: Images, pad: int, background: Colour) -> Images:
    """Each image with `pad` pixels of background at each side, cropped back to its size at a uniformly random place.

    He 2016, section 4.2 (CIFAR-10): four pixels.
    """
    _, height, width, channels = images.shape
    padded = _framed(images, pad, background)
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * pad + 1)
    crop = functools.partial(jax.lax.dynamic_slice, slice_sizes=(height, width, channels))
    return jax.vmap(lambda image, corner: crop(image, (*corner, 0)))(padded, corners)


def _framed(
    images: Images, width: int, background: Colour
) -> Float[Array, "batch framed_height framed_width channels"]:
    """Each image in a frame of `background`, `width` pixels wide."""
    batch, height, across, channels = images.shape
    frame = jnp.full((batch, height + 2 * width, across + 2 * width, channels), background, images.dtype)
    return jax.lax.dynamic_update_slice(frame, images, (0, width, width, 0))


def invert_pixels(key: Key[Array, ""], images: Images, probability: float, low: Colour, high: Colour) -> Images:
    """Each pixel (all its channels) inverted with `probability`: low becomes high and high becomes low.

    LeCun 1998, section III-E: the noise, at 0.1, that LeNet-5 was trained with to show its invariances.
    """
    chosen = jax.random.uniform(key, images.shape[:3]) < probability
    return jnp.where(chosen[..., None], (low + high) - images, images)


def shift_colours(
    key: Key[Array, ""], images: Images, deviation: float, directions: Float[ArrayLike, "channels channels"]
) -> Images:
    """Each image plus one colour, [p1 p2 p3] (a1 s1, a2 s2, a3 s3)^T (Krizhevsky 2012, section 4.1).

    directions: columns p_i s_i, see `normalize.principal_colours`; the a_i are N(0, deviation), 0.1 in the paper.
    """
    shares = deviation * jax.random.normal(key, (len(images), images.shape[-1]))
    return images + (shares @ jnp.asarray(directions).T)[:, None, None, :]


def jitter_colours(
    key: Key[Array, ""],
    images: Images,
    *,
    brightness: float,
    contrast: float,
    saturation: float,
    low: Colour,
    high: Colour,
) -> Images:
    """Colour jitter: brightness, contrast and saturation of each image changed by random factors, in random order.

    Howard 2013 (arXiv:1312.5402), in the form of torchvision's ColorJitter: factors are uniform in 1 +- the three
    amounts, and at least 0. A factor applies, as in Pillow, to the distance from black, from the image's mean grey
    level, and from each pixel's grey level; values beyond black (low) and white (high) are clipped. Raises UserError
    for images that are neither grey nor RGB.
    """
    channels = images.shape[-1]
    if channels not in _LUMA:
        raise UserError(f"colour jitter needs images of 1 or 3 channels, not {channels}; set config.data.channels")
    factor_key, order_key = jax.random.split(key)
    amounts = jnp.array([brightness, contrast, saturation])
    factors = jnp.maximum(1.0 + amounts * jax.random.uniform(factor_key, (len(images), 3), minval=-1.0), 0.0)
    order = jnp.argsort(jax.random.uniform(order_key, (len(images), 3)), axis=1)
    luma = jnp.array(_LUMA[channels], images.dtype)
    pixels = (images - low) / (high - low)
    for step in range(3):
        change = order[:, step, None, None, None]
        factor = jnp.take_along_axis(factors, order[:, step, None], axis=1)[:, :, None, None]
        grey = (pixels @ luma)[..., None]
        start = jnp.select(
            [change == 0, change == 1], [jnp.zeros_like(grey), grey.mean((1, 2, 3), keepdims=True)], grey
        )
        pixels = jnp.clip(start + factor * (pixels - start), 0.0, 1.0)
    return jnp.asarray(low + pixels * (high - low), images.dtype)


def erase(
    key: Key[Array, ""],
    images: Images,
    *,
    probability: float,
    low: Colour,
    high: Colour | None,
    area: tuple[float, float] = (0.02, 0.4),
    ratio: tuple[float, float] = (0.3, 1 / 0.3),
) -> Images:
    """Random erasing (Zhong et al. 2020, algorithm 1): a random rectangle of each image filled with noise.

    An image is changed with `probability`. The rectangle has a fraction of the image's pixels uniform in `area`, a
    height over width uniform in `ratio`, and a uniform corner. A rectangle that sticks out is drawn anew, up to twenty
    times, which leaves one image in a thousand whole. Values are uniform between black (low) and white (high); without
    a white they are low (the paper's variant with the mean value).
    """
    count, height, width, _ = images.shape
    whether_key, place_key, noise_key = jax.random.split(key, 3)
    low_draws, high_draws = jnp.array([area[0], ratio[0], 0.0, 0.0]), jnp.array([area[1], ratio[1], 1.0, 1.0])
    draws = jax.random.uniform(place_key, (count, _ERASE_ATTEMPTS, 4))
    part, shape, top, left = jnp.moveaxis(low_draws + draws * (high_draws - low_draws), -1, 0)
    down = jnp.floor(jnp.sqrt(part * shape * height * width)).astype(jnp.int32)
    across = jnp.floor(jnp.sqrt(part / shape * height * width)).astype(jnp.int32)
    top, left = (jnp.floor(start * side).astype(jnp.int32) for start, side in ((top, height), (left, width)))
    fits = (top + down <= height) & (left + across <= width)
    first = jnp.argmax(fits, axis=1)[:, None]
    top, down, left, across = (
        jnp.take_along_axis(values, first, axis=1)[:, :, None] for values in (top, down, left, across)
    )
    rows, columns = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]
    inside = (rows >= top) & (rows < top + down) & (columns >= left) & (columns < left + across)
    chosen = (jax.random.uniform(whether_key, (count,)) < probability) & fits.any(axis=1)
    noise = low if high is None else low + jax.random.uniform(noise_key, images.shape, images.dtype) * (high - low)
    return jnp.where((inside & chosen[:, None, None])[..., None], noise, images).astype(images.dtype)


def _where(chosen: Array, changed: Images, images: Images) -> Images:
    """The images, with those that are chosen replaced by `changed`."""
    return jnp.where(chosen[:, None, None, None], changed, images)
