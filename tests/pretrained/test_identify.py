"""Tests that a published file tells its network, its preprocessing and its classes."""

import functools
import json
import pathlib
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import weights
from common.data.normalize import make_normalize
from common.errors import UserError
from common.pretrained import identify, initial, named
from tests import networks
from tests.runs import run
from vit import torch_names

SHARED = pathlib.Path(__file__).parents[3] / "shared"
PUBLISHED = SHARED / "weights" / "resnet20-12fca82f.th"
LARGE = {"side": 384, "classes": 21843}
IMAGES = SHARED / "data" / "cifar10-jpeg" / "cifar10-jpeg.tar.gz"


def ones(family, variant, side=224, classes=1000, **fields):
    """A variant's module, and variables that take no memory."""
    network = networks.classifier(family, variant, classes, (side, side, 3), **fields)
    like = named.shapes(network.module, network)
    return network.module, jax.tree.map(lambda leaf: np.broadcast_to(np.float32(1), leaf.shape), like)


@functools.cache
def published(family, *variant, **options):
    """The arrays of a file as the variant's publisher would name them."""
    module, variables = ones(family, *variant, **options)
    return initial.published(family, variables, module)[0]


@functools.cache
def identified(path, family, variant, **options):
    """A variant's file, as it is identified once for all tests: that takes several traces of the network."""
    return identify.identify(path, published(family, variant, **options))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("file") / "weights.pth"
    file.touch()
    return file


@pytest.mark.parametrize(
    ("family", "variant", "options"),
    [
        ("resnet", "resnet18_modern", {}),  # one with bottlenecks: see the networks that blur
        ("resnet", "resnet20", {"side": 32, "classes": 10}),
        ("alexnet", "one_column", {"adaptive_pool": 6}),
        pytest.param("vgg", "vgg11_bn", {}, marks=pytest.mark.slow),
        pytest.param("googlenet", "googlenet_torchvision", {}, marks=pytest.mark.slow),
        ("vit", "ti16", LARGE),
    ],
)
def test_arrays_tell_their_variant(path, family, variant, options):
    found = identified(path, family, variant, **options)
    assert (found.config.model.family, found.config.model.variant) == (family, variant)
    assert found.info.num_classes == options.get("classes", 1000)
    assert found.info.image_shape[0] == found.config.data.crop == options.get("side", 224)
    assert len(set(found.info.class_names)) == found.info.num_classes
    assert ("ImageNet-21k's" in found.notes[-1]) == (found.info.num_classes == 21843)


def test_black_is_what_the_publisher_makes_of_it(path):
    black = jnp.zeros((1, 2, 2, 3), jnp.uint8)
    torchvision = identified(path, "resnet", "resnet18_modern").config.data
    np.testing.assert_allclose(
        make_normalize(torchvision)(black)[0, 0, 0], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5
    )
    # torchvision's GoogLeNet scales normalised pixels to this range itself.
    for found in (identified(path, "googlenet", "googlenet_torchvision"), identified(path, "vit", "ti16", **LARGE)):
        np.testing.assert_array_equal(make_normalize(found.config.data)(black), -1)


def test_the_publisher_that_the_user_names_decides_what_no_array_shows(path):
    arrays = published("resnet", "resnet18_modern")
    found = identified(path, "resnet", "resnet18_modern")
    assert "--source=timm if it is timm's" in found.notes[1]
    assert (found.config.data.resize, found.config.data.interpolation) == (256, "bilinear")
    timms = identify.identify(path, arrays, "timm").config.data
    assert (timms.resize, timms.crop, timms.interpolation) == (235, 224, "bicubic")
    with pytest.raises(
        UserError, match="does not have the names of config.init.source 'google', but those of 'torchvision'"
    ):
        identify.identify(path, arrays, "google")


def test_a_cifar_network_with_projections_is_recognised(path):
    _, variables = ones("resnet", "resnet20", side=32, classes=100, shortcut="B")
    arrays = initial.published("resnet", variables, ones("resnet", "resnet20", side=32, shortcut="B")[0])[0]
    arrays = {name.replace("linear", "fc").replace("shortcut", "downsample"): array for name, array in arrays.items()}
    found = identify.identify(path, arrays)
    model = found.config.model
    assert (model.variant, model.shortcut, found.config.init.source) == ("resnet20", "B", "cifar")
    assert (found.config.data.resize, found.config.data.crop) == (32, 32)
    np.testing.assert_allclose(found.config.data.mean, 255 * np.array([0.507, 0.4865, 0.4409]), atol=1e-3)


def test_a_hybrid_is_recognised(path):
    found = identify.identify(path, published("vit", "r_ti16"))
    assert (found.config.model.variant, found.config.data.crop, found.config.data.stretch) == ("r_ti16", 224, True)


@pytest.mark.parametrize(
    ("facts", "fields"),
    [
        ({}, {"gelu": "exact", "ln_epsilon": 1e-12, "num_heads": 3}),
        ({"layer_norm_eps": 1e-6, "hidden_act": "gelu_new", "num_attention_heads": 6}, None),
    ],
)
def test_a_vit_of_hugging_face_is_as_its_config_says(tmp_path, facts, fields):
    fields = fields or {"gelu": "tanh", "ln_epsilon": 1e-6, "num_heads": 6}
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text(json.dumps(facts))
    _, variables = ones("vit", "ti16", **fields)
    found = identify.identify(tmp_path, torch_names.to_theirs(variables["params"], "huggingface"))
    assert {name: found.config.model[name] for name in fields} == fields
    (tmp_path / "config.json").write_text(json.dumps({"layer_norm_eps": "small"}))
    with pytest.raises(UserError, match="layer_norm_eps is 'small'; expected a number"):
        identify.identify(tmp_path, torch_names.to_theirs(variables["params"], "huggingface"))


