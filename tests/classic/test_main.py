"""The commands of the classic pipeline as a user gives them."""

import importlib
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from classic import config as config_lib
from classic import saved
from classic.config import PIPELINES, base, validate
from common.data import datasets
from common.errors import UserError
from tests.runs import refused, run

MAIN, PREDICT = "classic.main", "classic.predict"
DIGITS = ("--config=configs/classic_digits.py:raw_linear", "--config.decode.C=0.1", "--config.data.limit=300")
FILES = ("config.json", "dataset.json", "history.jsonl", "metrics.jsonl", "pipeline.json", "pipeline.npz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A fitted run, not to be written to."""
    return tmp_path_factory.mktemp("run") / "digits"


@pytest.fixture(scope="module")
def output(folder):
    code, output, errors = run(*DIGITS, f"--workdir={folder}", module=MAIN)
    assert code == 0, errors
    return output


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_a_run_prints_its_stages_and_leaves_its_files(output, folder):
    lines = output.splitlines()
    assert lines[:2] == [
        "pixels -> flat -> whole -> linear_svm",
        "digits: 300 training and 359 test images of 8x8x1, 10 classes",
    ]
    done = summary(folder)
    stages = ["sample", "encoder", "features_train", "features_test", "decoder"]
    assert done["computed"] == stages
    assert list(done["stages"]) == [*stages, "scores_train", "scores_test"]
    assert f"test error {done['test']['error']:.2%}" in lines[-1]
    assert all((folder / name).exists() for name in FILES)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(record["split"], record["error"]) for record in records] == [
        (split, done[split]["error"]) for split in ("train", "test")
    ]
    assert len(list(folder.glob("events*"))) == 1
    assert done["test"]["error"] < 0.15
    features = done["stages"]["features_train"]
    assert features["images"] == 300
    assert features["core_parts"].keys() == features["parts"].keys() == {"read", "describe", "encode"}
    for clock in ("seconds", "core_seconds"):
        spent = {name: stage[clock] for name, stage in done["stages"].items()}
        assert done[clock]["test"] == pytest.approx(spent["features_test"] + spent["scores_test"])
        assert sum(done[clock].values()) == pytest.approx(sum(spent.values()) - spent["scores_train"])


def test_a_finished_run_is_not_run_again(output, folder):
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    code, again, errors = run(*DIGITS, f"--workdir={folder}", module=MAIN)
    assert code == 0, errors
    assert f"workdir {folder}: finished" in again
    assert again.splitlines()[-1] == output.splitlines()[-1]
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}


def test_another_decoder_goes_on_from_the_features(output, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    changed = "--config=configs/classic_digits.py:raw_linear+knn"
    code, again, errors = run(changed, DIGITS[2], f"--workdir={tmp_path / 'run'}", module=MAIN)
    assert code == 0, errors
    assert "config.decode.name was 'linear_svm', and is 'knn' from here on" in again
    assert summary(tmp_path / "run")["computed"] == ["decoder"]
    assert saved.load(tmp_path / "run").config.decode.name == "knn"
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 2


def test_a_test_of_the_run_finds_its_error(output, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    code, line, errors = run("--mode=evaluate", f"--workdir={tmp_path / 'run'}", module=MAIN)
    assert code == 0, errors
    expected = summary(folder)["test"]["error"]
    assert f"top-1 error {expected:.2%}" in line
    result = json.loads((tmp_path / "run" / "evaluate_single.json").read_text())
    assert (result["top1_error"], result["examples"]) == (pytest.approx(expected), 359)
    assert result["test_data"]["source"] == "digits"


def test_images_from_files_are_classified_as_in_the_test_set(output, folder, tmp_path):
    test = datasets.load(base().data).test
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    for path, image in zip(paths, test.images, strict=False):
        Image.fromarray(image[:, :, 0]).save(path)
    code, printed, errors = run(f"--workdir={folder}", "--json", *paths, module=PREDICT)
    assert code == 0, errors
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line["file"] for line in lines] == [str(path) for path in paths]
    right = [line["class"] == str(label) for line, label in zip(lines, test.labels, strict=False)]
    assert sum(right) >= 9


def test_a_folder_of_images_is_fitted_and_a_damaged_one_is_named(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name, level in (("dark", 60), ("bright", 190)):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for number in range(6):
                image = rng.integers(level - 50, level + 50, (20, 24, 3)).astype(np.uint8)
                Image.fromarray(image).save(tmp_path / "images" / split / name / f"{number}.png")
    config = f"--config=configs/classic_folder.py:raw_linear:{tmp_path / 'images'}"
    settings = ("--config.data.resize=8", "--config.decode.C=1", f"--workdir={tmp_path / 'run'}")
    code, _, errors = run(config, *settings, module=MAIN)
    assert code == 0, errors
    assert summary(tmp_path / "run")["test"]["error"] == 0
    (tmp_path / "images" / "train" / "dark" / "0.png").write_bytes(b"not an image")
    line = refused(config, *settings[:2], f"--workdir={tmp_path / 'other'}", module=MAIN)
    assert "0.png" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--config is missing; for example --config=configs/classic_digits.py:fisher"),
        (["--config=configs/classic_digits.py:fischer"], "unknown pipeline 'fischer'; did you mean 'fisher'?"),
        ([DIGITS[0], "--config.decode.name=knn"], "--config=FILE:PIPELINE+knn"),
        ([DIGITS[0], "--workdir="], "--workdir is empty; expected the folder of a run"),
        (
            ["--config=configs/lenet5_digits.py"],
            "the config is a network's: it has a section 'model'; python -m common.main",
        ),
        (["--mode=evaluate", "--workdir=/tmp/no-such-run"], "no run in /tmp/no-such-run: there is no such folder; fit"),
    ],
)
def test_a_mistake_is_answered_in_one_line(arguments, expected, tmp_path):
    if arguments and not any("workdir" in argument for argument in arguments):
        arguments = [*arguments, f"--workdir={tmp_path / 'run'}"]
    assert expected in refused(*arguments, module=MAIN)
    assert not (tmp_path / "run" / "stages").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"decode.C": "much"}, "config.decode.C is 'much'"),
        ({"decode.C": "-1"}, "config.decode.C is '-1'"),
        ({"decode.constants": (0.1, float("nan"))}, "config.decode.constants is"),
        ({"describe.name": "patchs"}, "unknown config.describe.name 'patchs'; did you mean 'patches'?"),
        ({"pool.layout": "quarters"}, "unknown value of config.pool.layout 'quarters'; did you mean 'quadrants'?"),
        ({"pool.dtype": "int8"}, "unknown value of config.pool.dtype 'int8'"),
        ({"data.normalize": "pixels"}, "config.data.normalize is set, but a classic pipeline does not read it"),
        ({"data.train_crop": "random"}, "config.data.train_crop is set, but a classic pipeline does not read it"),
        ({"data.sampling": "balanced"}, "config.data.sampling is set, but a classic pipeline does not read it"),
        ({"data.limit": -1}, "config.data.limit is -1; expected at least 0"),
        ({"data.source": "digit"}, "unknown config.data.source 'digit'"),
        ({"data.crop": 9, "data.resize": 8}, "config.data.crop is 9, more than config.data.resize 8"),
        ({"encode.sample": 0}, "config.encode.sample is 0; expected at least 1"),
        ({"evaluate.batch_size": 0}, "config.evaluate.batch_size is 0; expected a whole number of at least 1"),
        ({"seed": -1}, "config.seed is -1"),
    ],
)
def test_values_are_refused_before_data_are_opened(changes, expected):
    config = base()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=re.escape(expected)):
        validate(config)


