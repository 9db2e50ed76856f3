"""Corners: the facts of Harris & Stephens (1988), and OpenCV as a second implementation."""

import cv2
import numpy as np
import pytest

from classic import corners
from common.errors import UserError

NAMES = sorted(corners.MEASURES)


def square(size=40, low=12, high=28, dark=0.1, bright=0.9):
    image = np.full((size, size), dark, np.float32)
    image[low:high, low:high] = bright
    return image


def response(image, name="harris"):
    return corners.MEASURES[name](corners.structure_tensor(image))


def test_tensor_is_the_windowed_product_of_gradients():
    image = np.random.default_rng(0).random((12, 9)).astype(np.float32)
    tensor = corners.structure_tensor(image, sigma=0, derivative_sigma=0)
    padded = np.pad(image, 1, mode="reflect")
    dy = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    dx = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    for found, expected in zip(tensor, (dy * dy, dx * dy, dx * dx), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_eigenvalues_are_those_of_each_matrix():
    image = np.random.default_rng(1).random((6, 7)).astype(np.float32)
    tensor = corners.structure_tensor(image)
    matrices = np.stack([np.stack([tensor.yy, tensor.xy], -1), np.stack([tensor.xy, tensor.xx], -1)], -2)
    found = corners.eigenvalues(tensor)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(matrices)[..., ::-1], atol=1e-6)
    np.testing.assert_allclose(corners.harris(tensor, 0.04), found.prod(-1) - 0.04 * found.sum(-1) ** 2, atol=1e-7)


def test_an_edge_has_one_eigenvalue_and_a_negative_response():
    image = np.zeros((30, 30), np.float32)
    image[:, 15:] = 1
    tensor = corners.structure_tensor(image)
    large, small = corners.eigenvalues(tensor)[15, 15]
    assert large > 0.01
    assert small < 1e-6
    assert corners.harris(tensor)[15, 15] == pytest.approx(-corners.DEFAULT_K * large**2, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_image_has_no_corner(name):
    assert np.all(response(np.full((16, 16), 0.5, np.float32), name) == 0)
    assert corners.corners(np.full((16, 16), 200, np.uint8), name).shape == (0, 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_four_corners_of_a_square_are_found(name):
    found = corners.corners((square() * 255).astype(np.uint8), name, most=4, radius=3)
    expected = [(12, 12), (12, 27), (27, 12), (27, 27)]
    assert len(found) == 4
    assert all(min(np.abs(found - place).max(axis=1)) <= 2 for place in expected)


def test_no_response_is_positive_for_k_of_a_quarter():
    noise = np.random.default_rng(2).random((32, 32)).astype(np.float32)
    assert corners.harris(corners.structure_tensor(noise), k=0.25).max() <= 1e-7


@pytest.mark.parametrize("name", NAMES)
def test_response_turns_with_the_image(name):
    noise = np.random.default_rng(3).random((24, 24)).astype(np.float32)
    np.testing.assert_allclose(response(np.rot90(noise).copy(), name), np.rot90(response(noise, name)), atol=1e-6)


def test_response_scales_with_the_fourth_power_of_contrast_and_ignores_brightness():
    noise = np.random.default_rng(4).random((24, 24)).astype(np.float32)
    np.testing.assert_allclose(response(0.5 * noise + 0.3), response(noise) / 16, atol=1e-7)


def test_corners_are_where_opencv_finds_them():
    # OpenCV has a box window and another scale, so that places are compared.
    image = square(60)
    image[38:50, 34:50] = 0.8
    ours = corners.peaks(response(image), radius=2, threshold=0.1)
    theirs = corners.peaks(cv2.cornerHarris(image, 3, 3, 0.05), radius=2, threshold=0.1)
    assert len(ours) == len(theirs) == 8
    assert all(np.abs(theirs - place).max(axis=1).min() <= 2 for place in ours)
    smaller = cv2.cornerMinEigenVal(image, 3)
    strongest = corners.peaks(smaller, radius=2, most=8)
    ours = corners.peaks(response(image, "shi_tomasi"), radius=2, most=8)
    assert all(np.abs(strongest - place).max(axis=1).min() <= 2 for place in ours)


def test_peaks_are_local_maxima_strongest_first_and_apart():
    field = np.random.default_rng(5).random((30, 30)).astype(np.float32)
    found = corners.peaks(field, threshold=0.5, radius=2)
    values = field[tuple(found.T)]
    assert np.all(np.diff(values) <= 0)
    for y, x in found:
        assert field[y, x] == field[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].max()
    assert len(corners.peaks(np.ones((9, 9), np.float32), radius=20)) == 1
    np.testing.assert_array_equal(corners.peaks(field, threshold=0.5, radius=2, most=3), found[:3])


def test_mistakes_are_answered_in_one_line():
    with pytest.raises(UserError, match=r"unknown corner measure 'haris'; did you mean 'harris'"):
        corners.corners(np.zeros((9, 9), np.uint8), "haris")
    with pytest.raises(UserError, match="not finite"):
        corners.peaks(np.full((4, 4), np.nan, np.float32))
