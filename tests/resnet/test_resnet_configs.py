"""ResNet's configs, and the rules of the claim on degradation."""

import importlib

import pytest

from common import config_checks, models
from common.claims import verdicts
from common.errors import UserError
from resnet.claims import CLAIMS


def config_of(name, argument):
    return importlib.import_module(f"configs.{name}").get_config(argument)


@pytest.mark.parametrize(
    ("name", "argument"),
    [("resnet_imagenet", "plain34"), ("resnet_imagenet_goyal", "8192"), ("resnet_cifar10", "plain110")],
)
def test_configs_with_an_argument_are_valid(name, argument):
    config_checks.validate(config_of(name, argument))


def test_the_deepest_cifar_nets_warm_up_at_a_tenth_of_the_rate():
    schedule = config_of("resnet_cifar10", "resnet110").schedule
    assert (schedule.boundaries[0], schedule.rates[:2]) == ("400 steps", (0.01, 0.1))
    assert config_of("resnet_cifar10", "resnet1202").schedule.rates[0] == 0.1


@pytest.mark.parametrize(
    ("batch_size", "start", "rate", "groups"),
    [("64", 0.025, 0.025, 2), ("256", 0.1, 0.1, 8), ("8192", 0.1, 3.2, 256)],
)
def test_linear_scaling(batch_size, start, rate, groups):
    config = config_of("resnet_imagenet_goyal", batch_size)
    assert (config.schedule.warmup_from, config.schedule.rates[0]) == pytest.approx((start, rate))
    assert config.model.batch_groups == groups


@pytest.mark.parametrize("argument", ["large", "0", "100", "\N{SUPERSCRIPT TWO}"])
def test_a_batch_that_does_not_split_between_gpus_is_refused(argument):
    with pytest.raises(UserError, match="multiple of 32"):
        config_of("resnet_imagenet_goyal", argument)


def test_the_degradation_claim_needs_both_halves():
    claim = {claim.id: claim for claim in CLAIMS}["resnet-plain56-worse-than-plain20"]

    def verdict(**means):
        errors = {name.replace("_", "-"): [mean - 0.001, mean, mean + 0.001] for name, mean in means.items()}
        return verdicts.combine([found.verdict for found in verdicts.judge(claim.rules, errors, {})])

    means = {"plain_20": 0.02, "plain_56": 0.05, "ResNet_20": 0.02, "ResNet_56": 0.01}
    assert verdict(**means) == "holds"
    assert verdict(**{**means, "plain_56": 0.015}) == "does not hold"
    assert verdict(**{**means, "ResNet_56": 0.06}) == "does not hold"


def test_an_unknown_variant_is_named():
    with pytest.raises(UserError, match="resnet variant 'resnet21'"):
        config_of("resnet_cifar10", "resnet21")
    assert models.section("resnet", "resnet20").family == "resnet"
