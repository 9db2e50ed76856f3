"""Augmentation: distortions, crops, mirrors, inverted pixels, colour jitter and erasing."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import ndimage, stats

from common import config
from common.data import augment, transforms
from common.data.transforms import Distortion
from common.errors import UserError

BACKGROUND = -0.1
NOTHING = {"translate": 0.0, "scale": 0.0, "squeeze": 0.0, "shear": 0.0}
LENET = {"translate": 2.0, "scale": 0.15, "squeeze": 0.15, "shear": 0.2}
SWITCHED_OFF = config.base(ConfigDict()).augment.to_dict()
# These two are compiled whole: eagerly each operation is compiled by itself, which is slower.
warp = jax.jit(transforms.warp, static_argnames="background")
affine = jax.jit(transforms.affine, static_argnames=("probability", "background", *NOTHING))


def random_images(*shape):
    return jax.random.uniform(jax.random.key(7), shape, minval=BACKGROUND, maxval=1.0)


def distortion(count=1, **amounts):
    identity = {"down": 0.0, "right": 0.0, "scale": 1.0, "squeeze": 1.0, "shear": 0.0}
    return Distortion(**{name: jnp.full(count, value) for name, value in {**identity, **amounts}.items()})


def blob(centre, size=(33, 33), width=2.0):
    rows, columns = np.mgrid[: size[0], : size[1]]
    value = np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * width**2))
    return jnp.asarray(value, jnp.float32)[None, :, :, None]


def centroid(image):
    return ndimage.center_of_mass(np.asarray(image[0, :, :, 0], np.float64))


def widths(image):
    """Standard deviations of the ink's row and column."""
    ink = np.asarray(image[0, :, :, 0], np.float64) / np.asarray(image, np.float64).sum()
    offsets = np.mgrid[: ink.shape[0], : ink.shape[1]] - np.array(centroid(image))[:, None, None]
    return np.sqrt((offsets**2 * ink).sum((1, 2)))


def make(background=BACKGROUND, **changes):
    return augment.make_augment(ConfigDict({**SWITCHED_OFF, **changes}), background, foreground=1.175)


def test_affine_with_zero_ranges_is_the_identity():
    images = random_images(5, 9, 12, 3)
    out = affine(jax.random.key(0), images, **NOTHING, probability=1.0, background=BACKGROUND)
    np.testing.assert_array_equal(out, images)


@pytest.mark.parametrize(("down", "right"), [(2, 0), (0, -3), (-1, 2), (40, 0)])
def test_an_integer_translation_moves_pixels_and_brings_in_background(down, right):
    images = random_images(1, 10, 14, 2)
    out = warp(images, distortion(down=float(down), right=float(right)), BACKGROUND)
    expected = ndimage.shift(np.asarray(images[0]), (down, right, 0), order=0, cval=BACKGROUND)
    np.testing.assert_allclose(out[0], expected, atol=1e-6)


def test_warp_agrees_with_scipys_bilinear_interpolation():
    images = random_images(4, 20, 27, 3)
    down, right = jnp.array([1.3, -2.4, 0.2, 7.7]), jnp.array([-0.6, 3.1, 5.5, -9.2])
    scale, squeeze = jnp.array([1.1, 0.8, 1.0, 1.4]), jnp.array([0.9, 1.2, 1.05, 0.7])
    shear = jnp.array([0.2, -0.3, 0.0, 0.5])
    out = warp(images, Distortion(down, right, scale, squeeze, shear), BACKGROUND)
    for i in range(4):
        a, b, s = float(scale[i]), float(squeeze[i]), float(shear[i])
        forward = np.array([[a / b, 0.0], [a * b * s, a * b]])  # of (row, column) about the centre
        inverse = np.linalg.inv(forward)
        centre = np.array([9.5, 13.0])
        offset = centre - inverse @ (centre + [float(down[i]), float(right[i])])
        for channel in range(3):
            expected = ndimage.affine_transform(
                np.asarray(images[i, :, :, channel], np.float64),
                inverse,
                offset,
                order=1,
                mode="grid-constant",
                cval=BACKGROUND,
            )
            np.testing.assert_allclose(out[i, :, :, channel], expected, atol=2e-5)


