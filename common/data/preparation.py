"""Preparation of stored images for the network: colour, size and crop.

Testing and predicting keep the centre. Training may keep a random part, which depends only on the random generator and
on the image's size.
"""

import dataclasses
import os
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict
from PIL import Image

from common.data import decode
from common.errors import UserError

Pixels = UInt8[np.ndarray, "height width channels"] | Float[np.ndarray, "height width channels"]
Stored = UInt8[np.ndarray, "batch height width channels"] | Float[np.ndarray, "batch height width channels"]
PreparedPixels = (
    UInt8[np.ndarray, "height_fed width_fed channels_fed"] | Float[np.ndarray, "height_fed width_fed channels_fed"]
)

_AREA_ATTEMPTS = 10
# Pillow's filters widen as the image shrinks, so that they average pixels instead of skipping them.
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class View(NamedTuple):
    """The part of an image that is kept: `box` is resized to `size`, then `crop` is cut out at `corner`.

    box: (left, top, right, bottom) in pixels of the stored image, or None for all of it. size, crop: (height, width).
    corner: (top, left).
    """

    box: tuple[float, float, float, float] | None
    size: tuple[int, int]
    corner: tuple[int, int]
    crop: tuple[int, int]

    def shrinks(self, height: int, width: int) -> float:
        """The factor that an image of this size is shrunk by, along the axis where it is shrunk least."""
        left, top, right, bottom = self.box or (0, 0, width, height)
        return min((bottom - top) / self.size[0], (right - left) / self.size[1])


@dataclasses.dataclass(frozen=True)
class RandomView:
    """The options of a `data` section that make training keep a random part."""

    train_crop: str
    area: tuple[float, float]
    ratio: tuple[float, float]
    resize_max: int


@dataclasses.dataclass(frozen=True)
class Preparation:
    """The options of a `data` section that change an image's pixels, explained in `prepare_image`.

    whole: resized images are not cropped. random: how training chooses the part it keeps; None for the centre.
    """

    channels: int = 0
    invert: bool = False
    resize: int = 0
    crop: int = 0
    pad: int = 0
    whole: bool = False
    random: RandomView | None = None
    stretch: bool = False
    interpolation: str = "bilinear"

    @classmethod
    def from_config(cls, config: ConfigDict, train: bool = False) -> "Preparation":
        """The preparation that a validated `data` section describes, for testing or for training."""
        random = None
        if train and (config.train_crop != "centre" or config.resize_max):
            random = RandomView(config.train_crop, tuple(config.area), tuple(config.ratio), config.resize_max)
        options = {"stretch": config.stretch, "interpolation": config.interpolation}
        return cls(config.channels, config.invert, config.resize, config.crop, config.pad, random=random, **options)

    @property
    def side(self) -> int:
        """The side of the square that is kept, before padding; 0 if the image keeps its own size."""
        return self.crop or self.resize

    def shape(self, height: int, width: int, channels: int) -> tuple[int, int, int]:
        """The shape of a prepared image, from the stored one's; a length that the preparation sets may be 0."""
        if self.side:
            height = width = self.side
        return height + 2 * self.pad, width + 2 * self.pad, self.channels or channels


def prepare_image(
    image: Pixels | bytes | str | os.PathLike,
    preparation: Preparation,
    rng: np.random.Generator | None = None,
    name: str = "image",
) -> PreparedPixels:
    """One image as it enters augmentation: channels, invert, resize, crop and pad, in this order.

    image: decoded, or a file's path or bytes, which errors call `name`. The `Preparation` has:
        channels: 1 or 3 converts between grey and RGB; 0 leaves the image unchanged.
        invert: replaces each pixel p by 255 - p, for dark ink on white paper where bright on black is expected.
        resize: the shorter side, or with `stretch` each side, becomes this many pixels; 0 keeps the size.
        interpolation: for resizing, 'bilinear' or 'bicubic'; both average where an image shrinks.
        crop: the side of the centre square that is kept; 0 keeps that of `resize`.
        pad: pixels of background (0) added at each side.
        random: with an `rng`, the part that is kept is drawn as in `random_view`.
    Integer images are 0..255. Float images have their own scale, whose inverse and background are unknown, so
    inverting or padding one is a UserError; so is a crop larger than the image. A file that cannot be read is a
    BadImageError, and so is an image so narrow that it would be too large after resizing.
    """
    with decode.naming_image(name):
        if isinstance(image, np.ndarray):
            height, width = image.shape[:2]
            view = view_of(preparation, height, width, rng)
            return _finish(image, view, preparation)
        return _prepare_file(image, preparation, rng)


