"""Tests, with real processes and signals, that a run goes on after any kill, stop or damage as if without it."""

import json
import random
import shutil
import signal
import time

import numpy as np
import pytest

from common.run import metrics, trained
from tests.runs import DIGITS, run, start
from tests.slow import rest_slow

LENGTH = ("--config.train.length=600steps", "--config.checkpoint.every=100steps", "--config.evaluate.every=200steps")


def parameters(folder):
    """Every parameter of the last checkpoint, as one vector."""
    import jax

    last = trained.load(folder, "600")
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(last.variables)])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    code, output, errors = run(*DIGITS, *LENGTH, f"--workdir={folder}")
    assert code == 0, errors
    return folder


def wait_for_checkpoint(folder, process, timeout=120):
    deadline = time.monotonic() + timeout
    while not any((folder / "checkpoints").glob("[0-9]*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("kills", rest_slow([1, 4]))
def test_killed_at_random_moments_it_ends_with_the_same_bits(kills, unbroken, tmp_path):
    rng = random.Random(0)
    for number in range(kills):
        process = start(*DIGITS, *LENGTH, f"--workdir={tmp_path}")
        if number % 2 == 0:
            wait_for_checkpoint(tmp_path, process)
            time.sleep(rng.uniform(0.0, 0.5))
        else:
            time.sleep(rng.uniform(1.0, 3.0))  # anywhere from the imports to just after the first saves
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, _, errors = run(*DIGITS, *LENGTH, f"--workdir={tmp_path}")
    assert code == 0, errors
    np.testing.assert_array_equal(parameters(tmp_path), parameters(unbroken))
    ours, theirs = metrics.read(tmp_path, "test"), metrics.read(unbroken, "test")
    assert [(r["step"], r["error"], r["loss"]) for r in ours] == [(r["step"], r["error"], r["loss"]) for r in theirs]


def test_sigterm_saves_and_the_same_command_continues(unbroken, tmp_path):
    process = start(*DIGITS, *LENGTH, f"--workdir={tmp_path}")
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.fail("the run had ended before the signal; make it longer")
    assert process.returncode == 75, errors
    assert "saved at step" in output
    code, output, _ = run(*DIGITS, *LENGTH, f"--workdir={tmp_path}")
    assert code == 0
    assert "going on from step" in output
    np.testing.assert_array_equal(parameters(tmp_path), parameters(unbroken))


def test_a_finished_run_says_so(unbroken):
    before = (unbroken / "summary.json").read_text()
    code, output, _ = run(*DIGITS, *LENGTH, f"--workdir={unbroken}")
    assert code == 0
    assert "finished at step 600" in output
    assert (unbroken / "summary.json").read_text() == before
    assert json.loads(before)["step"] == 600


def test_a_truncated_newest_checkpoint_is_skipped_with_a_warning(unbroken, tmp_path):
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    newest = tmp_path / "checkpoints" / "600"
    for path in newest.rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "summary.json").unlink()
    code, output, errors = run(*DIGITS, *LENGTH, f"--workdir={tmp_path}")
    assert code == 0, errors
    assert "checkpoints/600 cannot be read" in errors
    assert "going on from step 500" in output
    assert (tmp_path / "damaged" / "600").exists()
    np.testing.assert_array_equal(parameters(tmp_path), parameters(unbroken))


@pytest.mark.slow  # tests/run/test_workdir.py makes a run longer, too
def test_a_longer_run_goes_on_from_a_finished_one(unbroken):
    longer = (*LENGTH[1:], "--config.train.length=700steps")
    code, output, errors = run(*DIGITS, *longer, f"--workdir={unbroken}")
    assert code == 0, errors
    assert "going on from step 600" in output
    assert metrics.read(unbroken, "test")[-1]["step"] == 700
