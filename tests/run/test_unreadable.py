"""Runs that go on after images that cannot be read: what their summaries list, and what a change of the data is."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from common import train
from common.errors import UserError
from common.run import summary, workdir
from tests import small_run


@pytest.fixture
def pictures(tmp_path):
    """Twelve pictures of two classes for training, of which one is unreadable, and as many for testing."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(6):
                pixels = rng.integers(0, 256, (8, 8), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{i}.png")
    (tmp_path / "data" / "train" / "cat" / "0.png").write_text("no image")
    return tmp_path / "data"


def config(pictures, **changes):
    unreadable = {"data.source": f"folder:{pictures}", "data.skip_bad": True, "data.memory": "stream"}
    short = {"data.limit": 0, "data.resize": 8, "train.batch_size": 4, "train.length": "3 steps"}
    return small_run.get_config(**{**unreadable, **short, **changes})


@pytest.mark.slow
def test_the_summary_of_a_run_that_goes_on_lists_what_its_first_start_skipped(pictures, tmp_path):
    folder, broken = tmp_path / "run", pictures / "train" / "cat" / "0.png"
    first = train.fit(config(pictures), folder)
    (said,) = first["skipped_images"]
    assert str(broken) in said
    shutil.copy(broken.with_name("1.png"), broken)  # it can be read from now on, but the first start could not
    (pictures / "test" / "dog" / "0.png").write_text("no image")
    longer = train.fit(config(pictures, **{"train.length": "6 steps"}), folder)
    assert longer["resumed_from"] == 3
    assert said in longer["skipped_images"]
    assert [str(pictures / "test" / "dog" / "0.png") in text for text in longer["skipped_images"]].count(True) == 1
    assert summary.read(folder)["skipped_images"] == longer["skipped_images"]
    anew = train.fit(config(pictures), tmp_path / "other")
    assert not [text for text in anew["skipped_images"] if str(broken) in text]


def test_a_stopped_run_remembers_what_it_skipped_before_its_checkpoint(tmp_path):
    found = {"'a' cannot be read": None}
    stopped = summary.Skipped(tmp_path, found, resumed=False, write=True)
    stopped.save()
    found["'b' cannot be read"] = None  # after the last checkpoint: the next start draws it again
    again = summary.Skipped(tmp_path, {}, resumed=True, write=True)
    assert again.save() == ["'a' cannot be read"]
    assert summary.Skipped(tmp_path, {}, resumed=False, write=True).save() == []  # another run in the same folder
    assert summary.Skipped(tmp_path, {}, resumed=True, write=True).save() == []


@pytest.mark.slow
def test_a_run_that_is_tested_later_says_nothing_of_changed_data(pictures, tmp_path, capsys):
    (pictures / "test" / "cat" / "0.png").write_text("no image")
    validated = {"data.validation": "40%", "evaluate.test": False}
    train.fit(config(pictures, **validated), tmp_path / "run")
    capsys.readouterr()
    result = train.fit(config(pictures, **{**validated, "evaluate.test": True}), tmp_path / "run")
    output = capsys.readouterr().out
    assert "1 of 12 test images cannot be read and are left out" in output
    assert "has changed since the run began" not in output
    assert sum(part["examples"] for part in result["class_errors"].values()) == 11


def test_an_image_that_only_one_process_cannot_read_is_no_example_of_its_curvature(pictures, tmp_path, monkeypatch):
    # The other process, which this test stands in for, can read it.
    curved = config(pictures, **{"optimizer.name": "diagonal_levenberg_marquardt", "optimizer.curvature_examples": 12})

    def beside_another(name, text, timeout):
        return [text, "[]"] if name == "unreadable images" else [text]

    with monkeypatch.context() as patched:
        patched.setattr(workdir.distributed, "gathered", beside_another)
        with pytest.raises(UserError, match="process 0 cannot read '/train/cat/0.png', process 1 can"):
            train.fit(curved, tmp_path / "two")
    result = train.fit(curved, tmp_path / "one")
    assert len(result["skipped_images"]) == 1


def test_every_process_tells_what_it_has_skipped(tmp_path, monkeypatch):
    told = []

    def gathered(name, text, timeout):
        told.append(json.loads(text))
        return [text, json.dumps(["'c' cannot be read"] if len(told) == 1 else [])]

    monkeypatch.setattr(summary.distributed, "gathered", gathered)
    found = {"'a' cannot be read": None}
    skipped = summary.Skipped(tmp_path, found, resumed=False, write=True)
    assert skipped.save() == ["'a' cannot be read", "'c' cannot be read"]
    found["'b' cannot be read"] = None
    assert skipped.save() == [f"'{name}' cannot be read" for name in "abc"]
    assert told == [["'a' cannot be read"], ["'b' cannot be read"]]  # each once
