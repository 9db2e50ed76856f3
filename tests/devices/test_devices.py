"""Tests that one device and eight simulated ones give the same losses; evaluation counts every example once."""

import json

import jax
import pytest
from ml_collections import ConfigDict

from common.devices import mesh
from common.run import checkpoints, metrics, trained
from tests import small_run
from tests.runs import run

ONE = ConfigDict({"devices": 1})
BATCHES = (small_run.CONFIG, "--config.train.batch_size=32", "--config.mesh.devices=0")
SHORT = (
    "--config.train.length=30steps",
    "--config.schedule.warmup=5steps",
    "--config.train.log_every=5steps",
    "--config.evaluate.every=10steps",
)


@pytest.mark.parametrize(
    ("devices", "fsdp", "used"), [(0, 1, 4), (2, 1, 2), (2, 2, 2), (2, -1, 2), (4, 2, 4), (8, 1, 4), (8, 8, 4)]
)
def test_a_run_is_opened_on_its_own_number_of_devices_if_there_are_as_many(devices, fsdp, used, monkeypatch):
    four = jax.devices()[:1] * 4
    monkeypatch.setattr(jax, "devices", lambda: four)
    found = mesh.available(ConfigDict({"devices": devices, "fsdp": fsdp}))
    assert dict(found.shape) == {"data": used, "fsdp": 1}


def test_several_processes_open_a_run_of_one_device_on_all_of_theirs(monkeypatch):
    # A run may start from one that was trained on one device, and every device of several processes has to take part.
    asked, available = [], mesh.available
    monkeypatch.setattr(trained.mesh_lib, "available", lambda section: asked.append(section.devices) or available(ONE))
    for processes in (1, 2):
        monkeypatch.setattr(trained.distributed, "count", lambda processes=processes: processes)
        monkeypatch.setattr(checkpoints.distributed, "any_of", lambda name, flag, timeout: flag)
        trained.load(small_run.small_run())
    assert asked == [1, 0]


@pytest.mark.slow  # tests/devices/test_sharding.py has the updates on eight devices, and the next test evaluation
@pytest.mark.parametrize("memory", ["arrays", "stream"])
def test_eight_devices_learn_as_one_does(tmp_path, memory):
    for devices in (1, 8):
        folder = tmp_path / str(devices)
        settings = (f"--config.data.memory={memory}", "--config.evaluate.batch_size=50", f"--workdir={folder}")
        code, output, errors = run(*BATCHES, *SHORT, *settings, devices=devices)
        assert code == 0, errors
        assert f"over {devices} x cpu ({32 // devices} each)" in output
    one, eight = metrics.read(tmp_path / "1"), metrics.read(tmp_path / "8")
    assert [(r["step"], r["split"]) for r in one] == [(r["step"], r["split"]) for r in eight]
    for a, b in zip(one, eight, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-3)
        assert a["examples"] == b["examples"]
    assert one[-1]["examples"] == 359


def test_evaluation_counts_every_example_once_at_any_batch_size():
    code, output, errors = run(module="tests.evaluated", devices=8)
    assert code == 0, errors
    results = json.loads(output.strip().splitlines()[-1])
    assert len(results) == 3
    for values in results:
        assert values["examples"] == 359
        assert values["loss"] == pytest.approx(results[0]["loss"], rel=1e-4)
        assert values["error"] == results[0]["error"]
        assert values["classes"] == results[0]["classes"]
        assert sum(values["classes"][0]) == 359
        assert sum(values["classes"][1]) == pytest.approx(359 * values["error"])