def _prepare_file(
    file: bytes | str | os.PathLike, preparation: Preparation, rng: np.random.Generator | None
) -> PreparedPixels:
    """`prepare_image` for a file. The view follows from the header, so no more than it needs is decoded."""
    with decode.open_image(file) as image:
        height, width = decode.upright_size(image)
        view = view_of(preparation, height, width, rng)
        picture = decode.upright(image, preparation.channels, shrinks=view.shrinks(height, width) if rng else 1.0)
    if view.box and picture.size != (width, height):
        across, down = picture.width / width, picture.height / height
        left, top, right, bottom = view.box
        view = view._replace(box=(left * across, top * down, right * across, bottom * down))
    if _is_resized(view, (picture.height, picture.width)) and not preparation.invert:
        # `_finish` would first copy all pixels twice; resizing here reads 1.4 to 2 times the images a second.
        picture = picture.resize(view.size[::-1], INTERPOLATIONS[preparation.interpolation], view.box)
        view = view._replace(box=None)
    return _finish(decode.as_array(picture), view, preparation)


def view_of(preparation: Preparation, height: int, width: int, rng: np.random.Generator | None = None) -> View:
    """The part of an image of height x width that is kept; random if the preparation is and there is an `rng`."""
    if rng is None or preparation.random is None:
        return _centred(preparation, height, width, preparation.resize)
    return random_view(preparation, height, width, rng)


def random_view(preparation: Preparation, height: int, width: int, rng: np.random.Generator) -> View:
    """The part of an image that training keeps, drawn as `train_crop` says.

    'area' takes `area_box`, resized to the square. Otherwise the shorter side becomes `resize`, or a whole number of
    pixels uniform in `resize` .. `resize_max` (VGG section 3.1, ResNet section 3.4), and the square is taken from the
    centre ('centre') or from a uniformly random place ('random').
    """
    random, side = preparation.random, preparation.side
    assert random is not None
    if random.train_crop == "area":
        box = area_box(height, width, random.area, random.ratio, rng)
        return View(box, (side, side), (0, 0), (side, side))
    resize = int(rng.integers(preparation.resize, random.resize_max + 1)) if random.resize_max else preparation.resize
    view = _centred(dataclasses.replace(preparation, crop=side), height, width, resize)
    if random.train_crop == "centre":
        return view
    top, left = (int(rng.integers(0, length - side + 1)) for length in view.size)
    return view._replace(corner=(top, left))


