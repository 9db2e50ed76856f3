"""A run's folder: what may change when a run goes on, what is refused, and folders of earlier versions."""

import contextlib
import json
import shutil

import jax.numpy as jnp
import pytest

from classic import workdir as classic_workdir
from common import config as config_lib
from common import train
from common.errors import UserError
from common.optim import optimizers
from common.processes import distributed
from common.run import checkpoints, history, metrics, summary, trained, workdir
from configs import lenet5_digits
from tests.small_run import small_run, train_and_stop


@pytest.fixture
def folder(tmp_path):
    """The small run, in a folder that may be written to."""
    shutil.copytree(small_run(), tmp_path / "run")
    return tmp_path / "run"


def test_a_config_of_an_earlier_version_has_its_options_in_todays_places():
    # Options of the loss lay beside the network's, every family had init.old_grid, some options did not exist.
    now = lenet5_digits.get_config()
    stored = json.loads(now.to_json())
    loss = stored["model"].pop("loss")
    stored["model"].update(loss=loss["name"], rubbish=7.0)
    stored["init"]["old_grid"] = []
    del stored["train"]["label_smoothing"]
    upgraded = config_lib.upgraded(config_lib.ConfigDict(stored))
    assert upgraded.model.loss.to_dict() == {"name": loss["name"], "rubbish": 7.0}
    now.model.loss.rubbish = 7.0
    assert config_lib.flat(upgraded) == config_lib.flat(now)


@pytest.mark.slow
def test_a_workdir_of_an_earlier_version_is_evaluated_and_goes_on(folder):
    stored = json.loads((folder / "config.json").read_text())
    stored["model"].update(loss=stored["model"]["loss"]["name"])
    stored["init"]["old_grid"] = []
    (folder / "config.json").write_text(json.dumps(stored))
    before = trained.load(folder)
    config = workdir.load_config(folder)
    config.train.length = "3 epochs"
    train.fit(config, folder)
    assert trained.load(folder, "last").step > before.step


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"seed": 1}', "\0\0"])
def test_a_damaged_config_is_refused_in_one_line(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json is damaged") as error:
        trained.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "dataset.json", "summary.json"])
def test_a_folder_in_the_place_of_a_file_is_refused(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        workdir.load_config(folder), workdir.load_info(folder), workdir.read_json(folder / "summary.json")


@pytest.mark.parametrize("load", [workdir.load_config, workdir.load_info, classic_workdir.load_config])
def test_a_folder_without_a_run_names_the_run_that_is_meant(load, tmp_path):
    (tmp_path / "runs" / "lenet5").mkdir(parents=True)
    (tmp_path / "runs" / "lenet5" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"no run in .*lenet: there is no such folder; did you mean '.*runs/lenet5'\?"):
        load(tmp_path / "runs" / "lenet")
    with pytest.raises(UserError, match=r"no run in .*runs: \w+\.json is missing; it has runs inside, as '.*lenet5'"):
        load(tmp_path / "runs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"\w+\.json is missing; \w+ one .*with python -m \w+\.main"):
        load(tmp_path / "empty")


def test_checkpoints_without_a_config_are_refused(folder):
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"holds checkpoints but no config\.json"):
        train.fit(lenet5_digits.get_config(), folder)


def test_a_run_that_was_killed_in_its_first_save_gives_its_folder_to_another(folder):
    for step in checkpoints.steps(folder):
        shutil.rmtree(folder / checkpoints.FOLDER / str(step))
    (folder / checkpoints.FOLDER / "30.orbax-checkpoint-tmp").mkdir()
    summary.remove(folder)
    config, info = workdir.load_config(folder), workdir.load_info(folder)
    config.optimizer.weight_decay = 0.5
    assert workdir.open_workdir(folder, config, info) is None
    assert workdir.load_config(folder) == config


@pytest.mark.parametrize("changes", [{}, {"optimizer.weight_decay": 0.5}])
def test_the_results_of_a_finished_run_without_checkpoints_are_not_overwritten(folder, changes):
    shutil.rmtree(folder / checkpoints.FOLDER)  # as a study and a claim's campaign do, to save room
    before = {path: path.read_bytes() for path in folder.glob("*.json*")}
    config = workdir.load_config(folder)
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match="holds the results of a finished run whose checkpoints are gone; choose"):
        train.fit(config, folder)
    assert {path: path.read_bytes() for path in folder.glob("*.json*")} == before


def test_lines_that_are_not_records_are_ignored(folder):
    records = metrics.read(folder)
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(b'7\n{"step": 3}\n\xff\xfe\n{"step": 1, "split"')
    assert metrics.read(folder) == records


