"""Pictures of recorded numbers: what they show, and that they belong to their results."""

import json
import pathlib
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from common import tables
from common.claims import charts, curves, pages
from common.errors import UserError
from common.run import metrics
from tests.runs import ROOT

LENET = {
    "claim": "lenet5-mnist-error",
    "paper": {"LeNet-5": 0.0095},
    "ours": {"LeNet-5": {"mean": 0.009}},
    "values": {"LeNet-5": [0.008, 0.010]},
    "rules": [{"low": -0.002, "high": 0.001}],
    "verdict": "agrees",
}
LINEAR = {
    "claim": "mnist-linear",
    "paper": {"linear": 0.12},
    "ours": {"linear": {"mean": 0.08}},
    "values": {"linear": [0.08]},
    "rules": [{"low": -0.05, "high": -0.03}],
    "verdict": "better",
}
SIZES = {
    "claim": "lenet5-trainset-size",
    "paper": {},
    "ours": {"15,000": {"mean": 0.02}, "60,000": {"mean": 0.01}},
    "values": {"15,000": [0.01, 0.03], "60,000": [0.01, 0.01]},
    "rules": [],
    "verdict": "holds",
}


def points(axes):
    """All points of all lines, rounded."""
    return {(round(float(x), 4), round(float(y), 4)) for line in axes.lines for x, y in line.get_xydata()}


def test_the_papers_number_ours_and_the_interval_are_in_one_row():
    [axes] = charts.paper_and_ours([LINEAR, LENET]).axes
    assert {(12, 0), (8, 0), (7, 0), (9, 0)} <= points(axes)
    assert {(0.95, 1), (0.9, 1), (0.75, 1), (1.05, 1)} <= points(axes)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "mnist-linear: better",
        "lenet5-mnist-error: agrees",
    ]


def test_errors_are_drawn_above_the_numbers_in_the_names_of_their_runs():
    [axes] = charts.error_against("training digits")([SIZES]).axes
    assert points(axes) == {(15_000, 1), (15_000, 3), (15_000, 2), (60_000, 1)}
    [axes] = charts.error_against("layers")([{**SIZES, "paper": {"60,000": 0.0095, "all": 0.5}}]).axes
    assert (60_000, 0.95) in points(axes)
    assert axes.get_xlabel() == "layers"


def test_everything_in_a_picture_of_numbers_is_named_and_no_point_is_cut():
    [axes] = charts.error_against("words")([{**SIZES, "values": {"15,000": [0.60, 0.62], "60,000": [0.5, 0.6]}}]).axes
    assert [text.get_text() for text in axes.get_legend().texts] == ["ours, each seed", "ours, mean"]
    assert axes.get_ylim()[1] > 64  # a point is a few per cent of the axes high
    assert axes.get_xlim()[1] > 62_000
    [axes] = charts.paper_and_ours([LINEAR, LENET]).axes
    assert {text.get_text() for text in axes.get_legend().texts} == {"95% interval of the difference", "ours", "paper"}


def test_smoothing_keeps_a_curves_ends_and_leaves_a_straight_line_as_it_is(tmp_path, monkeypatch):
    config = SimpleNamespace(train=SimpleNamespace(batch_size=8))
    monkeypatch.setattr(curves.workdir, "load_config", lambda folder: config)
    errors = {"straight": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], "bent": [0.9, 0.3, 0.3, 0.3, 0.3, 0.3, 0.2]}
    for name, values in errors.items():
        records = [_record("train", step, error) for step, error in enumerate(values, 1)]
        metrics.write(tmp_path / name, [*records, _record("test", 7, 0.5)])
    [axes] = curves.error_curves({name: [tmp_path / name] for name in errors}).axes
    straight, bent = (line.get_ydata() for line in axes.lines if line.get_linestyle() == "--")
    np.testing.assert_allclose(straight, [90, 80, 70, 60, 50, 40, 30])
    np.testing.assert_allclose(bent[[0, -1]], [90, 20])


def test_a_last_record_of_a_few_images_is_not_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(
        curves.workdir, "load_config", lambda folder: SimpleNamespace(train=SimpleNamespace(batch_size=8))
    )
    records = [_record("train", 10, 0.5), _record("train", 20, 0.4), _record("train", 22, 0.1, 160)]
    metrics.write(tmp_path, [*records, _record("test", 22, 0.45)])
    [axes] = curves.error_curves({"net": [tmp_path]}).axes
    assert [list(line.get_xdata()) for line in axes.lines] == [[10, 20], [22]]


def _record(split, step, error, examples=800):
    return {"step": step, "split": split, "error": error, "examples": examples}


def test_a_run_without_a_number_in_its_name_is_an_error():
    assert charts.number_in("ResNet-56") == 56
    with pytest.raises(ValueError, match="invalid literal"):
        charts.number_in("plain")


