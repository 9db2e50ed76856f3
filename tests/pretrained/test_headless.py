"""Vision Transformers that were published without a classifier: recognised, embedded, and given a head by training."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from PIL import Image

from common import config as config_lib
from common import config_checks, models, weights
from common.devices import mesh
from common.errors import UserError
from common.prediction import layers
from common.pretrained import from_file, identify, initial, named, weight_files
from common.run import trained
from common.training.state import create_state
from tests import networks
from tests.runs import refused, run
from vit import torch_names

SIDE, HIDDEN = 224, 192  # of ViT-Ti/16
POOLER = ("pooler.dense.weight", "pooler.dense.bias")


@functools.cache
def tiny():
    """A Vision Transformer of the size of ViT-Ti/16: its parameters and the network."""
    fields = {"gelu": "exact", "ln_epsilon": 1e-12, "num_heads": 3}
    network = networks.classifier("vit", "ti16", 1, (SIDE, SIDE, 3), **fields)
    shapes = named.shapes(network.module, network)["params"]
    return jax.tree.map(np.asarray, networks.drawn(shapes, scale=0.05)), network


def headless(pooler=True, prefix=""):
    """The arrays of a ViTModel as transformers saves it, of the size of ViT-Ti/16; our parameters and network."""
    params, network = tiny()
    rng = np.random.default_rng(0)
    theirs = torch_names.to_theirs(params, "huggingface")
    arrays = {name.replace("vit.", prefix, 1): array for name, array in theirs.items() if "classifier" not in name}
    if pooler:
        shapes = ((HIDDEN, HIDDEN), (HIDDEN,))
        arrays |= {
            prefix + name: rng.normal(0, 0.05, shape).astype(np.float32)
            for name, shape in zip(POOLER, shapes, strict=True)
        }
    return arrays, params, network


@pytest.fixture
def path(tmp_path):
    (tmp_path / "weights.pth").touch()
    return tmp_path / "weights.pth"


@pytest.mark.parametrize(("pooler", "prefix"), [(True, ""), (False, "vit."), (True, "vit."), (False, "")])
def test_a_vit_without_a_classifier_is_recognised(pooler, prefix, path):
    arrays, _, _ = headless(pooler, prefix)
    found = identify.identify(path, arrays)
    model = found.config.model
    assert (model.variant, model.representation_size) == ("ti16", HIDDEN if pooler else 0)
    assert (found.config.init.source, found.config.init.new_head) == ("huggingface", True)
    assert (found.info.num_classes, found.info.class_names) == (1, (identify.NO_CLASS,))
    assert found.notes[-1].startswith("classes: none, the file has NO HEAD")
    config_checks.validate(found.config)


def test_a_vit_of_timm_without_a_classifier_is_recognised(path):
    _, params, _ = headless()
    arrays = torch_names.to_theirs(params, "timm")
    found = identify.identify(path, {name: array for name, array in arrays.items() if "head." not in name})
    assert (found.config.init.source, found.config.init.new_head) == ("timm", True)


def test_a_layer_before_the_head_of_the_papers_files_is_recognised(path):
    _, params, network = headless()
    params = {**params, "pre_logits": {"kernel": np.ones((HIDDEN, 8), np.float32), "bias": np.ones(8, np.float32)}}
    params["head"] = {"kernel": np.zeros((8, 21843), np.float32), "bias": np.zeros(21843, np.float32)}
    found = identify.identify(path, initial.published("vit", {"params": params}, network.module)[0])
    assert (found.config.model.representation_size, found.info.num_classes) == (8, 21843)
    assert not found.config.init.new_head


def test_a_pooler_beside_a_classifier_is_refused(path):
    # Hugging Face's classifiers read the class token itself, whatever else is in their file.
    arrays, _, _ = headless(prefix="vit.")
    arrays |= {"classifier.weight": np.zeros((5, HIDDEN), np.float32), "classifier.bias": np.zeros(5, np.float32)}
    with pytest.raises(UserError, match="also has 'vit.pooler.dense.bias', 'vit.pooler.dense.weight'"):
        identify.identify(path, arrays, "huggingface")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with a ViTModel in two files, and the run that it becomes."""
    folder = tmp_path_factory.mktemp("published")
    arrays, _, _ = headless()
    names = sorted(arrays)
    index = {}
    for number, part in enumerate((names[:90], names[90:]), 1):
        weight_files.write(folder / f"model-0000{number}-of-00002.safetensors", {name: arrays[name] for name in part})
        index |= dict.fromkeys(part, f"model-0000{number}-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "num_attention_heads": 3}))
    notes = weights.import_published(folder, folder / "run")
    assert "NO HEAD" in notes[-2]
    assert notes[-1].endswith("PHOTO --embeddings=FILE.npz")
    return folder, arrays


def test_a_vit_without_a_classifier_gives_embeddings_and_has_no_classes(published, tmp_path):
    folder, arrays = published
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 260, 3), np.uint8)).save(photo)
    code, output, errors = run(
        f"--workdir={folder}/run", photo, f"--embeddings={tmp_path}/found.npz", module="common.predict"
    )
    assert code == 0, errors
    assert identify.NO_CLASS in output
    found = np.load(tmp_path / "found.npz")["embeddings"]
    opened = trained.load(folder / "run")
    assert found.shape == (1, HIDDEN)
    assert np.abs(found).max() < 1  # of a tanh
    given, kernel = arrays["pooler.dense.weight"], opened.variables["params"]["pre_logits"]["kernel"]
    np.testing.assert_array_equal(kernel, given.T)
    assert not np.any(opened.variables["params"]["head"]["kernel"])


