"""RandAugment's operations against Pillow's, on random 8-bit images; and the draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image, ImageEnhance, ImageOps

from common import config as config_lib
from common import config_checks
from common.data import augment, randaugment
from common.data.randaugment import OPERATIONS, Choice
from common.errors import UserError

GREY = (128, 128, 128)
distort = jax.jit(randaugment.distort, static_argnames="magnitude")


def photo(seed=0, height=27, width=34, low=20, high=220):
    """A smooth random picture of values between low and high, with noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(low, high, (6, 7, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), int)
    return np.uint8(np.clip(smooth + rng.integers(-9, 10, smooth.shape), low, high))


def ours(name, image, magnitude, sign=1.0, row=0.5, column=0.25):
    # All operations run, on as many images as in the other tests, so that few programs are compiled.
    choices = Choice(jnp.arange(16), *(jnp.full(16, value) for value in (sign, row, column)))
    images = jnp.broadcast_to(jnp.asarray(image), (16, *image.shape))
    return np.asarray(distort(images, choices, magnitude=magnitude))[OPERATIONS.index(name)]


def affine(image, *matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=GREY)


# name -> what Pillow makes of an image at a magnitude.
PILLOW = {
    "autocontrast": lambda image, m: ImageOps.autocontrast(image),
    "equalize": lambda image, m: ImageOps.equalize(image),
    "invert": lambda image, m: ImageOps.invert(image),
    "posterize": lambda image, m: ImageOps.posterize(image, int(m / 10 * 4)),
    "solarize": lambda image, m: ImageOps.solarize(image, int(m / 10 * 256)),
    "contrast": lambda image, m: ImageEnhance.Contrast(image).enhance(m / 10 * 1.8 + 0.1),
    "brightness": lambda image, m: ImageEnhance.Brightness(image).enhance(m / 10 * 1.8 + 0.1),
    "color": lambda image, m: ImageEnhance.Color(image).enhance(m / 10 * 1.8 + 0.1),
    "sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(m / 10 * 1.8 + 0.1),
    "rotate": lambda image, m: image.rotate(m / 10 * 30, fillcolor=GREY),
    "shear_x": lambda image, m: affine(image, 1, m / 10 * 0.3, 0, 0, 1, 0),
    "shear_y": lambda image, m: affine(image, 1, 0, 0, m / 10 * 0.3, 1, 0),
    "translate_x": lambda image, m: affine(image, 1, 0, m / 10 * 100 / 224 * image.width, 0, 1, 0),
    "translate_y": lambda image, m: affine(image, 1, 0, 0, 0, 1, m / 10 * 100 / 224 * image.height),
}
WARPS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


@pytest.mark.parametrize("magnitude", [3.0, 10.0])
@pytest.mark.parametrize("name", PILLOW)
def test_each_operation_gives_pillows_pixels(name, magnitude):
    # To one grey level; of warps, all but one pixel in a hundred (Pillow computes places in 16.16 fixed point).
    image = photo()
    expected = np.asarray(PILLOW[name](Image.fromarray(image), magnitude), int)
    found = ours(name, image, magnitude).astype(int)
    if name in WARPS:
        assert np.mean((found != expected).any(-1)) < 0.01
        assert (expected != image).any(-1).mean() > 0.3
    else:
        assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_a_channel_of_one_value_stays(name):
    image = photo()
    image[..., 1] = 77
    assert (ours(name, image, 10.0)[..., 1] == 77).all()


def test_equalize_and_the_mean_are_exact_on_large_images():
    image = photo(height=224, width=224)
    np.testing.assert_array_equal(ours("equalize", image, 10.0), ImageOps.equalize(Image.fromarray(image)))
    expected = np.asarray(PILLOW["contrast"](Image.fromarray(image), 10.0), int)
    assert np.abs(ours("contrast", image, 10.0) - expected).max() <= 1


