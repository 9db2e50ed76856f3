"""Tests that fine-tuning prepares images as the weights expect, from what a file or a run says."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from common import config_checks, weights
from common.data import augment
from common.data.pixel_statistics import FILE
from common.errors import UserError
from common.pretrained import initial, named, weight_files
from common.run import trained, workdir
from configs import finetune, lenet5_digits
from tests import networks
from tests.digits_run import digits_run
from tests.runs import run
from vit import torch_names

CIFAR = [125.307, 122.961, 113.8575]  # the means that CIFAR-10's networks with projections expect, in grey levels


@pytest.fixture(scope="module")
def projections(tmp_path_factory):
    """A file as github.com/chenyaofo/pytorch-cifar-models names a ResNet-20's arrays."""
    classifier = networks.classifier("resnet", "resnet20", shortcut="B")
    variables = networks.drawn(named.shapes(classifier.module, classifier))
    arrays = initial.published("resnet", variables, classifier.module)[0]
    path = tmp_path_factory.mktemp("file") / "cifar10_resnet20.npz"
    names = {"linear": "fc", "shortcut": "downsample"}
    for theirs, other in names.items():
        arrays = {name.replace(theirs, other): array for name, array in arrays.items()}
    weight_files.write(path, arrays)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of six noisy images."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 200)):
        (folder / name).mkdir()
        for number in range(6):
            pixels = rng.integers(level - 40, level + 40, (36, 48, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.slow
def test_a_run_sees_the_pixels_of_its_file_in_training_and_after(projections, photos, tmp_path, capsys):
    config = finetune.get_config(f"resnet:resnet20:{projections}:{photos}")
    config.model.scan = "on"  # blocks that are traced once
    weights.import_file(projections, config, tmp_path / "run")
    said = "preprocessing as the file expects, as cifar tests most of its networks"
    assert capsys.readouterr().out.count(said) == 1
    assert_pixels(trained.load(tmp_path / "run"))


@pytest.mark.slow  # the same config imports the file above, and the next test has the line that training prints
def test_a_command_that_fine_tunes_says_once_that_pixels_are_the_files(projections, photos, tmp_path):
    options = ("--config.train.length=1 steps", "--config.train.batch_size=4", "--config.schedule.warmup=0 steps")
    options += ("--config.augment.mirror=False", "--config.augment.crop_pad=0")
    given = f"--config=configs/finetune.py:resnet:resnet20:{projections}:{photos}"
    code, output, errors = run(given, *options, f"--workdir={tmp_path}/run", module="common.main")
    assert code == 0, errors
    assert output.count("preprocessing as the file expects, as cifar tests most of its networks") == 1
    found = trained.load(tmp_path / "run")
    assert found.step == 1
    assert_pixels(found)


def assert_pixels(found):
    """Asserts that a run's images are prepared as the file of `projections` expects, in training and after."""
    config = found.config
    assert (config.model.shortcut, config.data.resize, config.data.crop) == ("B", 32, 32)
    expected = -np.array(CIFAR) / 255 / [0.2023, 0.1994, 0.2010]
    black = jnp.zeros((1, 32, 32, 3), jnp.uint8)
    # What evaluation, prediction and reports feed the network, and what an update does.
    after = trained.network_input(found, black)
    in_training = augment.make_input_transform(config.data, config.augment)(jax.random.key(0), black)
    for pixels in (after, in_training):
        np.testing.assert_allclose(pixels, np.broadcast_to(expected, pixels.shape), rtol=1e-4)


def test_options_override_those_of_the_file_and_a_line_names_the_difference(projections, capsys):
    config = finetune.get_config("resnet:resnet20:photos")  # without the file
    config.model.shortcut, config.init.checkpoint = "B", str(projections)
    config.data.interpolation = "bicubic"
    classifier = networks.classifier("resnet", "resnet20", 2, shortcut="B")
    initial.start(networks.state(classifier, optax.sgd(0.1)), classifier, config, ("dark", "light"))
    line = next(line for line in capsys.readouterr().out.splitlines() if "PREPROCESSING" in line)
    assert "OTHER PREPROCESSING than the file expects, as cifar tests most of its networks" in line
    assert "config.data.mean=(125.307, 122.961, 113.8575)" in line
    assert "config.data.interpolation=bilinear" in line
    assert "config.data.crop" not in line  # all of the 32 pixels
    assert config.data.mean == finetune.IMAGENET[0]


def test_a_vit_has_its_publishers_pixels_and_conventions(tmp_path):
    classifier = networks.classifier("vit", "ti16", 7, (240, 240, 3), gelu="exact", ln_epsilon=1e-12)
    like = named.shapes(classifier.module, classifier)["params"]
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), like)
    weight_files.write(tmp_path / "model.safetensors", torch_names.to_theirs(params, "huggingface"))
    told = {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 240, "resample": 3}
    told |= {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.1, 0.2, 0.3]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    (tmp_path / "config.json").write_text(json.dumps({"layer_norm_eps": 1e-5}))
    config = finetune.get_config(f"vit:ti16:{tmp_path}:photos")
    config_checks.validate(config)
    data, model = config.data, config.model
    assert (data.source, data.resize, data.crop, data.interpolation) == ("folder:photos", 256, 240, "bicubic")
    assert (data.normalize, data.mean, data.std) == ("channels", (102.0, 127.5, 153.0), (25.5, 51.0, 76.5))
    assert (model.gelu, model.ln_epsilon, model.scan) == ("exact", 1e-5, False)
    assert (data.train_crop, data.stretch) == ("area", False)
    config_checks.check_given(config, [])


def test_a_runs_pixels_are_taken_with_its_statistics(tmp_path):
    folder = digits_run()
    before = workdir.load_config(folder)
    config = finetune.get_config(f"{before.model.family}:{before.model.variant}:{folder}:photos")
    config_checks.validate(config)
    for name in ("invert", "pad", "normalize", "pixel_range"):
        assert config.data[name] == before.data[name]
    height, _, channels = workdir.load_info(folder).image_shape
    assert (config.data.channels, before.data.channels) == (channels, 0)  # whatever the new images are
    assert config.data.resize + 2 * config.data.pad == height
    config_checks.check_given(config, [])
    assert config.data.statistics == ("" if before.data.normalize == "range" else str(folder / FILE))


def test_weights_of_another_network_are_refused_in_one_line(projections):
    with pytest.raises(
        UserError, match="is of resnet:resnet20, not resnet:resnet32; expected resnet:resnet20 in the config"
    ):
        finetune.get_config(f"resnet:resnet32:{projections}:photos")


def test_missing_weights_are_named_in_one_line(photos, tmp_path):
    # Without their options the run would be another experiment, and a removed file could not be named as the cause.
    with pytest.raises(UserError, match="nowhere.pth', which does not exist; the config reads from it"):
        finetune.get_config(f"resnet:resnet20:{tmp_path}/nowhere.pth:{photos}")


def test_a_range_that_a_run_did_not_use_is_not_taken(tmp_path):
    before = lenet5_digits.get_config()  # whose pixel_range is LeNet-5's
    before.data.normalize = "channels"
    workdir.write_json(tmp_path / workdir.CONFIG, before.to_dict())
    shutil.copy(digits_run() / workdir.DATASET, tmp_path)
    config = finetune.get_config(f"lenet:lenet5:{tmp_path}:photos")
    assert (config.data.normalize, config.data.pixel_range) == ("channels", (0.0, 1.0))
    config_checks.check_given(config, [])
