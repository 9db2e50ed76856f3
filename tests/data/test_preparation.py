"""Preparation of images: inversion, resizing, crops and padding."""

import pathlib

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from common import config, config_checks
from common.data import decode, preparation
from common.data.preparation import Preparation, RandomView
from common.errors import UserError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def prepare(image: np.ndarray, rng=None, **changes) -> np.ndarray:
    return preparation.prepare_image(image, Preparation(**changes), rng)


def training(place: str, resize: int = 0, crop: int = 0, resize_max: int = 0, **changes) -> Preparation:
    return Preparation(resize=resize, crop=crop, random=RandomView(place, AREA, RATIO, resize_max), **changes)


def coordinates(height: int, width: int) -> np.ndarray:
    """An image whose first channel is the row and whose second is the column."""
    return np.stack([*np.mgrid[:height, :width], np.zeros((height, width))], axis=-1).astype(np.uint8)


def test_preparation_without_options_returns_the_image_itself():
    assert prepare(RGB) is RGB


def test_the_padding_is_background_even_after_inverting():
    padded = prepare(GREY[:, :, None], invert=True, pad=2)
    np.testing.assert_array_equal(padded[2:-2, 2:-2, 0], 255 - GREY)
    assert padded.shape == (9, 11, 1)
    assert padded.sum() == (255 - GREY.astype(int)).sum()


def test_resizing_keeps_the_centre_square():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (10, 100, 200)
    square = prepare(wide, resize=5)
    assert square.shape == (5, 5, 3)
    np.testing.assert_array_equal(square[:, 1:4], np.broadcast_to([10, 100, 200], (5, 3, 3)))


def test_the_crop_is_the_centre_of_what_was_resized():
    image = RNG.integers(0, 256, (40, 60, 3), np.uint8)
    resized = np.asarray(Image.fromarray(image).resize((48, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(prepare(image, resize=32, crop=20), resized[6:26, 14:34])
    np.testing.assert_array_equal(prepare(image, crop=20), image[10:30, 20:40])
    np.testing.assert_array_equal(prepare(image, resize=32, crop=20, whole=True), resized)
    stretched = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(
        prepare(image, resize=32, crop=20, stretch=True, interpolation="bicubic"), stretched[6:26, 6:26]
    )


def test_a_crop_that_the_image_is_too_small_for_names_the_file(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (30, 19)))
    for rng in (None, np.random.default_rng(0)):
        with pytest.raises(UserError, match=r"image\.png' has 19 x 30 pixels.*config\.data\.crop 20"):
            preparation.prepare_image(path, training("random", crop=20), rng, str(path))


def test_shrinking_averages():
    checkers = (np.indices((32, 32)).sum(axis=0) % 2 * 255).astype(np.uint8)[:, :, None]
    assert np.abs(prepare(checkers, resize=4).astype(int) - 127).max() <= 3


@pytest.mark.parametrize("channels", [1, 3])
def test_float_images_resize_like_integer_ones(channels):
    image = RNG.integers(0, 256, (12, 20, channels), np.uint8)
    resized = prepare(image.astype(np.float32), resize=6)
    assert resized.dtype == np.float32
    assert np.abs(resized - prepare(image, resize=6)).max() <= 1


@pytest.mark.parametrize("changes", [{"invert": True}, {"pad": 2}])
def test_float_images_have_no_known_background(changes):
    with pytest.raises(UserError, match="float"):
        prepare(np.zeros((16, 16, 1), np.float32), **changes)


@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 7, 3), (9, 4, 1)])
@pytest.mark.parametrize("changes", [{}, {"pad": 2}, {"resize": 6, "crop": 5}, {"channels": 3, "resize": 3, "pad": 1}])
def test_the_shape_is_known_beforehand(shape, changes):
    assert prepare(np.zeros(shape, np.uint8), **changes).shape == Preparation(**changes).shape(*shape)


def test_a_random_place_is_any_and_equally_likely():
    image, how = coordinates(6, 8), training("random", crop=4)
    places = np.array([preparation.prepare_image(image, how, np.random.default_rng(i))[0, 0, :2] for i in range(1500)])
    counts = np.zeros((3, 5), int)
    np.add.at(counts, tuple(places.T), 1)
    assert counts.sum() == 1500
    assert np.abs(counts - 100).max() < 45  # over four deviations of a count of mean 100


