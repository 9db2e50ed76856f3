"""Tests that checkpoints are selected on the validation set, and the test set is read once."""

import dataclasses

import pytest

from common import config_checks, train
from common.data import datasets
from common.data.sources import ArraySource
from common.errors import UserError
from common.run import checkpoints, metrics, summary, trained, workdir
from common.training import evaluate as evaluate_lib
from tests import small_run
from tests.slow import rest_slow


def config(**changes):
    lengths = {"train.length": "40 steps", "evaluate.every": "10 steps", "checkpoint.every": "20 steps"}
    return small_run.get_config(**{"data.validation": "10%", **lengths, **changes})


def test_validation_selects_and_the_test_set_is_read_once(tmp_path, monkeypatch, capsys):
    validated, read = config(), []
    evaluate = evaluate_lib.evaluate

    def spied(step, variables, source, **more):
        read.append(len(source))
        return evaluate(step, variables, source, **more)

    monkeypatch.setattr(train, "evaluate", spied)
    result = train.fit(validated, tmp_path)
    info = workdir.load_info(tmp_path)
    assert info.validation_size > 0
    assert read == [info.validation_size] * 4 + [info.test_size]
    validation, test = metrics.read(tmp_path, "validation"), metrics.read(tmp_path, "test")
    assert [record["step"] for record in validation] == [10, 20, 30, 40]
    lowest = min(record["error"] for record in validation)
    assert result["best_validation"]["error"] == lowest
    assert len(test) == 1
    assert result["test"]["error"] == test[0]["error"]
    assert trained.load(tmp_path).step == test[0]["step"]
    errors = {record["step"]: record["error"] for record in validation}
    assert errors[test[0]["step"]] == lowest
    assert "validation" in capsys.readouterr().out
    classes = result["class_errors"]
    assert sum(part["examples"] for part in classes.values()) == info.test_size
    wrong = sum(part["examples"] * part["error"] for part in classes.values())
    assert wrong / info.test_size == pytest.approx(test[0]["error"])


@pytest.mark.slow
def test_a_run_whose_end_is_repeated_records_its_test_once(tmp_path):
    result = train.fit(config(), tmp_path)
    before = metrics.read(tmp_path)
    (tmp_path / workdir.SUMMARY).unlink()  # as a kill between the last record and the summary leaves it
    assert train.fit(config(), tmp_path)["test"] == result["test"]
    assert train.fit(config(**{"evaluate.train_set": True}), tmp_path)["train_set"]
    assert metrics.read(tmp_path) == before


def test_the_test_in_the_summary_is_that_of_the_chosen_checkpoint_whatever_earlier_ends_have_tested(tmp_path):
    errors = {"validation": {10: 0.2, 20: 0.4}, "test": {10: 0.25, 20: 0.5}, "train": {20: 0.3}}
    rest = {"loss": 1.0, "seconds": 1.0, "images_per_second": 1.0}
    records = [
        {"step": step, "split": split, "error": error, **rest}
        for split, at in errors.items()
        for step, error in at.items()
    ]
    metrics.write(tmp_path, records)
    for step, error in errors["test"].items():
        result = summary.write(tmp_path, config(), {}, {"0": {}}, {}, 0, [], step)
        assert result["test"]["error"] == error


@pytest.mark.parametrize("validation", rest_slow(["10%", ""]))
def test_the_last_checkpoint_of_a_run_that_is_shortened_is_evaluated_and_may_be_the_best(
    validation, tmp_path, monkeypatch
):
    split = "validation" if validation else "test"
    options = {"data.validation": validation, "checkpoint.every": "5 steps", "train.log_every": "5 steps"}
    small_run.train_and_stop(config(**options), tmp_path, 15, monkeypatch)
    assert [record["step"] for record in metrics.read(tmp_path, split)] == [10]
    evaluate = evaluate_lib.evaluate

    def perfect(*arguments, **more):
        values, counts = evaluate(*arguments, **more)
        return {**values, "error": 0.0}, counts

    with monkeypatch.context() as patched:
        patched.setattr(train, "evaluate", perfect)
        result = train.fit(config(**{**options, "train.length": "12 steps"}), tmp_path)
    assert result[f"best_{split}"] == {"step": 15, "error": 0.0}
    assert [record["step"] for record in metrics.read(tmp_path, split)] == [10, 15]
    assert metrics.read(tmp_path, "test")[-1]["step"] == 15
    assert trained.load(tmp_path, "best").step == 15
    longer = train.fit(config(**{**options, "train.length": "20 steps"}), tmp_path)  # keeps it, as the best so far
    assert longer["step"] == 20
    assert 15 in checkpoints.steps(tmp_path)


