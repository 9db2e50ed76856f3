"""Tests that a run's folder never mixes two runs: after a kill, with other images, and with data in another place."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from classic import evaluate, saved, train
from classic.config import base
from classic.decoders import DECODERS
from common.errors import UserError
from common.run import history


def config_of(constant, source="digits", **changes):
    config = base()
    config.data.source = source
    config.decode.C = constant
    config.update_from_flattened_dict(changes)
    return config


def stop(*_, **__):
    raise KeyboardInterrupt


@pytest.fixture
def finished(tmp_path):
    """A folder with a finished run, and its test error."""
    return tmp_path, train.fit(config_of("0.1", **{"data.limit": 300}), tmp_path)["test"]["error"]


def stopped(changed, folder, monkeypatch, module, name):
    """Begins the changed run, which ends where it calls a function."""
    with monkeypatch.context() as patch:
        patch.setattr(module, name, stop)
        with pytest.raises(KeyboardInterrupt):
            train.fit(changed, folder)


def test_a_run_stopped_as_it_begins_is_not_taken_for_the_one_before(finished, monkeypatch):
    folder, error = finished
    changed = config_of("1e-6", **{"data.limit": 300})
    stopped(changed, folder, monkeypatch, history, "record")
    assert not (folder / "summary.json").exists()
    assert train.fit(changed, folder)["test"]["error"] > error + 0.05


def test_a_pipeline_is_not_tested_as_another_whose_fit_was_stopped(finished, monkeypatch):
    folder, error = finished
    changed = config_of("1e-6", **{"data.limit": 300})
    stopped(changed, folder, monkeypatch, DECODERS["linear_svm"], "fit")
    with pytest.raises(UserError, match=r"config\.decode\.C is '0\.1' there and '1e-6' here"):
        evaluate.measure(folder, changed)
    assert evaluate.measure(folder)["top1_error"] == pytest.approx(error)


def test_a_finished_run_takes_the_new_place_of_its_data(finished):
    folder, error = finished
    again = train.fit(config_of("0.1", **{"data.limit": 300, "data.directory": "/elsewhere"}), folder)
    assert again["test"]["error"] == error
    assert saved.load(folder).config.data.directory == "/elsewhere"


def test_of_another_decoder_only_the_name_is_printed(finished, capsys):
    folder, _ = finished
    capsys.readouterr()
    changed = base("raw_linear+knn")
    changed.data.limit = 300
    train.fit(changed, folder)
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("config.")] == [
        "config.decode.name was 'linear_svm', and is 'knn' from here on"
    ]


def test_an_image_file_with_other_pixels_is_described_again(tmp_path):
    images = tmp_path / "images"
    for split in ("train", "test"):
        for name, level in (("dark", 40), ("bright", 200)):
            (images / split / name).mkdir(parents=True)
            for number in range(4):
                Image.fromarray(np.full((8, 8), level + number, np.uint8)).save(images / split / name / f"{number}.png")
    config, folder = config_of("1", f"folder:{images}"), tmp_path / "run"
    assert train.fit(config, folder)["test"]["error"] == 0
    for number in range(4):
        path = images / "test" / "dark" / f"{number}.png"
        before = path.stat()
        Image.fromarray(np.full((8, 8), 200 + number, np.uint8)).save(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))  # later, however coarse the clock is
    assert train.fit(config, folder)["test"]["error"] == 0.5
    assert json.loads((folder / "summary.json").read_text())["computed"][0] == "sample"
    assert train.fit(config, folder)["computed"][0] == "sample"  # finished: the same summary