def test_positive_amounts_move_down_and_right_and_shear_lower_rows_to_the_right():
    moved = centroid(warp(blob((16, 16)), distortion(down=2.5, right=-1.5), 0.0))
    np.testing.assert_allclose(moved, (18.5, 14.5), atol=0.01)
    lower = centroid(warp(blob((22, 16)), distortion(shear=0.5), 0.0))
    np.testing.assert_allclose(lower, (22, 19), atol=0.01)  # 6 rows below the centre: 3 columns
    upper = centroid(warp(blob((10, 16)), distortion(shear=0.5), 0.0))
    np.testing.assert_allclose(upper, (10, 13), atol=0.01)


def test_scale_multiplies_area_and_distances_from_the_centre():
    image = blob((16, 20))
    larger = warp(image, distortion(scale=1.25), 0.0)
    np.testing.assert_allclose(centroid(larger), (16, 21), atol=0.01)
    np.testing.assert_allclose(larger.sum(), image.sum() * 1.25**2, rtol=5e-3)


def test_squeeze_preserves_area_while_it_widens_and_flattens():
    image = blob((16, 16), width=3.0)
    squeezed = warp(image, distortion(squeeze=1.25), 0.0)
    np.testing.assert_allclose(squeezed.sum(), image.sum(), rtol=5e-3)
    ratios = np.array(widths(squeezed)) / widths(image)
    np.testing.assert_allclose(ratios, (1 / 1.25, 1.25), rtol=0.02)


def test_a_distortion_is_undone_by_its_inverse():
    image = blob((18, 14), width=4.0)
    there = warp(image, distortion(scale=1.2, squeeze=0.9), 0.0)
    back = warp(there, distortion(scale=1 / 1.2, squeeze=1 / 0.9), 0.0)
    np.testing.assert_allclose(back, image, atol=0.03)
    sheared = warp(warp(image, distortion(shear=0.3), 0.0), distortion(shear=-0.3), 0.0)
    np.testing.assert_allclose(sheared, image, atol=0.03)


def test_the_amounts_drawn_are_uniform_and_independent(monkeypatch):
    drawn = []
    monkeypatch.setattr(transforms, "warp", lambda images, amounts, background: drawn.append(amounts) or images)
    transforms.affine(jax.random.key(3), jnp.zeros((4000, 1, 1, 1)), **LENET, probability=1.0, background=0.0)
    amounts = np.asarray(drawn[0])
    middles, ranges = np.array([0, 0, 1, 1, 0]), np.array([2.0, 2.0, 0.15, 0.15, 0.2])
    unit = (amounts - middles[:, None]) / ranges[:, None]
    assert np.abs(unit).max() <= 1 + 1e-5
    assert min(stats.kstest(row, stats.uniform(-1, 2).cdf).pvalue for row in unit) > 1e-4
    correlation = np.corrcoef(unit) - np.eye(5)
    assert np.abs(correlation).max() < 0.07  # about 4.5 standard deviations


def test_affine_distorts_images_with_the_probability_asked_for_and_leaves_the_rest_alone():
    images = jnp.broadcast_to(random_images(1, 5, 5, 1), (4000, 5, 5, 1))
    out = affine(jax.random.key(2), images, **LENET, probability=0.9, background=BACKGROUND)
    changed = np.asarray(jnp.any(out != images, axis=(1, 2, 3))).mean()
    assert abs(changed - 0.9) <= 4.5 * np.sqrt(0.9 * 0.1 / 4000)


def test_mirror_flips_left_to_right_half_of_the_images():
    images = random_images(1, 3, 8, 2)
    batch = jnp.broadcast_to(images, (4000, 3, 8, 2))
    out = np.asarray(transforms.mirror(jax.random.key(1), batch))
    flipped = (out == np.asarray(images[:, :, ::-1])).all((1, 2, 3))
    kept = (out == np.asarray(images)).all((1, 2, 3))
    assert (flipped ^ kept).all()
    assert abs(flipped.mean() - 0.5) < 4.5 * 0.5 / np.sqrt(4000)