def test_a_picture_is_current_until_a_number_changes(tmp_path):
    path = tmp_path / "chart.png"
    assert not charts.is_current(path, [LENET])
    charts.write(path, [LENET], charts.paper_and_ours)
    assert charts.is_current(path, [json.loads(json.dumps(LENET))])
    assert not charts.is_current(path, [{**LENET, "values": {"LeNet-5": [0.008, 0.011]}}])
    assert not charts.is_current(path, [LENET, LINEAR])
    path.write_bytes(path.read_bytes()[:20])
    assert not charts.is_current(path, [LENET])  # damaged: drawn again


def test_every_recorded_picture_shows_its_results():
    found = tables.all_charts(ROOT, pathlib.Path("results"))
    assert len(found) >= 3
    for path, (results, _) in found.items():
        assert charts.is_current(path, results), f"{path}: run python -m common.tables"


def test_a_document_names_the_claims_of_a_chart():
    document = "<!-- chart: figure-9 a b -->\nstale\n<!-- /chart -->\n<!-- costs -->\n<!-- /costs -->\n"
    assert pages.charts_in(document) == {"figure-9": ["a", "b"]}


def test_a_chart_of_a_claim_without_a_result_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("<!-- chart: figure-9 lenet5-mnist-error -->\n<!-- /chart -->\n")
    (tmp_path / "docs").mkdir()
    for name in ("lecture.md", "performance.md"):
        (tmp_path / "docs" / name).touch()
    with pytest.raises(UserError, match="the chart 'figure-9' is of lenet5-mnist-error, which has no result"):
        tables.all_charts(tmp_path, pathlib.Path("results"))


def test_a_number_of_one_seed_has_no_interval():
    single = {**LENET, "rules": [{"low": None, "high": None}]}
    [axes] = charts.paper_and_ours([LINEAR, single]).axes
    assert {(0.95, 1), (0.9, 1)} <= points(axes)
    assert sorted(len(line.get_xdata()) for line in axes.lines) == [0, 1, 1, 1, 1, 2]


def test_a_folder_without_the_documents_is_refused_and_results_elsewhere_are_named_from_here(
    tmp_path, monkeypatch, given_flags
):
    shutil.copytree(ROOT / "results", tmp_path / "results")
    given_flags(results=str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no docs/lecture.md in this folder; run the command in the folder of the"):
        tables.main()
    (tmp_path / "docs").mkdir()
    for name in ("lecture.md", "performance.md"):
        (tmp_path / "docs" / name).touch()
    (tmp_path / "RESULTS.md").write_text("<!-- claims: lenet -->\n<!-- /claims -->\n")
    tables.main()
    text = (tmp_path / "RESULTS.md").read_text()
    assert "](results/lenet5-mnist-error.png)" in text
    assert str(tmp_path) not in text


def test_layers_are_drawn_in_their_order(monkeypatch):
    from resnet import measures

    responses = {"conv2_1/bn1": 3.0, "conv2_2/bn1": 2.0, "conv2_10/bn1": 1.0}
    monkeypatch.setattr(measures, "measured_responses", lambda folder: responses)
    [axes] = measures.draw_responses({"ResNet": [pathlib.Path("seed0"), pathlib.Path("seed1")]}).axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [(2, 3), (3, 2), (4, 1)])


def test_every_heads_distance_and_the_mean_of_each_layer_are_drawn(monkeypatch):
    from vit import measures

    distances = {"seed0": np.array([[2.0, 4.0], [6.0, 6.0]]), "seed1": np.array([[1.0, 1.0], [6.0, 10.0]])}
    monkeypatch.setattr(measures, "head_distances", lambda folder: distances[folder.name])
    assert measures.attention_distance_grows(pathlib.Path("seed0")) == 3.0
    [axes] = measures.draw_attention_distances({"ViT": [pathlib.Path("seed0"), pathlib.Path("seed1")]}).axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [(1, 2), (2, 7)])
    assert {(1, 4), (1, 1), (2, 10)} <= points(axes)


def test_the_error_is_drawn_against_the_number_of_crops(monkeypatch):
    from common.claims import protocol_errors
    from googlenet import measures

    errors = {"single": 0.5, "ten_crop": 0.45, "googlenet_144": 0.44}
    monkeypatch.setattr(protocol_errors, "error", lambda folder, protocol, examples=0: errors[protocol])
    assert measures.gain_of_144(pathlib.Path("seed0")) == pytest.approx(0.01)
    [axes] = measures.draw_errors({"gain": [pathlib.Path("seed0")]}).axes
    np.testing.assert_allclose(axes.lines[-1].get_xydata(), [(1, 50), (10, 45), (144, 44)])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one seed", "mean"]
