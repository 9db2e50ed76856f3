"""Studies of runs that take no time: resuming, pruning, failures, seeds, the files of results."""

import csv
import json
import pathlib
import shutil
import sys

import pytest

from common import config as config_lib
from common.errors import UserError
from common.tuning import results, search, trials
from common.tuning.study import StudySpec, finished, open_study, ranked
from configs import alexnet_digits

FAKE = (sys.executable, "-S", str(pathlib.Path(__file__).parent / "fake_run.py"))


def plan(*texts, number=4, seeds=1, changes=None, **more):
    config = alexnet_digits.get_config()
    changes = changes or {"train.length": "0 epochs"}
    space = search.parse(texts or ["optimizer.momentum=0..0.9"], config)
    of_trials = search.trial_changes(config)
    options = config_lib.flat(search.with_point(config, {**changes, **of_trials}))
    return StudySpec("FILE", changes, of_trials, options, space, texts, number, tuple(range(seeds)), **more)


def make(folder, wanted, stop_after=99, more=()):
    """The study in the folder and the lines about its trials; interrupted after some of them."""
    folder.mkdir(exist_ok=True)
    study, lines = open_study(folder, wanted), []

    def done(line):
        results.write(folder, study, wanted)
        lines.append(line)
        if len(lines) == stop_after:
            raise KeyboardInterrupt

    trials.optimise(study, wanted, folder, done, (*FAKE, *more))
    return study, lines


def points(study):
    return [tuple(trial.params.values()) for trial in finished(study)]


def starts(folder):
    """The options of every start of every run."""
    return [json.loads(line) for path in sorted(folder.rglob("starts")) for line in path.read_text().splitlines()]


def test_an_interrupted_study_ends_as_one_that_was_not(tmp_path):
    whole, lines = make(tmp_path / "a", plan(number=3))
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "b", plan(number=3), stop_after=2)
    again, rest = make(tmp_path / "b", plan(number=3))
    assert points(again) == points(whole)
    assert [trial.values for trial in finished(again)] == [trial.values for trial in finished(whole)]
    assert len(starts(tmp_path / "b")) == 3
    assert lines[2:] == rest
    best = min(trial.values[0] for trial in finished(whole))
    assert f"best {best:.2%}" in lines[-1]
    assert lines[0].startswith("trial 1 of 3: ")
    more, lines = make(tmp_path / "b", plan(number=4))
    assert len(lines) == 1
    assert points(more)[:3] == points(whole)


@pytest.mark.slow
def test_interrupted_trials_are_finished_with_their_options(tmp_path):
    slow = plan(changes={"train.length": "0.5 epochs"}, jobs=3)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, slow, stop_after=1)
    begun = {option["workdir"]: option for option in starts(tmp_path)}
    assert len(begun) >= 3
    study, _ = make(tmp_path, slow)
    assert [trial.user_attrs["number"] for trial in finished(study)] == [1, 2, 3, 4]
    assert len(list((tmp_path / "trials").iterdir())) == 4
    for option in starts(tmp_path):  # each start of a trial has the same options
        assert begun.setdefault(option["workdir"], option) == option


@pytest.mark.slow
def test_a_trial_above_the_median_is_pruned(tmp_path):
    # The first five are never pruned; the sixth is the worst by far, and stopped long before its end.
    momenta = "|".join(map(str, (0.5, 0.51, 0.52, 0.53, 0.54, 0.0)))
    wanted = plan(
        f"optimizer.momentum={momenta}", number=6, sampler="grid", prune=True, changes={"train.length": "1 epochs"}
    )
    study = open_study(tmp_path, wanted)
    for momentum in (0.5, 0.51, 0.52, 0.53, 0.54, 0.0):
        study.enqueue_trial({"optimizer.momentum": momentum})
    _, lines = make(tmp_path, wanted)
    assert "pruned" in lines[-1]
    assert not any("pruned" in line for line in lines[:-1])
    assert not (tmp_path / "trials" / "6" / "seed0" / "summary.json").exists()
    rows = list(csv.DictReader((tmp_path / "trials.csv").open()))
    assert [row["state"] for row in rows] == ["finished"] * 5 + ["pruned"]
    assert rows[5]["validation_error"] == ""


@pytest.mark.slow
def test_a_run_that_ended_before_it_was_stopped_says_nothing_about_later_ones(tmp_path):
    momenta = (0.5, 0.51, 0.52, 0.53, 0.54, 0.0)
    wanted = plan("optimizer.momentum=0..0.9", number=6, seeds=2, prune=True)
    (tmp_path / "failed").mkdir()
    study = open_study(tmp_path / "failed", wanted)
    for momentum in momenta:
        study.enqueue_trial({"optimizer.momentum": momentum})
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "failed", wanted, stop_after=5)
    shutil.copytree(tmp_path / "failed", tmp_path / "preempted")
    study, lines = make(tmp_path / "failed", wanted, more=("--later=3",))
    assert "trial 6 of 6: failed, exit code 3: no output" in lines[-1]
    assert results.best(study, wanted)["trials"] == {"finished": 5, "pruned": 0, "failed": 1}
    with pytest.raises(trials.Stopped):
        make(tmp_path / "preempted", wanted, more=("--later=75",))


