"""Decoding of image files: modes, orientations, damage, and sizes that are refused."""

import os
import pathlib
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, features

from common.data import decode, preparation
from common.data.preparation import Preparation
from common.errors import UserError
from tests import png_header

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)


def saved(tmp_path: pathlib.Path, image: Image.Image, suffix: str = "png", **options) -> pathlib.Path:
    path = tmp_path / f"image.{suffix}"
    image.save(path, **options)
    return path


def test_grey_and_rgb_are_read_as_they_are(tmp_path):
    np.testing.assert_array_equal(decode.read(saved(tmp_path, Image.fromarray(GREY))), GREY[:, :, None])
    np.testing.assert_array_equal(decode.read(saved(tmp_path, Image.fromarray(RGB))), RGB)


def test_channels_asked_for_are_given(tmp_path):
    grey_file, luma = saved(tmp_path, Image.fromarray(GREY)), RGB @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_array_equal(decode.read(grey_file, 3), np.stack([GREY] * 3, axis=-1))
    assert np.abs(decode.read(saved(tmp_path, Image.fromarray(RGB)), 1)[:, :, 0] - luma).max() <= 1


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.dstack([RGB, np.zeros_like(GREY)])
    rgba[0, 0, 3] = 255
    pixels = decode.read(saved(tmp_path, Image.fromarray(rgba)))
    np.testing.assert_array_equal(pixels[0, 0], RGB[0, 0])
    assert (pixels.reshape(-1, 3)[1:] == 255).all()


def test_grey_with_transparency_stays_grey(tmp_path):
    layer = np.dstack([GREY, np.full_like(GREY, 128)])
    pixels = decode.read(saved(tmp_path, Image.fromarray(layer)))
    assert pixels.shape == (5, 7, 1)
    assert np.abs(pixels[:, :, 0] - (GREY * (128 / 255) + 255 * (127 / 255))).max() <= 1


def test_a_transparent_palette_colour_becomes_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 200, 100, 50])
    pixels = decode.read(saved(tmp_path, image, transparency=0))
    np.testing.assert_array_equal(pixels, [[[255, 255, 255], [200, 100, 50]]])


def test_sixteen_bits_lose_the_lower_half(tmp_path):
    deep = RNG.integers(0, 2**16, (5, 7)).astype(np.uint16)
    for suffix in ("png", "tiff"):
        pixels = decode.read(saved(tmp_path, Image.fromarray(deep), suffix))
        np.testing.assert_array_equal(pixels[:, :, 0], deep >> 8)


@pytest.mark.parametrize("maximum", [1023, 65535])
def test_a_portable_grey_map_of_more_than_8_bits_loses_the_lower_ones(tmp_path, maximum):
    deep = RNG.integers(0, maximum + 1, (5, 7))
    content = f"P5 7 5 {maximum}\n".encode() + deep.astype(">u2").tobytes()
    scaled = np.round(deep / maximum * 65535).astype(int)
    for channels in (1, 3):
        np.testing.assert_array_equal(decode.read(content, channels)[..., 0], scaled >> 8)
    assert decode.read_shape(content) == decode.read(content).shape == (5, 7, 1)
    with pytest.raises(decode.BadImageError, match="has 32-bit pixels"):
        decode.read(saved(tmp_path, Image.fromarray(deep.astype(np.int32)), "tiff"))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_0_is_white_is_inverted(tmp_path, bits):
    grey = RNG.integers(0, 2**bits, (5, 7)).astype(f"u{bits // 8}")
    path = saved(tmp_path, Image.fromarray(grey), "tiff")
    photometric = 262
    entry, inverted = (struct.pack("<HHIHH", photometric, 3, 1, value, 0) for value in (1, 0))
    content = path.read_bytes()
    assert content.count(entry) == 1
    np.testing.assert_array_equal(decode.read(content)[..., 0], grey >> (bits - 8))
    np.testing.assert_array_equal(decode.read(content.replace(entry, inverted))[..., 0], 255 - (grey >> (bits - 8)))


def test_cmyk_becomes_rgb(tmp_path):
    pixels = decode.read(saved(tmp_path, Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "jpg", quality=95))
    assert pixels.shape == (16, 16, 3)
    assert np.abs(pixels.astype(int) - [0, 255, 255]).max() < 5


def test_bilevel_is_black_and_white(tmp_path):
    pixels = decode.read(saved(tmp_path, Image.fromarray(GREY > 127)))
    np.testing.assert_array_equal(pixels[:, :, 0], np.where(GREY > 127, 255, 0))


def test_orientation_in_exif_is_applied(tmp_path):
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned: rotate a quarter clockwise to see it upright
    path = saved(tmp_path, image, exif=exif)
    np.testing.assert_array_equal(decode.read(path), np.rot90(RGB, -1))
    assert decode.read_shape(path) == (7, 5, 3)


