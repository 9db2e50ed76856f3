"""The configs of this family describe runs that can be made."""

import types

import pytest

from common import config as config_lib
from common import layer_table, models
from configs import vit_cifar10, vit_digits, vit_imagenet, vit_imagenet_plain


@pytest.mark.parametrize(
    ("config", "image", "classes"),
    [
        (vit_digits.get_config(), (16, 16, 1), 10),
        (vit_cifar10.get_config(), (32, 32, 3), 10),
        (vit_imagenet.get_config(), (224, 224, 3), 1000),
        (vit_imagenet.get_config("h14"), (224, 224, 3), 1000),
        (vit_imagenet.get_config("r50_b16"), (224, 224, 3), 1000),
        (vit_imagenet_plain.get_config(), (224, 224, 3), 1000),
    ],
)
def test_configs_are_valid(config, image, classes):
    config_lib.validate(config)
    info = types.SimpleNamespace(num_classes=classes, class_names=(), image_shape=image)
    assert models.create(config.model, info).num_classes == classes


def test_the_network_for_cifar_costs_as_much_as_a_resnet_20():
    info = types.SimpleNamespace(num_classes=10, class_names=(), image_shape=(32, 32, 3))
    network = models.create(vit_cifar10.get_config().model, info).module
    work = layer_table.rows(network, (32, 32, 3))[0].multiply_adds
    assert round(work / 1e6, 1) == 39.6
    assert work == pytest.approx(40_551_040, rel=0.03)


def test_the_paper_pre_trains_with_a_hidden_layer_of_the_hidden_size():
    assert vit_imagenet.get_config("l16").model.representation_size == 1024