def test_a_network_whose_head_is_untrained_is_neither_used_nor_exported(tmp_path):
    config = config_lib.base(models.section("lenet", "mlp"))  # small, and so restored at once
    config.data.source, config.data.resize, config.init.new_head = "digits", 28, True
    network = networks.classifier("lenet", "mlp", 10, (28, 28, 1))
    variables = networks.drawn(named.shapes(network.module, network))
    weight_files.write(tmp_path / "net.npz", jax.tree.map(np.asarray, traverse_util.flatten_dict(variables, sep="/")))
    weights.import_file(tmp_path / "net.npz", config, tmp_path / "run")
    line = refused(f"--workdir={tmp_path}/run", tmp_path / "photo.png", module="common.predict")
    assert "is untrained: only predict --embeddings=FILE.npz works" in line
    line = refused(f"--workdir={tmp_path}/run", f"--out={tmp_path}/a.stablehlo", module="common.export")
    assert "is untrained: only predict --embeddings=FILE.npz works" in line


def test_a_vit_without_a_classifier_can_be_trained_with_a_new_head(published):
    folder, _ = published
    config = config_lib.base(models.section("vit", "ti16", gelu="exact", ln_epsilon=1e-12))
    config.init.checkpoint = str(folder)
    facts = networks.facts(5, (SIDE, SIDE, 3))
    classifier = models.make_classifier(config.model, facts)
    given = initial.given_weights(config, classifier)
    with pytest.raises(UserError, match="config.init.new_head=True"):
        initial.initial_arrays(given, classifier, config)
    config.init.new_head = True
    flat, changes = initial.initial_arrays(given, classifier, config)
    assert changes[0] == f"pre-logits layer of {HIDDEN} units dropped"
    assert "NEW HEAD: 'head' for 5 classes starts untrained" in changes[1]
    assert isinstance(flat["params/head/kernel"], jax.ShapeDtypeStruct)


@pytest.mark.slow
def test_an_import_with_an_untrained_head_starts_the_state_that_training_does(tmp_path):
    facts, path = networks.facts(7, (32, 32, 3)), tmp_path / "net.npz"
    config = config_lib.base(models.section("resnet", "resnet20", stage_sizes=(1,), width=4))
    config.optimizer.ema, config.init.checkpoint, config.init.new_head = 0.9, str(path), True
    classifier, optimizer = models.make_classifier(config.model, facts), optax.sgd(0.1, momentum=0.9)
    other = networks.state(classifier, optax.sgd(0.1), 3).variables()
    weight_files.write(path, initial.published("resnet", other, classifier.module)[0])
    fresh = create_state(classifier, optimizer, config.seed, True)
    expected = initial.start(fresh, classifier, config)
    arrays = weight_files.read(path)
    found = from_file.state_from_file(classifier, optimizer, config, mesh.available(config.mesh), arrays)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert np.any(found.params["fc"]["kernel"])
    assert np.any(found.params["fc"]["kernel"] != other["params"]["fc"]["kernel"])


@pytest.mark.parametrize("pooler", [True, False])
def test_features_are_those_of_transformers(pooler, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    size = {"hidden_size": HIDDEN, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 4 * HIDDEN}
    net = transformers.ViTModel(transformers.ViTConfig(**size), add_pooling_layer=pooler)
    with torch.no_grad():
        for array in net.state_dict().values():
            array.copy_(torch.randn(array.shape) * 0.05 + (array.ndim == 1))
    net.eval().save_pretrained(tmp_path, max_shard_size="8MB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    weights.import_published(tmp_path, tmp_path / "run")
    opened = trained.load(tmp_path / "run")
    images = np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)
    with torch.no_grad():
        outputs = net(torch.tensor(images).permute(0, 3, 1, 2))
    expected = (outputs.pooler_output if pooler else outputs.last_hidden_state[:, 0]).numpy()
    shapes = layers.output_shapes(opened.classifier.module, opened.variables, opened.classifier.input_shape)
    tap = layers.classifier_input(shapes)
    with jax.default_matmul_precision("highest"):
        _, found = layers.read(opened.classifier.module, opened.variables, jnp.asarray(images), [tap])
        found = found[tap]
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5
