"""Image files as arrays, decoded the same way for training and prediction.

Pillow decodes everything. Any image becomes 8-bit grey (one channel) or RGB (three): EXIF orientation is applied,
transparency is laid over white, 16 bits lose their lower half, CMYK and palettes become RGB, and an animation gives
its first frame.
"""

import contextlib
import errno
import io
import os
import pathlib
import stat
import unicodedata
import warnings
from collections.abc import Iterator
from typing import IO

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from common.errors import UserError, count_of, nearest

File = bytes | str | os.PathLike

# Rec. 601 luma, as in Pillow's conversion of 8-bit RGB to grey.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")
_PORTABLE = "PPM"  # Pillow's name for PGM too; it scales the pixels of more than 8 bits to 16, in mode I
_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
_ICONS = ("ICNS", "ICO")  # hold several images; the mode of the one that is used is only known after loading
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
_UNREADABLE = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EMFILE, errno.EIO)  # no fault of the image
DRAFT_MARGIN = 2.0  # a JPEG is decoded at no less than this many times the size needed

# This module refuses the images that Pillow only warns about.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class BadImageError(UserError):
    """An image that cannot be read: it is missing, damaged, too large, or in no known format."""


def read(file: File, channels: int = 0, name: str = "") -> UInt8[np.ndarray, "height width channels"]:
    """The image in a file as grey (`channels` 1), as RGB (3), or as whichever of the two it is (0); values 0..255.

    file: its path, or its bytes, which errors call `name`. Raises BadImageError if it does not exist, is not an image,
    is cut short, or is so large (Pillow's `MAX_IMAGE_PIXELS`, 89 million) that decoding many could exhaust the memory.
    """
    with naming_image(name or ("image" if isinstance(file, bytes) else file)), open_image(file) as image:
        return as_array(upright(image, channels))


def read_shape(file: File, name: str = "") -> tuple[int, int, int]:
    """The height, width and channels (1 or 3) of what `read` returns.

    They are read from the header, except for icons and for a PNG without an orientation there, which may come last.
    """
    with naming_image(name or ("image" if isinstance(file, bytes) else file)), open_image(file) as image:
        channels = _channels(image)
        return *upright_size(image), channels


def read_channels(file: File, name: str = "") -> int:
    """The channels (1 or 3) of what `read` returns, read from the header, except for icons."""
    with naming_image(name or ("image" if isinstance(file, bytes) else file)), open_image(file) as image:
        return _channels(image)


def _channels(image: Image.Image) -> int:
    if image.format in _ICONS:
        with _reading():
            image.load()
    return 1 if image.mode in _GREY_MODES or _is_deep_pgm(image) else 3


@contextlib.contextmanager
def open_image(file: File) -> Iterator[Image.Image]:
    """Opens the image in a file and reads only its header. Raises BadImageError if that fails."""
    with contextlib.ExitStack() as stack:
        with _reading():
            stored: IO[bytes] = stack.enter_context(_open_file(file))
            image = stack.enter_context(Image.open(stored))
        check_size(image.height, image.width)
        yield image


def check_size(height: int, width: int, when: str = "as stored") -> None:
    """Raises BadImageError for more pixels than Pillow's `MAX_IMAGE_PIXELS`."""
    limit = Image.MAX_IMAGE_PIXELS  # None: no limit
    if limit is not None and width * height > limit:
        raise BadImageError(f"is refused: {when} it has {height:,} x {width:,} pixels, more than {limit:,} in all")


