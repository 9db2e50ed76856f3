"""Descriptors: facts of Lowe (2004) and the papers of the others, and OpenCV's and scikit-image's pitfalls."""

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import ndimage

from classic.descriptors import DESCRIBERS, dense_sift, sift
from classic.options import check
from common.errors import UserError

NAMES = sorted(DESCRIBERS)


def options(name, **changes):
    return ConfigDict({**DESCRIBERS[name].DEFAULTS, **changes})


def describe(name, images, **changes):
    return DESCRIBERS[name].describe(images, options(name, **changes))


@pytest.fixture(scope="module")
def textured():
    """Smooth random images, 32 x 32 pixels, in which SIFT finds keypoints; the last one is constant."""
    noise = np.random.default_rng(0).normal(size=(4, 32, 32, 1)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 1.5) for image in noise])[..., None]
    images = np.clip(128 + 200 * smooth, 0, 255).astype(np.uint8)
    images[-1] = 77
    return images


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_any_batch_is_described_each_image_alone(textured, name, colours):
    images = np.repeat(textured, colours, axis=-1)
    images[..., 0] //= 2
    found = describe(name, images)
    alone = describe(name, images[2:3])
    n, t = found.present.shape
    assert found.vectors.shape[:2] == found.centres.shape[:2] == (4, t)
    assert np.isfinite(found.vectors).all()
    assert (found.centres >= 0).all()
    assert (found.centres < 1).all()
    for whole, one in zip(found, alone, strict=True):
        np.testing.assert_array_equal(whole[2:3], one)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_pass_their_own_check(name):
    module = DESCRIBERS[name]
    check("describe", options(name), module.DEFAULTS, module.CHOICES, module.RANGES)


def test_patches_are_the_normalised_pixels_of_the_grid():
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    found = describe("patches", images)
    assert found.vectors.shape == (2, 27 * 27, 108)  # Coates et al. 2011, section 4
    patch = images[1, 3:9, 5:11].astype(np.float64).ravel()
    expected = (patch - patch.mean()) / np.sqrt(patch.var() + 10)
    np.testing.assert_allclose(found.vectors[1, 3 * 27 + 5], expected, atol=1e-5)
    np.testing.assert_allclose(found.centres[1, 3 * 27 + 5], [6 / 32, 8 / 32])
    strided = describe("patches", images, step=4, size=8, normalise="none")
    np.testing.assert_array_equal(strided.vectors[0, 1], images[0, :8, 4:12].ravel())


def test_flat_patches_are_zeros_for_any_constant():
    flat = np.full((1, 8, 8, 1), 9, np.uint8)
    assert np.all(describe("patches", flat, constant=0.0).vectors == 0)


def moments(image):
    """The centre (y, x) of the bright pixels of an image, and the covariance of their rows and columns."""
    y, x = (np.arange(length) for length in image.shape)
    mass = image / image.sum()
    cy, cx = (mass.sum(1) * y).sum(), (mass.sum(0) * x).sum()
    return (cy, cx), (mass * np.outer(y - cy, x - cx)).sum()


@pytest.fixture(scope="module")
def shapes():
    """Smooth random shapes on a dark ground, 40 x 40 pixels, with room around them."""
    noise = np.random.default_rng(3).normal(size=(6, 14, 14)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 2) for image in noise])
    bright = np.clip(900 * np.maximum(smooth, 0), 0, 255).astype(np.uint8)
    return np.pad(bright, ((0, 0), (13, 13), (13, 13)))[..., None]


def test_deslanting_makes_a_principal_axis_vertical(shapes):
    found = describe("deslanted", shapes).vectors.reshape(6, 40, 40)
    before = [moments(image[..., 0]) for image in shapes]
    assert max(abs(product) for _, product in before) > 0.5
    for (centre, _), after in zip(before, found, strict=True):
        where, product = moments(after.astype(np.float64))
        np.testing.assert_allclose(where, centre, atol=1e-3)
        assert abs(product) < 1e-3


def test_a_slanted_bar_becomes_upright_and_an_upright_one_stays():
    bar = np.zeros((30, 30), np.uint8)
    bar[5:26, 13:17] = 255
    slanted = np.stack([np.roll(row, 15 - y) for y, row in enumerate(bar)])
    upright, was = describe("deslanted", np.stack([slanted, bar])[..., None]).vectors.reshape(2, 30, 30)
    np.testing.assert_array_equal(was, bar / np.float32(255))
    np.testing.assert_allclose(upright, was, atol=1e-5)


