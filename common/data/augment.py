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
    row). The paper's 540,000 distorted copies among 600,000 images are a probability of 0.9.
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
    """The indices into the padded axis on both sides of each position, and its distance from the first."""
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


def make_input_transform(
    data: ConfigDict, augment: ConfigDict, statistics: PixelStatistics | None = None
) -> Callable[[Key[Array, ""], Array], Images]:
    """Returns (key, stored images) -> the normalised and randomly distorted images that an update sees.

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
    """Returns (key, images) -> images for a checked `augment` section.

    The order is: affine distortion, mirror, pad and crop, pixel inversion, shift along the principal `colours`,
    RandAugment. background, foreground: the images' black and white.
    """
    if config.pixel_inversion and foreground is None:
        raise ValueError("pixels are inverted between background and foreground; foreground is missing")
    if config.pca_colour and colours is None:
        raise ValueError("colours are shifted along the training set's principal ones, which are missing")
    # Neither is None where it is used; RandAugment's config has both colours, see `check`.
    high: Any = foreground
    directions: Any = colours
    ranges = {name: config[name] for name in ("translate", "scale", "squeeze", "shear")}
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
    ]
    # Each transform has a fixed number, so that switching one on does not change what the others draw.
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
    """UserError for amounts in the `augment` section of a whole config that are out of range or contradict others."""
    section = config.augment
    for name in ("probability", "pixel_inversion"):
        if not 0.0 <= section[name] <= 1.0:
            raise UserError(f"config.augment.{name} is {section[name]}; expected a probability, from 0 to 1")
    for name in ("scale", "squeeze"):
        if not 0.0 <= section[name] < 1.0:
            raise UserError(f"config.augment.{name} is {section[name]}; expected at least 0 and less than 1")
    for name in ("translate", "shear", "crop_pad", "pca_colour", "randaugment_layers", "mixup"):
        if not 0.0 <= section[name] < math.inf:
            raise UserError(f"config.augment.{name} is {section[name]}; expected at least 0, and finite")
    if not 0 <= section.randaugment_magnitude <= MAX_MAGNITUDE:
        raise UserError(
            f"config.augment.randaugment_magnitude is {section.randaugment_magnitude}; expected 0 to {MAX_MAGNITUDE}"
        )
    if section.randaugment_layers and config.data.normalize == "pixels":
        raise UserError(
            "config.augment.randaugment_layers needs one black and one white; config.data.normalize 'pixels' leaves "
            "neither; use 'channels' or 'range'"
        )
