"""Tests that a run's numbers reach a tracker under their names, and a resumed run goes on in the same tracked run.

Stand-ins for the libraries record the calls that they get. Where the libraries are installed, W&B itself writes
offline, and MLflow writes into a folder.
"""

import contextlib
import json
import sys
import types

import pytest

from common import config as config_lib
from common import config_checks
from common.errors import UserError
from common.optim.plan import Plan
from common.processes import preemption
from common.run import trackers
from common.run.metrics import Writer
from configs import lenet5_digits

PLAN = Plan(total=1000, epoch=100.0, log_every=100, evaluate_every=100, save_every=100, per_call=1)


@pytest.fixture
def config():
    return lenet5_digits.get_config()


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for W&B: `calls` has what it was told."""
    library = types.ModuleType("wandb")
    library.calls = []

    class Run:
        def __init__(self, identifier):
            self.id = identifier or "fresh"

        def define_metric(self, name, step_metric):
            library.calls.append(("define", name, step_metric))

        def log(self, values):
            library.calls.append(("log", values))

        def mark_preempting(self):
            library.calls.append(("preempting",))

        def finish(self, exit_code):
            library.calls.append(("finish", exit_code))

    def init(**given):
        library.calls.append(("init", given))
        return Run(given["id"])

    library.init, library.Settings = init, dict
    monkeypatch.setitem(sys.modules, "wandb", library)
    return library


@pytest.fixture
def mlflow(monkeypatch):
    """A stand-in for MLflow: `calls` has what it was told; it takes at most 100 parameters at once."""
    library = types.ModuleType("mlflow")
    library.calls = []

    def start_run(run_id, run_name):
        library.calls.append(("start", run_id, run_name))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id or "fresh"))

    def log_params(params):
        assert len(params) <= 100
        library.calls.append(("params", params))

    library.set_experiment = lambda name: library.calls.append(("experiment", name))
    library.start_run, library.log_params = start_run, log_params
    library.log_metrics = lambda values, step: library.calls.append(("metrics", values, step))
    library.end_run = lambda status: library.calls.append(("end", status))
    monkeypatch.setitem(sys.modules, "mlflow", library)
    return library


def of(calls, kind):
    return [call[1:] for call in calls if call[0] == kind]


def record(folder, config, step, error=None):
    """Writes one evaluation through the run's writer; `error` ends the run."""
    with Writer(folder, step - 100, PLAN, 10, 10, tracker=trackers.start(config, folder)) as writer:
        writer.evaluated(step, "test", {"loss": 0.5, "error": 0.25})
        if error:
            raise error


def test_wandb_gets_the_options_and_the_numbers_and_goes_on_when_resumed(config, wandb, tmp_path):
    config.tracker = "wandb"
    record(tmp_path, config, 100)
    with pytest.raises(KeyError):
        record(tmp_path, config, 200, KeyError("stopped"))
    first, second = (call[0] for call in of(wandb.calls, "init"))
    assert (first["id"], second["id"]) == (None, "fresh")
    assert first["config"]["train.length"] == config.train.length
    logged = [call[0] for call in of(wandb.calls, "log")]
    assert [values["step"] for values in logged] == [100, 200]
    assert logged[0].items() >= {"test/loss": 0.5, "test/error": 0.25}.items()
    assert of(wandb.calls, "finish") == [(0,), (1,)]


def test_a_new_run_in_the_folder_of_one_without_a_checkpoint_is_tracked_apart(config, mlflow, tmp_path):
    config.tracker, config.train.batch_size = "mlflow", 1
    trackers.start(config, tmp_path, resumed=False).close("failed")  # as of a run that diverged at once
    config.train.batch_size = 2
    trackers.start(config, tmp_path, resumed=False)
    assert [call[0] for call in of(mlflow.calls, "start")] == [None, None]
    sizes = [params["train.batch_size"] for (params,) in of(mlflow.calls, "params") if "train.batch_size" in params]
    assert sizes == [1, 2]


