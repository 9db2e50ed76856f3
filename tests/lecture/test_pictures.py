"""The lecture's pictures: those that are stored are those that the code draws."""

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.run import workdir
from lecture import trainings
from lecture.pictures import catalogue, layers, style
from tests.runs import ROOT, refused


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


def test_a_file_in_the_place_of_the_folder_of_pictures_is_named(tmp_path):
    (tmp_path / "file").touch()
    line = refused(f"--out={tmp_path / 'file'}", "rbf", module="lecture.pictures")
    assert line == f"error: cannot write {tmp_path}/file: File exists"


def test_a_finished_run_of_another_config_is_not_taken_for_the_one_that_is_asked_for(tmp_path):
    config = trainings.twin("plain", 2)
    workdir.write_json(tmp_path / "config.json", config.to_dict())
    (tmp_path / "summary.json").write_text("{}")
    assert trainings.trained(config, tmp_path) == tmp_path
    config.schedule.learning_rate = 0.01
    with pytest.raises(UserError, match=f"{tmp_path} holds another run: config.schedule.learning_rate is .* 0.01 now"):
        trainings.trained(config, tmp_path)