def area_box(
    height: int, width: int, area: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a random part of the image (GoogLeNet section 6).

    Its share of the image's area is uniform in `area`, its width over its height log-uniform in `ratio`, its place
    uniform. If ten draws stick out of the image, it is the largest centred part of the image's own shape, or of the
    nearest shape that `ratio` allows.
    """
    for _ in range(_AREA_ATTEMPTS):
        pixels = height * width * rng.uniform(*area)
        shape = np.exp(rng.uniform(*np.log(ratio)))
        across, down = round(np.sqrt(pixels * shape)), round(np.sqrt(pixels / shape))
        if 0 < across <= width and 0 < down <= height:
            left, top = int(rng.integers(0, width - across + 1)), int(rng.integers(0, height - down + 1))
            return left, top, left + across, top + down
    across = max(min(width, round(height * ratio[1])), 1)
    down = max(min(height, round(width / ratio[0])), 1)
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def _centred(preparation: Preparation, height: int, width: int, resize: int) -> View:
    """The centre square, or the whole, of an image whose shorter side (with `stretch`, each side) becomes `resize`."""
    shorter = min(height, width)
    size = (height * resize // shorter, width * resize // shorter) if resize else (height, width)
    if resize and preparation.stretch:
        size = (resize, resize)
    if resize:
        decode.check_size(*size, f"with a shorter side of {resize} pixels")
    side = preparation.side
    if preparation.whole or not side:
        return View(None, size, (0, 0), size)
    if side > min(size):
        raise UserError(
            f"has {height} x {width} pixels, too few for a square of config.data.crop {side}; set config.data.resize"
        )
    return View(None, size, (round((size[0] - side) / 2), round((size[1] - side) / 2)), (side, side))


def _finish(image: Pixels, view: View, preparation: Preparation) -> PreparedPixels:
    """The decoded image after all steps of the preparation, which keep the part `view`."""
    if np.issubdtype(image.dtype, np.floating) and (preparation.invert or preparation.pad):
        raise UserError("is a float image; config.data.invert and config.data.pad need integer images (0..255)")
    image = decode.change_channels(image, preparation.channels)
    if preparation.invert:
        image = 255 - image
    image = cut(image, view, preparation.interpolation)
    return _pad(image, preparation.pad) if preparation.pad else image


def cut(image: Pixels, view: View, interpolation: str = "bilinear") -> PreparedPixels:
    """The part of a decoded image that a view keeps, at the view's size."""
    if _is_resized(view, image.shape[:2]):
        image = _resize(image, view.size, view.box, interpolation)
    if view.crop == image.shape[:2]:
        return image
    (top, left), (height, width) = view.corner, view.crop
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _is_resized(view: View, size: tuple[int, ...]) -> bool:
    return view.box is not None or view.size != size


def _resize(
    image: Pixels, size: tuple[int, int], box: tuple[float, float, float, float] | None, interpolation: str
) -> PreparedPixels:
    """The `box` of the image (None for all of it) resized to `size` (height, width)."""
    how: dict[str, Any] = {"size": size[::-1], "resample": INTERPOLATIONS[interpolation], "box": box}
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return np.asarray(Image.fromarray(image).resize(**how))
    planes = [np.asarray(Image.fromarray(image[:, :, channel]).resize(**how)) for channel in range(image.shape[-1])]
    return np.stack(planes, axis=-1)


def _pad(image: Pixels, pad: int) -> PreparedPixels:
    height, width, channels = image.shape
    padded = np.zeros((height + 2 * pad, width + 2 * pad, channels), image.dtype)
    padded[pad : pad + height, pad : pad + width] = image
    return padded


def check(config: ConfigDict) -> None:
    """Raises UserError for options of a `data` section that are out of range or contradict each other."""
    resize, crop, place = config.resize, config.crop, config.train_crop
    if resize and crop > resize:
        raise UserError(f"config.data.crop is {crop}, more than config.data.resize {resize}")
    side, limit = max(resize, config.resize_max, (crop or resize) + 2 * config.pad), Image.MAX_IMAGE_PIXELS
    if limit is not None and side**2 > limit:
        raise UserError(
            f"config.data.resize, resize_max, crop and pad make images of {side:,} x {side:,} pixels; expected at most "
            f"{limit:,} in all"
        )
    if config.stretch and not resize:
        raise UserError("config.data.stretch is True, but config.data.resize, the length of both sides, is 0")
    if place != "centre" and not (crop or resize):
        raise UserError(f"config.data.train_crop '{place}' needs config.data.crop or config.data.resize, for its size")
    if config.resize_max and (place == "area" or not 0 < resize <= config.resize_max):
        raise UserError(
            f"config.data.resize_max is {config.resize_max}: the shorter side is drawn from config.data.resize "
            f"({resize}) up to it, which has to be a range; with config.data.train_crop 'area' set it to 0"
        )
    if place != "centre" and config.memory == "arrays":
        raise UserError(
            f"config.data.memory 'arrays' decodes each image once, but config.data.train_crop '{place}' crops it anew "
            "each time; use 'auto' or 'stream'"
        )
    if config.resize_max and config.memory == "arrays":
        raise UserError("config.data.memory 'arrays' resizes each image once, so config.data.resize_max has to be 0")
    low, high = config.area
    if not 0 < low <= high <= 1:
        raise UserError(f"config.data.area is {tuple(config.area)}; expected two fractions of the image's area")
    low, high = config.ratio
    if not 0 < low <= high:
        raise UserError(f"config.data.ratio is {tuple(config.ratio)}; expected the least and largest width / height")
