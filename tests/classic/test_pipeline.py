"""Tests that a pipeline's stages are kept, go on after a kill, and give what they would give at once."""

import dataclasses
import io
import json
import pickle
import shutil
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest

from classic import pipeline, saved, stages
from classic.config import base
from classic.decoders import DECODERS
from classic.descriptors import DESCRIBERS, Descriptors
from classic.stages import Cost, Stages
from common.data import datasets
from common.errors import UserError
from tests.runs import ROOT, environment


def config_of(name="raw_linear", **changes):
    config = base(name)
    config.data.limit = 300
    config.evaluate.batch_size = 64
    if "C" in config.decode:
        config.decode.C = "0.1"
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def digits():
    return datasets.load(config_of().data)


def fit(config, dataset, folder):
    """The fitted pipeline, the features of each split, and the names of the stages that were computed."""
    done = Stages(folder)
    fitted, rows = pipeline.fit(config, dataset, done, lambda line: None)
    return fitted, rows, done.computed


def counted(monkeypatch, name="pixels"):
    """A list that grows by the number of images of each call of a describer."""
    calls, describe = [], DESCRIBERS[name].describe
    monkeypatch.setattr(
        DESCRIBERS[name], "describe", lambda images, options: calls.append(len(images)) or describe(images, options)
    )
    return calls


@pytest.fixture(scope="module")
def patched(digits, tmp_path_factory):
    """Patches of the digits and a linear SVM: config, folder, pipeline, features."""
    config = config_of("raw_linear+patches+quadrants", **{"describe.step": 2, "encode.join": False})
    folder = tmp_path_factory.mktemp("patched")
    fitted, rows, computed = fit(config, digits, folder)
    assert computed == ["sample", "encoder", "features_train", "features_test", "decoder"]
    return SimpleNamespace(config=config, folder=folder, fitted=fitted, rows=rows)


def test_pixels_and_a_linear_svm_read_digits(digits, tmp_path):
    fitted, _, _ = fit(config_of(), digits, tmp_path)
    assert pipeline.predictions(fitted, digits.test).error < 0.15
    assert fitted.parameters == 10 * 64 + 10 + 1  # weights, biases and the constant C


def test_batches_give_the_features_of_all_images_at_once(patched, digits):
    whole = pipeline.features(patched.config, patched.fitted.arrays["encode"], digits.train.images)
    np.testing.assert_allclose(patched.rows["train"], whole, rtol=1e-5, atol=1e-6)
    assert patched.rows["train"].shape == (300, 4 * 36)
    once = pipeline.scores(patched.fitted, digits.test.images)
    streamed = pipeline.predictions(patched.fitted, digits.test)
    np.testing.assert_array_equal(streamed.predicted, once.argmax(1))
    np.testing.assert_allclose(np.exp(streamed.log_probabilities).sum(1), 1, rtol=1e-5)


def test_the_same_run_again_computes_nothing(patched, digits, monkeypatch):
    calls = counted(monkeypatch, "patches")
    again, rows, computed = fit(patched.config, digits, patched.folder)
    assert (calls, computed) == ([], [])
    np.testing.assert_array_equal(rows["test"], patched.rows["test"])
    for part, arrays in patched.fitted.arrays.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(again.arrays[part][name], array)


def test_another_decoder_computes_only_itself(patched, digits, monkeypatch):
    calls = counted(monkeypatch, "patches")
    config = patched.config.copy_and_resolve_references()
    config.decode.C = "0.01"
    changed, _, computed = fit(config, digits, patched.folder)
    assert (calls, computed) == ([], ["decoder"])
    weights = [one.arrays["decode"]["weights"] for one in (patched.fitted, changed)]
    assert np.linalg.norm(weights[1]) < np.linalg.norm(weights[0])  # the smaller constant, the smaller weights


@pytest.mark.parametrize(
    ("changes", "computed"),
    [
        ({"seed": 1}, ["sample", "encoder", "features_train", "features_test", "decoder"]),
        ({"describe.size": 4}, ["sample", "encoder", "features_train", "features_test", "decoder"]),
        ({"encode.sample": 100}, ["sample", "encoder", "features_train", "features_test", "decoder"]),
        ({"encode.power": 0.5}, ["encoder", "features_train", "features_test", "decoder"]),
        ({"pool.dtype": "float16"}, ["features_train", "features_test", "decoder"]),
        ({"evaluate.batch_size": 50, "data.memory": "stream"}, []),
    ],
)
def test_a_change_computes_the_stages_that_depend_on_it(changes, computed, patched, digits, tmp_path):
    folder = shutil.copytree(patched.folder, tmp_path / "run")
    config = patched.config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes)
    assert fit(config, digits, folder)[2] == computed


