"""Normalisation of pixels, and the statistics of the training images that it takes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from common import config as config_lib
from common import config_checks
from common.data import augment, normalize, pixel_statistics, transforms
from common.data.dataset_info import Info
from common.data.sources import ArraySource
from common.errors import UserError

RNG = np.random.default_rng(3)
SIZES = {"train_size": 1, "test_size": 1}
# Correlated colours, so that the principal directions are not the axes.
MIX = np.array([[40.0, 10.0, 0.0], [30.0, -8.0, 6.0], [35.0, 0.0, -9.0]])


@pytest.fixture(scope="module")
def images():
    colours = RNG.normal(size=(70, 6, 5, 3)) @ MIX.T + [130.0, 120.0, 100.0]
    return np.clip(colours, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def source(images):
    return ArraySource(images, np.arange(len(images), dtype=np.int32))


@pytest.fixture(scope="module")
def measured(source):
    return pixel_statistics.measure(source, threads=2)


def config(**data):
    whole = config_lib.base(ConfigDict({"family": "lenet"}))
    whole.data.update(data)
    return whole


def test_statistics_are_numpys(images, measured):
    pixels = images.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(measured.mean, pixels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(measured.std, pixels.std(0), rtol=1e-6)
    np.testing.assert_allclose(measured.mean_image, images.astype(np.float64).mean(0), rtol=1e-6)
    covariance = np.cov(pixels.T, bias=True)
    rebuilt = measured.eigenvectors * measured.eigenvalues @ measured.eigenvectors.T
    np.testing.assert_allclose(rebuilt, covariance, rtol=1e-4, atol=1e-2)
    assert (np.diff(measured.eigenvalues) <= 0).all()


def test_a_streamed_set_has_the_statistics_of_the_same_set_in_memory(source, measured):
    streamed = pixel_statistics.measure([source[i] for i in range(len(source))])
    for ours, theirs in zip(streamed, measured, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_grey_images_in_three_channels_have_one_direction_and_no_negative_variance():
    for seed in range(20):
        grey = np.random.default_rng(seed).integers(0, 256, (7, 3, 3, 1), np.uint8).repeat(3, axis=-1)
        eigenvalues = pixel_statistics.measure(ArraySource(grey, np.zeros(7, np.int32))).eigenvalues
        assert eigenvalues.min() >= 0
        np.testing.assert_allclose(eigenvalues, [3 * grey.var(), 0, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("level", [0, 7, 0.1])
def test_a_channel_that_never_changes_is_fed_as_zeros(images, level):
    tinted = images.astype(np.float32 if isinstance(level, float) else np.uint8)
    tinted[..., 2] = level
    statistics = pixel_statistics.measure(ArraySource(tinted, np.zeros(len(tinted), np.int32)))
    assert statistics.std[2] == 1
    for kind in ("channels", "pixels"):
        fed = normalize.make_normalize(config(normalize=kind).data, statistics)(jnp.asarray(tinted))
        np.testing.assert_allclose(fed[..., 2], 0, atol=1e-6)
        assert np.isfinite(fed).all()


def test_files_keep_statistics_and_damaged_ones_are_named(measured, tmp_path):
    path = tmp_path / "new" / "statistics.npz"
    pixel_statistics.save(measured, path)
    for ours, theirs in zip(pixel_statistics.load(path), measured, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        pixel_statistics.load(path)
    with pytest.raises(UserError, match=r"common\.statistics"):
        pixel_statistics.load(tmp_path / "absent.npz")


def test_black_and_white_become_the_range():
    fed = normalize.make_normalize(config(pixel_range=(-0.1, 1.175)).data)(jnp.array([0, 255, 51], jnp.uint8))
    np.testing.assert_allclose(fed, [-0.1, 1.175, -0.1 + 1.275 / 5], rtol=1e-6)  # LeCun 1998, section II-B
    assert fed.dtype == jnp.float32


def test_a_range_leaves_float_images_alone():
    floats = jax.random.normal(jax.random.key(0), (2, 4, 4, 1))
    np.testing.assert_array_equal(normalize.make_normalize(config(pixel_range=(-1.0, 1.0)).data)(floats), floats)


def test_channels_have_mean_0_and_deviation_1(images, measured):
    data = config(normalize="channels").data
    fed = np.asarray(normalize.make_normalize(data, measured)(jnp.asarray(images)), np.float64).reshape(-1, 3)
    np.testing.assert_allclose(fed.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(fed.std(0), 1, rtol=1e-5)
    given = config(normalize="channels", mean=(123.0, 117.0, 104.0), std=(1.0,)).data
    np.testing.assert_allclose(
        normalize.make_normalize(given)(jnp.asarray(images[0])), images[0] - np.float32([123, 117, 104])
    )


def test_every_pixel_has_mean_0_and_other_sizes_the_mean_colour(images, measured):
    data = config(normalize="pixels", std=(1.0,)).data
    normalized = normalize.make_normalize(data, measured)
    np.testing.assert_allclose(np.asarray(normalized(jnp.asarray(images)), np.float64).mean(0), 0, atol=1e-4)
    # Any leading axes, and one image alone.
    np.testing.assert_array_equal(
        normalized(jnp.asarray(images[:6]).reshape(2, 3, *images.shape[1:]))[1, 2], normalized(jnp.asarray(images[5]))
    )
    smaller = jnp.asarray(images[:2, 1:])
    np.testing.assert_allclose(normalized(smaller), np.asarray(smaller) - measured.mean, rtol=1e-5, atol=1e-4)


def test_the_surroundings_are_black_or_the_mean_image(images, measured):
    for data in (config(pixel_range=(-1.0, 2.0)).data, config(normalize="channels").data):
        normalized = normalize.make_normalize(data, measured)
        black, white = normalize.background_and_foreground(data, measured)
        for level, colour in ((0, black), (255, white)):
            expected = normalized(jnp.full((1, 1, 3), level, jnp.uint8))
            np.testing.assert_allclose(expected, np.broadcast_to(colour, (1, 1, 3)), rtol=1e-5)
    assert normalize.background_and_foreground(config(normalize="pixels").data, measured) == (0.0, None)


def test_padding_surrounds_each_channel_with_its_black(images, measured):
    data = config(normalize="channels").data
    normalized = normalize.make_normalize(data, measured)
    black, _ = normalize.background_and_foreground(data, measured)
    dark = jnp.zeros((8, 6, 5, 3), jnp.uint8)
    crop = jax.jit(functools.partial(transforms.pad_and_crop, pad=3, background=black))
    np.testing.assert_allclose(crop(jax.random.key(0), normalized(dark)), normalized(dark), rtol=1e-6)
    shift = transforms.Distortion(*(jnp.full(8, value) for value in (1.0, -2.0, 1.2, 1.0, 0.1)))
    warp = jax.jit(functools.partial(transforms.warp, background=black))
    np.testing.assert_allclose(warp(normalized(dark), shift), normalized(dark), rtol=1e-5)


@pytest.mark.parametrize(
    "data", [{"pixel_range": (-1.0, 1.0)}, {"normalize": "channels"}, {"normalize": "pixels", "std": (1.0,)}]
)
def test_a_shift_of_colours_is_the_papers_equation(images, measured, data):
    data = config(**data).data
    fed = normalize.make_normalize(data, measured)(jnp.asarray(images[:4]))
    key, directions = jax.random.key(5), normalize.principal_colours(data, measured)
    shifted = transforms.shift_colours(key, fed, 0.1, directions)
    shares = 0.1 * np.asarray(jax.random.normal(key, (4, 3)), np.float64)
    unit = {"range": 255 / 2, "channels": measured.std, "pixels": 1.0}[data.normalize]
    for image, before, share in zip(shifted, fed, shares, strict=True):
        # [p1 p2 p3] (a1 s1, a2 s2, a3 s3)^T in grey levels, the same for every pixel.
        colour = np.stack(measured.eigenvectors.T, axis=1) @ (share * np.sqrt(measured.eigenvalues))
        np.testing.assert_allclose(image - before, np.broadcast_to(colour / unit, before.shape), rtol=1e-3, atol=1e-5)


def test_shifts_covary_as_the_training_sets_colours(measured):
    data = config(normalize="pixels", std=(1.0,)).data
    blank = jnp.zeros((20000, 1, 1, 3))
    directions = normalize.principal_colours(data, measured)
    shifts = np.asarray(transforms.shift_colours(jax.random.key(1), blank, 0.1, directions), np.float64)[:, 0, 0]
    covariance = (measured.eigenvectors * measured.eigenvalues) @ measured.eigenvectors.T
    np.testing.assert_allclose(np.cov(shifts.T), 0.01 * covariance, rtol=0.06, atol=0.01 * 0.03 * covariance.max())


def test_training_prepares_with_the_statistics(images, measured):
    whole = config(normalize="pixels", std=(2.0,))
    key, stored = jax.random.key(0), jnp.asarray(images[:4])
    plain = augment.make_input_transform(whole.data, whole.augment, measured)(key, stored)
    np.testing.assert_allclose(plain, (images[:4] - measured.mean_image) / 2, rtol=1e-5, atol=1e-4)
    whole.augment.pca_colour = 0.1
    moved = np.asarray(jax.jit(augment.make_input_transform(whole.data, whole.augment, measured))(key, stored) - plain)
    assert np.ptp(moved, axis=(1, 2)).max() < 1e-3  # one colour for all pixels of an image
    assert moved.std(axis=0).min() > 0.1


class Streamed:
    """Examples that are not in memory."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        return self.source[index]


