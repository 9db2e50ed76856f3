"""Images from files are seen as the training images were, and bad files are named."""

import dataclasses
import json

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from PIL import Image

from common import models, predict
from common.data import datasets
from common.data.datasets import Info
from common.data.sources import ArraySource
from common.devices import mesh
from common.errors import UserError
from common.run import trained
from configs import lenet5_mnist
from tests import networks
from tests.digits_run import digits_run
from tests.runs import refused, run

PAD = 2  # of the run's images, around 28x28


@pytest.fixture(scope="module")
def digits():
    return trained.load(digits_run())


@pytest.fixture(scope="module")
def stored(digits):
    """Twenty test images as the dataset holds them, [32, 32, 1], and their labels."""
    test = datasets.load(digits.config.data).test
    return test.images[:20], test.labels[:20]


@pytest.fixture
def files(stored, tmp_path):
    """The same images as PNG files of 28x28."""
    return save(tmp_path, [image[PAD:-PAD, PAD:-PAD, 0] for image in stored[0]])


def save(folder, images, name="digit"):
    paths = [folder / f"{name}_{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


def with_data(run, **changes):
    """The run as if its data section had these values."""
    config = ConfigDict(run.config.to_dict())
    config.data.update(changes)
    return dataclasses.replace(run, config=config)


def likeliest(predictions):
    return [prediction.ranking[0][0] for prediction in predictions]


def test_a_file_is_seen_as_the_test_image_it_was_saved_from(digits, stored, files):
    predictions = predict.predict(digits, files)
    inputs = trained.network_input(digits, jax.numpy.asarray(stored[0]))
    logits = np.asarray(digits.classifier.module.apply(digits.variables, inputs), np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for path, prediction, row in zip(files, predictions, expected, strict=True):
        assert prediction.file == str(path)
        assert prediction.note == ""
        chances = dict(prediction.ranking)
        np.testing.assert_allclose([chances[name] for name in digits.info.class_names], row, atol=1e-5)
        assert [chance for _, chance in prediction.ranking] == sorted(chances.values(), reverse=True)


def test_the_run_reads_digits(digits, stored, files):
    right = [
        name == str(label) for name, label in zip(likeliest(predict.predict(digits, files)), stored[1], strict=True)
    ]
    assert sum(right) >= 15


def test_colour_and_16_bit_files_of_grey_digits_are_seen_alike(digits, files, tmp_path):
    grey = predict.predict(digits, files)
    images = [np.asarray(Image.open(path)) for path in files]
    colour = predict.predict(digits, save(tmp_path, [np.repeat(image[..., None], 3, -1) for image in images], "rgb"))
    deep = predict.predict(digits, save(tmp_path, [image.astype(np.uint16) * 257 for image in images], "deep"))
    assert [p.ranking for p in colour] == [p.ranking for p in grey] == [p.ranking for p in deep]


def test_dark_ink_on_light_paper_needs_invert(digits, stored, files, tmp_path):
    negatives = save(tmp_path, [255 - np.asarray(Image.open(path)) for path in files], "negative")
    inverted = predict.predict(digits, negatives, invert=True)
    assert [p.ranking for p in inverted] == [p.ranking for p in predict.predict(digits, files)]
    assert likeliest(predict.predict(digits, negatives)) != likeliest(inverted)
    # A run that was trained on inverted images inverts by itself, and `invert` then undoes that.
    inverting = with_data(digits, invert=True)
    assert [p.ranking for p in predict.predict(inverting, negatives)] == [p.ranking for p in inverted]
    assert [p.ranking for p in predict.predict(inverting, files, invert=True)] == [p.ranking for p in inverted]


def test_light_paper_where_training_images_are_black_is_remarked_on(digits, stored, tmp_path):
    paper = 255 - stored[0][0][PAD:-PAD, PAD:-PAD, 0]
    [path] = save(tmp_path, [paper], "paper")
    assert "perhaps --invert" in predict.read_input(digits, path, invert=False)[1]
    assert predict.read_input(digits, path, invert=True)[1] == ""


def test_an_image_of_another_size_is_resized_to_what_is_inside_the_padding(digits, stored, tmp_path):
    run = with_data(digits, resize=0)
    digit = stored[0][0][PAD:-PAD, PAD:-PAD, 0]
    large = np.kron(digit, np.ones((3, 3), np.uint8))
    wide = np.pad(large, ((0, 0), (30, 30)))
    for image, size in ((large, "84x84"), (wide, "144x84")):
        [path] = save(tmp_path, [image], f"of_{size}")
        prepared, note = predict.read_input(run, path, invert=False)
        assert note == f"resized from {size} to 28x28"
        assert prepared.shape == (32, 32, 1)
        assert not prepared[:PAD].any()
        assert not prepared[:, -PAD:].any()
        assert np.abs(prepared[..., 0].astype(int) - stored[0][0][..., 0]).mean() < 8
    [path] = save(tmp_path, [digit], "as_trained")
    prepared, note = predict.read_input(run, path, invert=False)
    assert note == ""
    np.testing.assert_array_equal(prepared, stored[0][0])


def test_images_beyond_one_batch_are_seen_alike(digits, files):
    config = ConfigDict(digits.config.to_dict())
    config.evaluate.batch_size = 8
    in_parts = predict.predict(dataclasses.replace(digits, config=config), files)
    for parts, whole in zip(in_parts, predict.predict(digits, files), strict=True):
        assert parts.ranking[0][0] == whole.ranking[0][0]
        np.testing.assert_allclose(parts.ranking[0][1], whole.ranking[0][1], atol=1e-5)


def test_the_smallest_penalty_is_the_likeliest_class():
    config = lenet5_mnist.get_config()
    info = Info("digits", 10, tuple("0123456789"), (32, 32, 1), 100, 100)
    classifier = models.make_classifier(config.model, info)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    variables = networks.state(classifier, optax.sgd(0.1)).variables()
    run = trained.Run(config, info, classifier, variables, 0, mesh.make_mesh(config.mesh))
    inputs = trained.network_input(run, jax.numpy.asarray(images))
    penalties = np.asarray(classifier.module.apply(variables, inputs), np.float64)
    expected = -penalties - np.logaddexp.reduce(-penalties, axis=1, keepdims=True)
    predictions = trained.predictions(run, ArraySource(images, np.array([1, 2, 3], np.int32)))
    np.testing.assert_allclose(predictions.log_probabilities, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(predictions.predicted, penalties.argmin(1))


def test_classes_too_unlikely_for_a_float_are_still_ranked(digits, files, monkeypatch):
    """LeNet-5's penalties are hundreds apart."""
    logits = -100.0 * np.arange(10, dtype=np.float32)
    found = trained.Predictions(np.array([0]), np.array([0]), np.array([0.0]), logits[::-1][None])
    monkeypatch.setattr(trained, "predictions", lambda run, source: found)
    [prediction] = predict.predict(digits, files[:1])
    assert [name for name, _ in prediction.ranking] == list("9876543210")
    assert prediction.ranking[-1][1] == 0


def test_a_bad_file_is_named(digits, files, tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("not an image")
    for path, expected in (
        (tmp_path / "digit_00.png", "did you mean"),
        (text, "not an image that Pillow can read"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(UserError, match=expected) as caught:
            predict.predict(digits, [files[0], path])
        assert str(path) in str(caught.value)


def test_the_lines_for_people_and_for_programs():
    first = predict.Prediction("a.png", (("cat", 0.75), ("dog", 0.2), ("hat", 0.05)))
    second = predict.Prediction("long/b.png", (("mouse", 0.5), ("cat", 0.3), ("dog", 0.2)), "resized from 2x2 to 1x1")
    assert predict.as_text([first, second], top=2) == [
        "a.png       cat     75.0%  then dog 20.0%, hat 5.0%",
        "long/b.png  mouse   50.0%  then cat 30.0%, dog 20.0%  (resized from 2x2 to 1x1)",
    ]
    assert predict.as_text([first], top=0) == ["a.png  cat   75.0%"]
    assert json.loads(predict.as_json([first], top=1)[0]) == {
        "file": "a.png",
        "class": "cat",
        "probability": 0.75,
        "others": [{"class": "dog", "probability": 0.2}],
        "note": "",
    }


def test_the_command(files):
    workdir = f"--workdir={digits_run()}"
    code, output, errors = run(workdir, "--json", "--top=1", *files[:3], module="common.predict")
    assert code == 0, errors
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["file"] for line in lines] == [str(path) for path in files[:3]]
    assert all(len(line["others"]) == 1 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["digit.png"], "--workdir is missing"),
        (["--workdir=/tmp/no-such-run", "digit.png"], "no run in /tmp/no-such-run"),
        (["--workdir=/tmp/no-such-run"], "no image given"),
    ],
)
def test_one_line_for_a_mistake(arguments, expected):
    assert expected in refused(*arguments, module="common.predict")
