"""The configs for one's own images: every family from scratch and from published weights."""

import fnmatch
import shutil

import jax
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from common import config_checks, launch, models, train
from common.errors import UserError
from common.optim import factors
from common.optim.optimizers import make_optimizer
from common.run import trained
from common.training.steps import check_support
from configs import finetune, folder
from tests import networks, small_run

NETWORKS = [
    *("lenet:lenet5_modern", "lenet:lenet1989", "lenet:lenet1", "alexnet:one_column", "alexnet:cifar10_18"),
    *("vgg:vgg16", "vgg:vgg11_bn", "googlenet:googlenet_bn"),
    *("resnet:resnet50_modern", "resnet:resnet20", "vit:b16", "vit:nano4", "vit:r_ti16", "vit:r26_s32"),
]


def array_names(section):
    """The names of a ViT's arrays, with separate blocks."""
    module = models.family_module("vit").network(ConfigDict({**section, "scan": False}), 3)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    return list(traverse_util.flatten_dict(jax.eval_shape(module.init, jax.random.key(0), images)["params"], sep="/"))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("configs", [folder, finetune], ids=["folder", "finetune"])
def test_every_family_trains_on_a_folder(configs, name):
    config = configs.get_config(f"{name}:photos")
    config.init.checkpoint = "weights.npz" if configs is finetune else ""
    config_checks.validate(config)
    side, channels = config.data.crop or config.data.resize, config.data.channels or 3
    classifier = models.make_classifier(config.model, networks.facts(3, (side, side, channels)))
    check_support(config, classifier)
    optimizer, _ = make_optimizer(config, 500)
    params = networks.shapes(classifier.module, classifier.input_shape)["params"]
    jax.eval_shape(optimizer.init, params)  # refuses patterns of no array
    assert factors.count_frozen(params, factors.parse(config.optimizer.factors)) == 0


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("alexnet:two_column", 224),
        ("alexnet:small", 32),
        ("alexnet:cifar10_13", 32),
        ("googlenet:googlenet", 224),
        ("googlenet:googlenet_small", 32),
        ("resnet:plain20", 32),
        ("vit:nano4", 32),
        ("vit:r_ti16", 224),
        ("vit:r50_b16", 224),  # its patches are one position of its ResNet's features
        ("lenet:lenet5", 32),
        ("lenet:lenet1", 28),
        ("lenet:lenet1989", 16),
        ("lenet:mlp1989", 16),
    ],
)
def test_a_network_sees_images_of_the_size_that_it_was_made_for(name, side):
    data = folder.get_config(f"{name}:photos").data
    assert (data.crop or data.resize) == side


@pytest.mark.parametrize("name", ["vgg:vgg11", "googlenet:googlenet", "googlenet:googlenet_small", "resnet:resnet18"])
def test_networks_with_batch_normalisation_learn_at_a_higher_rate(name):
    config = folder.get_config(f"{name}:photos")
    normalised = config.model.family == "resnet" or config.model.batch_norm
    assert config.schedule.learning_rate == (0.02 if normalised else 0.005)


@pytest.mark.parametrize("changes", [{"pooling": "average"}, {"position": "sincos2d"}, {"position": "none"}])
def test_a_vit_without_a_class_token_or_learned_positions_has_rates_by_layer(changes):
    section = models.section("vit", "nano4", **changes)
    names = array_names(section)
    for pattern in factors.parse(finetune.layerwise(section)):
        assert fnmatch.filter(names, pattern), pattern


@pytest.mark.slow
def test_the_resnet_of_a_hybrid_learns_as_slowly_as_its_embedding():
    section = models.section("vit", "r26_s32")
    found = factors.parse(finetune.layerwise(section))
    below = [name for name in array_names(section) if name.startswith(("conv_root", "gn_root", "block"))]
    assert len(below) > 50
    for name in below:
        [factor] = [found[pattern] for pattern in found if fnmatch.fnmatchcase(name, pattern)]
        assert factor == found["embedding/*"]


