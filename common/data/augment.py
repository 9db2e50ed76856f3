"""Augmentation of training images on the device: pure functions of a key and a batch.

The change to an image depends only on the key and on the image's position in the global batch, so a batch comes out
the same on any number of devices (thanks to JAX's default `jax_threefry_partitionable`).
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Key
from ml_collections import ConfigDict

from common.data import normalize
from common.data.pixel_statistics import PixelStatistics
from common.data.randaugment import MAX_MAGNITUDE, Colour, randaugment
from common.errors import UserError

JITTERED = ("brightness", "contrast", "saturation")  # the three amounts of `jitter`
_LUMA = {1: (1.0,), 3: (0.299, 0.587, 0.114)}  # weights of a pixel's channels, Rec. 601
_ERASE_ATTEMPTS = 20

Images = Float[Array, "batch height width channels"]
Augment = Callable[[Key[Array, ""], Images], Images]


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


def mirror(key: Key[Array, ""], images: Images, probability: float = 0.5) -> Images:
    """Each image flipped left to right with `probability`."""
    return _where(jax.random.uniform(key, (len(images),)) < probability, images[:, :, ::-1], images)


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


def make_input_transform(
    data: ConfigDict, augment: ConfigDict, statistics: PixelStatistics | None = None
) -> Callable[[Key[Array, ""], Array], Images]:
    """Returns a function (key, stored images) -> the normalised and randomly distorted images that an update sees.

    data, augment: these sections of a config. statistics: those of the training set, if the sections need them.
    """
    normalized = normalize.make_normalize(data, statistics)
    black, white = normalize.black_and_white(data, statistics)
    colours = normalize.principal_colours(data, statistics) if augment.pca_colour else None
    distort = make_augment(augment, black, white, colours)

    def transform(key: Key[Array, ""], images: Array) -> Images:
        return distort(key, normalized(images))

    return transform


def make_augment(
    config: ConfigDict,
    background: Colour,
    foreground: Colour | None = None,
    colours: Float[ArrayLike, "channels channels"] | None = None,
) -> Augment:
    """Returns a function (key, images) -> images for a checked `augment` section.

    The order is: affine distortion, mirror, pad and crop, pixel inversion, shift along the principal `colours`,
    RandAugment, colour jitter, random erasing. background, foreground: the images' black and white.
    """
    if config.pixel_inversion and foreground is None:
        raise ValueError("pixels are inverted between background and foreground; foreground is missing")
    if config.pca_colour and colours is None:
        raise ValueError("colours are shifted along the training set's principal ones, which are missing")
    # Neither is None where it is used: `check` makes sure of both colours for RandAugment and jitter.
    high: Any = foreground
    directions: Any = colours
    ranges = {name: config[name] for name in ("translate", "scale", "squeeze", "shear")}
    jitter, erasing = config.jitter, config.erase
    transforms = [
        any(ranges.values())
        and functools.partial(affine, **ranges, probability=config.probability, background=background),
        config.mirror and mirror,
        config.crop_pad and functools.partial(pad_and_crop, pad=config.crop_pad, background=background),
        config.pixel_inversion
        and functools.partial(invert_pixels, probability=config.pixel_inversion, low=background, high=high),
        config.pca_colour and functools.partial(shift_colours, deviation=config.pca_colour, directions=directions),
        config.randaugment_layers
        and functools.partial(
            randaugment,
            layers=config.randaugment_layers,
            magnitude=config.randaugment_magnitude,
            low=background,
            high=high,
        ),
        any(jitter)
        and functools.partial(jitter_colours, **dict(zip(JITTERED, jitter, strict=True)), low=background, high=high),
        erasing and functools.partial(erase, probability=erasing, low=background, high=foreground),
    ]
    # Each transform has a fixed number, so that switching one on does not change the others' random draws.
    return functools.partial(_apply, tuple((i, transform) for i, transform in enumerate(transforms) if transform))


def _apply(transforms: tuple[tuple[int, Augment], ...], key: Key[Array, ""], images: Images) -> Images:
    """Applies the numbered transforms one after the other, each with its own key."""
    for number, transform in transforms:
        images = transform(jax.random.fold_in(key, number), images)
    return images


def _where(chosen: Array, changed: Images, images: Images) -> Images:
    """The images, with those that are chosen replaced by `changed`."""
    return jnp.where(chosen[:, None, None, None], changed, images)


def check(config: ConfigDict) -> None:
    """Raises UserError if the `augment` section has amounts that are out of range or contradict other sections."""
    section = config.augment
    jitter = section.jitter
    for name in ("probability", "pixel_inversion", "erase"):
        if not 0.0 <= section[name] <= 1.0:
            raise UserError(f"config.augment.{name} is {section[name]}; expected a probability, from 0 to 1")
    for name in ("scale", "squeeze"):
        if not 0.0 <= section[name] < 1.0:
            raise UserError(f"config.augment.{name} is {section[name]}; expected at least 0 and less than 1")
    for name in ("translate", "shear", "crop_pad", "pca_colour", "randaugment_layers", "mixup", "cutmix"):
        if not 0.0 <= section[name] < math.inf:
            raise UserError(f"config.augment.{name} is {section[name]}; expected at least 0, and finite")
    if not 0 <= section.randaugment_magnitude <= MAX_MAGNITUDE:
        raise UserError(
            f"config.augment.randaugment_magnitude is {section.randaugment_magnitude}; expected 0 to {MAX_MAGNITUDE}"
        )
    if len(jitter) != len(JITTERED) or not all(0.0 <= amount < math.inf for amount in jitter):
        raise UserError(
            f"config.augment.jitter is {tuple(jitter)}; expected three numbers of at least 0, for {', '.join(JITTERED)}"
        )
    for name, used in (("randaugment_layers", section.randaugment_layers), ("jitter", any(jitter))):
        if used and config.data.normalize == "pixels":
            raise UserError(
                f"config.augment.{name} needs one black and one white; config.data.normalize 'pixels' leaves neither; "
                "use 'channels' or 'range'"
            )