def test_pad_and_crop_takes_every_crop_of_the_padded_image():
    images = random_images(1, 4, 5, 2)
    crop = jax.jit(functools.partial(transforms.pad_and_crop, pad=2, background=BACKGROUND))
    out = np.asarray(crop(jax.random.key(0), jnp.broadcast_to(images, (2000, 4, 5, 2))))
    padded = np.pad(np.asarray(images[0]), ((2, 2), (2, 2), (0, 0)), constant_values=BACKGROUND)
    crops = [padded[i : i + 4, j : j + 5] for i in range(5) for j in range(5)]
    counts = [(out == crop).all((1, 2, 3)).sum() for crop in crops]
    assert sum(counts) == 2000
    assert stats.chisquare(counts).pvalue > 1e-4


def test_inverted_pixels_swap_black_and_white_in_all_channels_together():
    images = random_images(20, 16, 16, 3)
    invert = jax.jit(make(pixel_inversion=0.1))
    out = np.asarray(invert(jax.random.key(5), images))
    inverted = ~np.isclose(out, np.asarray(images))
    np.testing.assert_allclose(out[inverted], (1.075 - np.asarray(images))[inverted], rtol=1e-5, atol=1e-6)
    assert (inverted.all(-1) == inverted.any(-1)).mean() > 0.99  # a middle grey is its own inverse
    assert abs(inverted.any(-1).mean() - 0.1) < 4.5 * np.sqrt(0.09 / (20 * 256))


def test_make_augment_returns_the_batch_itself_when_nothing_is_asked_for():
    images = random_images(2, 4, 4, 1)
    assert make()(jax.random.key(0), images) is images


lenet = jax.jit(make(**LENET))


@pytest.mark.slow  # the tests above this one have the compiled form, whose operations these are
def test_warping_under_jit_and_eagerly_agree():
    images = random_images(2, 12, 12, 1)
    amounts = distortion(2, down=1.5, scale=1.1, squeeze=0.9, shear=0.2)
    np.testing.assert_allclose(
        warp(images, amounts, BACKGROUND), transforms.warp(images, amounts, BACKGROUND), atol=1e-5
    )


def test_the_key_decides_and_each_image_of_a_batch_is_changed_differently():
    images = jnp.broadcast_to(random_images(1, 12, 12, 1), (6, 12, 12, 1))
    first, again, other = (np.asarray(lenet(jax.random.key(key), images)).reshape(6, -1) for key in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(np.concatenate([first, other]), axis=0)) == 12


def test_an_image_is_changed_the_same_whatever_follows_it_in_the_batch():
    images = random_images(6, 12, 12, 1)
    whole = lenet(jax.random.key(4), images)
    np.testing.assert_allclose(lenet(jax.random.key(4), images[:2]), whole[:2], atol=1e-6)


def test_everything_at_once_keeps_shape_and_range():
    augmented = jax.jit(make(**LENET, mirror=True, crop_pad=2, pixel_inversion=0.1))
    images = random_images(6, 12, 12, 1)
    out = augmented(jax.random.key(0), images)
    assert out.shape == images.shape
    assert BACKGROUND - 1e-5 <= float(out.min()) <= float(out.max()) <= 1.175 + 1e-5
    assert bool(jnp.all(jnp.any(out != images, axis=(1, 2, 3))))


def test_switching_the_mirror_on_leaves_the_crops_as_they_were():
    symmetric = functools.partial(jnp.broadcast_to, shape=(6, 8, 8, 1))(jnp.arange(8.0)[None, :, None, None])
    key = jax.random.key(9)
    both, one = jax.jit(make(crop_pad=2, mirror=True)), jax.jit(make(crop_pad=2))
    np.testing.assert_array_equal(both(key, symmetric), one(key, symmetric))