class Unreadable:
    """Test images that must not be looked at."""

    def __init__(self, source):
        self._size = len(source)

    def __len__(self):
        return self._size

    def __getitem__(self, index):
        raise AssertionError("the test set was read")


def test_the_validation_error_of_a_run_is_that_of_the_checkpoint_that_is_tested(tmp_path, monkeypatch):
    best_first = checkpoints.best_first
    monkeypatch.setattr(checkpoints, "best_first", lambda folder: best_first(folder)[1:])  # as if the best was damaged
    result = train.fit(config(), tmp_path)
    (tested,) = metrics.read(tmp_path, "test")
    errors = {record["step"]: record["error"] for record in metrics.read(tmp_path, "validation")}
    assert result["best_validation"] == {"step": tested["step"], "error": errors[tested["step"]]}
    assert f"at step {tested['step']}" in summary.result_line(result)


@pytest.mark.parametrize(
    ("split", "best_step", "named"),
    [
        *(("validation", 10, 10), ("validation", 20, 20), ("validation", 30, 30), ("validation", None, 20)),
        *(("test", 10, 10), ("test", 20, 20), ("test", 30, 20)),
    ],
)
def test_among_equal_errors_that_of_a_saved_checkpoint_is_named(split, best_step, named, tmp_path):
    common = {"loss": 1.0, "seconds": 1.0, "images_per_second": 1.0}
    errors = {10: 0.2, 20: 0.2, 30: 0.3}
    records = [
        {"step": step, "split": part, "error": error, **common}
        for step, error in errors.items()
        for part in ("train", split)
    ]
    metrics.write(tmp_path, records)
    result = summary.write(tmp_path, config(), {}, {}, {}, 0, [], best_step)
    assert result[f"best_{split}"] == {"step": named, "error": errors[named]}


@pytest.mark.parametrize("every", rest_slow(["20 steps", "10 steps", "50 steps"]))
def test_the_checkpoint_that_is_chosen_does_not_depend_on_when_others_are_saved(every, tmp_path, monkeypatch):
    errors, evaluate = iter([0.5, 0.2, 0.2, 0.3, 0.3]), evaluate_lib.evaluate

    def told(*arguments, **more):
        values, counts = evaluate(*arguments, **more)
        return {**values, "error": next(errors, values["error"])}, counts

    monkeypatch.setattr(train, "evaluate", told)
    result = train.fit(config(**{"train.length": "50 steps", "checkpoint.every": every}), tmp_path)
    assert result["best_validation"] == {"step": 30, "error": 0.2}
    assert metrics.read(tmp_path, "test")[0]["step"] == 30


def test_the_test_set_may_be_left_unread(tmp_path, monkeypatch):
    unread = config(**{"evaluate.test": False, "data.skip_bad": True, "train.length": "20 steps"})
    opened = datasets.open_dataset

    def guarded(*arguments):
        dataset = opened(*arguments)
        records = Unreadable(dataset.test.records)
        return dataclasses.replace(dataset, test=dataclasses.replace(dataset.test, records=records))

    with monkeypatch.context() as patched:
        patched.setattr(datasets, "open_dataset", guarded)
        result = train.fit(unread, tmp_path)
        with pytest.raises(AssertionError, match="the test set was read"):
            train.fit(config(**{"train.length": "10 steps"}), tmp_path / "reads")
    assert not {"test", "class_errors"} & result.keys()
    assert not metrics.read(tmp_path, "test")
    assert "test error" not in summary.result_line(result)
    assert train.fit(unread, tmp_path) == result
    unread.evaluate.test = True  # the finished run is tested, and not trained again
    tested = train.fit(unread, tmp_path)
    assert tested["best_validation"] == result["best_validation"]
    assert tested["test"]["error"] == metrics.read(tmp_path, "test")[0]["error"]
    assert metrics.read(tmp_path, "validation")[-1]["step"] == 20


