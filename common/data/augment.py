"""The augmentation that a config's `augment` section describes, as one function of a key and a batch.

The change to an image depends only on the key and on the image's position in the global batch, so a batch comes out
the same on any number of devices (thanks to JAX's default `jax_threefry_partitionable`).
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, ArrayLike, Float, Key
from ml_collections import ConfigDict

from common.data import normalize
from common.data.normalize import Colour
from common.data.pixel_statistics import PixelStatistics
from common.data.randaugment import MAX_MAGNITUDE, randaugment
from common.data.transforms import (
    Images,
    affine,
    erase,
    invert_pixels,
    jitter_colours,
    mirror,
    pad_and_crop,
    shift_colours,
)
from common.errors import UserError

JITTERED = ("brightness", "contrast", "saturation")  # the three amounts of `jitter`

# Far more than any recipe uses, and little enough for the arithmetic and the memory of a step.
_HIGHEST = {
    "translate": 10_000,
    "shear": 100,
    "crop_pad": 1000,
    "pca_colour": 100,
    "randaugment_layers": 100,  # each is compiled
    "mixup": 1000,
    "cutmix": 1000,
}
_HIGHEST_JITTER = 100
_LOWEST_ALPHA = 0.001  # of mixup and CutMix: shares drawn from Beta(alpha, alpha) are 0 or 1 long before

Augment = Callable[[Key[Array, ""], Images], Images]


def make_input_transform(
    data: ConfigDict, augment: ConfigDict, statistics: PixelStatistics | None = None
) -> Callable[[Key[Array, ""], Array], Images]:
    """Returns a function (key, stored images) -> the normalised and randomly distorted images that an update sees.

    data, augment: these sections of a config. statistics: those of the training set, if the sections need them.
    """
    normalized = normalize.make_normalize(data, statistics)
    black, white = normalize.background_and_foreground(data, statistics)
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
    for name, highest in _HIGHEST.items():
        if not 0.0 <= section[name] < math.inf:
            raise UserError(f"config.augment.{name} is {section[name]}; expected at least 0, and finite")
        if section[name] > highest:
            raise UserError(f"config.augment.{name} is {section[name]}; expected at most {highest:,}")
    for name in ("mixup", "cutmix"):
        if 0.0 < section[name] < _LOWEST_ALPHA:
            raise UserError(f"config.augment.{name} is {section[name]}; expected 0, or at least {_LOWEST_ALPHA}")
        if section[name] and config.train.batch_size == 1:
            raise UserError(
                f"config.augment.{name} mixes the images of a batch, but config.train.batch_size is 1; expected at "
                "least 2"
            )
    if not 0 <= section.randaugment_magnitude <= MAX_MAGNITUDE:
        raise UserError(
            f"config.augment.randaugment_magnitude is {section.randaugment_magnitude}; expected 0 to {MAX_MAGNITUDE}"
        )
    if len(jitter) != len(JITTERED) or not all(0.0 <= amount < math.inf for amount in jitter):
        raise UserError(
            f"config.augment.jitter is {tuple(jitter)}; expected three numbers of at least 0, for {', '.join(JITTERED)}"
        )
    if max(jitter) > _HIGHEST_JITTER:
        raise UserError(f"config.augment.jitter is {tuple(jitter)}; expected at most {_HIGHEST_JITTER} each")
    for name, used in (("randaugment_layers", section.randaugment_layers), ("jitter", any(jitter))):
        if used and config.data.normalize == "pixels":
            raise UserError(
                f"config.augment.{name} needs one black and one white; config.data.normalize 'pixels' leaves neither; "
                "use 'channels' or 'range'"
            )
