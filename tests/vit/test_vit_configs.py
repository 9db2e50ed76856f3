"""This family's configs are valid and have the papers' settings."""

import pytest

from common import config_checks, models
from common.anatomy import layer_table
from common.optim import schedules
from configs import vit_cifar10, vit_digits, vit_finetune, vit_imagenet, vit_imagenet_plain
from tests import networks


@pytest.mark.parametrize(
    ("config", "image", "classes"),
    [
        (vit_digits.get_config(), (16, 16, 1), 10),
        (vit_cifar10.get_config(), (32, 32, 3), 10),
        (vit_imagenet.get_config(), (224, 224, 3), 1000),
        (vit_imagenet.get_config("h14"), (224, 224, 3), 1000),
        (vit_imagenet.get_config("r50_b16"), (224, 224, 3), 1000),
        (vit_imagenet_plain.get_config(), (224, 224, 3), 1000),
        (vit_finetune.get_config(), (384, 384, 3), 1000),
    ],
)
def test_configs_are_valid(config, image, classes):
    config_checks.validate(config)
    assert models.make_classifier(config.model, networks.facts(classes, image)).num_classes == classes


def test_the_network_for_cifar_costs_as_much_as_a_resnet_20():
    network = models.make_classifier(vit_cifar10.get_config().model, networks.facts(10, (32, 32, 3))).module
    work = layer_table.rows(network, (32, 32, 3))[0].multiply_adds
    assert round(work / 1e6, 1) == 39.6
    assert work == pytest.approx(40_551_040, rel=0.03)


def test_the_paper_pre_trains_with_a_hidden_layer_of_the_hidden_size():
    assert vit_imagenet.get_config("l16").model.representation_size == 1024


def test_the_options_for_larger_data_sets_make_a_run():
    config = vit_imagenet.get_config("l16")
    config.schedule.update({"name": "linear", "final": 1e-5, "learning_rate": 4e-4})
    config.optimizer.weight_decay, config.model.dropout, config.train.length = 0.1, 0.0, "7 epochs"
    config.optimizer.clip_norm = 0.0  # Table 3: only on ImageNet itself
    config_checks.validate(config)
    rate = schedules.make_schedule(config.schedule, 20_000, 0, config.train.batch_size)
    assert [float(rate(step)) for step in (0, 5_000, 10_000, 20_000)] == pytest.approx([0, 2e-4, 4e-4, 1e-5])


def test_fine_tuning_starts_from_what_pre_training_leaves_where_its_command_puts_it():
    assert vit_finetune.get_config("l16").init.checkpoint == "runs/vit_imagenet_l16"
    assert vit_finetune.get_config().init.new_head
    assert vit_finetune.get_config().optimizer.weight_decay == 0


def test_plain_training_augments_as_its_paper_says():
    config = vit_imagenet_plain.get_config()
    assert (config.augment.randaugment_layers, config.augment.randaugment_magnitude, config.augment.mixup) == (
        2,
        10,
        0.2,
    )
    assert (config.data.resize, config.data.crop, config.data.train_crop) == (256, 224, "area")
    assert config.optimizer.moment_dtype == "bfloat16"