def test_other_images_compute_everything(patched, digits, tmp_path):
    folder = shutil.copytree(patched.folder, tmp_path / "run")
    other = dataclasses.replace(digits, info=dataclasses.replace(digits.info, fingerprint="other"))
    assert fit(patched.config, other, folder)[2][0] == "sample"


KILLED = """
import os, pathlib, signal
from classic import pipeline
from classic.descriptors import DESCRIBERS
from classic.stages import Stages
from common.data import datasets
from tests.classic.test_pipeline import config_of

calls, describe = [], DESCRIBERS["pixels"].describe
def until_the_kill(images, options):
    calls.append(1)
    if len(calls) > 1 + 3:  # a batch for the sample, then those of the features
        os.kill(os.getpid(), signal.SIGKILL)
    return describe(images, options)
DESCRIBERS["pixels"].describe = until_the_kill
config = config_of()
pipeline.fit(config, datasets.load(config.data), Stages(pathlib.Path("FOLDER")))
"""


def test_a_run_that_is_killed_while_it_encodes_goes_on_from_there(digits, tmp_path, monkeypatch):
    script = textwrap.dedent(KILLED).replace("FOLDER", str(tmp_path / "killed"))
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment(), timeout=240, check=False)
    assert done.returncode == -9
    [part] = (tmp_path / "killed").glob("stages/*.part")
    with part.open("ab") as file:
        file.write(b"half a row")
    calls = counted(monkeypatch)
    fitted, rows, computed = fit(config_of(), digits, tmp_path / "killed")
    assert computed == ["features_train", "features_test", "decoder"]
    assert sum(calls[:2]) == 2 * 64  # the two batches of the training set that are missing; the last is filled up
    expected, whole, _ = fit(config_of(), digits, tmp_path / "whole")
    np.testing.assert_array_equal(rows["train"], whole["train"])
    np.testing.assert_array_equal(fitted.arrays["decode"]["weights"], expected.arrays["decode"]["weights"])
    assert not list(tmp_path.glob("killed/stages/*.part"))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("encoder-*.npz", lambda path: path.write_bytes(path.read_bytes()[:10])),
        ("features_test-*.npy", lambda path: path.write_bytes(path.read_bytes()[:200])),
        ("decoder-*.json", lambda path: path.write_text('{"pictures": 3}')),
    ],
)
def test_a_damaged_stage_is_named_and_made_again_once_it_is_removed(file, damage, patched, digits, tmp_path):
    folder = tmp_path / "run"
    fit(patched.config, digits, folder)
    [path] = folder.glob(f"stages/{file}")
    damage(path)
    with pytest.raises(UserError, match=f"{path.name} .*; remove it, and the run makes it again$"):
        fit(patched.config, digits, folder)
    path.unlink()
    fitted, _, computed = fit(patched.config, digits, folder)
    assert computed == [path.name.partition("-")[0]]
    np.testing.assert_array_equal(fitted.arrays["decode"]["weights"], patched.fitted.arrays["decode"]["weights"])


def test_the_sample_is_of_the_size_asked_for_and_of_many_images(digits):
    config = config_of("bow+patches", **{"encode.sample": 1000})
    every = pipeline.describe(config, digits.train.images).vectors.reshape(-1, 36)
    cost = Cost()
    drawn = pipeline.sample(config, digits.train, cost)["vectors"]
    assert drawn.shape == (1000, 36)
    assert cost.images >= 1000 // 20
    assert {row.tobytes() for row in drawn} <= {row.tobytes() for row in every}
    config.evaluate.batch_size = 7
    np.testing.assert_array_equal(pipeline.sample(config, digits.train, Cost())["vectors"], drawn)
    config.encode.sample = 10**6
    assert len(pipeline.sample(config, digits.train, Cost())["vectors"]) == len(every)  # each once
    config.seed, config.encode.sample = 1, 1000
    assert not np.array_equal(pipeline.sample(config, digits.train, Cost())["vectors"], drawn)


