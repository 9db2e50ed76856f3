"""Tests, with real processes and signals, that a run goes on after any kill, stop or damage as if without it."""

import functools
import json
import random
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from common import train
from common.run import metrics, trained
from tests import small_run
from tests.runs import start
from tests.slow import rest_slow

# The curvature is estimated and images are mirrored with keys that depend on the step.
CHANGES = {
    "augment.mirror": True,
    "optimizer.name": "diagonal_levenberg_marquardt",
    "optimizer.curvature_examples": 50,
    "data.limit": 800,
    "train.length": "800 steps",
    "train.steps_per_call": 100,
    "train.log_every": "200 steps",
    "checkpoint.every": "100 steps",
    "evaluate.every": "200 steps",
}
COMMAND = (small_run.CONFIG, *(f"--config.{option}={value}" for option, value in CHANGES.items()))


def fit(folder, **changes):
    """Does in this process what the command does."""
    return train.fit(small_run.get_config(**{**CHANGES, **changes}), folder)


@functools.cache
def parameters(folder):
    """Every parameter of the last checkpoint, as one vector."""
    last = trained.load(folder, "800")
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(last.variables)])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    fit(folder)
    return folder


def wait_for_checkpoint(folder, process, timeout=120):
    deadline = time.monotonic() + timeout
    while not any((folder / "checkpoints").glob("[0-9]*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("kills", rest_slow([1, 4]))
def test_killed_at_random_moments_it_ends_with_the_same_bits(kills, unbroken, tmp_path):
    rng = random.Random(0)
    for number in range(kills):
        process = start(*COMMAND, f"--workdir={tmp_path}")
        if number % 2 == 0:
            wait_for_checkpoint(tmp_path, process)
            time.sleep(rng.uniform(0.0, 0.5))
        else:
            time.sleep(rng.uniform(1.0, 3.0))  # anywhere from the imports to just after the first saves
        process.send_signal(signal.SIGKILL)
        process.communicate()
    fit(tmp_path)
    np.testing.assert_array_equal(parameters(tmp_path), parameters(unbroken))
    for split in ("train", "test"):  # a record of training covers all updates since the one before, kills or not
        ours, theirs = metrics.read(tmp_path, split), metrics.read(unbroken, split)
        values = ("step", "error", "loss", "examples")
        assert [[r[name] for name in values] for r in ours] == [[r[name] for name in values] for r in theirs]


def test_sigterm_saves_and_the_same_config_continues(unbroken, tmp_path, capsys):
    process = start(*COMMAND, f"--workdir={tmp_path}")
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.fail("the run had ended before the signal; make it longer")
    assert process.returncode == 75, errors
    assert "saved at step" in output
    fit(tmp_path)
    assert "going on from step" in capsys.readouterr().out
    np.testing.assert_array_equal(parameters(tmp_path), parameters(unbroken))


def test_a_finished_run_says_so(unbroken, capsys):
    before = (unbroken / "summary.json").read_text()
    fit(unbroken)
    assert "finished at step 800" in capsys.readouterr().out
    assert (unbroken / "summary.json").read_text() == before
    assert json.loads(before)["step"] == 800


def test_a_truncated_newest_checkpoint_is_skipped_with_a_warning(unbroken, tmp_path, capsys, caplog):
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    newest = tmp_path / "checkpoints" / "800"
    for path in newest.rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "summary.json").unlink()
    fit(tmp_path)
    assert "checkpoints/800 cannot be read" in caplog.text
    assert "going on from step 700" in capsys.readouterr().out
    assert (tmp_path / "damaged" / "800").exists()
    np.testing.assert_array_equal(parameters(tmp_path), parameters(unbroken))


@pytest.mark.slow  # tests/run/test_workdir.py makes a run longer, too
def test_a_longer_run_goes_on_from_a_finished_one(unbroken, capsys):
    fit(unbroken, **{"train.length": "900 steps"})
    assert "going on from step 800" in capsys.readouterr().out
    assert metrics.read(unbroken, "test")[-1]["step"] == 900