def test_pixels_from_outside_the_image_are_background():
    out = jax.jit(make(background=-1.0, translate=50.0))(jax.random.key(11), jnp.ones((8, 6, 6, 1)))
    assert float(out.min()) == -1.0


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("probability", 1.5, "from 0 to 1"),
        ("probability", np.nan, "from 0 to 1"),
        ("pixel_inversion", -0.1, "from 0 to 1"),
        ("scale", 1.0, "less than 1"),
        ("squeeze", -0.2, "at least 0"),
        ("translate", -1.0, "at least 0"),
        ("pca_colour", np.inf, "at least 0"),
        ("pca_colour", np.nan, "at least 0"),
        ("crop_pad", 2000000000, "at most 1,000"),
        ("translate", 1e12, "at most 10,000"),
        ("shear", 1e12, "at most 100"),
        ("pca_colour", 1e12, "at most 100"),
        ("mixup", 1e-40, "0, or at least 0.001"),
        ("mixup", 1e12, "at most 1,000"),
        ("cutmix", 1e-40, "0, or at least 0.001"),
        ("cutmix", 1e12, "at most 1,000"),
    ],
)
def test_invalid_amounts_of_distortion_are_refused_by_name(key, value, expected):
    whole = config.base(ConfigDict())
    whole.augment[key] = value
    with pytest.raises(UserError, match=f"config.augment.{key} is {value}.*{expected}"):
        augment.check(whole)


GRADIENT = jnp.stack([jnp.tile(jnp.linspace(0.3, 0.7, 16) + shift, (16, 1)) for shift in (-0.1, 0.0, 0.1)], axis=-1)
LUMA = np.array([0.299, 0.587, 0.114])
erase = jax.jit(transforms.erase, static_argnames=("probability", "low", "high", "area", "ratio"))


# It runs eagerly on images of one shape: then its operations are compiled once, whatever the amounts.
def jittered(brightness=0.0, contrast=0.0, saturation=0.0, image=GRADIENT, images=None, low=0.0, high=1.0):
    images = jnp.broadcast_to(image, (400, 16, 16, 3)) if images is None else images
    amounts = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    return np.asarray(transforms.jitter_colours(jax.random.key(0), images, **amounts, low=low, high=high), np.float64)


def test_jitter_of_nothing_changes_nothing():
    np.testing.assert_allclose(jittered(), np.broadcast_to(GRADIENT, (400, 16, 16, 3)), atol=1e-6)
    images = random_images(2, 4, 4, 1)
    assert make(jitter=(0.0, 0.0, 0.0))(jax.random.key(0), images) is images


def test_brightness_scales_uniformly_about_black():
    factors = jittered(brightness=0.4).mean((1, 2, 3)) / float(GRADIENT.mean())
    assert 0.6 <= factors.min() < factors.max() <= 1.4
    assert stats.kstest(factors, stats.uniform(0.6, 0.8).cdf).pvalue > 1e-4


def test_contrast_keeps_the_mean_grey_and_scales_about_it():
    out = jittered(contrast=0.5)
    mean = (np.asarray(GRADIENT) @ LUMA).mean()
    np.testing.assert_allclose((out @ LUMA).mean((1, 2)), mean, atol=1e-5)
    factors = out.std((1, 2))[:, 1] / np.asarray(GRADIENT).std((0, 1))[1]
    assert stats.kstest(factors, stats.uniform(0.5, 1.0).cdf).pvalue > 1e-4


def test_saturation_keeps_each_pixels_grey_and_scales_its_colour():
    out = jittered(saturation=0.5)
    np.testing.assert_allclose(out @ LUMA, np.broadcast_to(np.asarray(GRADIENT) @ LUMA, out.shape[:3]), atol=1e-5)
    factors = np.ptp(out, axis=-1)[:, 0, 0] / 0.2
    assert stats.kstest(factors, stats.uniform(0.5, 1.0).cdf).pvalue > 1e-4
    grey = random_images(6, 8, 8, 1) * 0.5 + 0.3
    amounts = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.9, "low": 0.0, "high": 1.0}
    paler = jax.jit(functools.partial(transforms.jitter_colours, **amounts))
    assert np.abs(paler(jax.random.key(0), grey) - grey).max() < 1e-6