def test_another_experiment_in_a_folder_is_refused(output, folder, tmp_path):
    line = refused(*DIGITS, "--config.seed=1", f"--workdir={folder}", module=MAIN)
    assert "holds another experiment: config.seed is 0 there and 1 here" in line
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    line = refused("--config=configs/lenet5_digits.py", f"--workdir={folder}")
    assert "holds a run that is not a network's" in line
    assert "holds a network's run" in refused(*DIGITS, f"--workdir={tmp_path}", module=MAIN)


def test_a_folder_with_a_bad_file_is_predicted(output, folder, tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("not an image")
    code, printed, errors = run(f"--workdir={folder}", "--csv", "--top=1", tmp_path, module=PREDICT)
    assert code == 1, errors
    assert errors == f"error: '{tmp_path}/b.png' is not an image that Pillow can read\n"
    header, line = printed.splitlines()
    assert header == "file,class,probability,class_2,probability_2,note"
    assert line.startswith(f"{tmp_path}/a.png,")


def test_commands_that_need_a_network_refuse_a_pipeline(output, folder):
    assert "--explain needs a network" in refused(f"--workdir={folder}", "--explain=/tmp/no", "a.png", module=PREDICT)
    assert "not a network's" in refused(f"--workdir={folder}", "a.png", module="common.predict")


def test_predicting_needs_a_run_and_knows_no_checkpoint(output, folder):
    assert "no run in /tmp/no-such-run" in refused("--workdir=/tmp/no-such-run", "a.png", module=PREDICT)
    assert "has no checkpoints" in refused(f"--workdir={folder}", "--checkpoint=best", "a.png", module=PREDICT)


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10", "folder"])
def test_configs_of_all_pipelines_are_valid(name):
    get_config = importlib.import_module(f"configs.classic_{name}").get_config
    for pipeline in PIPELINES:
        config = get_config(f"{pipeline}:/images" if name == "folder" else pipeline)
        validate(config)
        assert saved.as_config(json.loads(json.dumps(config.to_dict()))).to_dict() == config.to_dict()


def test_parts_take_the_place_of_a_pipelines_own():
    config = base("pyramid+whole+linear_svm")
    assert (config.pool.layout, config.pool.weighted, config.decode.name) == ("whole", False, "linear_svm")
    assert config.encode.norm == "l1"  # the encoder is still the pipeline's own
    assert base("pyramid+llc").encode.norm == config_lib.section("encode", "llc").norm
    with pytest.raises(UserError, match="unknown part of a pipeline 'patchs'; did you mean 'patches'"):
        base("pyramid+patchs")


@pytest.mark.parametrize(
    ("pipeline", "changes", "words"),
    [
        ("tangent+pixels", {}, "config.describe.name is 'pixels', but config.decode 'tangent_distance' reads the"),
        ("virtual_svm+tangents", {}, "reads the features of describer 'shifts' as they are; expected 'shifts'"),
        ("tangent+words", {}, "config.encode.name is 'words'"),
        ("tangent", {"encode.pca": 8}, "config.encode.pca is '8'"),
        ("virtual_svm+quadrants", {}, "config.pool.layout is 'quadrants'"),
    ],
)
def test_decoders_that_read_an_image_in_parts_refuse_other_features(pipeline, changes, words):
    config = base(pipeline)
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=re.escape(words)):
        validate(config)
