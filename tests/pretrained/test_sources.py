"""Files of other libraries: their names are read, their logits are ours, and the wrong network is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common import config as config_lib
from common import models, weights
from common.data import datasets
from common.errors import UserError
from common.pretrained import initial, libraries, named, weight_files
from tests import networks
from vit import torch_names

VIT = {"hidden_size": 16, "mlp_dim": 24, "num_heads": 2, "depth": 2, "patch_size": 4, "gelu": "exact"}
EPSILON = {"huggingface": {"ln_epsilon": 1e-12}}  # of other layer norms than 1e-6
RESNET = {"stage_sizes": (1, 2), "width": 8}


def classifier(family, variant, image=(32, 32, 3), **changes):
    section = models.section(family, variant, **changes)
    return section, models.make_classifier(section, networks.facts(5, image))


def loaded(path, family, variant, source="auto", image=(32, 32, 3), **changes):
    """The network of a file, and its variables as a run would start from them."""
    section, network = classifier(family, variant, image, **changes)
    config = config_lib.base(section)
    config.init.checkpoint, config.init.source = str(path), source
    given = initial.given_weights(config, network)
    flat, changes = initial.initial_arrays(given, network, config)
    tree = {}
    for name, array in flat.items():
        *folders, leaf = name.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[leaf] = array
    return network, tree, (*given.notes, *changes)


def random_variables(network):
    rng = np.random.default_rng(0)
    like = named.shapes(network.module, network)
    return jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype), like)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("timm", ("blocks.1.attn.qkv.weight", "patch_embed.proj.bias", "norm.weight", "blocks.0.mlp.fc1.bias")),
        ("torchvision", ("conv_proj.weight", "encoder.layers.encoder_layer_1.self_attention.in_proj_weight")),
        ("huggingface", ("vit.encoder.layer.1.attention.attention.query.weight", "vit.layernorm.bias")),
    ],
)
def test_a_vision_transformer_goes_out_and_in_unchanged_under_each_librarys_names(source, names, tmp_path):
    fields = VIT | EPSILON.get(source, {})
    _, network = classifier("vit", "nano4", **fields)
    variables = random_variables(network)
    arrays = torch_names.to_theirs(variables["params"], source)
    assert set(names) <= arrays.keys()
    assert torch_names.source_of(arrays) == source
    weight_files.write(tmp_path / "net.safetensors", arrays)
    _, found, _ = loaded(tmp_path / "net.safetensors", "vit", "nano4", **fields)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    with pytest.raises(UserError, match=f"{source}'s Vision .* exact GELU: set config.model.gelu=exact"):
        loaded(tmp_path / "net.safetensors", "vit", "nano4", **{**fields, "gelu": "tanh"})
    del arrays[names[1]]
    weight_files.write(tmp_path / "net.safetensors", {**arrays, "dist_token": np.zeros(3, np.float32)})
    with pytest.raises(UserError, match=f"lacks '{names[1]}' and also has 'dist_token'"):
        loaded(tmp_path / "net.safetensors", "vit", "nano4", **fields)


def test_a_folder_whose_classes_the_dataset_has_in_another_order_is_refused_or_matched(tmp_path):
    fields = VIT | EPSILON["huggingface"]
    section, network = classifier("vit", "nano4", **fields)
    arrays = torch_names.to_theirs(random_variables(network)["params"], "huggingface")
    weight_files.write(tmp_path / "model.safetensors", arrays)
    labels = dict(enumerate(("yak", "crane", "cat", "crane", "dog")))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": labels}))
    config = config_lib.base(section)
    config.init.checkpoint = str(tmp_path)

    def head(*class_names):
        given = initial.given_weights(config, network)
        return initial.initial_arrays(given, network, config, class_names)[0]["params/head/bias"]

    # Names that only one of them has, and those of several classes, say nothing about the order.
    for same in ((), ("yak", "1", "cat", "3", "dog"), ("yak", "crane (bird)", "cat", "crane", "dog")):
        np.testing.assert_array_equal(head(*same), arrays["classifier.bias"])
    with pytest.raises(UserError, match="'yak' is 'cat' in the dataset .4 of 5 differ.; set config.init.match_classes"):
        head("cat", "crane (bird)", "crane", "dog", "yak")
    config.init.match_classes = True
    matched = head("cat", "dog", "owl", "yak", "zebu")
    np.testing.assert_array_equal(matched.known, [True, True, False, True, False])
    np.testing.assert_array_equal(matched.values[[0, 1, 3]], arrays["classifier.bias"][[2, 4, 0]])
    assert head("cat", "crane", "dog", "owl", "yak").known.tolist() == [True, False, True, False, True]  # of two cranes


def test_an_import_with_a_dataset_compares_the_classes(tmp_path):
    section = models.section("vit", "nano4", **VIT | EPSILON["huggingface"])
    config = config_lib.base(section)
    config.data.resize = 8
    network = models.make_classifier(section, datasets.open_dataset(config.data).info)
    arrays = torch_names.to_theirs(random_variables(network)["params"], "huggingface")
    weight_files.write(tmp_path / "model.safetensors", arrays)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {i: str(9 - i) for i in range(10)}}))
    with pytest.raises(UserError, match="'9' is '0' in the dataset .10 of 10 differ."):
        weights.import_file(tmp_path, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def published_resnet(path, variant, **changes):
    _, network = classifier("resnet", variant, **changes)
    arrays, _ = initial.published("resnet", random_variables(network), network.module)
    weight_files.write(path, arrays)


def test_options_that_no_array_shows_are_asked_for(tmp_path):
    path = tmp_path / "net.npz"
    published_resnet(path, "resnet50_modern", **RESNET)
    loaded(path, "resnet", "resnet50_modern", **RESNET)
    with pytest.raises(UserError, match="stride in the 3x3 convolution: use config.model.stride_in=3x3"):
        loaded(path, "resnet", "resnet50", **RESNET)
    loaded(path, "resnet", "resnet50", "own", **RESNET)
    with pytest.raises(UserError, match="of epsilon 1e-05: set config.model.bn_epsilon=1e-05"):
        loaded(path, "resnet", "resnet50_modern", bn_epsilon=1e-3, **RESNET)
    with pytest.raises(UserError, match="names of config.init.source 'huggingface', but those of 'torchvision"):
        loaded(path, "resnet", "resnet50", "huggingface", **RESNET)
    published_resnet(path, "resnet20")
    with pytest.raises(UserError, match="are residual: use resnet20; .* 'resnet20', 'plain20' fit by names and shapes"):
        loaded(path, "resnet", "plain20")
    with pytest.raises(UserError, match="pads the channels .* on both sides: use config.model.shortcut_pad=both"):
        loaded(path, "resnet", "resnet20", shortcut_pad="end")
    loaded(path, "resnet", "resnet20", "own", shortcut_pad="end")


@pytest.mark.slow
def test_a_googlenet_saved_without_auxiliary_classifiers_is_read(tmp_path):
    changes = {"width": 0.0625, "auxiliary": True}
    _, network = classifier("googlenet", "googlenet_small", **changes)
    variables = random_variables(network)
    arrays, _ = initial.published("googlenet", variables, network.module)
    kept = {name: array for name, array in arrays.items() if not name.startswith("aux")}
    assert len(kept) < len(arrays)
    weight_files.write(tmp_path / "net.npz", kept)
    _, found, changes = loaded(tmp_path / "net.npz", "googlenet", "googlenet_small", **changes)
    assert "no auxiliary classifiers: 'aux1', 'aux2' start untrained" in " ".join(changes)
    np.testing.assert_array_equal(found["params"]["linear"]["kernel"], variables["params"]["linear"]["kernel"])


@pytest.mark.slow
def test_classes_are_matched_though_a_file_lacks_the_auxiliary_classifiers(tmp_path):
    changes = {"width": 0.0625}
    _, given = classifier("googlenet", "googlenet_small", **changes)
    arrays, _ = initial.published("googlenet", random_variables(given), given.module)
    kept = {name: array for name, array in arrays.items() if not name.startswith("aux")}
    weight_files.write(tmp_path / "model.safetensors", kept)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate("abcde"))}))
    section = models.section("googlenet", "googlenet_small", **changes)
    config = config_lib.base(section)
    config.init.checkpoint, config.init.match_classes = str(tmp_path), True
    network = models.make_classifier(section, networks.facts(3, (32, 32, 3)))
    flat, said = initial.initial_arrays(initial.given_weights(config, network), network, config, ("d", "z", "a"))
    np.testing.assert_array_equal(flat["params/linear/bias"].known, [True, False, True])
    np.testing.assert_array_equal(flat["params/linear/bias"].values[[0, 2]], arrays["fc.bias"][[3, 0]])
    assert flat["params/aux1/linear/kernel"].shape[-1] == 3
    assert "no auxiliary classifiers" in " ".join(said)


def test_a_vgg_whose_dense_layers_are_timms_convolutions_is_read(tmp_path):
    changes = {"width": 1, "fc_width": 4, "image": (64, 64, 3)}  # fc6 reads a map of 2x2
    _, network = classifier("vgg", "vgg11", **changes)
    variables = random_variables(network)
    arrays, differs = libraries.for_library("vgg", variables, network.module, "timm")
    assert (arrays["pre_logits.fc1.weight"].shape, differs) == ((4, 8, 2, 2), "")
    weight_files.write(tmp_path / "net.npz", arrays)
    _, found, _ = loaded(tmp_path / "net.npz", "vgg", "vgg11", **changes)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


@pytest.mark.parametrize("family", ["alexnet", "vgg", "googlenet", "resnet", "vit"])
def test_names_that_no_publisher_uses_are_reported_as_unknown(family):
    assert models.optional_module(family, "weights").sources({"conv.weight": np.zeros(3)}) == ()


@pytest.mark.parametrize("library", ["timm", "huggingface", "torchvision"])
def test_a_vit_comes_back_from_a_librarys_names(tmp_path, library):
    fields = VIT | EPSILON.get(library, {})
    _, network = classifier("vit", "ti16", **fields)
    variables = random_variables(network)
    arrays, differs = libraries.for_library("vit", variables, network.module, library)
    assert differs == ""
    weight_files.write(tmp_path / "net.npz", arrays)
    _, found, _ = loaded(tmp_path / "net.npz", "vit", "ti16", library, **fields)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_differences_to_a_library_are_stated_and_a_library_without_the_network_is_refused():
    _, network = classifier("vit", "ti16", **VIT | {"gelu": "tanh"})
    variables = random_variables(network)
    _, differs = libraries.for_library("vit", variables, network.module, "timm")
    assert differs == "timm's Vision Transformer has the exact GELU"
    _, network = classifier("resnet", "resnet50_modern", (64, 64, 3), **RESNET)
    with pytest.raises(UserError, match="expected 'torchvision', 'timm'"):
        libraries.for_library("resnet", random_variables(network), network.module, "google")
    _, network = classifier("lenet", "lenet5_modern", (32, 32, 1))
    with pytest.raises(UserError, match="cannot have"):
        libraries.for_library("lenet", random_variables(network), network.module, "timm")


@pytest.mark.parametrize(
    ("variant", "fields", "said"),
    [
        ("nano4", {"position": "learned_2d"}, "no tables of positions for rows and columns .*'Transformer/posembed_i"),
        ("r_ti16", {"patch_size": 4}, "no ResNet below the Transformer under these names .a hybrid.: .*'conv_root/ker"),
    ],
)
@pytest.mark.parametrize("library", ["timm", "huggingface", "torchvision"])
def test_a_vit_with_arrays_that_a_library_has_no_names_for_is_not_exported(library, variant, fields, said):
    _, network = classifier("vit", variant, **VIT | fields)
    with pytest.raises(UserError, match=f"{library}'s Vision Transformers have {said}"):
        libraries.for_library("vit", random_variables(network), network.module, library)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pooling": "average"}, "a class token"),
        ({"position": "sincos2d"}, "learnt positions"),
        ({"pooling": "average", "position": "sincos2d"}, "a class token and learnt positions"),
        (
            {"gelu": "tanh", "pooling": "average", "position": "none"},
            "the exact GELU, a class token and learnt positions",
        ),
        ({"hidden_size": 192, "num_heads": 4}, "3 heads"),
    ],
)
@pytest.mark.parametrize("library", ["timm", "huggingface", "torchvision"])
def test_a_librarys_vit_that_computes_something_else_is_described(library, fields, said):
    _, network = classifier("vit", "nano4", **VIT | EPSILON.get(library, {}) | fields)
    _, differs = libraries.for_library("vit", random_variables(network), network.module, library)
    assert differs == f"{library}'s Vision Transformer has {said}"


def test_no_family_drops_an_array_from_a_file():
    for family, variant, fields in (
        ("alexnet", "small", {"widths": (4, 4, 4, 4, 4), "fc_width": 8}),
        ("vgg", "vgg11", {"width": 1, "fc_width": 4}),
        ("googlenet", "googlenet_small", {"width": 0.0625}),
    ):
        _, network = classifier(family, variant, **fields)
        variables = random_variables(network)
        more = {**variables, "params": {**variables["params"], "extra": {"kernel": np.zeros(3)}}}
        with pytest.raises(UserError, match="has no place for 'params/extra/kernel'"):
            initial.published(family, more, network.module)


def peer(name):
    """A small network of another library, with random weights and batch statistics, and our network for it."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    library, _, kind = name.partition(" ")
    module = pytest.importorskip("transformers" if library == "huggingface" else library)
    sizes = {"depths": [1, 2], "hidden_sizes": [32, 64], "embedding_size": 8, "num_labels": 5}
    if name == "timm vit":
        size = {"embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 1.5, "patch_size": 4}
        net = module.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5, **size)
    elif name == "torchvision vit":
        net = module.models.VisionTransformer(32, 4, 2, 2, 16, 24, num_classes=5)
    elif name == "huggingface vit":
        size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
        net = module.ViTForImageClassification(module.ViTConfig(image_size=32, patch_size=4, num_labels=5, **size))
    elif name.startswith("huggingface resnet"):
        config = module.ResNetConfig(**sizes, downsample_in_bottleneck="first" in kind)
        net = module.ResNetForImageClassification(config)
    else:
        net = module.create_model("resnet18", num_classes=5)
    with torch.no_grad():
        for array in net.state_dict().values():
            if array.is_floating_point() and array.ndim < 2:
                array.copy_(torch.rand(array.shape) + 0.5)
            elif array.is_floating_point() and "vit" in kind:
                array.copy_(torch.randn(array.shape) * 0.3)
    return net.eval()


