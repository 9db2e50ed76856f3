"""Tests that a comparison groups runs by seed, gives intervals, and says what differs and what does not compare."""

import dataclasses
import json
import math
import os
import re
import shutil

import numpy as np
import pytest
from scipy import stats

from classic.config import base as classic_base
from common import compare
from common.comparison import figures, page, runs
from common.data.dataset_info import Info
from common.errors import UserError
from common.report import assembly
from common.run import history, metrics, summary, workdir
from configs import lenet5_digits, resnet_digits
from tests.small_run import small_run

# Options with which evaluations decide something.
DECIDING = {"train.patience": 3, "schedule.name": "plateau", "data.validation": "9%"}
INFO = Info("digits", 10, tuple("0123456789"), (32, 32, 1), 1000, 359)


def make_run(folder, config, errors=(0.4, 0.2), info=INFO, finished=True):
    """The folder of a network's run with these test errors, one at the end of each epoch."""
    folder.mkdir(parents=True)
    workdir.write_json(folder / workdir.CONFIG, config.to_dict())
    workdir.write_json(folder / workdir.DATASET, dataclasses.asdict(info))
    epoch = info.train_size // config.train.batch_size
    records = [
        {"step": (number + 1) * epoch, "split": split, "loss": 2 * error, "error": error, "seconds": 3.0,
         "images_per_second": 50.0}
        for number, error in enumerate(errors)
        for split in ("train", "test")
    ]  # fmt: skip
    (folder / metrics.FILE).write_text("".join(json.dumps(record) + "\n" for record in records))
    if finished:
        summary.write(folder, config, {"parameters": 6, "multiply_adds": 77}, {"0": {}}, {}, 0, [])
    return folder


def changed(config, **options):
    config.update_from_flattened_dict(options)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three seeds of LeNet-5, one run with ReLU, an unfinished one of a ResNet, and a classic pipeline."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, last in enumerate((0.10, 0.12, 0.17)):
        make_run(folder / f"lenet_seed{seed}", changed(lenet5_digits.get_config(), seed=seed), (0.4 + seed / 10, last))
    relu = {"seed": 0, "model.activation": "relu", "mesh.devices": 4}
    make_run(folder / "relu", changed(lenet5_digits.get_config(), **relu), (0.5, 0.25))
    make_run(folder / "resnet", resnet_digits.get_config(), (0.9,), finished=False)
    classic = folder / "words"
    classic.mkdir()
    workdir.write_json(classic / workdir.CONFIG, classic_base("bow").to_dict())
    workdir.write_json(classic / workdir.DATASET, dataclasses.asdict(INFO))
    errors = {split: {"loss": 1.0, "error": error} for split, error in (("train", 0.0), ("test", 0.3))}
    done = {**errors, "step": 1, "parameters": 500, "seconds": {"fit": 4.0, "test": 1.0}, "images_per_second": 250.0}
    workdir.write_json(classic / workdir.SUMMARY, done)
    metrics.write(classic, [{"step": 1, "split": split, **values} for split, values in errors.items()])
    return folder


@pytest.fixture(scope="module")
def groups(folder):
    names = ["lenet_seed0", "relu", "lenet_seed2", "lenet_seed1", "resnet", "words"]
    return runs.group_runs(runs.open_runs([str(folder / name) for name in names]))


def test_runs_that_differ_only_in_the_seed_are_one_group(groups):
    assert [group.name for group in groups] == ["lenet", "relu", "resnet", "words"]
    assert [run.seed for run in groups[0].runs] == [0, 2, 1]


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (("run_seed1", "run_seed12"), "run"),
        (("run1", "run12"), "run"),
        (("lenet5", "lenet5_seed1"), "lenet5"),
        (("lr0.01_a", "lr0.01_b"), "lr0.01"),
        (("_old_0", "_old_1"), "_old"),
        (("seed0/lenet", "seed1/lenet"), "lenet"),
    ],
)
def test_a_group_has_the_name_that_its_runs_share_and_a_line_in_the_legend(names, shared, tmp_path):
    for seed, name in enumerate(names):
        make_run(tmp_path / name, changed(lenet5_digits.get_config(), seed=seed))
    found = runs.group_runs(runs.open_runs([str(tmp_path / name) for name in names]))
    assert [group.name for group in found] == [shared]
    [legend] = figures.curves(found).legends
    assert [text.get_text() for text in legend.get_texts()] == [f"{shared} (2 seeds)"]