def test_the_middle_of_a_deslanted_image_is_kept(shapes):
    whole = describe("deslanted", shapes).vectors.reshape(6, 40, 40)
    found = describe("deslanted", shapes, crop=20).vectors
    assert found.shape == (6, 1, 400)  # LeCun et al. 1998, section III-A
    np.testing.assert_array_equal(found.reshape(6, 20, 20), whole[:, 10:30, 10:30])


def test_shifted_copies_follow_the_image():
    images = np.random.default_rng(2).integers(1, 256, (2, 5, 6, 3), np.uint8)
    parts = np.round(255 * describe("shifts", images, by=2).vectors).reshape(2, 5, 5, 6, 3)
    np.testing.assert_array_equal(parts[:, 0], images)
    for copy, (axis, by) in zip(range(1, 5), ((1, -2), (1, 2), (2, -2), (2, 2)), strict=True):
        expected = np.roll(images, by, axis=axis)
        np.moveaxis(expected, axis, 0)[slice(-2, None) if by < 0 else slice(2)] = 0
        np.testing.assert_array_equal(parts[:, copy], expected)


def test_tangent_vectors_are_the_changes_by_small_distortions(textured):
    parts = describe("tangents", textured[:1], sigma=2.0).vectors.reshape(8, 32, 32)
    y, x = np.mgrid[:32, :32] - 15.5
    one, none = np.ones_like(x), np.zeros_like(x)
    # The field (y, x) of each distortion: shifts, a turn, size, and the two hyperbolic ones.
    fields = [(none, one), (one, none), (-x, y), (y, x), (-y, x), (x, y)]
    for vector, (down, across) in zip(parts[1:7], fields, strict=True):
        ends = [
            ndimage.map_coordinates(parts[0], [y + 15.5 + step * down, x + 15.5 + step * across], mode="nearest")
            for step in (0.02, -0.02)
        ]
        inside = slice(4, -4), slice(4, -4)
        assert np.corrcoef((ends[0] - ends[1])[inside].ravel(), vector[inside].ravel())[0, 1] > 0.99
    np.testing.assert_allclose(parts[7], parts[1] ** 2 + parts[2] ** 2, rtol=1e-4, atol=1e-7)


def test_sift_has_128_numbers_of_unit_length(textured):
    rooted, plain = describe("dense_sift", textured), describe("dense_sift", textured, root=False)
    assert rooted.vectors.shape[2] == plain.vectors.shape[2] == 4 * 4 * 8
    np.testing.assert_allclose(np.linalg.norm(rooted.vectors[:3], axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(plain.vectors[:3], axis=-1), 1, atol=1e-5)
    # Clipped at 0.2 and normalised again, which raises it a little (Lowe 2004, section 6.1).
    assert plain.vectors.max() < 0.3
    np.testing.assert_allclose(
        rooted.vectors[0] ** 2, plain.vectors[0] / plain.vectors[0].sum(-1, keepdims=True), atol=1e-5
    )


def test_flat_squares_have_descriptors_of_zeros(textured):
    found = describe("dense_sift", textured)
    assert np.all(found.vectors[-1] == 0)
    assert found.present.all()
    levels = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 31, 31, 1))
    assert not describe("dense_sift", levels, scale=2, sizes=(16, 24)).vectors.any()
    noisy = np.random.default_rng(0).integers(99, 101, (1, 64, 64, 1), np.uint8)  # the least contrast that there is
    assert describe("dense_sift", noisy, scale=1).vectors.any(axis=-1).all()


def test_dense_sift_is_upright_and_spans_its_square():
    # A step edge between two columns of cells, and gradients in one direction: the pitfalls of angle and size.
    ramp = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None], 64, axis=0)[None, ..., None]
    histogram = describe("dense_sift", ramp, scale=1, step=64, sizes=(32,), root=False).vectors[0, 0].reshape(16, 8)
    # Brightness that rises to the right has one orientation; a rotation would share it among two.
    assert (histogram.argmax(axis=1) == 0).all()
    assert histogram[:, 1:].max() < 0.01 * histogram[:, 0].max()

    dots = np.zeros((1, 96, 96, 1), np.uint8)
    dots[0, 48, 8] = 255  # 40 pixels left of the centre
    inside = describe("dense_sift", dots, scale=1, step=96, sizes=(96,)).vectors
    outside = describe("dense_sift", dots, scale=1, step=96, sizes=(48,)).vectors
    assert inside.any()
    assert not outside.any()


