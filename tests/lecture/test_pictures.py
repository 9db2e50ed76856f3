"""The lecture's pictures: those that are stored are those that the code draws."""

import numpy as np
import pytest
from PIL import Image

from lecture.pictures import catalogue, layers, style
from tests.runs import ROOT


@pytest.mark.slow  # the fact vgg-stack-fields says how far they reach
def test_paths_through_stacked_layers():
    paths = layers.paths(2)
    assert paths[4, 4] == 9
    assert paths[2, 2] == 1
    assert paths.sum() == 9**2
    assert paths[1].sum() == paths[:, 7].sum() == 0


@pytest.mark.slow  # tests/lecture/test_lecture_page.py compares the numbers in two of them
@pytest.mark.parametrize("name", catalogue.DRAWN)
def test_a_stored_picture_is_what_the_code_draws(name, tmp_path):
    path = tmp_path / "picture.png"
    style.save(catalogue.draw(name, tmp_path), path)
    drawn, stored = (
        np.asarray(Image.open(file).convert("RGB"), float)
        for file in (path, ROOT / "docs" / "images" / f"lecture_{name}.png")
    )
    assert drawn.shape == stored.shape
    # Other releases of matplotlib place text a little differently, so the pictures may differ by two grey levels.
    assert np.abs(drawn - stored).mean() < 2
