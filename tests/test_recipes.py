"""Tests that the configs of AlexNet, VGG and GoogLeNet describe possible runs and the papers' recipes."""

import importlib
import pathlib

import pytest

from common import config_checks, models
from common.optim import plan, schedules
from tests import networks

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
IMAGENET = 1_281_167
ARGUMENTS = {
    "alexnet_fig1_cifar10": ("tanh",),
    "googlenet_imagenet": ("googlenet_bn",),
    "vgg_digits": ("vgg11", "vgg16_bn"),
    "vgg_imagenet": ("vgg11", "vgg11_lrn", "vgg16_bn"),
    "vgg_imagenet_modern": ("vgg16",),
}


def config_of(name, *argument):
    return importlib.import_module(f"configs.{name}").get_config(*argument)


def rate(config, epoch):
    """The learning rate of a run on ImageNet after this many passes."""
    due = plan.make_plan(config, IMAGENET)
    schedule = schedules.make_schedule(config.schedule, due.total, IMAGENET, config.train.batch_size)
    return float(schedule(round(epoch * due.epoch)))


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        (path.stem, argument)
        for family in ("alexnet", "vgg", "googlenet")
        for path in sorted(CONFIGS.glob(f"{family}_*.py"))
        for argument in ((), *((one,) for one in ARGUMENTS.get(path.stem, ())))
    ],
)
def test_configs_are_valid(name, argument):
    config = config_of(name, *argument)
    config_checks.validate(config)
    side = config.data.crop or config.data.resize or 32  # CIFAR-10's
    classes, channels = (1000, 3) if "imagenet" in name else (10, 1 if "digits" in name else 3)
    facts = networks.facts(classes, (side, side, channels))
    assert models.make_classifier(config.model, facts).input_shape == (side, side, channels)


def test_alexnets_recipe():
    config = config_of("alexnet_imagenet")
    assert round(plan.make_plan(config, IMAGENET).total, -3) == 901_000
    rates = [rate(config, epoch) for epoch in (0, 29, 31, 59, 61, 79, 81, 89)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    assert (config.optimizer.momentum, config.optimizer.weight_decay, config.train.batch_size) == (0.9, 5e-4, 128)
    assert (config.data.normalize, tuple(config.data.std)) == ("pixels", (1.0,))
    assert (config.data.resize, config.data.crop, config.augment.pca_colour) == (256, 224, 0.1)


def test_vggs_recipe():
    config = config_of("vgg_imagenet", "vgg16")
    assert round(plan.make_plan(config, IMAGENET).total, -4) == 370_000
    assert [rate(config, epoch) for epoch in (0, 31, 51, 66)] == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5])
    assert (config.optimizer.momentum, config.optimizer.weight_decay, config.train.batch_size) == (0.9, 5e-4, 256)
    assert config_of("vgg_imagenet", "vgg11").model.weight_init == "gaussian"
    assert config.model.weight_init == "he_fan_out"


def test_torchvisions_recipe_is_ten_times_slower_without_batch_normalisation():
    for variant, first in (("vgg16_bn", 0.1), ("vgg16", 0.01)):
        config = config_of("vgg_imagenet_modern", variant)
        rates = [rate(config, epoch) for epoch in (0, 31, 61)]
        assert rates == pytest.approx([first, first / 10, first / 100])


def test_googlenets_recipe():
    config = config_of("googlenet_imagenet")
    assert rate(config, 7.9) == pytest.approx(0.01)
    assert rate(config, 80.1) == pytest.approx(0.01 * 0.96**10)
    assert (config.optimizer.ema, config.model.loss.auxiliary_weight, config.model.dropout) == (0.9999, 0.3, 0.4)
    assert (config.data.train_crop, tuple(config.data.area)) == ("area", (0.08, 1.0))