def test_imagenet_21ks_classes_are_in_the_order_of_the_networks(path):
    all_names, smaller = (identify.class_names(path, count, "google")[0] for count in (21843, 21841))
    assert [all_names[place] for place in (0, 9205, 15027, 21842)] == ["organism", "picture", "bleacher", "knothole"]
    assert set(all_names) - set(smaller) == {"picture", "bleacher"}


@pytest.mark.parametrize("count", [21843, 21841, 11821])
def test_a_vit_of_timm_of_imagenet_21k_has_the_names_of_its_list(path, count):
    _, variables = ones("vit", "ti16", classes=count, gelu="exact")
    found = identify.identify(path, torch_names.to_theirs(variables["params"], "timm"))
    assert found.info.num_classes == len(set(found.info.class_names)) == count
    assert (found.config.init.source, found.config.data.interpolation) == ("timm", "bicubic")
    known = {21843: "knothole", 21841: "knothole", 11821: "class 11820"}
    assert found.info.class_names[-1] == known[count]
    origin = "NO CLASS NAMES ARE KNOWN for 11,821 classes" if count == 11821 else f"{count:,}, ImageNet-21k's"
    assert origin in found.notes[-1]


def test_imagenets_names_are_distinct_and_in_order(path):
    names, _ = identify.class_names(path, 1000, "torchvision")
    assert len(set(names)) == 1000
    assert [names[place] for place in (0, 1, 281, 985, 999)] == ["tench", "goldfish", "tabby", "daisy", "toilet tissue"]


def test_a_hugging_face_folder_names_its_classes(tmp_path):
    (tmp_path / "model.safetensors").touch()
    names = {"10": "ten", "2": "two", "0": "zero"}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": names}))
    assert identify.class_names(tmp_path, 3, "huggingface") == (("zero", "two", "ten"), "3, named in config.json")
    for timms in (
        {"label_names": ["a", "b"], "pretrained_cfg": {}},
        {"labels": ["a", "b"], "architecture": "resnet50"},
    ):
        (tmp_path / "config.json").write_text(json.dumps(timms))
        assert identify.class_names(tmp_path, 2, "timm") == (("a", "b"), "2, named in config.json")


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize(
    "name", ["head/kernel", "head/bias", "embedding/kernel", "Transformer/posembed_input/pos_embedding"]
)
def test_a_vit_with_an_array_of_a_senseless_shape_is_refused(path, name, shape):
    arrays = {**published("vit", "nano4", side=32, classes=5), name: np.zeros(shape, np.float32)}
    with pytest.raises(UserError, match="no published network of this repository has these arrays"):
        identify.identify(path, arrays)


CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.mark.parametrize(
    ("names", "source"),
    [(None, "folder:FOLDER"), (CIFAR10, "tfds:cifar10"), (list("abcdefghij"), "folder:FOLDER")],
)
def test_only_cifar_10s_classes_are_tested_on_cifar_10(tmp_path, names, source):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "label_names": names}))
    found = identify.identify(tmp_path, published("resnet", "resnet18_modern", classes=10), "timm")
    assert found.config.data.source == source
    assert found.info.class_names == tuple(names or (f"class {number}" for number in range(10)))
    assert found.info.test_size == 0


def test_only_imagenets_classes_are_tested_on_imagenet(tmp_path):
    (tmp_path / "model.safetensors").touch()
    imagenet, _ = identify.class_names(tmp_path, 1000, "timm")
    wordnet = [f"n{1440764 + number * 13688:08}" for number in range(999)] + ["n15075141"]
    for names in (imagenet, [f"{name}, a kind" for name in imagenet], wordnet, imagenet[::-1], map(str, range(1000))):
        names = list(names)
        (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "label_names": names}))
        data = identify.identify(tmp_path, published("resnet", "resnet18_modern"), "timm").config.data
        known = names[0] in ("tench", "tench, a kind", "n01440764")
        assert (data.source, data.test_split) == (
            ("tfds:imagenet2012", "validation") if known else ("folder:FOLDER", "test")
        )


def test_arrays_of_no_published_network_are_refused(path):
    with pytest.raises(UserError, match="name the network with --config"):
        identify.identify(path, {"layer/weight": np.zeros((3, 3))})
    wrong = published("resnet", "resnet18_modern") | {"layer9.weight": np.zeros(3)}
    with pytest.raises(UserError, match="name the network with --config.*nearest: .* also has 'layer9.weight'"):
        identify.identify(path, wrong)


@pytest.mark.parametrize("source", ["auto", "timm"])
def test_a_network_of_the_same_arrays_that_blurs_where_it_strides_is_refused(tmp_path, source):
    arrays = published("resnet", "resnet50_modern")
    (tmp_path / "model.safetensors").touch()
    for name in ("resnetaa50", "resnetblur50", "resnet50"):
        (tmp_path / "config.json").write_text(json.dumps({"architecture": name, "pretrained_cfg": {}}))
        file = tmp_path / f"{name}-84f4748f.pth"
        file.touch()
        for path in (tmp_path, tmp_path / "model.safetensors", file):
            if name == "resnet50":
                assert identify.identify(path, arrays, source).config.model.variant == "resnet50_modern"
                continue
            with pytest.raises(UserError, match=f"timm's {name} averages neighbouring pixels where it strides"):
                identify.identify(path, arrays, source)


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