def test_an_encoder_that_learns_nothing_takes_one_descriptor(digits):
    config = config_of("raw_linear+patches")
    assert len(pipeline.sample(config, digits.train, Cost())["vectors"]) == 1
    config.encode.pca = 2
    assert len(pipeline.sample(config, digits.train, Cost())["vectors"]) == 300 * 9  # every patch


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_what_is_fitted(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    fit(config_of("bow+patches+knn", **{"encode.words": 4}), digits, tmp_path)
    assert "fitting words to 2,700 descriptors, 00:00" in sys.stderr.getvalue()
    assert "fitting knn to 300 images of 4 numbers, 00:00" in sys.stderr.getvalue()


def nothing(images, options):
    n = len(images)
    return Descriptors(np.zeros((n, 3, 4), np.float32), np.zeros((n, 3, 2), np.float32), np.zeros((n, 3), bool))


def test_images_in_which_nothing_is_found_are_refused(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(DESCRIBERS["pixels"], "describe", nothing)
    with pytest.raises(UserError, match="nothing to describe in any of the 300 training images"):
        fit(config_of(), digits, tmp_path)


def test_float_images_are_refused(digits, tmp_path):
    floats = dataclasses.replace(digits.train, images=digits.train.images / np.float32(255))
    with pytest.raises(UserError, match="images hold float32 pixels"):
        fit(config_of(), dataclasses.replace(digits, train=floats), tmp_path)


def test_the_validation_set_goes_to_the_decoder_and_not_into_the_fit(tmp_path, monkeypatch):
    config = config_of(**{"data.validation": "10%"})
    dataset = datasets.load(config.data)
    given = {}
    real = DECODERS["linear_svm"].fit

    def spy(features, labels, options, seed, num_classes, validation):
        given.update(features=len(features), validation=validation)
        return real(features, labels, options, seed, num_classes, validation)

    monkeypatch.setattr(DECODERS["linear_svm"], "fit", spy)
    _, rows, _ = fit(config, dataset, tmp_path)
    assert given["features"] == 300
    np.testing.assert_array_equal(given["validation"][1], dataset.validation.labels)
    assert len(rows["validation"]) == len(dataset.validation)


def test_labels_are_read_without_decoding(digits):
    stored = datasets.open_dataset(config_of().data)
    np.testing.assert_array_equal(pipeline.labels_as_read(stored.train), digits.train.labels)


def test_a_disk_without_room_is_named_before_anything_is_written(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(UserError, match=r"no room for features in .* 0\.0 GB are free"):
        fit(config_of(), digits, tmp_path)


def test_a_saved_pipeline_is_the_same(patched, digits, tmp_path):
    saved.save(tmp_path, patched.fitted)
    loaded = saved.load(tmp_path)
    assert loaded.config.to_dict() == patched.config.to_dict()
    assert loaded.info == patched.fitted.info
    images = digits.test.images
    np.testing.assert_array_equal(pipeline.scores(loaded, images), pipeline.scores(patched.fitted, images))


class Harmful:
    def __reduce__(self):
        return print, ("code ran",)


def as_pickle(path):
    path.write_bytes(pickle.dumps({"decode/weights": Harmful()}))


def as_objects(path):
    np.savez(path, **{"decode/weights": np.array([Harmful()], object)})


def as_other_arrays(path):
    np.savez(path, **{"decode/weights": np.zeros(3)})


def as_unknown_compression(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 10] = 99  # the first entry's, in the directory at the end
    path.write_bytes(content)


def as_broken_compression(path):
    np.savez_compressed(path, **{"decode/weights": np.arange(1000.0)})
    content = bytearray(path.read_bytes())
    content[100:110] = b"\xff" * 10
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (as_pickle, "not an .npz file of plain arrays .it is not a zip file.$"),
        (as_unknown_compression, "not an .npz file of plain arrays"),
        (as_broken_compression, "not an .npz file of plain arrays"),
        (as_objects, "not an .npz file of plain arrays"),
        (as_other_arrays, "not those that pipeline.json describes"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "not an .npz file of plain arrays"),
        (lambda path: path.unlink(), "No such file"),
    ],
)
def test_a_file_that_could_run_code_and_a_damaged_one_are_refused(damage, expected, patched, tmp_path, capsys):
    saved.save(tmp_path, patched.fitted)
    damage(tmp_path / saved.ARRAYS)
    with pytest.raises(UserError, match=expected):
        saved.load(tmp_path)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": "pickle"}, "its format is 'pickle'"),
        ({"dataset": 3}, "does not describe a pipeline"),
        ({"config": {"seed": 1}}, "the config has no data"),
    ],
)
def test_an_invalid_description_is_refused(change, expected, patched, tmp_path):
    saved.save(tmp_path, patched.fitted)
    path = tmp_path / saved.DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=expected):
        saved.load(tmp_path)


def test_arrays_of_objects_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="Python objects"):
        stages.write_arrays(tmp_path / "a.npz", {"a": np.array([None])})