def test_a_lower_rate_and_a_longer_run_are_printed_and_recorded(folder, capsys):
    config = workdir.load_config(folder)
    step = trained.load(folder, "last").step
    config.train.length, config.schedule.learning_rate = "4 epochs", 1e-4
    train.fit(config, folder)
    output = capsys.readouterr().out
    assert "config.train.length was '2 epochs', and is '4 epochs' from here on" in output
    assert "config.schedule.learning_rate was 0.01, and is 0.0001 from here on" in output
    assert "the learning rate of the next update is" in output
    starts = [json.loads(line) for line in (folder / history.FILE).read_text().splitlines()]
    assert [start["step"] for start in starts] == [0, step]
    assert starts[1]["changed"] == {
        "train.length": ["2 epochs", "4 epochs"],
        "schedule.learning_rate": [0.01, 0.0001],
    }


@pytest.mark.parametrize(("patience", "said"), [(0, []), (5, [("'1 epoch'", "'2 epochs'")])])
def test_other_evaluations_are_reported_where_they_decide_something(folder, patience, said):
    config = workdir.load_config(folder)
    config.train.patience = patience
    before = workdir.StoredRun(config.copy_and_resolve_references(), workdir.load_info(folder))
    config.evaluate.every = "2 epochs"
    expected = [f"config.evaluate.every was {old}, and is {new} from here on" for old, new in said]
    assert history.notes(before, config, before.info, 3) == expected


def test_the_rates_that_a_resumed_run_prints_have_its_plateau_factor(folder):
    config = workdir.load_config(folder)
    with config.unlocked():
        config.schedule.update(name="plateau", learning_rate=0.1, factor=0.1, patience=1)
    before = workdir.StoredRun(config.copy_and_resolve_references(), workdir.load_info(folder))
    optimizer, _ = optimizers.make_optimizer(config, before.info.train_size)
    state = optimizer.init({"layer": {"kernel": jnp.zeros(1)}})
    for error in (0.5, 0.5):  # one evaluation without improvement: the factor is now 0.1
        state = optimizers.reduce_on_plateau(state, config.schedule, error)
    config.schedule.learning_rate = 0.05
    said = history.notes(before, config, before.info, 3, state)
    assert said[-1] == "the learning rate of the next update is 0.005; it would have been 0.01"


def test_a_longer_run_that_is_killed_is_not_finished_and_nothing_is_lost(folder, monkeypatch):
    before = json.loads((folder / "summary.json").read_text())
    config = workdir.load_config(folder)
    longer = config.copy_and_resolve_references()
    longer.train.length = "3 epochs"
    with monkeypatch.context() as patched:
        patched.setattr(summary, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            train.fit(longer, folder)
    assert not summary.exists(folder)
    assert train.fit(longer, folder)["step"] == checkpoints.steps(folder)[-1] > before["step"]
    with monkeypatch.context() as patched:  # once more, and killed before its first update
        patched.setattr(metrics.Writer, "waiting", killed)
        longer.train.length = "4 epochs"
        with pytest.raises(KeyboardInterrupt):
            train.fit(longer, folder)
    longer.train.length = "3 epochs"
    assert train.fit(longer, folder)["step"] == checkpoints.steps(folder)[-1]
    assert summary.exists(folder)


def killed(*arguments):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_that_was_stopped_between_evaluations_may_end_there(tmp_path, monkeypatch):
    config = workdir.load_config(small_run())
    train_and_stop(config, tmp_path, 30, monkeypatch)
    assert checkpoints.saved_times(tmp_path, 30)["seconds"] > 0
    assert checkpoints.saved_times(tmp_path, 30)["elapsed"] > metrics.read(tmp_path)[-1]["elapsed"]
    evaluated = {record["step"] for record in metrics.read(tmp_path, "test")}
    config.train.length = "30 steps"
    result = train.fit(config, tmp_path)
    assert result["step"] == 30
    assert {record["step"] for record in metrics.read(tmp_path, "test")} == evaluated | {30}
    wrong = sum(one["examples"] * one["error"] for one in result["class_errors"].values())
    assert wrong / result["test"]["examples"] == pytest.approx(result["test"]["error"])


@pytest.mark.slow
def test_a_last_test_whose_record_is_lost_is_made_again(folder):
    before, config = json.loads((folder / "summary.json").read_text()), workdir.load_config(folder)
    (folder / "summary.json").unlink()
    records = (folder / metrics.FILE).read_text().splitlines(keepends=True)
    (folder / metrics.FILE).write_text("".join(records[:-1]))
    assert train.fit(config, folder)["test"]["error"] == before["test"]["error"]
    (folder / "summary.json").unlink()
    (folder / metrics.FILE).unlink()
    with pytest.raises(UserError, match=r"metrics\.jsonl has no numbers of the training"):
        train.fit(config, folder)


def test_a_finished_run_is_looked_at_and_only_the_primary_returns_its_summary(folder, monkeypatch):
    before, config = (folder / "summary.json").read_text(), workdir.load_config(folder)
    assert train.fit(config, folder) == json.loads(before)
    monkeypatch.setattr(distributed, "is_primary", lambda: False)
    assert train.fit(config, folder) == {}
    assert (folder / "summary.json").read_text() == before


def test_a_history_with_one_line_cut_short_keeps_the_others(folder):
    path = folder / history.FILE
    path.write_bytes(path.read_bytes() + b'{"date": "2026-')
    history.record(folder, 7, None, workdir.load_config(folder))
    first, cut, last = path.read_text().splitlines()
    assert (json.loads(first)["step"], cut, json.loads(last)["step"]) == (0, '{"date": "2026-', 7)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"config.data.directory": "/elsewhere", "config.data.workers": 9}, None),
        ({"config.seed": 7}, "process 1 has config.seed 7, process 0 has 0; give all processes the same command"),
        ({"a dataset with train_size": 3}, "process 1 has a dataset with train_size 3, process 0 has 208"),
    ],
)
def test_processes_with_other_options_or_data_are_refused(changes, said, monkeypatch):
    def gathered(name, text, timeout):
        ours = json.loads(text)
        return [text, json.dumps({**ours, **{key: value for key, value in changes.items() if key in ours}})]

    monkeypatch.setattr(distributed, "gathered", gathered)
    config, info = workdir.load_config(small_run()), workdir.load_info(small_run())
    with pytest.raises(UserError, match=said) if said else contextlib.nullcontext():
        workdir.check_agreement(config, info)