def test_a_run_keeps_the_statistics_that_it_started_with(source, measured, tmp_path):
    whole = config(normalize="pixels")
    first = pixel_statistics.for_training(whole, tmp_path, source)
    np.testing.assert_array_equal(first.mean_image, measured.mean_image)
    other = ArraySource(255 - source.images, source.labels)
    again = pixel_statistics.for_training(whole, tmp_path, other, resumed=True)
    np.testing.assert_array_equal(again.mean, first.mean)
    np.testing.assert_array_equal(pixel_statistics.of_trained_run(whole, tmp_path).mean, first.mean)


@pytest.mark.parametrize("given", [False, True])
def test_a_new_run_has_its_own_statistics_where_another_left_some(given, source, measured, tmp_path):
    inverted = pixel_statistics.measure(ArraySource(255 - source.images, source.labels))
    pixel_statistics.save(inverted, tmp_path / "run" / pixel_statistics.FILE)
    pixel_statistics.save(measured, tmp_path / "given.npz")
    whole = config(normalize="channels", statistics=str(tmp_path / "given.npz") if given else "")
    taken = pixel_statistics.for_training(whole, tmp_path / "run", Streamed(source) if given else source)
    np.testing.assert_array_equal(taken.mean, measured.mean)
    np.testing.assert_array_equal(pixel_statistics.of_trained_run(whole, tmp_path / "run").mean, measured.mean)


