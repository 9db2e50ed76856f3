"""Regions of an image, and the spatial pyramid's weights (Lazebnik et al. 2006)."""

import numpy as np
import pytest

from classic import pooling
from common.errors import UserError


def test_numbers_of_regions_are_the_papers():
    counts = {name: len(pooling.weights(name)) for name in pooling.LAYOUTS}
    assert counts == {"whole": 1, "quadrants": 4, "stripes": 4, "pyramid1": 5, "pyramid2": 21}


def test_weights_of_three_levels():
    weights = pooling.weights("pyramid2")
    np.testing.assert_allclose(weights, [0.25] * 5 + [0.5] * 16)
    np.testing.assert_allclose(pooling.weights("pyramid1"), [0.5] * 5)
    np.testing.assert_allclose(pooling.weights("whole"), [1])


@pytest.mark.parametrize("layout", sorted(pooling.LAYOUTS))
def test_each_grid_holds_each_present_descriptor_once(layout):
    rng = np.random.default_rng(0)
    centres = rng.random((3, 50, 2)).astype(np.float32)
    centres[0, 0], centres[0, 1] = 0, np.nextafter(np.float32(1), np.float32(0))
    present = rng.random((3, 50)) < 0.7
    found = pooling.regions(centres, present, layout)
    assert found.shape == (3, 50, len(pooling.weights(layout)))
    np.testing.assert_array_equal(found.sum(-1), present * len(pooling.LAYOUTS[layout]))


def test_regions_are_read_row_by_row():
    centres = np.array([[[0.1, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.9]]], np.float32)
    present = np.ones((1, 4), bool)
    np.testing.assert_array_equal(pooling.regions(centres, present, "quadrants")[0], np.eye(4, dtype=bool))
    np.testing.assert_array_equal(pooling.regions(centres, present, "stripes")[0, :, 1:].argmax(-1), [0, 0, 2, 2])
    np.testing.assert_array_equal(pooling.regions(centres, present, "pyramid2")[0, :, 5:].argmax(-1), [0, 3, 12, 15])


def test_an_unknown_layout_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"unknown layout 'pyramid'; did you mean 'pyramid"):
        pooling.weights("pyramid")