@pytest.mark.parametrize(
    ("deciding", "together"),
    [({}, True), *(({option: value}, False) for option, value in DECIDING.items())],
)
def test_runs_with_other_evaluations_are_one_group_only_if_these_decide_nothing(deciding, together, tmp_path):
    for seed, every in enumerate(("1 epoch", "2 epochs")):
        options = {"seed": seed, "evaluate.every": every, **deciding}
        make_run(tmp_path / f"run{seed}", changed(lenet5_digits.get_config(), **options))
    found = runs.group_runs(runs.open_runs([str(tmp_path / "run0"), str(tmp_path / "run1")]))
    assert len(found) == (1 if together else 2)
    assert page.differing(found) == ({} if together else {"evaluate.every": ["1 epoch", "2 epochs"]})


def test_the_interval_of_seeds_is_students(groups):
    errors, split = page.errors_of(groups[0])
    assert (sorted(errors), split) == ([0.10, 0.12, 0.17], "test")
    mean, half = np.mean(errors), stats.t.ppf(0.975, 2) * np.std(errors, ddof=1) / math.sqrt(3)
    assert page.interval(errors) == f"{mean:.2%} [{mean - half:.2%}, {mean + half:.2%}]"
    assert page.interval([0.25]) == "25.00%"


def test_the_interval_of_two_seeds_ends_where_errors_end():
    assert page.interval([0.4, 0.5]) == "45.00% [0.00%, 100.00%]"
    [bar] = figures.results(["two seeds"], [[0.4, 0.5]]).axes[0].containers
    [line] = bar.lines[2][0].get_segments()
    np.testing.assert_allclose(line[:, 0], [0, 100])
    means, halves = np.array([0.1, 0.9, 0.5]), np.array([0.4, 0.4, np.inf])
    np.testing.assert_allclose(figures.ends(means, halves), [[0, 0.5, 0], [0.5, 1, 1]])
    np.testing.assert_allclose(figures.ends(means, halves, np.inf), [[0, 0.5, 0], [0.5, 1.3, np.inf]])  # of losses


def test_unfinished_seeds_are_no_part_of_the_mean_of_finished_ones(tmp_path):
    ends = {0: ((0.4, 0.1), True), 1: ((0.4, 0.2), True), 2: ((0.9,), False)}
    for seed, (errors, finished) in ends.items():
        make_run(tmp_path / f"run{seed}", changed(lenet5_digits.get_config(), seed=seed), errors, finished=finished)
    [group] = runs.group_runs(runs.open_runs([str(tmp_path / f"run{seed}") for seed in ends]))
    assert page.errors_of(group) == ([0.1, 0.2], "test")
    assert page.summary_lines([group]) == [f"run: test error {page.interval([0.1, 0.2])}, 2 of 3 seeds"]
    assert "<td>2 of 3</td>" in page.results([group]).parts[-1]
    none_finished = dataclasses.replace(
        group, runs=tuple(dataclasses.replace(run, summary=None) for run in group.runs[1:])
    )
    assert page.errors_of(none_finished) == ([0.2, 0.9], "test")


def test_many_epochs_are_written_out(tmp_path):
    for seed in range(2):
        make_run(tmp_path / f"run{seed}", changed(lenet5_digits.get_config(), seed=seed), (0.5,) * 1250)
    section = page.results(runs.group_runs(runs.open_runs([str(tmp_path / "run0"), str(tmp_path / "run1")])))
    assert "<td>1,250</td>" in section.parts[-1]


def test_curves_are_means_at_the_steps_that_all_seeds_have(groups):
    epochs, means, halves = figures.mean_curve(groups[0].runs, "test", "error")
    np.testing.assert_allclose(epochs, [1, 2])
    np.testing.assert_allclose(means, [0.5, 0.13])
    np.testing.assert_allclose(halves[0], stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3))
    _, error = figures.curves(groups).axes
    drawn = {line.get_label(): line for line in error.lines}
    np.testing.assert_allclose(drawn["lenet (3 seeds)"].get_ydata(), [50, 13])
    np.testing.assert_allclose(drawn["words, fitted once"].get_ydata(), [30, 30])


