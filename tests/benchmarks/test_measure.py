"""Results of benchmarks, which say how they were made."""

import json
import sys

import pytest

from benchmarks import measure


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        (["--config=configs/lenet5_mnist.py", "--steps=20000"], "--config=configs/lenet5_mnist.py --steps=20000"),
        (["--config.data.directory=/home/me/data", "--rounds=3"], "--config.data.directory=DIR --rounds=3"),
        (["--config", "configs/a.py", "--out", "/home/me/results", "--train"], "--config configs/a.py --train"),
        (["--config.data.source=folder:/home/me/cifar", "--minutes=3"], "--config.data.source=folder:DIR"),
    ],
)
def test_a_result_has_the_command_that_made_it_and_no_folder_of_the_machine(given, recorded, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "-m", "benchmarks.loop", *given])
    measure.record(tmp_path / "loop.json", "loop", {"speed": measure.spread([1.0, 2.0])})
    result = json.loads((tmp_path / "loop.json").read_text())
    assert result["command"] == f"python -m benchmarks.loop {recorded}"
    assert {"commit", "uncommitted_changes", "environment", "date"} <= set(result)
