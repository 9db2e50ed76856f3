"""From an image file to the array that a network is trained on, the same way for training and prediction.

Pillow decodes everything. Whatever a file holds becomes 8-bit grey (one channel) or RGB (three): EXIF orientation
is applied, transparency is laid over white, 16 bits lose their lower half, CMYK and palettes become RGB, and an
animation is its first frame.
"""

import contextlib
import dataclasses
import difflib
import io
import os
import pathlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict
from PIL import ExifTags, Image, ImageOps

from common.errors import UserError

Pixels = UInt8[np.ndarray, "height width channels"] | Float[np.ndarray, "height width channels"]
PreparedPixels = (
    UInt8[np.ndarray, "height_fed width_fed channels_fed"] | Float[np.ndarray, "height_fed width_fed channels_fed"]
)

# Rec. 601 luma, which Pillow's conversion of 8-bit RGB to grey uses as well.
_LUMA = np.float32([0.299, 0.587, 0.114])
_GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width


@dataclasses.dataclass(frozen=True)
class Preparation:
    """The keys of a `data` section that change an image's pixels; what they mean is in `prepare_image`."""

    channels: int = 0
    invert: bool = False
    resize: int = 0
    pad: int = 0

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Preparation":
        """The keys of a `data` section that `config.validate` has passed."""
        return cls(config.channels, config.invert, config.resize, config.pad)

    def shape(self, height: int | None, width: int | None, channels: int | None) -> tuple[int, int, int]:
        """What an image of this shape becomes; what the preparation decides may be None."""
        if self.resize:
            height = width = self.resize
        return height + 2 * self.pad, width + 2 * self.pad, self.channels or channels


def read(path: str | os.PathLike, channels: int = 0) -> UInt8[np.ndarray, "height width channels"]:
    """The image in a file, as grey (`channels` 1), RGB (3) or whichever of the two it is (0); values 0..255.

    UserError names the file when it does not exist, is no image, is cut short, or is so large (Pillow's
    `MAX_IMAGE_PIXELS`) that decoding it could exhaust the memory.
    """
    with _named(path):
        return _convert(_decode(path), channels)


def decode(encoded: bytes, name: str, channels: int = 0) -> UInt8[np.ndarray, "height width channels"]:
    """As `read`, for the bytes of a file that errors call `name`."""
    with _named(name):
        return _convert(_decode(io.BytesIO(encoded)), channels)


def read_shape(path: str | os.PathLike) -> tuple[int, int, int]:
    """Height, width and channels (1 or 3) of the image in a file, from its header alone; errors as `read`."""
    with _named(path), Image.open(path) as image:
        width, height = image.size
        if _orientation(image) in _SIDEWAYS:
            height, width = width, height
        return height, width, 1 if image.mode in _GREY_MODES else 3


def prepare_image(image: Pixels, config: ConfigDict | Preparation) -> PreparedPixels:
    """One image as the network is fed it, before augmentation: channels, invert, resize, pad, in this order.

    `config` is a `data` section or a `Preparation`:
        channels: 1 or 3 converts between grey and RGB; 0 leaves the image as it is.
        invert: 255 - p, for dark ink on white paper where bright on black is expected.
        resize: the shorter side becomes this many pixels (bilinear, averaging when it shrinks) and the centre
            square of that size is kept; 0 leaves the size.
        pad: this many pixels of background (0) at each side.
    Integer images are 0..255. Float images have a scale of their own, of which neither the inverse nor the background
    is known: to invert or pad one is a UserError.
    """
    is_float = np.issubdtype(image.dtype, np.floating)
    if is_float and (config.invert or config.pad):
        raise UserError("config.data.invert and config.data.pad need integer images (0..255); these are float images")
    if config.channels and config.channels != image.shape[-1]:
        image = _change_channels(image, config.channels)
    if config.invert:
        image = 255 - image
    if config.resize and image.shape[:2] != (config.resize, config.resize):
        image = _resize(image, config.resize)
    if config.pad:
        image = _pad(image, config.pad)
    return image


def similar_name(path: str | os.PathLike) -> str:
    """For a path that does not exist: '; did you mean ...?' with its nearest sibling, or nothing."""
    path = pathlib.Path(path)
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"; did you mean '{path.parent / close[0]}'?" if close else ""


@contextlib.contextmanager
def _named(name: str | os.PathLike) -> Iterator[None]:
    """Turns whatever Pillow makes of a bad file into a UserError that names it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"'{name}' {error}") from error
    except FileNotFoundError as error:
        raise UserError(f"no image '{name}'{similar_name(name)}") from error
    except IsADirectoryError as error:
        raise UserError(f"'{name}' is a folder; expected an image file") from error
    except PermissionError as error:
        raise UserError(f"'{name}' may not be read: permission denied") from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"'{name}' is not an image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"'{name}' is refused: {error}") from error
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError) as error:
        # Pillow's decoders promise no common base class for damaged files.
        raise UserError(f"'{name}' is a damaged image: {error}") from error


def _decode(file: str | os.PathLike | io.BytesIO) -> Image.Image:
    """Grey (mode L) or RGB, upright and opaque."""
    with Image.open(file) as image:
        image.load()
        upright = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
    if upright.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.mode in ("I", "F"):
        raise UserError(f"has 32-bit pixels (Pillow's mode {upright.mode}); expected 8 or 16 bits a channel")
    mode = "L" if upright.mode in _GREY_MODES else "RGB"
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return upright if upright.mode == mode else upright.convert(mode)


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def _convert(image: Image.Image, channels: int) -> np.ndarray:
    pixels = np.asarray(image)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return pixels if channels in (0, pixels.shape[-1]) else _change_channels(pixels, channels)


def _change_channels(image: np.ndarray, channels: int) -> np.ndarray:
    if image.shape[-1] == 1:
        return np.repeat(image, channels, axis=-1)
    if image.shape[-1] != 3 or channels != 1:
        raise UserError(f"images of {image.shape[-1]} channels cannot be made into {channels}; expected 1 or 3")
    if image.dtype == np.uint8:
        return np.array(Image.fromarray(image).convert("L"))[:, :, None]
    return (image @ _LUMA)[:, :, None].astype(image.dtype)


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    """Shorter side to `side`, then the centre square."""
    height, width = image.shape[:2]
    shorter = min(height, width)
    height, width = height * side // shorter, width * side // shorter
    # Pillow's bilinear filter widens with the reduction, so that shrinking averages instead of skipping pixels.
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    else:
        planes = [Image.fromarray(image[:, :, channel]) for channel in range(image.shape[-1])]
        resized = np.stack([plane.resize((width, height), Image.Resampling.BILINEAR) for plane in planes], axis=-1)
    top, left = round((height - side) / 2), round((width - side) / 2)
    return np.ascontiguousarray(resized[top : top + side, left : left + side])


def _pad(image: np.ndarray, pad: int) -> np.ndarray:
    height, width, channels = image.shape
    padded = np.zeros((height + 2 * pad, width + 2 * pad, channels), image.dtype)
    padded[pad : pad + height, pad : pad + width] = image
    return padded