def test_googlenets_auxiliary_classifiers_which_start_anew_learn_as_fast_as_its_head():
    found = factors.parse(finetune.get_config("googlenet:googlenet:photos").optimizer.factors)
    for head in ("linear", "aux1/linear", "aux2/linear"):
        assert [found[pattern] for pattern in found if fnmatch.fnmatchcase(f"{head}/kernel", pattern)] == [10]


def test_the_rates_of_a_vits_blocks_fall_towards_the_image():
    found = factors.parse(finetune.layerwise(models.section("vit", "b16")))
    blocks = [found[f"Transformer/encoderblock_{number}/*"] for number in range(12)]
    assert blocks == sorted(blocks)
    assert (blocks[11], blocks[0]) == (pytest.approx(0.75), pytest.approx(0.75**12, rel=1e-3))
    assert found["embedding/*"] == found["cls"] == pytest.approx(0.75**13, rel=1e-3)


@pytest.mark.parametrize("argument", ["resnet", "resnet:resnet18", "resnet:resnet18:", ":resnet18:pets"])
@pytest.mark.parametrize(
    ("config", "form"), [(folder, "FAMILY:VARIANT:FOLDER"), (finetune, "FAMILY:VARIANT:FILE:FOLDER")]
)
def test_an_argument_that_lacks_a_part_is_refused(config, form, argument):
    with pytest.raises(UserError, match=f"is '{argument}'; expected {form}, for example resnet:"):
        config.get_config(argument)


@pytest.mark.slow
def test_a_run_with_frozen_layers_goes_on_from_its_checkpoint(tmp_path):
    lengths = {"train.length": "4 steps", "checkpoint.every": "2 steps", "evaluate.every": "4 steps"}
    config = small_run.get_config(**lengths, **{"optimizer.factors": ("H1*=0", "Output*=10")})
    train.fit(config, tmp_path)
    undisturbed = trained.load(tmp_path).variables["params"]
    shutil.rmtree(tmp_path / "checkpoints" / "4")
    (tmp_path / "summary.json").unlink()
    train.fit(config, tmp_path)
    continued = trained.load(tmp_path).variables["params"]
    start = trained.load(tmp_path, "2").variables["params"]
    jax.tree.map(np.testing.assert_array_equal, continued, undisturbed)
    np.testing.assert_array_equal(start["H1"]["kernel"], continued["H1"]["kernel"])
    assert not np.array_equal(start["Output"]["kernel"], continued["Output"]["kernel"])


def test_lenet5_which_has_no_head_to_train_starts_from_all_given_weights():
    config = finetune.get_config("lenet:lenet5:photos")
    config.init.checkpoint = "weights.npz"
    config_checks.validate(config)
    assert not config.init.new_head
    classifier = models.make_classifier(config.model, networks.facts(image=(32, 32, 1)))
    optimizer, _ = make_optimizer(config, 1000)
    networks.state(classifier, optimizer, config.seed)  # no factor names an array that the network lacks


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("configs/folder.py:resnet:resnet18:pets", "folder_resnet:resnet18:pets"),
        ("configs/folder.py:resnet:resnet18:/photos/pets", "folder_resnet:resnet18:pets"),
        ("configs/folder.py:vgg:vgg11_bn:/photos/pets/", "folder_vgg:vgg11_bn:pets"),
        ("configs/finetune.py:vit:b16:weights/ViT-B_16.npz:/photos/pets", "finetune_vit:b16:ViT-B_16.npz:pets"),
        ("configs/classic_folder.py:fisher:../pets", "classic_folder_fisher:pets"),
        ("configs/lenet5_folder.py:/photos/pets", "lenet5_folder_pets"),
        ("configs/mlp_mnist.py:300-100", "mlp_mnist_300-100"),
        ("configs/lenet5_digits.py", "lenet5_digits"),
        ("configs/folder.py:resnet:resnet18:.", "folder_resnet:resnet18"),
    ],
)
def test_each_network_on_a_folder_has_a_folder_of_its_own_for_its_run(config, name, monkeypatch):
    monkeypatch.setattr("sys.argv", ["main", f"--config={config}"])
    assert launch.config_name() == name