def test_mlflow_gets_the_options_once_and_the_numbers_with_their_steps(config, mlflow, tmp_path):
    config.tracker = "mlflow"
    record(tmp_path, config, 100)
    record(tmp_path, config, 200)
    assert [call[0] for call in of(mlflow.calls, "start")] == [None, "fresh"]
    told = {name: value for (params,) in of(mlflow.calls, "params") for name, value in params.items()}
    assert told == config_lib.flat(config)
    assert [(values["test/error"], step) for values, step in of(mlflow.calls, "metrics")] == [(0.25, 100), (0.25, 200)]
    assert of(mlflow.calls, "end") == [("FINISHED",), ("FINISHED",)]


ENDS = (None, preemption.Preempted(200), KeyError("failed"))


def test_wandb_shows_a_stopped_run_as_preempted(config, wandb, tmp_path):
    config.tracker = "wandb"
    for error in ENDS:
        with pytest.raises(type(error)) if error else contextlib.nullcontext():
            record(tmp_path, config, 100, error)
    ends = [call for call in wandb.calls if call[0] in ("preempting", "finish")]
    assert ends == [("finish", 0), ("preempting",), ("finish", 1), ("finish", 1)]


def test_mlflow_shows_a_stopped_run_as_killed(config, mlflow, tmp_path):
    config.tracker = "mlflow"
    for error in ENDS:
        with pytest.raises(type(error)) if error else contextlib.nullcontext():
            record(tmp_path, config, 100, error)
    assert of(mlflow.calls, "end") == [("FINISHED",), ("KILLED",), ("FAILED",)]


def test_a_failing_tracker_is_reported_once_and_the_run_goes_on(config, wandb, tmp_path, capsys):
    config.tracker = "wandb"
    tracker = trackers.start(config, tmp_path)

    def fail(*_):
        raise ConnectionError("no server")

    wandb.calls = types.SimpleNamespace(append=fail)
    tracker.write(1, "train", {"loss": 1.0})
    tracker.close("finished")
    assert capsys.readouterr().err == "warning: wandb gets no more numbers: no server\n"
    with pytest.raises(UserError, match="wandb cannot start a run: no server"):
        trackers.start(config, tmp_path)


def test_a_library_that_is_missing_is_named_with_its_command(config, monkeypatch, tmp_path):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    for name in ("wandb", "mlflow"):
        with pytest.raises(UserError, match=f"not installed: pip install {name}"):
            trackers.check(name)
    trackers.check("")
    assert trackers.start(config, tmp_path) is None
    config.tracker = "wandbb"
    with pytest.raises(UserError, match="did you mean 'wandb'"):
        config_checks.validate(config)


def test_wandb_itself_offline(config, monkeypatch, tmp_path):
    library = pytest.importorskip("wandb", reason="needs W&B: pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    config.tracker = "wandb"
    with pytest.raises(preemption.Preempted):
        record(tmp_path, config, 100, preemption.Preempted(100))
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert library.run is None


def test_mlflow_itself_in_a_folder(config, monkeypatch, tmp_path):
    library = pytest.importorskip("mlflow", reason="needs MLflow: pip install mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    config.tracker = "mlflow"
    with pytest.raises(preemption.Preempted):
        record(tmp_path, config, 100, preemption.Preempted(100))
    client, known = library.MlflowClient(), json.loads((tmp_path / trackers.FILE).read_text())["mlflow"]
    assert client.get_run(known).info.status == "KILLED"
    tracker = trackers.start(config, tmp_path)
    assert client.get_run(known).info.status == "RUNNING"
    tracker.close("failed")
    record(tmp_path, config, 200)
    assert client.get_run(known).info.status == "FINISHED"
    [run] = client.search_runs([client.get_experiment_by_name("lineage").experiment_id])
    assert [m.step for m in client.get_metric_history(run.info.run_id, "test/error")] == [100, 200]
    assert run.data.params["train.length"] == config.train.length