def test_without_a_validation_set_the_test_set_cannot_be_left_unread():
    with pytest.raises(UserError, match=r"config\.evaluate\.test is False, but without config\.data\.validation"):
        config_checks.validate(config(**{"evaluate.test": False, "data.validation": ""}))


def test_training_stops_when_the_error_no_longer_falls_and_goes_on_with_more_patience(tmp_path, capsys):
    patient = config(**{"train.patience": 2, "train.length": "500 steps", "schedule.learning_rate": 1e-9})
    result = train.fit(patient, tmp_path)
    assert result["step"] == 30  # the first evaluation improves on nothing, two more do not improve on it
    steps = [record["step"] for record in metrics.read(tmp_path, "validation")]
    assert steps == [10, 20, 30]
    again = train.fit(patient, tmp_path)  # the run is finished, and stays so
    assert again["step"] == 30
    assert [record["step"] for record in metrics.read(tmp_path, "validation")] == steps
    assert "stopped early at step 30; raise config.train.patience to go on" in capsys.readouterr().out
    patient.train.patience = 3
    assert train.fit(patient, tmp_path)["step"] == 40
    output = capsys.readouterr().out
    assert "going on from step 30" in output
    assert "config.train.patience was 2, and is 3 from here on" in output


@pytest.mark.slow
def test_with_less_patience_a_run_goes_on_to_its_next_evaluation(tmp_path):
    plain = config(**{"train.log_every": "500 steps", "schedule.learning_rate": 1e-9, "train.length": "500 steps"})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train, "stop_if_diverged", _interrupted_at(30))
        with pytest.raises(KeyboardInterrupt):
            train.fit(plain, tmp_path)
    plain.train.patience = 1
    assert train.fit(plain, tmp_path)["step"] == 30


def _interrupted_at(step):
    """A check of a state to be saved that ends the program at a step."""

    def check(state, sums):
        if int(state.step) >= step:
            raise KeyboardInterrupt

    return check


def test_without_a_validation_set_the_last_checkpoint_is_tested(tmp_path):
    plain = config(**{"data.validation": ""})
    result = train.fit(plain, tmp_path)
    assert "best_validation" not in result
    assert trained.load(tmp_path).step == 40
    assert trained.load(tmp_path, "best").step == result["best_test"]["step"]
    assert trained.load(tmp_path, "40").step == 40
    (tmp_path / workdir.SUMMARY).unlink()  # as if the run had stopped before it wrote that
    assert train.fit(plain, tmp_path)["class_errors"] == result["class_errors"]


@pytest.mark.parametrize(
    ("patience", "errors", "exhausted"),
    [(0, [0.5] * 9, False), (2, [0.5, 0.4, 0.4, 0.4], True), (1, [1.0, 0.9, 0.9], True)],
)
def test_patience_counts_evaluations_without_an_improvement(tmp_path, patience, errors, exhausted):
    early_stopping = metrics.EarlyStopping(tmp_path, "test", 0, patience)
    assert [early_stopping.add(error) for error in errors[:2]] == [True, errors[1] < errors[0]]
    for error in errors[2:]:
        assert not early_stopping.should_stop
        assert not early_stopping.add(error)
    assert early_stopping.should_stop == exhausted


def test_the_validation_images_are_none_of_the_training_or_test_images():
    dataset = datasets.load(config(**{"data.limit": 0}).data)
    assert isinstance(dataset.validation, ArraySource)
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 1797
