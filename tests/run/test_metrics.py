"""Tests that records can be read at once, here and by TensorBoard, and are forgotten where a run repeats them."""

import io
import json
import os
import struct
import subprocess
import sys
import time

import pytest
from tensorboardX.proto import event_pb2

from common.errors import UserError
from common.optim.plan import Plan
from common.run import metrics
from common.run.metrics import Writer
from common.training.totals import no_totals
from tests.runs import ROOT

DUE = Plan(total=1000, epoch=100.0, log_every=100, evaluate_every=100, save_every=100, per_call=1)


def events(folder):
    """Every event of a run's TensorBoard files, read as TensorBoard does: length, its checksum, event, its checksum."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=os.path.getmtime):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            found.append(event_pb2.Event.FromString(content[12 : 12 + size]))
            content = content[12 + size + 4 :]
    return found


def test_a_killed_run_has_lost_nothing(tmp_path):
    writer = Writer(tmp_path, 0, DUE, batch_size=10, num_classes=10)  # and it is never closed
    writer.evaluated(100, "test", {"loss": 0.5, "error": 0.25})
    (record,) = metrics.read(tmp_path)
    assert (record["step"], record["split"], record["error"]) == (100, "test", 0.25)
    event = events(tmp_path)[-1]
    values = {value.tag: value.simple_value for value in event.summary.value}
    assert event.step == 100
    assert values.items() >= {"test/loss": 0.5, "test/error": 0.25}.items()


def test_repeated_steps_are_recorded_once(tmp_path):
    with Writer(tmp_path, 0, DUE, batch_size=10, num_classes=10) as writer:
        for step in (100, 200):
            writer.evaluated(step, "test", {"loss": 1.0, "error": 1.0})
    with Writer(tmp_path, 100, DUE, batch_size=10, num_classes=10) as writer:
        writer.evaluated(200, "test", {"loss": 2.0, "error": 0.5})
    assert [(record["step"], record["loss"]) for record in metrics.read(tmp_path)] == [(100, 1.0), (200, 2.0)]
    restarts = [event.step for event in events(tmp_path) if event.session_log.status == event_pb2.SessionLog.START]
    assert restarts[-1] == 101  # from where TensorBoard forgets what it knew


def test_records_have_the_epoch_and_the_time_over_all_starts(tmp_path):
    for start in (0, 100):
        with Writer(tmp_path, start, DUE, batch_size=10, num_classes=10) as writer:
            writer.evaluated(start + 50, "test", {"loss": 1.0, "error": 1.0})
            writer.evaluated(start + 100, "test", {"loss": 1.0, "error": 1.0})
    records = metrics.read(tmp_path)
    assert [record["epoch"] for record in records] == [0.5, 1.0, 1.5, 2.0]
    times = [record["elapsed"] for record in records]
    assert 0 < times[0] < times[1] < times[2] < times[3]


def test_a_run_of_an_earlier_version_counts_its_seconds(tmp_path):
    old = [{"step": step, "split": "test", "loss": 1.0, "error": 1.0, "seconds": 500.0} for step in (50, 100)]
    (tmp_path / metrics.FILE).write_text("".join(json.dumps(record) + "\n" for record in old))
    with Writer(tmp_path, 100, DUE, batch_size=10, num_classes=10) as writer:
        writer.evaluated(200, "test", {"loss": 1.0, "error": 1.0})
    assert 1000 < metrics.read(tmp_path)[-1]["elapsed"] < 1500


def test_records_count_the_work_of_all_cores(tmp_path):
    with Writer(tmp_path, 0, DUE, batch_size=10, num_classes=10) as writer:
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
        writer.evaluated(100, "test", {"loss": 1.0, "error": 1.0})
        time.sleep(0.1)
        writer.evaluated(200, "test", {"loss": 1.0, "error": 1.0})
    busy, idle = metrics.read(tmp_path)
    assert busy["core_seconds"] >= 0.05
    assert idle["core_seconds"] < idle["seconds"]


def test_the_time_of_training_before_an_evaluation_is_that_of_training(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: now[0])
    with Writer(tmp_path, 0, DUE, batch_size=10, num_classes=10) as writer:
        now[0] = 3.0
        writer.begin_evaluation(None)
        now[0] = 7.0
        writer.evaluated(50, "test", {"loss": 1.0, "error": 1.0})
        now[0] = 9.0
        writer.train(100, no_totals(), 0.1)
    test, train = metrics.read(tmp_path)
    assert (test["seconds"], train["seconds"], train["images_per_second"]) == (4.0, 5.0, 200.0)


def test_the_time_between_a_record_and_a_stop_is_not_lost(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(metrics.time, "process_time", lambda: 2 * now[0])
    with Writer(tmp_path, 0, DUE, batch_size=10, num_classes=10) as writer:
        now[0] = 5.0
        writer.train(100, no_totals(), 0.1)
        now[0] = 8.0
        saved = writer.unrecorded()  # with the checkpoint at step 130
    assert saved == {"seconds": 3.0, "core_seconds": 6.0, "elapsed": 8.0}
    now[0] = 100.0
    with Writer(tmp_path, 130, DUE, batch_size=10, num_classes=10, earlier=saved) as writer:
        now[0] = 107.0
        assert writer.unrecorded() == {"seconds": 10.0, "core_seconds": 20.0, "elapsed": 15.0}
        writer.train(200, no_totals(), 0.1)
        now[0] = 109.0
        writer.train(300, no_totals(), 0.1)
    times = ("seconds", "core_seconds", "elapsed", "images_per_second")
    assert [[record[name] for name in times] for record in metrics.read(tmp_path)] == [
        [5.0, 10.0, 5.0, 200.0],
        [10.0, 20.0, 15.0, 100.0],  # 70 updates of 10 images in the 7 seconds of this start
        [2.0, 4.0, 17.0, 500.0],
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_progress_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    clock = iter([0.0, 0.0, 1.0, 4.0])  # started; waits for data from 0 to 1; asked at 4
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: next(clock))
    with Writer(tmp_path, 0, DUE, batch_size=10, num_classes=10) as writer:
        with writer.waiting():
            pass
        writer.progress(200)
        writer.print_line("a line above")  # the progress line is drawn anew below it
        line = sys.stderr.getvalue().rpartition("\r")[2]
    assert "step 200 of 1,000" in line
    assert "left, 500 images/s, waiting for data 25%" in line


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file"):
        Writer(tmp_path / "file", 0, DUE, batch_size=10, num_classes=10)


def test_training_does_not_load_pytorch(tmp_path):
    pytest.importorskip("torch")
    code = f"""
import pathlib, sys
from common.optim.plan import Plan
from common.run import metrics
with metrics.Writer(pathlib.Path({str(tmp_path)!r}), 0, {DUE!r}, batch_size=10, num_classes=10):
    pass
print("torch" in sys.modules)
import torch
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr
