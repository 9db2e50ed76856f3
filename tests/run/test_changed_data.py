"""Data that changes under a run: refused where the run could not be the same, and said where it can."""

import shutil

import numpy as np
import pytest
from PIL import Image

from common import train
from common.errors import UserError
from common.protocols import measure
from common.report import sections
from common.run import checkpoints, trained, workdir
from tests import small_run
from tests.slow import rest_slow

RNG = np.random.default_rng(0)


def images(folder, classes, count, colour=False):
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.full((32, 32, 3) if colour else (32, 32), 60 * number, np.uint8)
            pixels += RNG.integers(0, 40, pixels.shape).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def config(data, length="2 epochs"):
    images = {"data.source": f"folder:{data}", "data.channels": 1, "data.limit": 0, "model.image_size": 32}
    return small_run.get_config(**images, **{"train.length": length, "train.batch_size": 6})


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory):
    root = tmp_path_factory.mktemp("changed")
    images(root / "data" / "train", ("cat", "dog", "eel"), 6)
    images(root / "data" / "test", ("cat", "dog", "eel"), 4)
    train.fit(config(root / "data"), root / "run")
    return root


@pytest.fixture
def run(trained_on, tmp_path):
    """(folder of the images, folder of the run), both to be changed, at the place where the run knows its images."""
    shutil.copytree(trained_on / "data", tmp_path / "kept")
    shutil.copytree(trained_on / "run", tmp_path / "run")
    yield trained_on / "data", tmp_path / "run"
    shutil.rmtree(trained_on / "data")
    shutil.copytree(tmp_path / "kept", trained_on / "data")


def rename(data):
    for split in ("train", "test"):
        (data / split / "dog").rename(data / split / "wolf")


def add(data):
    images(data / "train", ("fox",), 6)
    images(data / "test", ("fox",), 4)


def remove(data):
    for split in ("train", "test"):
        shutil.rmtree(data / split / "eel")


def contents(folder):
    """Every file but the lock, which names its last holder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize(("change", "said"), rest_slow([(rename, "wolf"), (add, "fox"), (remove, "eel")]))
def test_other_classes_are_refused_before_anything_is_written(run, change, said):
    data, folder = run
    change(data)
    before = contents(folder)
    uses = [lambda: train.fit(config(data, "3 epochs"), folder)]
    if change is not remove:  # test images of some of the classes are tested on
        uses += [lambda: measure.measure([folder], "single"), lambda: sections.report_html(folder)]
    for use in uses:
        with pytest.raises(UserError, match=said) as error:
            use()
        assert "\n" not in str(error.value)
    assert contents(folder) == before


def test_a_change_of_size_is_refused(run):
    data, folder = run
    other = config(data, "3 epochs")
    other.data.resize = 36
    other.data.crop = 32
    with pytest.raises(UserError, match=r"config\.data\.(resize|crop)"):
        train.fit(other, folder)


def test_additional_images_are_reported_and_the_run_goes_on(run, capsys):
    data, folder = run
    for i in range(6):
        shutil.copy(data / "train" / "cat" / "0.png", data / "train" / "cat" / f"more{i}.png")
    train.fit(config(data, "3 epochs"), folder)
    assert "24 training images, 18 before" in capsys.readouterr().out
    assert workdir.load_info(folder).train_size == 24
    assert len(checkpoints.steps(folder)) >= 1


def test_a_run_is_tested_on_another_folder_with_test_images_alone(run, tmp_path):
    data, folder = run
    images(tmp_path / "other" / "test", ("cat", "dog", "eel"), 3)
    other = config(tmp_path / "other")
    result = measure.measure([folder], "single", config=other)
    assert result["examples"] == 9
    assert trained.load(folder).info.test_size == 12
    other.model.activation = "tanh"
    with pytest.raises(UserError, match="another experiment"):
        measure.measure([folder], "single", config=other)
