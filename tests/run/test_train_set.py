"""The error on the training set of a run's final network."""

import shutil

import pytest

from common import train
from common.data import datasets
from common.run import summary, trained, workdir
from tests.small_run import small_run


def test_the_summary_has_the_final_networks_error_on_the_training_set():
    content = summary.read(small_run())
    run = trained.load(small_run())
    train_set = datasets.load(run.config.data).train
    assert len(train_set) == run.info.train_size
    assert content["train_set"]["error"] == pytest.approx(trained.predictions(run, train_set).error, abs=1e-6)
    assert content["train_set"]["error"] != content["train"]["error"]


def without_train_set(config):
    """The config without the measurement on the training set."""
    changed = config.copy_and_resolve_references()
    changed.evaluate.train_set = False
    return changed


def test_a_finished_run_measures_the_training_set_if_asked_later(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(small_run(), folder)
    asked, before = workdir.load_config(folder), summary.read(folder)
    without = {name: value for name, value in before.items() if name != "train_set"}
    workdir.write_json(folder / workdir.SUMMARY, without)
    assert "train_set" not in train.fit(without_train_set(asked), folder)
    after = train.fit(asked, folder)
    assert after == summary.read(folder)
    assert after["train_set"] == before["train_set"]
    assert (after["step"], after["test"], after["train"]) == (before["step"], before["test"], before["train"])
