"""Random image files of every format that Pillow writes."""

import functools
import io
import pathlib
import tempfile
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.data import decode
from tests import png_header
from tests.fuzz.bytes_of_files import damaged
from tests.fuzz.endings import ends_well, tried

Image.init()
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F")
SIZES = ((7, 5), (1, 1), (64, 40))
ENDINGS = sorted({ending for ending, name in Image.registered_extensions().items() if name in Image.OPEN})


@functools.cache
def files():
    """An image file of each format, mode and size that Pillow writes, and animations."""
    rng = np.random.default_rng(0)
    written = []
    for name in sorted(Image.SAVE):
        if name not in Image.OPEN:
            continue
        for mode in MODES if name != "ICNS" else ("L",):  # whose icons are large, whatever one asks for
            for width, height in SIZES if mode == "RGB" else SIZES[:1]:
                picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
                written += _written(picture, name, mode)
    frames = [Image.new("RGB", (9, 6), colour) for colour in ("red", "green", "blue")]
    for name in ("GIF", "PNG", "TIFF", "WEBP"):
        file = io.BytesIO()
        frames[0].save(file, name, save_all=True, append_images=frames[1:])
        written.append(file.getvalue())
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in ("JPEG", "PNG", "TIFF", "WEBP"):
        file = io.BytesIO()
        frames[0].save(file, name, exif=turned)
        written.append(file.getvalue())
    return written


def _written(picture, name, mode):
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = picture.convert("L") if mode in ("1", "I;16", "PA") else picture
            picture.convert(mode).save(file, name)
    except Exception:  # noqa: BLE001 - the format has no such mode
        return []
    return [file.getvalue()]


def read(content, ending):
    """The image in a file of these bytes, whose header and pixels must agree."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, f"image{ending}")
        path.write_bytes(content)
        image = ends_well("image file", decode.read, path)
        if image is not None:
            assert decode.read_shape(path) == image.shape
            assert decode.read(path, 1).shape[2] == 1
        return image


@tried(150)
@given(st.data(), st.sampled_from(ENDINGS))
def test_a_damaged_image_is_read_or_refused(data, ending):
    read(data.draw(damaged(files())), ending)


def header(name, width, height):
    """The beginning of an image file of that size, without its pixels."""
    if name == "PPM":
        return b"P6 %d %d 255\n" % (width, height)
    if name == "PNG":
        return png_header.announcing(width, height)
    content = bytearray(next(content for content in files() if content.startswith(b"BM" if name == "BMP" else b"GIF8")))
    if name == "BMP":
        content[18:26] = (width % 2**31).to_bytes(4, "little") + (height % 2**31).to_bytes(4, "little")
    else:
        content[6:10] = (width % 2**16).to_bytes(2, "little") + (height % 2**16).to_bytes(2, "little")
    return bytes(content)


SIDES = st.sampled_from([0, 1, 9_000, 9_500, 10_000, 30_000, 65_535, 2**20, 2**31 - 1, 2**32 - 1])


@pytest.mark.parametrize("name", ["PPM", "PNG", "BMP", "GIF"])
def test_a_header_of_any_size_is_read_or_refused(name):
    @tried(3)
    @given(SIDES, SIDES)
    def check(width, height):
        read(header(name, width, height), f".{name.lower()}")

    check()