TURNED = {  # EXIF orientation: what makes the stored pixels upright
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: np.swapaxes(stored, 0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(np.swapaxes(stored, 0, 1), 2),
    8: np.rot90,
}
# Formats with an orientation, the modes that they keep, and how to save them without loss (or nearly).
ORIENTED = {
    "png": (("1", "L", "LA", "P", "I;16", "RGB", "RGBA"), {}),
    "tiff": (("1", "L", "LA", "P", "I;16", "RGB", "RGBA", "CMYK"), {}),
    "webp": (("RGB", "RGBA"), {"lossless": True, "exact": True}),
    "jpg": (("L", "RGB", "CMYK"), {"quality": 100, "subsampling": 0}),
    "avif": (("RGB", "RGBA"), {"quality": 100, "subsampling": "4:4:4"}),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(
    ("suffix", "mode"), [(suffix, mode) for suffix, (modes, _) in ORIENTED.items() for mode in modes]
)
def test_every_format_is_read_upright_in_every_mode_and_orientation(tmp_path, suffix, mode, orientation):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    rows, columns = np.mgrid[:24, :40]
    smooth = np.stack([6 * columns, 10 * rows, 200 - 2 * rows - 3 * columns], axis=-1).astype(np.uint8)
    if mode == "I;16":
        image = Image.fromarray(smooth[..., 0].astype(np.uint16) << 8)
    else:
        image = Image.fromarray(smooth).convert(mode)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = ORIENTED[suffix][1]
    plain = decode.read(saved(tmp_path, image, suffix, **options))
    path = saved(tmp_path, image, suffix, exif=exif, **options)
    assert decode.read_shape(path) == decode.read(path).shape
    assert np.abs(decode.read(path).astype(int) - TURNED[orientation](plain)).max() <= 4
    assert (decode.read(path.read_bytes()) == decode.read(path)).all()
    how = Preparation(resize=12, crop=8)
    np.testing.assert_array_equal(
        preparation.prepare_image(path, how), preparation.prepare_image(decode.read(path), how)
    )


def test_an_animation_is_its_first_frame(tmp_path):
    frames = [Image.new("L", (4, 3), value) for value in (10, 200)]
    pixels = decode.read(saved(tmp_path, frames[0], "gif", save_all=True, append_images=frames[1:]), 1)
    assert pixels.shape == (3, 4, 1)
    assert (pixels == 10).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "I;16"])
def test_the_header_tells_the_shape_that_decoding_gives(tmp_path, mode):
    path = saved(tmp_path, Image.new(mode, (6, 4)))
    assert decode.read_shape(path) == decode.read(path).shape


def test_the_channels_are_read_without_the_pixels(tmp_path):
    whole = saved(tmp_path, Image.fromarray(RNG.integers(0, 256, (50, 50), np.uint8)))
    whole.write_bytes(whole.read_bytes()[:1000])
    assert decode.read_channels(whole) == 1
    with pytest.raises(UserError, match="damaged"):
        decode.read(whole)


@pytest.mark.parametrize("content", [b"", b"label,file\n", b"<svg></svg>"])
def test_a_file_that_is_not_an_image_is_named(tmp_path, content):
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    for reader in (decode.read, decode.read_shape):
        with pytest.raises(UserError, match=r"notes\.png.*not an image"):
            reader(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff", "webp"])
def test_a_file_that_is_cut_short_is_named(tmp_path, suffix):
    path = saved(tmp_path, Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)), suffix)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"image\.{suffix}"):
        decode.read(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff"])
def test_no_damage_raises_anything_but_a_user_error(tmp_path, suffix):
    sound = saved(tmp_path, Image.fromarray(RNG.integers(0, 256, (16, 16, 3), np.uint8)), suffix).read_bytes()
    for _ in range(100):
        damaged = bytearray(sound)
        for position in RNG.integers(0, len(sound), 8):
            damaged[position] = RNG.integers(0, 256)
        try:
            assert decode.read(bytes(damaged), 3, "damaged").dtype == np.uint8
        except UserError as error:
            assert "damaged" in str(error)  # noqa: PT017 - either outcome is right


def test_a_missing_file_names_its_neighbour(tmp_path):
    saved(tmp_path, Image.fromarray(GREY))
    with pytest.raises(UserError, match=r"imgae\.png. does not exist.*did you mean .*image\.png"):
        decode.read(tmp_path / "imgae.png")


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    for path, says in (
        (tmp_path, "is a folder; expected an image file"),
        (tmp_path / "fifo", "fifo' is a FIFO; expected an image file"),
        (pathlib.Path("/dev/zero"), "'/dev/zero' is a device; expected an image file"),
        (tmp_path / "loop", "loop' cannot be read: Too many levels of symbolic links"),
        (tmp_path / "dangling", "dangling' does not exist: it is a link to 'nowhere'"),
        (tmp_path / ("x" * 4000), "cannot be read: File name too long"),
    ):
        for reader in (decode.read, decode.read_shape):
            with pytest.raises(decode.BadImageError, match=says):
                reader(path)


def test_a_name_that_looks_the_same_is_not_offered(tmp_path):
    saved(tmp_path, Image.fromarray(GREY)).rename(tmp_path / "caf\u00e9.png")
    with pytest.raises(UserError, match="a name that looks the same") as caught:
        decode.read(tmp_path / "cafe\u0301.png")
    assert "did you mean" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 20_000])  # Pillow itself warns of the first and refuses the second
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, side):
    path = tmp_path / "image.png"
    path.write_bytes(png_header.announcing(side, side))
    for reader in (decode.read, decode.read_shape):
        with pytest.raises(UserError, match=r"image\.png' is refused"):
            reader(path)


def test_thirty_two_bits_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"image\.tiff.*32-bit"):
        decode.read(saved(tmp_path, Image.fromarray(np.zeros((3, 3), np.float32)), "tiff"))


@pytest.mark.parametrize("name", ["ICO", "ICNS"])
def test_a_grey_icon_is_grey_in_its_shape_too(name, tmp_path):
    Image.fromarray(np.full((16, 16), 99, np.uint8)).save(tmp_path / "icon", name)
    image = decode.read(tmp_path / "icon")
    assert decode.read_shape(tmp_path / "icon") == image.shape
    assert image.shape[2] == 1