def test_another_experiment_is_refused_by_the_option_that_differs(folder):
    config = workdir.load_config(folder)
    config.optimizer.weight_decay = 0.5
    difference = "config.optimizer.weight_decay is 0.0 there and 0.5 here"
    with pytest.raises(UserError, match=f"holds another experiment: {difference}"):
        train.fit(config, folder)


@pytest.mark.slow  # as the selection in tests/run/test_validation.py
def test_the_lowest_error_that_is_announced_was_saved(tmp_path):
    config = workdir.load_config(small_run())
    config.train.length, config.evaluate.every, config.checkpoint.every = "40 steps", "5 steps", "1000 steps"
    result = train.fit(config, tmp_path)
    best = trained.load(tmp_path, "best")
    assert best.step in {record["step"] for record in metrics.read(tmp_path, "test")}
    errors = {record["step"]: record["error"] for record in metrics.read(tmp_path, "test")}
    assert errors[best.step] == result["best_test"]["error"] == min(errors.values())


def test_a_finished_run_keeps_the_config_that_it_was_trained_with(folder):
    config = workdir.load_config(folder)
    files = {name: (folder / name).read_bytes() for name in ("config.json", "dataset.json", "history.jsonl")}
    finished = summary.read(folder)
    config.train.length, config.schedule.learning_rate = "1 epoch", 0.5
    assert train.fit(config, folder) == finished
    assert {name: (folder / name).read_bytes() for name in files} == files


@pytest.mark.slow
def test_a_new_run_has_no_starts_of_another_that_saved_nothing(tmp_path, monkeypatch):
    config = workdir.load_config(small_run())
    with monkeypatch.context() as patched:
        patched.setattr(metrics.Writer, "waiting", killed)
        with pytest.raises(KeyboardInterrupt):
            train.fit(config, tmp_path)
    assert len((tmp_path / history.FILE).read_text().splitlines()) == 1
    config.optimizer.weight_decay, config.train.length = 0.5, "1 step"
    train.fit(config, tmp_path)
    assert [json.loads(line)["step"] for line in (tmp_path / history.FILE).read_text().splitlines()] == [0]
    config.train.length = "2 steps"
    train.fit(config, tmp_path)
    assert [json.loads(line)["step"] for line in (tmp_path / history.FILE).read_text().splitlines()] == [0, 1]


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (["/train/cat/0.png", "/test/dog/1.png"], None),
        (["/test/dog/1.png"], "process 0 cannot read '/train/cat/0.png', process 1 can; with config.data.skip_bad"),
        (["/train/cat/0.png", "/test/dog/1.png", "/a.png"], "process 1 cannot read '/a.png', process 0 can"),
    ],
)
def test_processes_that_cannot_read_the_same_images_are_refused(theirs, said, monkeypatch):
    monkeypatch.setattr(distributed, "gathered", lambda name, text, timeout: [text, json.dumps(theirs)])
    config = workdir.load_config(small_run())
    config.data.source = "folder:/data"
    bad = [
        "'/data/train/cat/0.png' is not an image that Pillow can read",
        "'/data/test/dog/1.png' does not exist; left out of the test set",
    ]
    with pytest.raises(UserError, match=said) if said else contextlib.nullcontext():
        workdir.check_readable(config, dict.fromkeys(bad))
