"""The numbers that the claims read off trained networks."""

import json

import numpy as np
import pytest

from common.run import workdir
from lenet import claims1989, measures
from lenet.bitmaps import CENTRES


def test_a_drawing_is_wrong_where_its_sign_is_not_the_bitmaps():
    labels = np.array([3, 8], np.int32)
    drawn = 0.1 * CENTRES[labels]
    assert measures.share_wrong(drawn, labels) == 0
    drawn[0, :7] *= -1
    assert measures.share_wrong(drawn, labels) == pytest.approx(7 / 168)
    assert measures.share_wrong(0.1 * CENTRES[labels], labels[::-1]) == pytest.approx(6 / 84)  # the closest bitmaps


def test_mean_squared_errors_are_halved(tmp_path):
    content = {"test": {"loss": 0.036, "error": 0.05}, "train_set": {"loss": 0.005, "error": 0.0014}}
    (tmp_path / workdir.SUMMARY).write_text(json.dumps(content))
    assert claims1989.half_test_mse(tmp_path) == pytest.approx(0.018)
    assert claims1989.half_train_mse(tmp_path) == pytest.approx(0.0025)