def _open_file(file: File) -> io.BytesIO | io.BufferedReader:
    """The file's bytes.

    Pillow does not get the path: it would map plain TIFFs into memory, and garble rotated ones. Raises BadImageError
    unless it is a regular file, because reading others may block or never end.
    """
    if isinstance(file, bytes):
        return io.BytesIO(file)
    kind = stat.S_IFMT(os.stat(file).st_mode)
    if kind != stat.S_IFREG:
        raise BadImageError(f"is a {_KINDS.get(kind, 'special file')}; expected an image file")
    return open(file, "rb")


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width after applying the EXIF orientation, for an image that has not been loaded yet."""
    with _reading():
        width, height = image.size
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            # Pillow itself turns a TIFF upright, on opening or on loading, depending on Pillow's version.
            width, height = (image.tag_v2[tag] for tag in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH))
        return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


def upright(image: Image.Image, channels: int = 0, shrinks: float = 1.0) -> Image.Image:
    """An opened file's image, upright, opaque, and grey or RGB as for `read`. Raises BadImageError if it is damaged.

    shrinks: the smallest factor that the caller will shrink the image by. A JPEG is then decoded at 1/2, 1/4 or 1/8 of
    its size, as long as that leaves `DRAFT_MARGIN` times the size needed.
    """
    reduction = int(shrinks / DRAFT_MARGIN)
    with _reading():
        if reduction > 1:
            image.draft(None, (max(image.width // reduction, 1), max(image.height // reduction, 1)))
        decoded = _decode(image)
    mode = {0: decoded.mode, 1: "L", 3: "RGB"}[channels]
    return decoded if decoded.mode == mode else decoded.convert(mode)


def as_array(image: Image.Image) -> UInt8[np.ndarray, "height width channels"]:
    """The pixels of a grey (mode L) or RGB image."""
    array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array


def change_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """The image [height, width, 1 or 3] with 1 (grey) or 3 (RGB) channels; 0 leaves it unchanged."""
    if channels in (0, image.shape[-1]):
        return image
    if image.shape[-1] == 1:
        return np.repeat(image, channels, axis=-1)
    if image.shape[-1] != 3 or channels != 1:
        raise UserError(f"has {count_of(image.shape[-1], 'channel')}, which cannot become {channels}; expected 1 or 3")
    if image.dtype == np.uint8:
        return np.array(Image.fromarray(image).convert("L"))[:, :, None]
    return (image @ _LUMA)[:, :, None].astype(image.dtype)


def similar_name(path: str | os.PathLike) -> str:
    """The words that follow the name of a missing file or folder: its nearest sibling; empty if none is close."""
    path = pathlib.Path(path)
    if path.exists():
        return ": it is a folder" if path.is_dir() else ": it is a file"
    if path.is_symlink():
        return f": it is a link to '{os.readlink(path)}'"
    try:
        siblings = os.listdir(path.parent)
    except OSError:
        return ""
    if any(unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", path.name) for name in siblings):
        return "; the folder has a name that looks the same, with other Unicode characters for its accents"
    close = nearest(path.name, siblings, least=0.6)
    return f"; did you mean '{path.parent / close}'?" if close else ""


@contextlib.contextmanager
def naming_image(name: object) -> Iterator[None]:
    """Puts the image's name in front of the message of a UserError."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"'{name}' {error}") from error


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Turns whatever Pillow raises for a bad file into BadImageError."""
    try:
        yield
    except FileNotFoundError as error:
        raise BadImageError(f"does not exist{similar_name(error.filename)}") from error
    except PermissionError as error:
        raise BadImageError("may not be read: permission denied") from error
    except Image.UnidentifiedImageError as error:
        raise BadImageError("is not an image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise BadImageError(f"is refused: {error}") from error
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders promise no common base class for damaged files
        if isinstance(error, OSError) and error.errno in _UNREADABLE:
            raise BadImageError(f"cannot be read: {error.strerror}") from error
        raise BadImageError(f"is a damaged image: {error or type(error).__name__}") from error


def _decode(image: Image.Image) -> Image.Image:
    """The image as grey (mode L) or RGB, upright and opaque."""
    image.load()
    upright = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
    if upright.mode.startswith("I;16") or _is_deep_pgm(image):
        pixels = (np.asarray(upright) >> 8).astype(np.uint8)
        return Image.fromarray(255 - pixels if _white_is_zero(image) else pixels)
    if upright.mode in ("I", "F"):
        raise BadImageError(f"has 32-bit pixels (Pillow's mode {upright.mode}); expected 8 or 16 bits a channel")
    mode = "L" if upright.mode in _GREY_MODES else "RGB"
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return upright if upright.mode == mode else upright.convert(mode)


def _is_deep_pgm(image: Image.Image) -> bool:
    return (image.format, image.mode) == (_PORTABLE, "I")


def _white_is_zero(image: Image.Image) -> bool:
    """True for a TIFF whose 0 is white, which Pillow inverts by itself at 8 bits and not at 16."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    return image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(ExifTags.Base.Orientation, 1)
