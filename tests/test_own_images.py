"""The configs for one's own images: every family from scratch and from published weights."""

import functools
import shutil
import types

import jax
import numpy as np
import pytest

from common import config as config_lib
from common import models, train
from common.errors import UserError
from common.optim import factors
from common.optim.optimizers import make_optimizer
from common.run import trained
from common.training.state import create_state
from configs import finetune, folder, resnet_digits

NETWORKS = [
    *("lenet:lenet5_modern", "alexnet:one_column", "vgg:vgg16", "vgg:vgg11_bn", "googlenet:googlenet_bn"),
    *("resnet:resnet50_modern", "resnet:resnet20", "vit:b16", "vit:nano4"),
]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("configs", [folder, finetune], ids=["folder", "finetune"])
def test_every_family_trains_on_a_folder(configs, name):
    config = configs.get_config(f"{name}:photos")
    config.init.checkpoint = "weights.npz" if configs is finetune else ""
    config_lib.validate(config)
    side, channels = config.data.crop or config.data.resize, config.data.channels or 3
    info = types.SimpleNamespace(num_classes=3, class_names=(), image_shape=(side, side, channels))
    classifier = models.make_classifier(config.model, info)
    optimizer, _ = make_optimizer(config, 500)
    state = jax.eval_shape(functools.partial(create_state, classifier, optimizer, 0))  # refuses patterns of no array
    assert factors.count_frozen(state.params, factors.parse(config.optimizer.factors)) == 0


def test_the_rates_of_a_vits_blocks_fall_towards_the_image():
    found = factors.parse(finetune.layerwise(12))
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


def test_a_run_with_frozen_layers_goes_on_from_its_checkpoint(tmp_path):
    config = resnet_digits.get_config()
    config.model.stage_sizes, config.model.width, config.data.limit = (1,), 4, 64
    config.optimizer.factors = ("conv1*=0", "fc*=10")
    config.train.update({"length": "4 steps", "batch_size": 16})
    config.schedule.warmup = "0 steps"
    config.checkpoint.every, config.evaluate.every = "2 steps", "4 steps"
    train.fit(config, tmp_path)
    undisturbed = trained.load(tmp_path).variables["params"]
    shutil.rmtree(tmp_path / "checkpoints" / "4")
    (tmp_path / "summary.json").unlink()
    train.fit(config, tmp_path)
    continued = trained.load(tmp_path).variables["params"]
    start = trained.load(tmp_path, "2").variables["params"]
    jax.tree.map(np.testing.assert_array_equal, continued, undisturbed)
    np.testing.assert_array_equal(start["conv1"]["kernel"], continued["conv1"]["kernel"])
    assert not np.array_equal(start["fc"]["kernel"], continued["fc"]["kernel"])
