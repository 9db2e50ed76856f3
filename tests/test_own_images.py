"""The configs for one's own images: every family from scratch and from published weights."""

import functools
import types

import jax
import pytest

from common import config as config_lib
from common import models
from common.errors import UserError
from common.optim import factors
from common.optim.optimizers import make_optimizer
from common.training.state import create_state
from configs import finetune, folder

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
    assert factors.frozen(state.params, factors.parse(config.optimizer.factors)) == 0


def test_the_rates_of_a_vits_blocks_fall_towards_the_image():
    found = factors.parse(finetune.layerwise(12))
    blocks = [found[f"Transformer/encoderblock_{number}/*"] for number in range(12)]
    assert blocks == sorted(blocks)
    assert (blocks[11], blocks[0]) == (pytest.approx(0.75), pytest.approx(0.75**12, rel=1e-3))
    assert found["embedding/*"] == found["cls"] == pytest.approx(0.75**13, rel=1e-3)


def test_an_argument_without_a_variant_is_refused():
    with pytest.raises(UserError, match="expected FAMILY:VARIANT:FOLDER"):
        finetune.get_config("resnet")
