"""Normalisation of stored pixels, the same in training, testing and predicting."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from common.data.dataset_info import Info
from common.data.pixel_statistics import PixelStatistics, needs_statistics
from common.errors import UserError, count_of

_LARGEST = 1e6  # of given numbers; of far larger ones not even differences fit into float32

# One value for each channel, or one for all.
Colour = float | Float[np.ndarray, "*channels"] | Float[Array, "*channels"]


def make_normalize(config: ConfigDict, statistics: PixelStatistics | None = None) -> Callable[[Array], Array]:
    """Returns a function from stored images (any leading axes) to network input in float32, by `data.normalize`.

    'range': maps 0..255 to `pixel_range` linearly; float images stay unchanged.
    'channels': subtracts each channel's mean and divides by its standard deviation.
    'pixels': subtracts the mean image (He 2016, section 4.2; Krizhevsky 2012, section 2) and divides by each channel's
        standard deviation. From images of another size each channel's mean is subtracted instead. The mean image is
        that of the centre crops, whichever part of an image training sees, as in AlexNet's own code.
    Means and deviations are the section's `mean` and `std`, or else those of `statistics`.
    """
    if config.normalize == "range":
        return functools.partial(to_range, pixel_range=tuple(config.pixel_range))
    mean, std = _moments(config, statistics)
    mean_image = _given(statistics).mean_image if config.normalize == "pixels" else None
    return functools.partial(standardize, mean=mean, std=std, mean_image=mean_image)


def to_range(
    images: UInt8[Array, "*shape"] | Float[Array, "*shape"], *, pixel_range: tuple[float, float]
) -> Float[Array, "*shape"]:
    """The images with 0..255 mapped to `pixel_range` linearly; float images stay unchanged."""
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images
    low, high = pixel_range
    return low + images.astype(jnp.float32) * ((high - low) / 255.0)


def standardize(
    images: UInt8[Array, "*batch height width channels"] | Float[Array, "*batch height width channels"],
    *,
    mean: Float[np.ndarray, " means"],
    std: Float[np.ndarray, " deviations"],
    mean_image: Float[np.ndarray, "mean_height mean_width channels"] | None = None,
) -> Float[Array, "*batch height width channels"]:
    """(images - mean) / std, per channel or for all; the mean image replaces `mean` if it has the images' size."""
    for name, values in (("mean", mean), ("std", std)):
        _check_length(name, len(values), images.shape[-1])
    if mean_image is not None and images.shape[-3:] == mean_image.shape:
        mean = mean_image
    return (images.astype(jnp.float32) - mean) / std


def background_and_foreground(
    config: ConfigDict, statistics: PixelStatistics | None = None
) -> tuple[Colour, Colour | None]:
    """The colour that augmentation surrounds an image with, and its opposite, on the network's scale.

    These are black and white. With 'pixels' black differs from pixel to pixel, so the surroundings are 0, the mean
    image's value (He 2016 pads with zeros), and the opposite is None.
    """
    if config.normalize == "range":
        return tuple(config.pixel_range)
    if config.normalize == "pixels":
        return 0.0, None
    mean, std = _moments(config, statistics)
    return -mean / std, (255.0 - mean) / std


def principal_colours(config: ConfigDict, statistics: PixelStatistics | None) -> Float[np.ndarray, "channels channels"]:
    """Columns: the principal directions of the training set's colours on the network's scale.

    Each is one standard deviation long, the square root of its eigenvalue. Krizhevsky 2012 (section 4.1) prints the
    eigenvalue itself, which for grey levels is a hundred times too large; his code takes the root.
    """
    statistics = _given(statistics)
    directions = statistics.eigenvectors * np.sqrt(statistics.eigenvalues)
    if config.normalize == "range":
        low, high = config.pixel_range
        return directions * np.float32((high - low) / 255.0)
    return directions / _moments(config, statistics)[1][:, None]


def _moments(
    config: ConfigDict, statistics: PixelStatistics | None
) -> tuple[Float[np.ndarray, " means"], Float[np.ndarray, " deviations"]]:
    """Means and standard deviations in grey levels, one for each channel or one for all."""
    if statistics is not None:
        _check_lengths(config, len(statistics.mean))
    mean = np.array(config.mean, np.float32) if config.mean else _given(statistics).mean
    return mean, np.array(config.std, np.float32) if config.std else _given(statistics).std