def test_the_changes_come_in_every_order():
    mild = jnp.tile(jnp.array([[0.4, 0.4, 0.4], [0.5, 0.5, 0.55]]), (16, 8, 1))
    brighter, flatter, paler = (jittered(image=mild, **{name: 0.9}) for name in augment.JITTERED)
    # Each change alone, with the same key, shows its factor for every image of the batch.
    factors = {
        "brightness": brighter[:, 0, 0, 0] / 0.4,
        "contrast": (flatter[:, 0, 1, 0] - flatter[:, 0, 0, 0]) / 0.1,
        "saturation": (paler[:, 0, 1, 2] - paler[:, 0, 1, 0]) / 0.05,
    }
    strong = np.random.default_rng(0).uniform(size=(16, 16, 3)).astype(np.float32)  # so that the order shows
    out = jittered(0.9, 0.9, 0.9, image=strong)
    orders = itertools.permutations(factors)
    fits = np.array([np.abs(out - changed(strong, factors, order)).max((1, 2, 3)) < 1e-4 for order in orders])
    assert fits.any(0).all()
    assert stats.chisquare(fits[:, fits.sum(0) == 1].sum(1)).pvalue > 1e-4


def changed(image, factors, order):
    """The image after the changes in this order, once for each factor; every change clips to 0..1."""
    images = np.asarray(image, np.float64)[None]
    for name in order:
        grey = (images @ LUMA)[..., None]
        about = {"brightness": 0.0, "contrast": grey.mean((1, 2), keepdims=True), "saturation": grey}[name]
        images = np.clip(about + factors[name][:, None, None, None] * (images - about), 0.0, 1.0)
    return images


def test_jitter_stays_between_black_and_white_on_any_scale():
    unit = jnp.clip(random_images(400, 16, 16, 3), 0.0, 1.0)
    plain = jittered(0.8, 0.8, 0.8, images=unit)
    assert 0.0 <= plain.min() < plain.max() <= 1.0
    scaled = jittered(0.8, 0.8, 0.8, images=unit * 4 - 1, low=-1.0, high=3.0)
    np.testing.assert_allclose(scaled, plain * 4 - 1, atol=1e-5)
    with pytest.raises(UserError, match="1 or 3 channels, not 2"):
        jittered(0.8, images=unit[..., :2])


def rectangles(out, marked):
    """Height and width of the rectangle that is marked in each image; all of it has to be."""
    sizes = []
    for mask in np.asarray(marked):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert mask.sum() == len(rows) * len(columns)
        sizes.append((len(rows), len(columns)))
    return np.array(sizes)


@functools.cache
def noisy():
    """Many images with an erased rectangle each; all other pixels are 2. Not to be written to."""
    images = jnp.full((2000, 64, 64, 1), 2.0)  # outside of black and white, so that noise is seen
    return np.asarray(erase(jax.random.key(0), images, probability=1.0, low=0.0, high=1.0))


def test_erased_rectangles_have_the_papers_areas_and_shapes():
    out = noisy()
    marked = (out != 2.0)[..., 0]
    erased = marked.any((1, 2))
    assert erased.mean() > 0.995
    sizes = rectangles(out, marked[erased])
    areas, shapes = sizes.prod(1) / 64**2, sizes[:, 0] / sizes[:, 1]
    assert 0.01 < areas.min() < areas.max() <= 0.4
    assert 0.25 < shapes.min() < shapes.max() < 1.2 / 0.3
    assert (shapes > 1).mean() > 0.6  # the ratio is uniform, so tall ones are more frequent
    noise = out[..., 0][marked]
    assert stats.kstest(noise[::97], stats.uniform.cdf).pvalue > 1e-4


