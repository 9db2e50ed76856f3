"""The preprocessing of a published file, from the descriptions beside it, its content or its publisher."""

import hashlib
import json
import types

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from common.config import base
from common.data import normalize
from common.data.preparation import Preparation, prepare_image
from common.errors import UserError
from common.pretrained import preprocessing

HALF = [0.5, 0.5, 0.5]
VIT = {"size": {"height": 224, "width": 224}, "resample": 2, "image_mean": HALF, "image_std": HALF}
RESNET = {"size": 224, "crop_pct": 0.875, "resample": 3, "image_mean": [0.485, 0.456, 0.406], "image_std": HALF}
DEIT = {"size": 256, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "resample": 3}
TIMM = {"input_size": [3, 224, 224], "crop_pct": 0.95, "interpolation": "bicubic", "mean": HALF, "std": HALF}


def found(path, side=224, **weights):
    module = types.ModuleType("weights")
    vars(module).update(weights)
    return preprocessing.find(path, module, "timm", {}, side)


@pytest.mark.parametrize(
    ("name", "told", "expected"),
    [
        ("preprocessor_config.json", VIT, (224, 224, True, "bilinear", "range")),
        ("preprocessor_config.json", RESNET, (256, 224, False, "bicubic", "channels")),
        ("preprocessor_config.json", DEIT, (256, 224, True, "bicubic", "channels")),
        ("preprocessor_config.json", {"size": {"shortest_edge": 240}}, (240, 240, False, "bilinear", "channels")),
        ("preprocessor_config.json", RESNET | {"size": 384}, (384, 384, True, "bicubic", "channels")),
        ("config.json", {"pretrained_cfg": TIMM}, (235, 224, False, "bicubic", "range")),
        ("config.json", {"architecture": "resnet50", **TIMM}, (235, 224, False, "bicubic", "range")),
    ],
)
def test_a_description_beside_the_file_says_it(tmp_path, name, told, expected):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / name).write_text(json.dumps(told))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        options, origin = found(path)
        assert origin == f"as {name} says"
        assert tuple(options[key] for key in ("resize", "crop", "stretch", "interpolation", "normalize")) == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "to_set"),
    [
        ((16, 0), (8, 0), ["config.data.resize=8"]),  # the crop is that of the resized image in both
        ((16, 8), (8, 0), ["config.data.resize=8"]),
        ((256, 224), (224, 0), ["config.data.resize=224"]),
        ((256, 192), (224, 0), ["config.data.resize=224", "config.data.crop=0"]),
        ((16, 0), (32, 28), ["config.data.resize=32", "config.data.crop=28"]),
        ((32, 0), (32, 32), []),
    ],
)
def test_only_options_that_have_other_values_are_to_be_set(ours, theirs, to_set):
    data, expected = (base(ConfigDict()).data for _ in range(2))
    data.resize, data.crop = ours
    expected.resize, expected.crop = theirs
    assert preprocessing.differences(data, expected.to_dict()) == to_set


def test_a_processor_that_does_not_normalise_gives_a_config_that_runs(tmp_path):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(RESNET | {"do_normalize": False}))
    config = base(ConfigDict())
    config.data.update(found(tmp_path)[0])
    normalize.check(config)
    fed = normalize.make_normalize(config.data)(jnp.full((1, 1, 3), 255, jnp.uint8))
    np.testing.assert_array_equal(fed, np.ones((1, 1, 3)))


@pytest.mark.parametrize(
    "told",
    [
        *({"resample": 5}, {"size": [1, 2]}, {"crop_pct": 0}, {"image_mean": HALF}, []),
        *({"do_rescale": False}, {"rescale_factor": 1 / 127.5}, {"rescale_factor": None}),
    ],
)
def test_an_unknown_preparation_is_refused_in_one_line(tmp_path, told):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    if told == {"crop_pct": 0}:
        assert found(tmp_path)[0]["resize"] == 256  # none at all
        return
    with pytest.raises(UserError, match="preprocessor_config.json"):
        found(tmp_path)


def test_a_known_file_is_recognised_by_its_content_whatever_its_name(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"weights")
    known = {hashlib.sha256(b"weights").hexdigest()[:8]: {"resize": 232}}
    assert found(path, FILES=known)[0]["resize"] == 232
    path.write_bytes(b"others")
    assert found(path, FILES=known) == (found(path)[0], "as timm tests most of its networks")


@pytest.mark.parametrize("share", [0.875, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_are_those_of_timm_and_torchvision(share, interpolation):
    pytest.importorskip("torch")
    peers = pytest.importorskip("timm.data")
    image = np.random.default_rng(0).integers(0, 256, (241, 307, 3), np.uint8)
    transform = peers.create_transform(
        (3, 64, 64), interpolation=interpolation, crop_pct=share, mean=(0, 0, 0), std=(1, 1, 1)
    )
    expected = transform(Image.fromarray(image)).permute(1, 2, 0).numpy() * 255
    ours = prepare_image(image, Preparation(**preprocessing.cropped(64, share), interpolation=interpolation))
    np.testing.assert_allclose(ours, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["ViT", "ConvNext", "DeiT"])
def test_images_are_those_of_hugging_faces_processors(name, tmp_path):
    pytest.importorskip("torch")
    processor = getattr(pytest.importorskip("transformers"), f"{name}ImageProcessorPil")()
    processor.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    image = np.random.default_rng(0).integers(0, 256, (441, 507, 3), np.uint8)
    expected = processor(Image.fromarray(image), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    data = base(ConfigDict()).data
    data.update(found(tmp_path)[0])
    ours = normalize.make_normalize(data)(jnp.asarray(prepare_image(image, Preparation.from_config(data)))[None])[0]
    np.testing.assert_allclose(ours, expected, atol=1e-5)
