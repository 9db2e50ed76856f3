"""A published file tells its network, its preprocessing and its classes."""

import json
import pathlib
import tarfile
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import models, weights
from common.data.normalize import make_normalize
from common.errors import UserError
from common.pretrained import identify, initial
from tests.runs import run
from vit import torch_names

SHARED = pathlib.Path(__file__).parents[3] / "shared"
PUBLISHED = SHARED / "weights" / "resnet20-12fca82f.th"
IMAGES = SHARED / "data" / "cifar10-jpeg" / "cifar10-jpeg.tar.gz"


def ones(family, variant, side=224, classes=1000, **fields):
    """A variant's module, and variables that take no memory."""
    info = types.SimpleNamespace(num_classes=classes, class_names=(), image_shape=(side, side, 3))
    network = models.make_classifier(models.section(family, variant, **fields), info)
    like = initial.shapes(network.module, network)
    return network.module, jax.tree.map(lambda leaf: np.broadcast_to(np.float32(1), leaf.shape), like)


def published(family, *variant, **options):
    """The arrays of a file as the variant's publisher would name them."""
    module, variables = ones(family, *variant, **options)
    return initial.published(family, variables, module)[0]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "weights.pth").touch()
    return tmp_path / "weights.pth"


@pytest.mark.parametrize(
    ("family", "variant", "options"),
    [
        ("resnet", "resnet50_modern", {}),
        ("resnet", "resnet56", {"side": 32, "classes": 10}),
        ("alexnet", "one_column", {"adaptive_pool": 6}),
        pytest.param("vgg", "vgg11_bn", {}, marks=pytest.mark.slow),
        ("googlenet", "googlenet_torchvision", {}),
        ("vit", "ti16", {"side": 384, "classes": 21843}),
    ],
)
def test_arrays_tell_their_variant(path, family, variant, options):
    found = identify.identify(path, published(family, variant, **options))
    assert (found.config.model.family, found.config.model.variant) == (family, variant)
    assert found.info.num_classes == options.get("classes", 1000)
    assert found.info.image_shape[0] == found.config.data.crop == options.get("side", 224)
    assert ("NOTHING TELLS" in found.notes[-1]) == (found.info.num_classes == 21843)


def test_black_is_what_the_publisher_makes_of_it(path):
    black = jnp.zeros((1, 2, 2, 3), jnp.uint8)
    torchvision = identify.identify(path, published("resnet", "resnet18_modern")).config.data
    np.testing.assert_allclose(
        make_normalize(torchvision)(black)[0, 0, 0], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5
    )
    google = identify.identify(path, published("vit", "ti16")).config.data
    np.testing.assert_array_equal(make_normalize(google)(black), -1)


def test_a_vit_of_another_publisher_has_its_gelu(path):
    _, variables = ones("vit", "ti16", gelu="exact")
    found = identify.identify(path, torch_names.to_theirs(variables["params"], "timm"))
    assert (found.config.init.source, found.config.model.gelu) == ("timm", "exact")


def test_imagenets_names_are_distinct_and_in_order(path):
    names, _ = identify.class_names(path, 1000, "torchvision")
    assert len(set(names)) == 1000
    assert [names[place] for place in (0, 1, 281, 985, 999)] == ["tench", "goldfish", "tabby", "daisy", "toilet tissue"]


def test_a_hugging_face_folder_names_its_classes(tmp_path):
    (tmp_path / "model.safetensors").touch()
    names = {"10": "ten", "2": "two", "0": "zero"}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": names}))
    assert identify.class_names(tmp_path, 3, "huggingface") == (("zero", "two", "ten"), "named in config.json")


def test_arrays_of_no_published_network_are_refused(path):
    with pytest.raises(UserError, match="name the network with --config"):
        identify.identify(path, {"layer/weight": np.zeros((3, 3))})
    wrong = published("resnet", "resnet18_modern") | {"layer9.weight": np.zeros(3)}
    with pytest.raises(UserError, match="name the network with --config"):
        identify.identify(path, wrong)


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs the published checkpoint")
def test_a_file_is_imported_without_a_config_and_predicts(tmp_path):
    folder = tmp_path / "run"
    assert "resnet resnet20 of cifar" in weights.import_published(PUBLISHED, folder)
    with tarfile.open(IMAGES, "r|gz") as archive:
        image = next(member for member in archive if member.isfile())
        archive.extract(image, tmp_path, filter="data")
    code, output, errors = run(f"--workdir={folder}", str(tmp_path / image.name), module="common.predict")
    assert code == 0, errors
    assert pathlib.Path(image.name).parent.name in output.partition("then")[0]
