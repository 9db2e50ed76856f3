"""Tests that the experiments of every claim on networks are runs that can be made."""

import importlib

import pytest

from common import config_checks, models
from common.claims.claim import all_claims
from tests import networks

CLAIMS = {
    name: claim
    for name, claim in all_claims().items()
    if {run.module for run in getattr(claim, "runs", {}).values()} == {"common.main"}
}
SHAPES = {"tfds:mnist": (28, 28, 1), "tfds:usps": (16, 16, 1), "tfds:cifar10": (32, 32, 3)}


def config_of(experiment):
    path, _, argument = experiment.config.partition(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    config = module.get_config(*filter(None, [argument]))
    config.update_from_flattened_dict(dict(experiment.changes))
    if experiment.start:
        config.init.checkpoint = experiment.start.name()
    return config


def image_shape(data):
    """The shape of what the network is fed."""
    height, width, channels = SHAPES[data.source]
    height, width = (data.resize or height, data.resize or width)
    height, width = (data.crop or height, data.crop or width)
    return height + 2 * data.pad, width + 2 * data.pad, channels


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_the_runs_of_a_claim_are_valid_and_differ(claim):
    for changes in [{}] if claim.quick is None else [{}, claim.quick]:
        runs = [run.with_changes(changes) for run in claim.runs.values()]
        assert max(len(run.name()) for run in runs) <= 255, "no file system has folders of longer names"
        configs = [config_of(run) for run in runs]
        for config in configs:
            config_checks.validate(config)
            facts = networks.facts(10, image_shape(config.data))
            models.make_classifier(config.model, facts)
        assert len({config.to_json() for config in configs}) == len(configs)


def test_vggs_note_on_glorots_weights_is_measured_from_such_weights_at_every_scale():
    claim = all_claims()["vgg-pretraining-from-a"]
    for changes in ({}, claim.quick):
        for run in claim.runs.values():
            scaled = run.with_changes(changes)
            for one in filter(None, (scaled, scaled.start)):
                assert config_of(one).model.weight_init == "glorot"