def test_a_training_curve_of_one_record_is_a_point(tmp_path):
    names = [str(make_run(tmp_path / f"run{n}", lenet5_digits.get_config(), [0.4] * n)) for n in (1, 2)]
    _, error = figures.curves(runs.group_runs(runs.open_runs(names))).axes
    markers = [line.get_marker() for line in error.lines if line.get_linestyle() == "--"]
    assert markers == ["o", ""]


def test_a_picture_of_errors_on_several_sets_names_the_set_of_each(folder, tmp_path):
    chosen = changed(lenet5_digits.get_config(), **{"data.validation": "9%"})
    held_out = dataclasses.replace(INFO, validation_size=100)
    validated = make_run(tmp_path / "validated", chosen, (), info=held_out, finished=False)
    record = {"step": 1, "split": "validation", "loss": 1.0, "error": 0.4}
    (validated / metrics.FILE).write_text(json.dumps(record) + "\n")
    found = runs.group_runs(runs.open_runs([str(folder / "relu"), str(validated)]))
    [axes] = page.results(found).parts[0].figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["relu, test", "validated, validation"]


def test_a_group_has_one_colour_on_the_page(folder, tmp_path):
    empty = make_run(tmp_path / "empty", resnet_digits.get_config(), (), finished=False)
    found = runs.group_runs(runs.open_runs([str(empty), str(folder / "relu"), str(folder / "lenet_seed0")]))
    [points] = figures.results([group.name for group in found], [page.errors_of(group)[0] for group in found]).axes
    assert [label.get_text() for label in points.get_yticklabels()] == ["relu", "lenet_seed0"]
    _, error = figures.curves(found).axes
    curves = {line.get_label(): line.get_color() for line in error.lines}
    assert [line.get_color() for line in points.lines] == [curves["relu"], curves["lenet_seed0"]]


def test_only_options_that_differ_are_listed(groups):
    networks = page.differing(groups[:2])
    assert networks == {"model.activation": ["scaled_tanh", "relu"]}  # not the devices, nor the seed
    every = page.differing(groups)
    assert every["model.family"] == ["lenet", "lenet", "resnet", None]
    assert next(iter(every)) == "model.family"
    assert every["model.activation"] == ["scaled_tanh", "relu", None, None]
    assert every["encode.name"] == [None, None, None, "words"]
    assert "optimizer.momentum" not in every  # the same wherever it is


def test_an_option_that_a_pipeline_does_not_read_is_no_difference(folder, tmp_path):
    make_run(tmp_path / "scaled", changed(resnet_digits.get_config(), **{"data.normalize": "channels"}))
    found = runs.group_runs(runs.open_runs([str(tmp_path / "scaled"), str(folder / "words")]))
    listed = page.differing(found)
    assert listed["encode.name"] == [None, "words"]
    assert not {"data.normalize", "data.shuffle", "data.pixel_range"} & set(listed)


def test_the_page_says_what_the_runs_are(folder, tmp_path, capsys):
    names = [str(folder / name) for name in ("lenet_seed0", "lenet_seed1", "relu", "words", "resnet")]
    compared = runs.open_runs(names)
    assert [run.multiply_adds for run in compared[:4]] == [77, 77, 77, None]
    assert compared[4].parameters == 269_434  # counted, since the run has no summary yet
    html = page.comparison_html(compared, assembly.PictureFolder(tmp_path, "png"))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["curves", "results"]
    for text in ("Not finished, and shown as far as recorded: resnet.", "<td>77</td>", "<td>500</td>", "relu"):
        assert text in html
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert capsys.readouterr() == ("", "")


def test_the_page_is_written_beside_the_runs(folder, monkeypatch):
    monkeypatch.setattr(page, "comparison_html", lambda *_: "<html>")
    lines = compare.write([str(folder / "relu"), str(folder / "words")])
    out = folder / "comparison.html"
    assert out.read_text() == "<html>"
    assert lines == ["relu: test error 25.00%", "words: test error 30.00%", str(out)]