def test_scale_jitter_draws_whole_sizes_from_the_whole_range():
    rng = np.random.default_rng(0)
    views = [preparation.random_view(training("random", 10, 8, 14), 20, 30, rng) for _ in range(300)]
    assert {view.size for view in views} == {(side, side * 30 // 20) for side in range(10, 15)}
    for view in views:
        assert view.crop == (8, 8)
        assert all(0 <= corner <= length - 8 for corner, length in zip(view.corner, view.size, strict=True))


def test_the_area_and_the_shape_of_random_parts():
    rng, height, width = np.random.default_rng(0), 600, 900
    boxes = np.array([preparation.area_box(height, width, AREA, RATIO, rng) for _ in range(3000)])
    left, top, right, bottom = boxes.T
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= width
    assert bottom.max() <= height
    shapes = (right - left) / (bottom - top)
    assert 0.745 < shapes.min() < 0.76
    assert 1.32 < shapes.max() < 1.342
    areas = (right - left) * (bottom - top) / (height * width)
    assert 0.079 < areas.min() < 0.09
    # Uniform below the fractions at which some shapes stick out: half of [0.08, 0.4] is below 0.24.
    small = areas[areas < 0.4]
    assert abs((small < 0.24).mean() - 0.5) < 4 * np.sqrt(0.25 / len(small))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_the_thinnest_images_have_an_area_to_crop(height, width):
    image = np.full((height, width, 3), 77, np.uint8)
    for seed in range(20):
        cropped = preparation.prepare_image(image, training("area", crop=6), np.random.default_rng(seed))
        assert cropped.shape == (6, 6, 3)
        assert (cropped == 77).all()


def test_an_area_is_resized_from_where_it_is():
    rows = (np.arange(200)[:, None] * np.ones(200)).astype(np.uint8)
    image = np.stack([rows, rows.T, 0 * rows], axis=-1)
    how = training("area", crop=16)
    for seed in range(10):
        left, top, right, bottom = preparation.view_of(how, 200, 200, np.random.default_rng(seed)).box
        cropped = preparation.prepare_image(image, how, np.random.default_rng(seed)).astype(float)
        assert abs(cropped[..., 0].mean() - (top + bottom - 1) / 2) < 1
        assert abs(cropped[..., 1].mean() - (left + right - 1) / 2) < 1


def test_a_generator_in_the_same_state_gives_the_same_part():
    image = RNG.integers(0, 256, (50, 70, 3), np.uint8)
    for how in (training("area", crop=20), training("random", 24, 20, 40), training("centre", 24, 20, 40)):
        first, again, other = (preparation.prepare_image(image, how, np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
        np.testing.assert_array_equal(
            preparation.prepare_image(image, how),
            preparation.prepare_image(image, Preparation(resize=how.resize, crop=20)),
        )


def test_a_jpeg_that_will_shrink_much_is_decoded_small_and_looks_the_same(tmp_path, monkeypatch):
    smooth = np.asarray(Image.fromarray(RNG.integers(0, 256, (12, 16, 3), np.uint8)).resize((1600, 1200)))
    path = saved(tmp_path, Image.fromarray(smooth), "jpg", quality=95)
    how = training("area", crop=64)
    drafted = [preparation.prepare_image(path, how, np.random.default_rng(seed)) for seed in range(5)]
    monkeypatch.setattr(decode, "DRAFT_MARGIN", np.inf)
    for seed, small in enumerate(drafted):
        full = preparation.prepare_image(path, how, np.random.default_rng(seed))
        assert np.abs(small.astype(int) - full).mean() < 1
    with decode.open_image(path) as image:
        monkeypatch.setattr(decode, "DRAFT_MARGIN", 2.0)
        assert decode.upright(image, shrinks=8.0).size == (400, 300)


def test_a_prediction_is_prepared_like_training(tmp_path, data_config):
    how = Preparation.from_config(data_config(channels=1, invert=True, resize=4, pad=1))
    path = saved(tmp_path, Image.fromarray(RGB))
    np.testing.assert_array_equal(
        preparation.prepare_image(path, how, name=str(path)), preparation.prepare_image(decode.read(path), how)
    )


def saved(tmp_path: pathlib.Path, image: Image.Image, suffix: str = "png", **options) -> pathlib.Path:
    path = tmp_path / f"image.{suffix}"
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"resize": 20, "crop": 24}, r"config\.data\.crop is 24, more than config\.data\.resize 20"),
        ({"train_crop": "area"}, r"train_crop 'area' needs config\.data\.crop"),
        ({"train_crop": "middle"}, "train_crop 'middle'"),
        ({"resize": 20, "resize_max": 10}, "resize_max is 10"),
        ({"resize": 20, "resize_max": 30, "train_crop": "area"}, "resize_max is 30"),
        (
            {"memory": "arrays", "resize": 9, "train_crop": "random"},
            r"config\.data\.memory 'arrays'.*config\.data\.train_crop",
        ),
        ({"memory": "arrays", "resize": 9, "resize_max": 12}, r"config\.data\.memory 'arrays'.*resize_max"),
        ({"area": (0.5, 1.5)}, r"config\.data\.area"),
        ({"ratio": (2.0, 1.0)}, r"config\.data\.ratio"),
    ],
)
def test_contradictions_are_refused(changes, says):
    whole = config.base(ConfigDict({"family": "lenet"}))
    whole.data.update(changes)
    with pytest.raises(UserError, match=says):
        config_checks.validate(whole)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("channels", [0, 1, 3])
def test_a_file_is_prepared_as_its_pixels_are(tmp_path, mode, channels):
    # A file is resized before it becomes an array, which saves two copies of it.
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 52, 4), np.uint8), "RGBA").convert(mode).save(tmp_path / "a.png")
    stored = decode.read(tmp_path / "a.png", channels)
    areas = RandomView("area", (0.3, 1.0), (0.75, 1.25), 0)
    for given in (Preparation(channels, resize=20, crop=16, random=areas), Preparation(channels, True, resize=60)):
        ours, expected = (
            preparation.prepare_image(image, given, np.random.default_rng(1)) for image in (tmp_path / "a.png", stored)
        )
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("place", ["centre", "random"])
@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1)])
def test_an_image_too_narrow_to_resize_is_refused_by_its_header(tmp_path, place, shape):
    path = tmp_path / "line.png"
    Image.new("L", shape[::-1]).save(path)
    with pytest.raises(decode.BadImageError, match=r"line\.png' is refused: with a shorter side of 256 pixels it has"):
        preparation.prepare_image(path, training(place, 256, 224), np.random.default_rng(0), str(path))
    with pytest.raises(decode.BadImageError, match="15,360,000"):
        prepare(np.zeros((*shape, 1), np.uint8), resize=256, crop=224)
    assert prepare(np.zeros((*shape, 1), np.uint8), resize=16, stretch=True).shape == (16, 16, 1)
