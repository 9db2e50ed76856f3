"""The occlusion map of a network whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.report import occlusion

GREY = np.array([0.5], np.float32)


def by_one_pixel(variables, images):
    """Class 1 has the probability 0.9 where pixel (3, 5) is white, else 0.2."""
    sees = images[:, 3, 5, 0] == 1.0
    one = jnp.where(sees, 0.9, 0.2)
    return jnp.stack([1 - one, one], axis=-1)


def softmax_of_sums(weights, images):
    """Depends on every pixel."""
    return jax.nn.softmax(images.reshape(len(images), -1) @ weights / 10)


def anything(variables, images):
    return jnp.full((len(images), 2), 0.5)


@pytest.mark.parametrize("side", [3, 4])
def test_the_class_is_lost_exactly_where_the_square_covers_what_the_network_looks_at(side):
    image = np.ones((1, 8, 10, 1), np.float32)
    found = occlusion.sensitivity(by_one_pixel, {}, image, np.array([1]), side, 1, GREY)
    assert found.probabilities.shape == (1, 8, 10)
    covers = (np.abs(found.rows - 3)[:, None] < side / 2) & (np.abs(found.columns - 5) < side / 2)
    assert covers.sum() == side**2
    np.testing.assert_allclose(found.probabilities[0], np.where(covers, 0.2, 0.9), rtol=1e-6)
    np.testing.assert_allclose(found.uncovered, [0.9], rtol=1e-6)


def test_the_probability_of_another_class_rises():
    image = np.ones((1, 8, 10, 1), np.float32)
    found = occlusion.sensitivity(by_one_pixel, {}, image, np.array([0]), 3, 1, GREY)
    assert found.probabilities[0, 3, 5] == pytest.approx(0.8)
    assert found.probabilities[0, 0, 0] == pytest.approx(0.1)


def test_every_place_against_covering_by_hand():
    images = np.random.default_rng(0).normal(size=(2, 13, 11, 3)).astype(np.float32)
    labels, grey = np.array([2, 0]), np.array([0.1, 0.2, 0.3], np.float32)
    weights = np.random.default_rng(1).normal(size=(images[0].size, 3)).astype(np.float32)
    found = occlusion.sensitivity(softmax_of_sums, weights, images, labels, 4, 3, grey)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        for i, row in enumerate(found.rows):
            for j, column in enumerate(found.columns):
                covered, top, left = image.copy(), int(row - 1.5), int(column - 1.5)
                covered[max(top, 0) : top + 4, max(left, 0) : left + 4] = grey
                expected = softmax_of_sums(weights, covered[None])[0, label]
                assert found.probabilities[number, i, j] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(("length", "stride"), [(8, 1), (32, 2), (28, 3), (224, 14), (5, 7)])
def test_the_squares_centre_stays_inside_and_its_places_are_centred(length, stride):
    image = np.ones((1, length, length, 1), np.float32)
    found = occlusion.sensitivity(anything, {}, image, np.array([1]), 5, stride, GREY)
    before, after = found.rows[0], length - 1 - found.rows[-1]
    assert 0 <= before < stride
    assert abs(before - after) <= 1
    assert set(np.diff(found.rows)) <= {float(stride)}