def test_a_folder_whose_name_is_not_utf_8_is_shown_with_its_bytes(folder, tmp_path):
    copy = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(folder / "relu", copy)
    opened = runs.open_runs([str(copy), str(folder / "words")])
    assert [run.name for run in opened] == [r"caf\xe9", "words"]


def test_different_datasets_are_compared_with_a_note(folder, tmp_path):
    other = dataclasses.replace(INFO, name="mnist", test_size=10_000)
    make_run(tmp_path / "mnist", lenet5_digits.get_config(), info=other)
    found = runs.group_runs(runs.open_runs([str(folder / "lenet_seed0"), str(tmp_path / "mnist")]))
    assert len(found) == 2
    [said] = runs.notes(found)
    assert "different datasets" in said
    assert "mnist, 10,000 test images" in said


def test_runs_with_the_same_seed_are_in_separate_groups(folder, tmp_path):
    shutil.copytree(folder / "relu", tmp_path / "again")
    found = runs.group_runs(runs.open_runs([str(folder / "relu"), str(tmp_path / "again")]))
    assert [len(group.runs) for group in found] == [1, 1]
    assert "same seed" in runs.notes(found)[0]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "expected two or more folders"),
        (["relu"], "expected two or more folders"),
        (["relu", "./relu"], "is given twice"),
        (["relu", "resnte"], "no such folder; did you mean '.*resnet'"),
        (["relu", ""], "config.json is missing; it has runs inside, as '.*lenet_seed0'"),
        (["relu", "resnet/metrics.jsonl"], "it is a file; did you mean '.*/resnet'"),
    ],
)
def test_a_folder_that_is_not_a_run_is_refused_in_one_line(folder, names, expected):
    with pytest.raises(UserError, match=expected):
        runs.open_runs([f"{folder}/{name}" for name in names])


@pytest.mark.parametrize("name", ["config.json", "dataset.json", "summary.json"])
def test_a_damaged_run_is_refused_in_one_line(folder, tmp_path, name):
    shutil.copytree(folder / "relu", tmp_path / "run")
    (tmp_path / "run" / name).write_text("{")
    with pytest.raises(UserError, match=name):
        runs.open_runs([str(folder / "words"), str(tmp_path / "run")])


@pytest.mark.slow
def test_a_run_of_today_and_one_of_an_earlier_version(tmp_path):
    # Whose config lacks options, whose records lack epochs and whose summary lacks the numbers of today's.
    today, earlier = small_run(), tmp_path / "earlier"
    earlier.mkdir()
    for name in (workdir.DATASET, workdir.CONFIG):
        content = json.loads((today / name).read_text())
        content.pop("tracker", None)
        (earlier / name).write_text(json.dumps(content))
    records = [{k: r[k] for k in ("step", "split", "loss", "error")} for r in metrics.read(today)]
    (earlier / metrics.FILE).write_text("".join(json.dumps(record) + "\n" for record in records))
    done = json.loads((today / workdir.SUMMARY).read_text())
    new = ("parameters", "multiply_adds", "command", "commit", "uncommitted_changes", "date", "class_errors")
    (earlier / workdir.SUMMARY).write_text(json.dumps({k: v for k, v in done.items() if k not in new}))
    new_run, old_run = runs.open_runs([str(today), str(earlier)])
    assert (new_run.parameters, new_run.multiply_adds) == (done["parameters"], done["multiply_adds"])
    assert (old_run.parameters, old_run.multiply_adds) == (done["parameters"], done["multiply_adds"])
    assert page.differing(runs.group_runs([new_run, old_run])) == {}
    assert page.each_run([new_run, old_run]).parts


def test_the_summary_and_the_history_have_the_command_and_the_commit():
    # tests/run/test_provenance.py compares the commit with that of git.
    done = json.loads((small_run() / workdir.SUMMARY).read_text())
    start = json.loads((small_run() / history.FILE).read_text().splitlines()[0])
    assert done["command"] == start["command"]
    assert done["command"].startswith("python ")
    assert done["commit"] == start["commit"]
    assert (done["multiply_adds"], done["parameters"]) == (592, 610)
