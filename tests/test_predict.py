"""Tests that images from files are seen as the training images were; bad files are named, and the others go on."""

import csv
import dataclasses
import io
import json

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from PIL import Image

from common import models
from common.data import datasets
from common.data.dataset_info import Info
from common.data.sources import ArraySource
from common.devices import mesh
from common.prediction import images, network, output
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


COMPILED = {}  # by variables and size; the tests change nothing else that the network's input depends on


def predict(run, paths, invert=False, size=8):
    """The predictions for files that can all be read."""
    unread, predictions = [], []
    files = images.find(paths, unread.append)
    key = id(run.variables), size
    compute = COMPILED[key] = COMPILED.get(key) or network.compiled(run, size)
    for batch in images.batches(run, files, size, invert, unread.append):
        found = compute([image.pixels for image in batch])
        predictions += output.rank_predictions(batch, np.asarray(found.log_probabilities), run.info.class_names)
    assert not unread
    return predictions


def likeliest(predictions):
    return [prediction.ranking[0][0] for prediction in predictions]


def test_a_file_is_seen_as_the_test_image_it_was_saved_from(digits, stored, files):
    predictions = predict(digits, files)
    inputs = trained.network_input(digits, jax.numpy.asarray(stored[0]))
    logits = np.asarray(jax.jit(digits.classifier.module.apply)(digits.variables, inputs), np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for path, prediction, row in zip(files, predictions, expected, strict=True):
        assert prediction.file == str(path)
        assert prediction.note == ""
        chances = dict(prediction.ranking)
        np.testing.assert_allclose([chances[name] for name in digits.info.class_names], row, atol=1e-5)
        assert [chance for _, chance in prediction.ranking] == sorted(chances.values(), reverse=True)


def test_the_run_reads_digits(digits, stored, files):
    right = [name == str(label) for name, label in zip(likeliest(predict(digits, files)), stored[1], strict=True)]
    assert sum(right) >= 15


def test_colour_and_16_bit_files_of_grey_digits_are_seen_alike(digits, files, tmp_path):
    grey = predict(digits, files)
    images = [np.asarray(Image.open(path)) for path in files]
    colour = predict(digits, save(tmp_path, [np.repeat(image[..., None], 3, -1) for image in images], "rgb"))
    deep = predict(digits, save(tmp_path, [image.astype(np.uint16) * 257 for image in images], "deep"))
    assert [p.ranking for p in colour] == [p.ranking for p in grey] == [p.ranking for p in deep]


def test_dark_ink_on_light_paper_needs_invert(digits, stored, files, tmp_path):
    negatives = save(tmp_path, [255 - np.asarray(Image.open(path)) for path in files], "negative")
    inverted = predict(digits, negatives, invert=True)
    assert [p.ranking for p in inverted] == [p.ranking for p in predict(digits, files)]
    assert likeliest(predict(digits, negatives)) != likeliest(inverted)
    # A run that was trained on inverted images inverts by itself, and `invert` then undoes that.
    inverting = with_data(digits, invert=True)
    assert [p.ranking for p in predict(inverting, negatives)] == [p.ranking for p in inverted]
    assert [p.ranking for p in predict(inverting, files, invert=True)] == [p.ranking for p in inverted]


def test_light_paper_where_training_images_are_black_is_remarked_on(digits, stored, tmp_path):
    paper = 255 - stored[0][0][PAD:-PAD, PAD:-PAD, 0]
    [path] = save(tmp_path, [paper], "paper")
    assert "perhaps --invert" in images.read_input(digits, path, invert=False)[1]
    assert images.read_input(digits, path, invert=True)[1] == ""


def test_an_image_of_another_size_is_resized_to_what_is_inside_the_padding(digits, stored, tmp_path):
    run = with_data(digits, resize=0)
    digit = stored[0][0][PAD:-PAD, PAD:-PAD, 0]
    large = np.kron(digit, np.ones((3, 3), np.uint8))
    wide = np.pad(large, ((0, 0), (30, 30)))
    for image, size in ((large, "84x84"), (wide, "144x84")):
        [path] = save(tmp_path, [image], f"of_{size}")
        prepared, note = images.read_input(run, path, invert=False)
        assert note == f"resized from {size} to 28x28"
        assert prepared.shape == (32, 32, 1)
        assert not prepared[:PAD].any()
        assert not prepared[:, -PAD:].any()
        assert np.abs(prepared[..., 0].astype(int) - stored[0][0][..., 0]).mean() < 8
    [path] = save(tmp_path, [digit], "as_trained")
    prepared, note = images.read_input(run, path, invert=False)
    assert note == ""
    np.testing.assert_array_equal(prepared, stored[0][0])


def test_an_image_is_seen_alike_alone_and_in_a_batch(digits, files):
    whole = predict(digits, files, size=9)
    for size in (1, 8):
        for part, other in zip(predict(digits, files[:9], size=size), whole[:9], strict=True):
            assert part.file == other.file
            assert part.ranking[0][0] == other.ranking[0][0]
            np.testing.assert_allclose(part.ranking[0][1], other.ranking[0][1], atol=1e-5)


def test_a_batch_has_room_for_the_files_and_few_sizes(digits):
    sizes = [network.batch_size(digits, files) for files in (1, 2, 3, 33, 1000)]
    assert sizes == [1, 2, 4, 64, 64]
    config = ConfigDict(digits.config.to_dict())
    config.evaluate.batch_size = 7
    assert network.batch_size(dataclasses.replace(digits, config=config), 1000) == 7


def test_the_smallest_penalty_is_the_likeliest_class():
    config = lenet5_mnist.get_config()
    info = Info("digits", 10, tuple("0123456789"), (32, 32, 1), 100, 100)
    classifier = models.make_classifier(config.model, info)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    variables = networks.state(classifier, optax.sgd(0.1)).variables()
    run = trained.Run(config, info, classifier, variables, 0, mesh.make_mesh(config.mesh))
    inputs = trained.network_input(run, jax.numpy.asarray(images))
    penalties = np.asarray(jax.jit(classifier.module.apply)(variables, inputs), np.float64)
    expected = -penalties - np.logaddexp.reduce(-penalties, axis=1, keepdims=True)
    predictions = trained.predictions(run, ArraySource(images, np.array([1, 2, 3], np.int32)))
    np.testing.assert_allclose(predictions.log_probabilities, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(predictions.predicted, penalties.argmin(1))


def test_classes_too_unlikely_for_a_float_are_still_ranked():
    # LeNet-5's penalties are hundreds apart.
    image = images.Prepared(images.File("a.png", "a.png"), np.zeros((1, 1, 1), np.uint8), "")
    log_probabilities = -100.0 * np.arange(10, dtype=np.float32)[::-1]
    [prediction] = output.rank_predictions([image], log_probabilities[None], "0123456789")
    assert [name for name, _ in prediction.ranking] == list("9876543210")
    assert prediction.ranking[-1][1] == 0


def test_folders_are_read_to_the_bottom_in_order_and_bad_files_are_left_out(digits, stored, tmp_path):
    # More files than are read ahead; the pixels come in the order of the files.
    for name in ("b", "a/deep", "empty"):
        (tmp_path / name).mkdir(parents=True)
    digit = [image[PAD:-PAD, PAD:-PAD, 0] for image in stored[0]]
    save(tmp_path / "b", digit[:9])
    save(tmp_path / "a" / "deep", digit[9:12])
    (tmp_path / "b" / ".hidden.png").write_text("")
    (tmp_path / "b" / "digit_3.png").write_text("not an image")
    unread = []
    paths = [tmp_path / "b", tmp_path / "a", tmp_path / "empty", tmp_path / "b" / "digit_00.png"]
    files = images.find(paths, unread.append)
    batches = list(images.batches(digits, files, 2, False, unread.append))
    assert [len(batch) for batch in batches] == [2] * 5 + [1]
    prepared = [image for batch in batches for image in batch]
    names = [f"digit_{number}.png" for number in (0, 1, 2, 4, 5, 6, 7, 8)]
    assert [image.file.name for image in prepared] == names + [f"deep/digit_{number}.png" for number in range(3)]
    expected = stored[0][[0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]]
    np.testing.assert_array_equal([image.pixels for image in prepared], expected)
    said = [str(error) for error in unread]
    assert ["empty' is a folder without" in said[0], "not an image that" in said[1], "did you mean" in said[2]] == [
        True
    ] * 3
    assert len(said) == 3


def test_the_lines_for_people_and_for_programs():
    first = output.Prediction("a.png", (("cat", 0.75), ("dog", 0.2), ("hat", 0.05)))
    second = output.Prediction("long/b.png", (("mouse", 0.5), ("cat", 0.3), ("dog", 0.2)), "resized from 2x2 to 1x1")
    assert output.as_text([first, second], top=2) == [
        "a.png       cat     75.0%  then dog 20.0%, hat 5.0%",
        "long/b.png  mouse   50.0%  then cat 30.0%, dog 20.0%  (resized from 2x2 to 1x1)",
    ]
    assert output.as_text([first], top=0) == ["a.png  cat   75.0%"]
    wide = output.Prediction("日本.png", (("cafe\u0301", 0.75), ("dog", 0.25)))  # 8 columns and 4 in a terminal
    assert output.as_text([wide, second], top=0) == [
        "日本.png    cafe\u0301    75.0%",
        "long/b.png  mouse   50.0%  (resized from 2x2 to 1x1)",
    ]
    broken = output.Prediction("a\nb\x1b[2J.png", (("c\rt", 0.75), ("d\tg", 0.25)))
    assert output.as_text([broken], top=2) == [r"a\x0ab\x1b[2J.png  c\x0dt   75.0%  then d\x09g 25.0%"]
    assert json.loads(output.as_json([first], top=1)[0]) == {
        "file": "a.png",
        "class": "cat",
        "probability": 0.75,
        "others": [{"class": "dog", "probability": 0.2}],
        "note": "",
    }


def test_csv_parses_back():
    names = ('a "b", c.png', "line\nbreak.png")
    predictions = [output.Prediction(name, (("cat", 0.75), ("dog, hot", 0.25)), "a, b") for name in names]
    text = "\n".join([output.csv_header(1), *output.as_csv(predictions, top=1)])
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["file"] for row in rows] == list(names)
    assert rows[0] == {
        "file": names[0],
        "class": "cat",
        "probability": "0.75",
        "class_2": "dog, hot",
        "probability_2": "0.25",
        "note": "a, b",
    }


def test_a_folder_with_a_bad_file(files, tmp_path):
    # Everything at once: one line for the bad file, a JSON line, an embedding and a picture for each of the others.
    for path in files[4:]:
        path.unlink()
    (tmp_path / "digit_1.png").write_text("not an image")
    workdir, kept, pictures = f"--workdir={digits_run()}", tmp_path / "out" / "e.npz", tmp_path / "out" / "heat"
    options = ("--json", "--top=1", f"--embeddings={kept}", f"--explain={pictures}")
    code, printed, errors = run(workdir, *options, tmp_path, module="common.predict")
    assert code == 1, errors
    assert errors.splitlines() == [f"error: '{tmp_path}/digit_1.png' is not an image that Pillow can read"]
    lines = [json.loads(line) for line in printed.splitlines()]
    good = [str(files[number]) for number in (0, 2, 3)]
    assert [line["file"] for line in lines] == good
    assert all(len(line["others"]) == 1 for line in lines)
    with np.load(kept) as arrays:
        assert list(arrays["files"]) == good
        assert arrays["embeddings"].shape == (len(good), 84)
        assert str(arrays["layer"]) == "input of Output"
    assert sorted(path.name for path in pictures.iterdir()) == [f"digit_{number}.heat.png" for number in (0, 2, 3)]


@pytest.mark.slow
def test_only_the_table_is_printed(files, tmp_path):
    workdir = f"--workdir={digits_run()}"
    code, printed, errors = run(workdir, "--csv", "--top=20", *files[:2], module="common.predict")
    assert (code, errors) == (0, "")
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [row["file"] for row in rows] == [str(path) for path in files[:2]]
    assert all(sorted([row["class"], *(row[f"class_{i}"] for i in range(2, 11))]) == list("0123456789") for row in rows)
    (tmp_path / "file").touch()
    code, printed, errors = run(workdir, f"--embeddings={tmp_path}/file/e.npz", files[0], module="common.predict")
    assert (code, printed) == (2, "")
    assert "cannot write" in errors
    missing = [f"--embeddings={tmp_path}/e.npz", tmp_path / "digit_00.png"]
    assert "did you mean" in refused(workdir, *missing, module="common.predict")
    assert not (tmp_path / "e.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["digit.png"], "--workdir is missing"),
        (["--workdir=/tmp/no-such-run", "digit.png"], "no run in /tmp/no-such-run"),
        (["--workdir=/tmp/no-such-run"], "no image given"),
        (["--workdir=/tmp/no-such-run", "--json", "--csv", "a.png"], "choose one"),
        (["--workdir=/tmp/no-such-run", "--layer=F6", "a.png"], "add --embeddings=FILE.npz"),
        (["--workdir=/tmp/no-such-run", "--embeddings=", "a.png"], "--embeddings is empty; expected a file"),
        (["--workdir=/tmp/no-such-run", "--explain=", "a.png"], "--explain is empty; expected a folder"),
    ],
)
def test_a_mistake_is_answered_in_one_line(arguments, expected):
    assert expected in refused(*arguments, module="common.predict")