def test_a_run_that_needs_no_statistics_measures_none(source, tmp_path):
    for whole in (config(), config(normalize="channels", mean=(1.0,), std=(2.0,))):
        assert pixel_statistics.for_training(whole, tmp_path, source) is None
        assert pixel_statistics.of_trained_run(whole, tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_streamed_run_names_the_command_and_takes_what_it_writes(source, measured, tmp_path):
    with pytest.raises(UserError, match=r"python -m common\.statistics --workdir="):
        pixel_statistics.for_training(config(normalize="channels"), tmp_path / "run", Streamed(source))
    path = tmp_path / "measured.npz"
    pixel_statistics.save(measured, path)
    whole = config(normalize="channels", statistics=str(path))
    taken = pixel_statistics.for_training(whole, tmp_path / "run", Streamed(source))
    np.testing.assert_array_equal(taken.mean, measured.mean)
    path.unlink()
    assert pixel_statistics.for_training(whole, tmp_path / "run", Streamed(source), resumed=True) is not None
    pixel_statistics.save(measured, path)
    grey = Streamed(ArraySource(source.images[..., :1], source.labels))
    for folder, file in (("other", "measured"), ("run", "run/statistics")):  # given, and measured into the run's folder
        with pytest.raises(UserError, match=f"{file}.npz' is for images of 6 x 5 x 3, this run's are 6 x 5 x 1"):
            pixel_statistics.for_training(whole, tmp_path / folder, grey, resumed=folder == "run")


@pytest.mark.parametrize(
    ("data", "augmented", "says"),
    [
        ({"mean": (1.0,)}, {}, "mean is .*normalize 'range' does not use it"),
        ({"normalize": "pixels", "mean": (1.0,)}, {}, "normalize 'pixels' does not use it"),
        ({"normalize": "channels", "std": (0.0,)}, {}, "above 0"),
        ({"normalize": "pixels"}, {"pixel_inversion": 0.1}, "pixel_inversion"),
        ({"statistics": "file.npz"}, {}, "nothing in this config needs any"),
        ({"normalize": "mean"}, {}, "normalize 'mean'"),
        ({"normalize": "channels", "std": (1e-50,)}, {}, "std is .*expected numbers from 1e-06 to 1,000,000"),
        ({"normalize": "pixels", "std": (1e300,)}, {}, "std is .*expected numbers from 1e-06 to 1,000,000"),
        ({"normalize": "channels", "mean": (-1e300,)}, {}, "mean is .*expected numbers up to 1,000,000"),
        ({"pixel_range": (0.0, 1e300)}, {}, "pixel_range is .*expected numbers up to 1,000,000"),
        ({"pixel_range": (0.0, 1e-50)}, {}, "pixel_range is .*expected two different numbers"),
        (
            {"normalize": "channels", "mean": (1.0, 2.0, 3.0), "std": (1.0, 2.0)},
            {},
            "mean has 3 values and config.data.std 2; expected one for each channel",
        ),
        ({"normalize": "channels", "channels": 1, "mean": (1.0, 2.0, 3.0)}, {}, "mean has 3 values, images have 1"),
    ],
)
def test_contradictions_are_refused(data, augmented, says):
    whole = config(**data)
    whole.augment.update(augmented)
    with pytest.raises(UserError, match=says):
        config_checks.validate(whole)


@pytest.mark.parametrize("option", ["pixel_inversion", "randaugment_layers", "erase", "jitter"])
def test_float_images_on_their_own_scale_have_no_white_for_augmentation(option):
    # With means and deviations in those floats, the white of bytes would be hundreds of deviations away.
    bytes_, floats = (Info("a", 2, ("b", "c"), (8, 8, 1), **SIZES, float_images=given) for given in (False, True))
    whole = config(normalize="channels", mean=(0.5,), std=(0.2,))
    whole.augment[option] = {"jitter": (0.4, 0.0, 0.0), "randaugment_layers": 1}.get(option, 0.5)
    with pytest.raises(UserError, match=f"config.augment.{option} needs the images' white"):
        normalize.check_white(whole, floats)
    normalize.check_white(whole, bytes_)
    normalize.check_white(config(pixel_range=(0.0, 1.0)), floats)


@pytest.mark.parametrize(
    ("facts", "data", "says"),
    [
        ({"float_images": True}, {"normalize": "channels"}, "trained on float images with .*normalize 'channels'"),
        ({"float_images": True}, {"normalize": "pixels"}, "trained on float images with .*normalize 'pixels'"),
        ({"image_shape": (8, 8, 13)}, {}, "takes images of 13 channels; image files have 1 or 3"),
        ({"float_images": True}, {"pixel_range": (-1.0, 1.0)}, ""),
        ({}, {"normalize": "channels"}, ""),
    ],
)
def test_bytes_stand_for_no_image_of_an_unknown_scale_or_of_other_channels(facts, data, says):
    info = Info(**{"name": "a", "num_classes": 2, "class_names": ("b", "c"), "image_shape": (8, 8, 1)} | facts, **SIZES)
    if not says:
        normalize.check_bytes(config(**data).data, info)
        return
    with pytest.raises(UserError, match=says):
        normalize.check_bytes(config(**data).data, info)


def test_a_number_of_means_other_than_that_of_channels_is_refused(images):
    data = config(normalize="channels", mean=(1.0, 2.0), std=(1.0,)).data
    with pytest.raises(UserError, match="mean has 2 values, images have 3 channels"):
        normalize.make_normalize(data)(jnp.asarray(images))


@pytest.mark.parametrize("given", [{"mean": (1.0, 2.0)}, {"std": (1.0, 2.0)}])
def test_given_numbers_have_to_suit_the_measured_ones(measured, given):
    whole = config(normalize="channels", **given)
    with pytest.raises(UserError, match="has 2 values, images have 3 channels"):
        augment.make_input_transform(whole.data, whole.augment, measured)
