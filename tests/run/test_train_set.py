"""The error on the training set of a run's final network."""

import json
import shutil

import pytest

from common import train
from common.data import datasets
from common.run import history, summary, trained, workdir
from tests.small_run import small_run, train_and_stop


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


@pytest.mark.slow
def test_a_finished_run_that_is_asked_for_more_results_keeps_the_options_of_its_updates(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(small_run(), folder)
    asked, stored = workdir.load_config(folder), (folder / workdir.CONFIG).read_text()
    before = summary.read(folder)
    workdir.write_json(folder / workdir.SUMMARY, {name: value for name, value in before.items() if name != "train_set"})
    asked.train.length, asked.train.patience, asked.schedule.learning_rate = "1 epoch", 3, 0.5
    asked.evaluate.batch_size = 100
    assert train.fit(asked, folder)["train_set"] == pytest.approx(before["train_set"])
    kept = workdir.load_config(folder)
    assert kept.evaluate.batch_size == 100
    kept.evaluate.batch_size = asked.evaluate.batch_size = 1000
    workdir.write_json(tmp_path / "config.json", kept.to_dict())
    assert (tmp_path / "config.json").read_text() == stored
    last = json.loads((folder / history.FILE).read_text().splitlines()[-1])
    assert last["changed"] == {"evaluate.batch_size": [1000, 100]}


@pytest.mark.slow
def test_a_stopped_run_that_is_given_a_shorter_length_than_it_has_says_how_long_it_is(tmp_path, monkeypatch, capsys):
    config = workdir.load_config(small_run())
    train_and_stop(config, tmp_path, 30, monkeypatch)
    config.train.length = "12 steps"
    assert train.fit(config, tmp_path)["step"] == 30
    assert workdir.load_config(tmp_path).train.length == "30 steps"
    assert "config.train.length was '2 epochs', and is '30 steps' from here on" in capsys.readouterr().out