OURS = {
    "timm vit": ("vit", "nano4", VIT),
    "torchvision vit": ("vit", "nano4", VIT),
    "huggingface vit": ("vit", "nano4", VIT | EPSILON["huggingface"]),
    "huggingface resnet": ("resnet", "resnet50_modern", RESNET),
    "huggingface resnet with strides in the first layers": ("resnet", "resnet50", RESNET),
    "timm resnet": ("resnet", "resnet18_modern", {}),
}


@pytest.mark.parametrize("name", OURS)
def test_logits_are_the_other_librarys(name, tmp_path):
    torch = pytest.importorskip("torch")
    net, (family, variant, changes) = peer(name), OURS[name]
    if name.startswith("huggingface"):
        net.save_pretrained(tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["model_type"] in name
        if family == "resnet":
            with pytest.raises(UserError, match="bottlenecks have their stride in the"):
                loaded(tmp_path, family, {"resnet50": "resnet50_modern"}.get(variant, "resnet50"), **changes)
        path = tmp_path
    else:
        path = tmp_path / "net.safetensors"
        weight_files.write(path, {key: array.numpy() for key, array in net.state_dict().items()})
    ours, variables, _ = loaded(path, family, variant, **changes)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.tensor(images).permute(0, 3, 1, 2))
    expected = getattr(expected, "logits", expected).numpy()
    with jax.default_matmul_precision("highest"):
        found = ours.module.apply(jax.tree.map(jnp.asarray, variables), jnp.asarray(images))
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5