def _check_lengths(config: ConfigDict, channels: int) -> None:
    """Raises UserError unless the means and deviations that a `data` section gives suit that many channels."""
    for name in ("mean", "std"):
        if config[name]:
            _check_length(name, len(config[name]), channels)


def _check_length(name: str, length: int, channels: int) -> None:
    if length not in (1, channels):
        values, needed = count_of(length, "value"), count_of(channels, "channel")
        raise UserError(f"config.data.{name} has {values}, images have {needed}")


def _given(statistics: PixelStatistics | None) -> PixelStatistics:
    if statistics is None:
        raise ValueError("this config needs the statistics of the training set, which are missing")
    return statistics


def check_bytes(config: ConfigDict, info: Info) -> None:
    """Raises UserError if no 8-bit image can stand for one of a run's dataset. config: the run's `data` section.

    Such datasets have images of other channels than 1 or 3, or float images that are standardised on their own scale.
    With `normalize` 'range' `pixel_range` says what black and white are.
    """
    channels = info.image_shape[2]
    if channels not in (1, 3):
        raise UserError(f"the run takes images of {count_of(channels, 'channel')}; image files have 1 or 3")
    if info.float_images and config.get("normalize", "range") != "range":
        raise UserError(
            f"the run was trained on float images with config.data.normalize '{config.normalize}', so their scale is "
            "unknown; only 'range' says which values black and white have"
        )


def check_white(config: ConfigDict, info: Info) -> None:
    """Raises UserError for augmentation that needs the images' white, if that is unknown."""
    augment = config.augment
    options = {name: augment[name] for name in ("pixel_inversion", "randaugment_layers", "erase")}
    options["jitter"] = any(augment.jitter)
    used = [name for name, value in options.items() if value]
    if used and info.float_images and config.data.normalize == "channels":
        raise UserError(
            f"config.augment.{used[0]} needs the images' white, which float images have only with "
            "config.data.normalize 'range': config.data.pixel_range says it"
        )


def check(config: ConfigDict) -> None:
    """Raises UserError for options that contradict the config's normalisation of pixels."""
    data, normalize = config.data, f"config.data.normalize '{config.data.normalize}'"
    unused = {"range": ("mean", "std"), "channels": (), "pixels": ("mean",)}[data.normalize]
    for name in unused:
        if data[name]:
            raise UserError(f"config.data.{name} is {tuple(data[name])}, but {normalize} does not use it")
    if any(std <= 0 for std in data.std):
        raise UserError(f"config.data.std is {tuple(data.std)}; expected numbers above 0")
    if any(not 1 / _LARGEST <= std <= _LARGEST for std in data.std):
        raise UserError(
            f"config.data.std is {tuple(data.std)}; expected numbers from {1 / _LARGEST:g} to {_LARGEST:,.0f}"
        )
    for name in ("mean", "pixel_range"):
        if any(abs(value) > _LARGEST for value in data[name]):
            raise UserError(f"config.data.{name} is {tuple(data[name])}; expected numbers up to {_LARGEST:,.0f}")
    if data.channels:
        _check_lengths(data, data.channels)
    lengths = {len(data.mean), len(data.std)} - {0, 1}
    if len(lengths) > 1:
        raise UserError(
            f"config.data.mean has {len(data.mean)} values and config.data.std {len(data.std)}; expected one for each "
            "channel, or one for all"
        )
    if data.normalize == "range" and np.ptp(np.array(data.pixel_range, np.float32)) == 0:
        raise UserError(f"config.data.pixel_range is {tuple(data.pixel_range)}; expected two different numbers")
    if data.normalize == "pixels" and config.augment.pixel_inversion:
        raise UserError(f"config.augment.pixel_inversion needs one black and one white; {normalize} leaves neither")
    if data.statistics and not needs_statistics(config):
        raise UserError(f"config.data.statistics is '{data.statistics}', but nothing in this config needs any")