@pytest.mark.slow
def test_failed_trials_do_not_end_a_study_unless_all_fail(tmp_path):
    mixed = plan("optimizer.momentum=0.1|0.95|0.5", number=3, sampler="grid")
    study, lines = make(tmp_path / "mixed", mixed)
    assert sum("failed, exit code 1: the loss is not finite" in line for line in lines) == 1
    assert ranked(study)[0].params == {"optimizer.momentum": 0.5}
    assert results.best(study, mixed)["trials"] == {"finished": 2, "pruned": 0, "failed": 1}
    with pytest.raises(UserError, match="all 3 trials have failed; the last with exit code 1: the loss"):
        make(tmp_path / "bad", plan("optimizer.momentum=0.91..0.99"))


def test_a_trial_is_the_mean_over_its_seeds_and_a_grid_has_each_point_once(tmp_path):
    wanted = plan("optimizer.momentum=0.1|0.2|0.4", number=3, seeds=3, sampler="grid", jobs=2)
    study, _ = make(tmp_path, wanted)
    assert sorted(points(study)) == [(0.1,), (0.2,), (0.4,)]
    content = json.loads((tmp_path / "best.json").read_text())
    assert content["options"] == {"optimizer.momentum": 0.4}
    assert content["validation_error"] == pytest.approx(0.11)
    assert content["errors"] == pytest.approx([0.10, 0.11, 0.12])
    assert content["environment"] == {"cpu": "none"}
    assert "test" not in json.dumps(content).replace("evaluate.test", "")
    assert all(option["config.evaluate.test"] == "False" for option in starts(tmp_path))
    assert content["train"] == (
        "python -m common.main --config=FILE '--config.train.length=0 epochs' --config.optimizer.momentum=0.4"
    )
    assert results.table(study, wanted).splitlines()[1].split() == [
        str(content["trial"]),
        "11.00%",
        "0.4",
    ]
    kept = {path.parent.parent.name for path in tmp_path.rglob("checkpoints")}
    assert kept == {str(content["trial"])}  # the best trial's
    assert "needs 4 finished trials, there are 3" in results.draw_importance(tmp_path, study)


@pytest.mark.slow
def test_importance_is_drawn(tmp_path):
    study, _ = make(tmp_path, plan("optimizer.momentum=0..0.9", "train.batch_size=32|64", number=4, sampler="random"))
    said = results.draw_importance(tmp_path, study)
    assert said.startswith("importance of the options: optimizer.momentum ")  # the error does not depend on the batch
    assert (tmp_path / "importance.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_trials_of_a_study_whose_file_is_gone_belong_to_no_other(tmp_path):
    make(tmp_path, plan(number=1))
    (tmp_path / "study.db").unlink()
    with pytest.raises(UserError, match=r"trials holds the trials of a study whose study\.db is gone"):
        open_study(tmp_path, plan("train.batch_size=16|64"))
    shutil.rmtree(tmp_path / "trials")
    assert not finished(open_study(tmp_path, plan("train.batch_size=16|64")))


@pytest.mark.parametrize("name", ["a%20b", "a?b{c}#d", "\u00e9 \u65e5\u672c"])
def test_a_study_is_kept_in_its_own_folder_whatever_its_name(name, tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / name).mkdir()
    open_study(tmp_path / name, plan())
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.db")] == [pathlib.Path(name, "study.db")]


def test_the_folder_of_a_run_is_no_study(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds a run; choose another --study"):
        open_study(tmp_path, plan())
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_the_best_command_has_this_machines_folders_only_here(tmp_path):
    wanted = plan("optimizer.momentum=0.4|0.5", number=1, changes={"train.length": "0 epochs", "data.directory": "/d"})
    study, _ = make(tmp_path, wanted)
    assert "--config.data.directory=/d" in results.train_command(study, wanted, here=True)
    assert "directory" not in results.train_command(study, wanted)


def test_another_search_and_a_damaged_file_are_refused(tmp_path):
    open_study(tmp_path, plan("optimizer.momentum=0..0.9"))
    open_study(tmp_path, plan("optimizer.momentum=0..0.9", number=50, jobs=2))
    open_study(tmp_path, plan(" optimizer.momentum = 0..0.9 "))
    for other, said in (
        (plan("optimizer.momentum=0..0.8"), "--search of optimizer.momentum is '0..0.9' there and '0..0.8' here"),
        (plan("optimizer.momentum = 0..0.8"), "--search of optimizer.momentum is '0..0.9' there and '0..0.8' here"),
        (plan("optimizer.momentum=0..0.9", seeds=2), "--seeds is 1 there and 2 here"),
        (plan("optimizer.momentum=0..0.9", changes={"train.batch_size": 7}), "config.train."),
    ):
        with pytest.raises(UserError) as refused:
            open_study(tmp_path, other)
        assert said in str(refused.value)
    (tmp_path / "study.db").write_text("no database " * 100)
    with pytest.raises(UserError, match="cannot open"):
        open_study(tmp_path, plan())


def test_a_record_is_named_plainly(tmp_path):
    with pytest.raises(UserError, match="--record is"):
        results.check_name("../x")
    results.check_name("lenet5-digits_1")
    assert results.record("lenet", {"options": {}}, tmp_path).name == "tune_lenet.json"