def test_dense_sift_turns_with_the_image(textured):
    # A turn by a quarter permutes cells and orientations, if the grid's points are where they are said to be.
    one = textured[:1, :31, :31]
    changes = {"scale": 1, "sizes": (15,), "step": 8, "root": False}
    upright = describe("dense_sift", one, **changes)
    turned = describe("dense_sift", np.rot90(one, axes=(1, 2)).copy(), **changes)
    cells = upright.vectors.reshape(3, 3, 4, 4, 8)
    # rot90 takes (y, x) to (side - 1 - x, y); orientations move by a quarter of eight.
    expected = np.roll(np.rot90(np.rot90(cells, axes=(0, 1)), axes=(2, 3)), 2, axis=-1)
    errors = np.abs(turned.vectors.reshape(3, 3, 4, 4, 8) - expected)
    other = np.abs(turned.vectors.reshape(3, 3, 4, 4, 8) - np.roll(expected, 4, axis=-1))
    assert errors.max() < 0.02 < other.max()


def test_dense_sift_of_several_sizes_and_colours(textured):
    coloured = np.repeat(textured, 3, axis=-1)
    found = describe("dense_sift", coloured, sizes=(16, 24), step=8, colour="opponent")
    assert found.vectors.shape == (4, 7 * 7 + 6 * 6, 3 * 128)
    assert np.all(found.vectors[:, :, 128:] == 0)  # grey images have no colour
    grey = describe("dense_sift", textured, sizes=(24,), step=8)
    np.testing.assert_allclose(found.vectors[:, 49:, :128], grey.vectors, atol=0.02)
    assert len(dense_sift.DEFAULTS["sizes"]) == 1


@pytest.mark.parametrize("detector", ["dog", "harris", "shi_tomasi", "noble"])
def test_keypoints_are_few_and_absent_from_a_constant_image(textured, detector):
    found = describe("sift", textured, detector=detector, max_keypoints=20)
    counts = found.present.sum(axis=1)
    assert (counts[:3] > 0).all()
    assert counts[-1] == 0
    assert np.all(found.vectors[~found.present] == 0)
    assert np.linalg.norm(found.vectors[found.present], axis=-1) == pytest.approx(1, abs=1e-5)
    points = sift.keypoints(textured[0], options("sift", detector=detector, max_keypoints=20))
    assert len(points) == counts[0]
    np.testing.assert_allclose(found.centres[0, 0], [(points[0].y + 0.5) / 64, (points[0].x + 0.5) / 64], atol=1e-5)
    assert all(a.response >= b.response for a, b in zip(points, points[1:], strict=False))


def test_hog_of_an_edge_lies_in_one_bin():
    images = np.zeros((1, 16, 16, 1), np.uint8)
    images[:, :, 8:] = 255
    found = describe("hog", images)
    assert found.vectors.shape == (1, 1, 2 * 2 * 9)
    np.testing.assert_allclose(found.centres[0, 0], [0.5, 0.5])
    histogram = found.vectors[0, 0].reshape(2, 2, 9)
    assert histogram[..., 1:].max() == 0
    np.testing.assert_allclose(np.linalg.norm(histogram), 1, atol=1e-3)
    assert describe("hog", np.zeros((2, 32, 24, 3), np.uint8)).vectors.shape == (2, 3 * 2, 36)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("patches", {"size": 9}, r"config\.describe\.size is 9 pixels, but .* 8 pixels"),
        ("dense_sift", {"sizes": (32,)}, r"config\.describe\.sizes is 32 pixels, but .* 16 pixels"),
        ("deslanted", {"crop": 9}, r"config\.describe\.crop is 9 pixels, but .* 8 pixels"),
        ("shifts", {"by": 8}, r"config\.describe\.by is 8, but images have 8 x 8 pixels"),
        ("hog", {}, r"config\.describe\.block of 2 cells of 8 pixels does not fit .* 8 x 8"),
    ],
)
def test_images_that_are_too_small_are_refused(name, changes, words):
    with pytest.raises(UserError, match=words):
        describe(name, np.zeros((1, 8, 8, 1), np.uint8), **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"step": 0}, r"config\.describe\.step is 0; expected a whole number of at least 1"),
        ({"sizes": ()}, r"config\.describe\.sizes is empty"),
        ({"sizes": (16, 2.5)}, r"config\.describe\.sizes is .*expected a whole number"),
        ({"colour": "gray"}, r"unknown value of config\.describe\.colour 'gray'; did you mean 'grey'"),
        ({"stepp": 1}, r"unknown option 'config\.describe\.stepp'; did you mean 'config\.describe\.step'"),
    ],
)
def test_options_out_of_range_are_refused_in_one_line(changes, words):
    with pytest.raises(UserError, match=words):
        check("describe", options("dense_sift", **changes), dense_sift.DEFAULTS, dense_sift.CHOICES, dense_sift.RANGES)
