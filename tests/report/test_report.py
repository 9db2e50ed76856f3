"""Tests that the report shows what the run is, and what it shows is true."""

import base64
import dataclasses
import io
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from matplotlib.figure import Figure
from PIL import Image

from common import models
from common.anatomy import layer_table
from common.data import datasets
from common.errors import UserError
from common.nn.batch_norm import BatchNorm
from common.optim.plan import make_plan
from common.prediction import heat_maps
from common.report import (
    assembly,
    calibration,
    error_figures,
    inside,
    learning,
    mistakes,
    page,
    sample_figures,
    samples,
    sections,
)
from common.run import metrics, trained
from lenet import pictures
from tests import networks
from tests.digits_run import digits_run
from tests.runs import refused, run

SECTIONS = (
    *("curves", "rate", "confusion", "classes", "calibration", "predictions", "mistakes", "filters", "maps"),
    *("grad-cam", "occlusion", "recipe"),
)


@pytest.fixture(scope="module")
def digits():
    return trained.load(digits_run())


@pytest.fixture(scope="module")
def examples(digits):
    return datasets.load(digits.config.data).test


@pytest.fixture(scope="module")
def results(digits, examples):
    return trained.predictions(digits, examples)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder for the pictures of the report."""
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def covered():
    """The map and the titles from which the report draws its covered images."""
    return {}


@pytest.fixture(scope="module")
def html(saved, covered):
    draw = sample_figures.occlusion

    def noted(images, found, titles):
        covered.update(found=found, titles=titles)
        return draw(images, found, titles)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_figures, "occlusion", noted)
        return sections.report_html(digits_run(), pictures=assembly.PictureFolder(saved, "png"))


def decoded_pictures(html):
    encoded = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(text, validate=True))) for text in encoded]


def test_every_section_is_there_in_order(html):
    places = [html.index(f'<section id="{name}">') for name in SECTIONS]
    assert places == sorted(places)


def test_every_picture_can_be_decoded_and_shows_something(html, results):
    drawn = decoded_pictures(html)
    wrong = int((results.predicted != results.labels).sum())
    assert len(drawn) == html.count("<img ") == 10 + min(wrong, 24)
    for image in drawn:
        image.load()
        assert np.ptp(np.asarray(image)) > 0
    assert all(re.findall(r'<img alt="([^"]+)"', html))


def test_the_page_needs_no_other_file(html):
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "<script" not in html
    assert "@import" not in html


def test_the_page_says_what_was_run(html, results):
    assert "lenet5_modern, of the family lenet: 61,706 parameters" in html
    assert f"{results.error:.2%}" in html
    assert "optimizer.weight_decay" in html  # differs from its default
    assert "optimizer.b1" not in html  # does not
    assert "data.directory" not in html  # is this machine's business
    assert "jaxlib" in html


def test_results_are_those_of_the_evaluation(digits, results):
    [record] = [record for record in metrics.read(digits_run(), "test") if record["step"] == digits.step]
    assert len(results.labels) == record["examples"] == digits.info.test_size
    assert results.error == pytest.approx(record["error"])
    assert results.losses.mean() == pytest.approx(record["loss"], rel=1e-5)
    np.testing.assert_allclose(np.exp(results.log_probabilities).sum(1), 1, rtol=1e-5)


def test_confusion_counts_every_example_once(results, examples):
    counts = mistakes.confusion_counts(results, 10)
    np.testing.assert_array_equal(counts.sum(1), np.bincount(examples.labels, minlength=10))
    np.testing.assert_array_equal(counts.sum(0), np.bincount(results.predicted, minlength=10))
    assert 1 - np.trace(counts) / counts.sum() == pytest.approx(results.error)


def test_errors_of_classes_add_up_to_the_error(results, examples):
    images, errors = mistakes.class_errors(results, 11)
    np.testing.assert_array_equal(images[:10], np.bincount(examples.labels, minlength=10))
    assert np.isnan(errors[10])
    assert np.sum(errors[:10] * images[:10]) / len(examples) == pytest.approx(results.error)


def test_the_summary_has_the_errors_of_classes_that_the_report_shows(digits, results):
    path = digits_run() / "summary.json"
    found = json.loads(path.read_text())
    assert (found["step"], found["test"]["error"]) == (digits.step, pytest.approx(results.error))
    images, errors = mistakes.class_errors(results, 10)
    expected = {
        name: {"examples": int(n), "error": pytest.approx(error)}
        for name, n, error in zip(digits.info.class_names, images, errors, strict=True)
    }
    assert found["class_errors"] == expected
    assert sum('"examples"' in line and '"class_errors"' in line for line in path.read_text().splitlines()) == 1


def test_classes_are_listed_from_the_highest_error_to_the_lowest(digits, results):
    names, predicted = tuple(f"class {number}" for number in range(40)), results.labels.copy()
    predicted[results.labels == 7] = 0
    predicted[np.flatnonzero(results.labels == 3)[0]] = 0
    info = dataclasses.replace(digits.info, num_classes=40, class_names=names)
    found = dataclasses.replace(results, predicted=predicted)
    html = page.section(sections.class_errors(dataclasses.replace(digits, info=info), found))
    sevens, threes = (int((results.labels == number).sum()) for number in (7, 3))
    rows = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html)
    assert len(rows) == 10
    assert rows[:2] == [("class 7", f"100.0% of {sevens}"), ("class 3", f"{1 / threes:.1%} of {threes}")]
    assert rows[2] == ("class 0", f"0.0% of {(results.labels == 0).sum()}")
    assert "no images of 30 classes" in html


def test_of_many_classes_only_the_worst_have_bars(digits, results, monkeypatch):
    drawn = []
    monkeypatch.setattr(error_figures, "class_errors", lambda names, *_: drawn.extend(names) or Figure(figsize=(1, 1)))
    info = dataclasses.replace(digits.info, num_classes=40, class_names=tuple(map(str, range(40))))
    labels = np.arange(len(results.labels)) % 40
    found = dataclasses.replace(results, labels=labels, predicted=np.where(labels == 39, 0, labels))
    html = page.section(sections.class_errors(dataclasses.replace(digits, info=info), found))
    assert drawn == ["39", *map(str, range(29))]
    assert "The 30 classes with the highest errors are drawn; the table lists all 40." in html
    assert html.count("<dt>") == 40


def test_worst_mistakes_have_the_largest_losses(results, examples):
    loss = -results.log_probabilities[np.arange(len(examples)), examples.labels]
    wrong = results.log_probabilities.argmax(1) != examples.labels
    shown = mistakes.worst(results)
    assert len(shown) == min(24, wrong.sum()) > 0
    assert wrong[shown].all()
    assert (np.diff(loss[shown]) <= 1e-6).all()
    others = np.setdiff1d(np.flatnonzero(wrong), shown)
    assert all(loss[others] <= loss[shown].min() + 1e-6)


def test_worst_mistakes_are_sorted_by_what_the_page_shows_whatever_the_loss(results):
    other = dataclasses.replace(results, losses=-results.losses)  # LeNet-5's is no function of the probabilities
    assert list(mistakes.worst(other)) == list(mistakes.worst(results))


def test_a_network_without_mistakes_has_captions_that_say_so(digits, results, examples):
    perfect = dataclasses.replace(results, predicted=results.labels)
    assert len(mistakes.worst(perfect)) == 0
    assert "classified correctly" in sections.worst_mistakes(digits, examples, perfect).caption
    assert "There is no mistake." in sections.confusion(digits, perfect).caption


def test_most_confused_names_the_largest_counts_first():
    counts = np.array([[9, 1, 0], [4, 9, 0], [0, 2, 9]])
    assert mistakes.most_confused(counts, ("a", "b", "c")) == "Most often mistaken: b as a (4), c as b (2), a as b (1)."


def test_samples_are_of_four_classes_and_the_least_certain_images(results):
    first, unsure = samples.one_per_class(results), samples.least_certain(results)
    assert [results.labels[index] for index in first] == [0, 3, 6, 9]
    assert all((results.labels[:index] != results.labels[index]).all() for index in first)
    surest = results.log_probabilities.max(-1)
    assert len(unsure) == 4
    assert set(first).isdisjoint(unsure)
    others = np.setdiff1d(np.arange(len(surest)), [*first, *unsure])
    assert surest[unsure].max() <= surest[others].min()


@pytest.mark.parametrize(("largest", "said"), [(1.0, False), (0.0, True)])
def test_a_wholly_black_map_is_explained(digits, examples, results, monkeypatch, largest, said):
    def explain(classifier, variables, inputs, taps):
        return None, {}, jnp.full((len(inputs), 4, 4), largest)

    monkeypatch.setattr(heat_maps, "method", lambda run: heat_maps.Method(heat_maps.GRAD_CAM, explain))
    [section] = samples.explained(digits, examples, results)
    assert ("A wholly black map means" in section.caption) == said


def test_covered_images_are_classified_correctly(html, covered, digits, examples, results):
    [section] = re.findall(r'<section id="occlusion">.*?</section>', html, re.DOTALL)
    assert "A square of 8×8 pixels" in section
    assert covered["titles"] == ["0", "2", "4", "7", "9"]
    assert (covered["found"].uncovered > 0.1).all()
    assert covered["found"].probabilities.shape == (5, 16, 16)
    wrong = dataclasses.replace(results, predicted=(results.labels + 1) % 10)
    assert samples.covered(digits, examples, wrong) == []


def test_feature_maps_are_the_layers_in_order(digits, examples):
    layers = layer_table.rows(digits.classifier.module, digits.classifier.input_shape)
    maps = inside.feature_maps(digits, examples.images[0], layers)
    shapes = [(one.layer, one.values.shape) for one in maps]
    assert shapes == [("C1", (28, 28, 6)), ("S2", (14, 14, 6)), ("C3", (10, 10, 16)), ("S4", (5, 5, 16))]
    # S2 is the largest of each four pixels of C1 in this variant.
    np.testing.assert_array_equal(maps[1].values, maps[0].values.reshape(14, 2, 14, 2, 6).max((1, 3)))


def test_feature_maps_leave_out_batch_normalisation(digits, examples):
    class Network(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            x = nn.Conv(2, (3, 3), name="conv1")(images)
            x = BatchNorm(name="bn1")(x, train)
            return nn.Conv(4, (3, 3), name="conv2")(x)

    classifier = dataclasses.replace(digits.classifier, module=Network())
    shape = classifier.input_shape
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = networks.drawn(jax.eval_shape(classifier.module.init, jax.random.key(0), images))
    run = dataclasses.replace(digits, classifier=classifier, variables=variables)
    maps = inside.feature_maps(run, examples.images[0], layer_table.rows(classifier.module, shape))
    assert [one.layer for one in maps] == ["conv1", "conv2"]


def test_a_run_that_was_interrupted_has_a_report(digits, results, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(digits_run(), folder)
    (folder / "summary.json").unlink()
    parts = [*sections.headline(digits, folder, results)]  # what reads files
    for made in (*learning.curves(digits, folder), sections.run_details(digits, folder)):
        parts.append(page.section(made))
    assert "The run is not finished" in "".join(parts)


def test_many_epochs_are_written_out(digits, results, tmp_path):
    epoch = make_plan(digits.config, digits.info.train_size).epoch
    late = dataclasses.replace(digits, step=round(1250 * epoch))
    assert "epoch 1,250<" in "".join(sections.headline(late, tmp_path, results))


def test_the_test_error_of_a_run_with_a_validation_set_is_that_of_its_best_checkpoint(digits, results, tmp_path):
    epoch = make_plan(digits.config, digits.info.train_size).epoch
    done = json.loads((digits_run() / "summary.json").read_text())
    done |= {"step": round(40 * epoch), "best_validation": {"step": round(10 * epoch), "error": 0.1}}
    (tmp_path / "summary.json").write_text(json.dumps(done))
    shown = "".join(sections.headline(digits, tmp_path, results))
    assert "test error with the lowest validation error, epoch 10<" in shown
    assert "epoch 40" not in shown
    del done["best_validation"]
    (tmp_path / "summary.json").write_text(json.dumps(done))
    assert "test error at the end, epoch 40<" in "".join(sections.headline(digits, tmp_path, results))


def test_a_family_adds_its_own_pictures(digits, examples, monkeypatch):
    assert inside.family_pictures(digits, examples) == []  # F6 draws nothing under a softmax
    seen = []

    def draw(run, images, labels):
        seen.append((images.shape, labels.shape))
        return [("A title", "A <caption>.", Figure(figsize=(1, 1)))]

    monkeypatch.setattr(pictures, "pictures", draw)
    [section] = inside.family_pictures(digits, examples)
    assert seen == [((digits.info.test_size, 32, 32, 1), (digits.info.test_size,))]
    assert (section.name, section.title) == ("lenet-a-title", "A title")
    assert "A &lt;caption&gt;." in page.section(section)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run in"):
        sections.report_html(tmp_path)


def test_a_place_that_cannot_be_written_is_refused_before_the_page_is_made(tmp_path):
    (tmp_path / "file").touch()
    out = f"--out={tmp_path}/file/page.html"
    assert "cannot write" in refused(f"--workdir={digits_run()}", out, module="common.report")  # no line of progress


@pytest.mark.slow  # the page is made above, and `make train` runs the command
def test_the_command_writes_where_it_says(tmp_path):
    out = tmp_path / "page.html"
    code, output, errors = run(f"--workdir={digits_run()}", f"--out={out}", module="common.report")
    assert code == 0, errors
    assert output.strip() == str(out)
    assert out.read_text(encoding="utf-8").endswith("</html>\n")


def test_only_the_worst_of_very_many_classes_are_shown(digits, results):
    names = tuple(f"class {number}" for number in range(120))
    info = dataclasses.replace(digits.info, num_classes=120, class_names=names)
    section = sections.confusion(dataclasses.replace(digits, info=info), results)
    assert "the 50 of 120 classes with the most mistakes" in section.caption
    counts = mistakes.confusion_counts(results, 120)
    wrong = np.sort((counts - np.diag(np.diag(counts))).ravel())[::-1]
    bars = section.parts[1].figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [count for count in wrong[:20] if count]


def test_learning_rates_are_those_recorded_on_the_line_of_the_schedule(digits):
    [section] = learning.learning_rate(digits, digits_run())
    line, points = section.parts[0].figure.axes[0].lines
    records = metrics.read(digits_run(), "train")
    steps_per_epoch = digits.info.train_size / digits.config.train.batch_size
    np.testing.assert_allclose(points.get_xdata(), [record["step"] / steps_per_epoch for record in records])
    np.testing.assert_allclose(points.get_ydata(), [record["learning_rate"] for record in records])
    on_line = np.interp(points.get_xdata(), line.get_xdata(), line.get_ydata())
    np.testing.assert_allclose(on_line, points.get_ydata(), rtol=1e-5)
    assert "Points beside it" not in section.caption
    resumed = dataclasses.replace(digits, config=digits.config.copy_and_resolve_references())
    resumed.config.schedule.learning_rate *= 2  # another one than the records'
    assert "Points beside it come from a part of the run" in learning.learning_rate(resumed, digits_run())[0].caption
    plateau = dataclasses.replace(digits, config=digits.config.copy_and_resolve_references())
    plateau.config.schedule.name = "plateau"  # whose rates are the records' alone
    [section] = learning.learning_rate(plateau, digits_run())
    assert len(section.parts[0].figure.axes[0].lines[0].get_xdata()) == 0


def test_captions_say_which_losses_cannot_be_compared(digits):
    smoothed = dataclasses.replace(digits, config=digits.config.copy_and_resolve_references())
    smoothed.config.train.label_smoothing, smoothed.config.augment.mixup = 0.1, 0.2
    captions = [learning.curves(run_, digits_run())[0].caption for run_ in (smoothed, digits)]
    said = "The training loss includes label smoothing, mixup and the test loss does not"
    assert [said in caption for caption in captions] == [True, False]
    assert "training loss" not in captions[1]
    smoothed.config.model = models.section("googlenet", "googlenet")
    [section] = learning.curves(smoothed, digits_run())
    assert said.replace("mixup", "mixup, auxiliary classifiers") in section.caption


def test_a_lag_of_batch_normalisation_is_explained_where_it_shows(digits, tmp_path):
    train = [{"step": step, "split": "train", "loss": 1.0, "error": 0.2} for step in (10, 20)]
    for tested, lags in ((0.9, True), (0.31, True), (0.24, False)):
        test = [{"step": step, "split": "test", "loss": 1.0, "error": tested} for step in (10, 20)]
        assert learning.lags(train, test) == lags
    records = [*train, {"step": 10, "split": "test", "loss": 1.0, "error": 0.9}]
    (tmp_path / metrics.FILE).write_text("".join(json.dumps(record) + "\n" for record in records))
    normalised = dataclasses.replace(digits, variables={**digits.variables, "batch_stats": {}})
    captions = [learning.curves(run_, tmp_path)[0].caption for run_ in (normalised, digits)]
    assert ["batch normalisation" in caption for caption in captions] == [True, False]


def test_the_calibration_error_is_the_mean_distance_of_confidence_and_accuracy():
    # By hand, in two bins: confidences 0.3, 0.5 of which one is right, and 0.9, 1.0, 0.8 of which all are.
    confidence = np.array([0.3, 0.5, 0.9, 1.0, 0.8], np.float32)
    rest = (1 - confidence)[:, None] / 4
    with np.errstate(divide="ignore"):
        logs = np.log(np.concatenate([confidence[:, None], np.repeat(rest, 4, axis=1)], axis=1))
    said, labels = np.zeros(5, np.int32), np.array([1, 0, 0, 0, 0], np.int32)
    found = calibration.calibration(trained.Predictions(labels, said, -logs[:, 0], logs.astype(np.float32)), bins=2)
    np.testing.assert_array_equal(found.counts, [2, 3])  # 0.5 is in the lower bin
    np.testing.assert_allclose(found.accuracies, [0.5, 1.0])
    np.testing.assert_allclose(found.confidences, [0.4, 0.9], rtol=1e-6)
    assert found.error == pytest.approx(2 / 5 * 0.1 + 3 / 5 * 0.1, rel=1e-5)


def test_the_calibration_of_a_run_counts_every_image_once(results):
    found = calibration.calibration(results)
    assert (found.bins, found.counts.sum()) == (15, len(results.labels))
    filled = found.counts > 0
    assert (found.counts[filled] * found.accuracies[filled]).sum() / found.counts.sum() == pytest.approx(
        1 - results.error
    )
    assert f"{found.error:.2%}" in sections.calibrated(results).caption


def test_the_legend_of_the_calibration_does_not_cover_a_bar(results):
    figure = error_figures.reliability(calibration.calibration(results))
    figure.draw_without_rendering()
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["mean confidence", "calibrated", "accuracy"]
    assert not any(legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_each_picture_is_saved_under_the_name_of_its_section(html, saved, results, tmp_path):
    files = {path.stem: path for path in saved.iterdir()}
    mistaken = {"mistakes"} if (results.predicted != results.labels).any() else set()
    assert files.keys() == {*SECTIONS} - {"recipe", "mistakes"} | mistaken
    first = re.search(r'<section id="curves">.*?base64,([^"]+)"', html, re.DOTALL)[1]
    assert files["curves"].read_bytes() == base64.b64decode(first)
    figure = Figure(figsize=(1, 1))
    section = page.Section("two", "", "", [page.Picture(figure, ""), "text", page.Picture(figure, "")])
    assembly.PictureFolder(tmp_path / "svg", "svg").add(section)
    assert sorted(path.name for path in (tmp_path / "svg").iterdir()) == ["two-2.svg", "two.svg"]
    assert "<svg" in (tmp_path / "svg" / "two.svg").read_text()


def test_progress_is_a_line_on_standard_error_for_each_section(capsys):
    empty = page.Section("a", "A", "text")
    parts = assembly.sections([("first", lambda: empty), ("second", lambda: [])], assembly.Progress())
    output, errors = capsys.readouterr()
    assert len(parts) == 1
    assert output == ""
    assert [line.split("s  ")[1] for line in errors.splitlines()] == ["first", "second"]


def test_text_is_not_markup():
    text = (
        page.section(page.Section("name", "<i>", 'a & "b"'))
        + page.table([("<k>", "<v>")])
        + page.numbers([("<n>", "<1>")])
    )
    assert re.findall(r"<(i|k|v|n|1)>", text) == []