def test_rectangles_are_accepted_as_the_papers_loop_accepts_them():
    def loop(rng):
        while True:
            part, shape = rng.uniform(0.02, 0.4) * 64**2, rng.uniform(0.3, 1 / 0.3)
            down, across = int(np.sqrt(part * shape)), int(np.sqrt(part / shape))
            if int(rng.uniform(0, 64)) + down <= 64 and int(rng.uniform(0, 64)) + across <= 64:
                return down * across

    rng = np.random.default_rng(0)
    theirs = [loop(rng) for _ in range(3000)]
    ours = (noisy() != 2.0).sum((1, 2, 3))
    assert stats.ks_2samp(ours[ours > 0], theirs).pvalue > 1e-4


def test_images_are_erased_with_the_probability_asked_for():
    images = random_images(4000, 8, 8, 2)
    out = erase(jax.random.key(2), images, probability=0.5, low=0.0, high=1.0)
    changed = np.asarray((out != images).any((1, 2, 3)))
    assert abs(changed.mean() - 0.5) <= 4.5 * np.sqrt(0.25 / 4000) + 0.002
    assert make(erase=0.0)(jax.random.key(0), images) is images


def test_without_a_white_the_surroundings_are_filled_in():
    images = random_images(20, 16, 16, 3)
    out = jax.jit(augment.make_augment(ConfigDict({**SWITCHED_OFF, "erase": 1.0}), 0.0))(jax.random.key(0), images)
    changed = np.asarray(out != images)
    assert changed.any((1, 2, 3)).mean() > 0.9
    assert (np.asarray(out)[changed] == 0.0).all()


def test_jitter_and_erasing_depend_on_the_place_in_the_batch_only():
    images = jnp.clip(random_images(6, 12, 12, 3), 0.0, 1.0)
    changes = {"jitter": (0.5, 0.5, 0.5), "erase": 0.9}
    one = jax.jit(augment.make_augment(ConfigDict({**SWITCHED_OFF, **changes}), 0.0, 1.0))
    whole = one(jax.random.key(4), images)
    np.testing.assert_allclose(one(jax.random.key(4), images[:2]), whole[:2], atol=1e-6)
    assert (one(jax.random.key(5), images) != whole).any()
    same = one(jax.random.key(4), jnp.broadcast_to(images[:1], images.shape))
    assert len({np.asarray(image).tobytes() for image in same}) > 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"augment.jitter": (0.1, 0.2)}, r"jitter is \(0\.1, 0\.2\); expected three numbers .* brightness, contrast"),
        ({"augment.jitter": (0.1, -0.2, 0.0)}, "expected three numbers of at least 0"),
        ({"augment.jitter": (0.1, 0.2, 0.3), "data.normalize": "pixels"}, "jitter needs one black and one white"),
        ({"augment.erase": 1.1}, "erase is 1.1; expected a probability"),
        ({"augment.cutmix": -1.0}, "cutmix is -1.0; expected at least 0"),
        ({"augment.jitter": (0.0, 1e300, 0.0)}, "jitter is .*; expected at most 100 each"),
        ({"augment.cutmix": 1.0, "train.batch_size": 1}, "cutmix mixes the images of a batch, but .*batch_size is 1"),
        ({"augment.mixup": 0.2, "train.batch_size": 1}, "mixup mixes the images of a batch, but .*batch_size is 1"),
    ],
)
def test_invalid_amounts_of_jitter_erasing_and_cutmix_are_refused(changes, says):
    whole = config.base(ConfigDict())
    whole.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=says):
        augment.check(whole)


EXTREMES = (
    {"translate": 10_000.0},
    {"shear": 100.0},
    {"crop_pad": 1000},
    {"jitter": (100.0, 100.0, 100.0)},
)


@pytest.mark.parametrize("changes", EXTREMES)
def test_the_largest_amounts_leave_numbers(changes):
    whole = config.base(ConfigDict())
    whole.augment.update(changes)
    augment.check(whole)
    one = jax.jit(augment.make_augment(whole.augment, 0.0, 1.0))
    assert np.isfinite(one(jax.random.key(0), random_images(2, 4, 4, 3))).all()