def test_the_two_operations_that_pillow_lacks():
    image = photo()
    added = np.where(image < 128, np.minimum(image.astype(int) + 110, 255), image)
    np.testing.assert_array_equal(ours("solarize_add", image, 10.0), added)
    big = photo(height=224, width=224)
    cut = (ours("cutout", big, 10.0, row=0.5, column=0.0) != big).any(-1) | (big == 128).all(-1)
    rows, columns = np.flatnonzero(cut.any(1)), np.flatnonzero(cut.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (72, 151, 0, 39)  # 80x80 about the place, cut at the edge


@pytest.mark.parametrize("name", WARPS)
def test_the_sign_turns_the_direction_round(name):
    image = photo()
    left, right = (ours(name, image, 3.0, sign) for sign in (-1.0, 1.0))
    assert (left != right).any()
    if name == "rotate":
        np.testing.assert_array_equal(left, ours(name, image[:, ::-1], 3.0, 1.0)[:, ::-1])


def test_grey_images_keep_their_one_channel():
    image = photo()[..., :1]
    expected = ImageOps.equalize(Image.fromarray(image[..., 0]))
    np.testing.assert_array_equal(ours("equalize", image, 10.0)[..., 0], expected)
    np.testing.assert_array_equal(ours("color", image, 10.0), image)


def test_every_operation_is_drawn_equally_often_and_both_signs():
    choice = randaugment.draw(jax.random.key(0), 16_000)
    counts = np.bincount(choice.operation, minlength=16)
    assert len(OPERATIONS) == 16 == len(counts)
    assert abs(counts - 1000).max() < 150  # five standard deviations
    assert abs(np.mean(np.asarray(choice.sign))) < 0.05  # six


LOW, HIGH = np.float32([-2.1, -2.0, -1.8]), np.float32([2.2, 2.4, 2.6])  # a scale of each channel's own


@functools.cache
def made():
    """The transform of two layers."""
    section = config_lib.base(ConfigDict()).augment
    section.randaugment_layers = 2
    return jax.jit(augment.make_augment(section, LOW, HIGH))


def photos():
    return jnp.stack([jnp.asarray(photo(seed)) for seed in range(16)])


def fed():
    return LOW + photos() * ((HIGH - LOW) / 255)


@pytest.mark.slow
def test_layers_follow_one_another_on_the_networks_scale():
    key, pixels = jax.random.key(5), photos()
    inner = jax.random.fold_in(key, 5)
    for layer in range(2):
        pixels = distort(pixels, randaugment.draw(jax.random.fold_in(inner, layer), 16), magnitude=10.0)
    np.testing.assert_allclose(made()(key, fed()), LOW + np.asarray(pixels, float) * (HIGH - LOW) / 255, atol=1e-6)


def test_an_image_of_a_channels_own_scale_stays_on_it():
    out = np.asarray(made()(jax.random.key(1), fed()))
    assert ((out >= LOW - 1e-5) & (out <= HIGH + 1e-5)).all()


def test_changes_depend_on_the_place_in_the_batch_and_not_on_the_other_images():
    images = fed()
    changed = images.at[3:].set(0.0)
    out, other = made()(jax.random.key(2), images), made()(jax.random.key(2), changed)
    np.testing.assert_array_equal(out[:3], other[:3])
    assert len({np.asarray(image).tobytes() for image in made()(jax.random.key(2), images[:1].repeat(16, 0))}) > 1


def test_one_image_at_a_time_and_all_at_once_are_the_same():
    choices = randaugment.draw(jax.random.key(0), 16)._replace(operation=jnp.arange(16))
    together = jax.jit(jax.vmap(functools.partial(randaugment.distort_one, magnitude=10.0)))(photos(), choices)
    difference = np.abs(np.asarray(distort(photos(), choices, magnitude=10.0), int) - np.asarray(together, int))
    assert (difference > 1).mean() < 0.005


def test_images_of_other_channels_are_refused():
    with pytest.raises(UserError, match="1 or 3 channels, not 2"):
        randaugment.randaugment(jax.random.key(0), jnp.zeros((1, 4, 4, 2)), layers=1, magnitude=1, low=0, high=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment.randaugment_magnitude": 31.0}, "randaugment_magnitude is 31.0; expected 0 to 30"),
        ({"augment.randaugment_layers": -1}, "randaugment_layers is -1; expected at least 0"),
        ({"augment.mixup": -0.1}, "augment.mixup is -0.1; expected at least 0"),
        ({"augment.randaugment_layers": 2, "data.normalize": "pixels"}, "needs one black and one white"),
    ],
)
def test_invalid_values_are_refused(changes, message):
    config = config_lib.base(ConfigDict())
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message):
        config_checks.validate(config)
