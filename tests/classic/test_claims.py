"""The claims on classic pipelines describe runs that can be made, and hold where the numbers say so."""

import importlib

import pytest

from classic.claims import CLAIMS
from classic.config import validate
from common.claims.claim import Experiment, all_claims


def config_of(experiment: Experiment):
    path, _, argument = experiment.config.partition(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    config = module.get_config(argument)
    config.update_from_flattened_dict(dict(experiment.changes))
    return config


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_runs_of_a_claim_are_valid_and_differ(claim):
    configs = [config_of(run.with_changes(changes)) for run in claim.runs.values() for changes in ({}, claim.quick)]
    for config in configs:
        validate(config)
    assert len({config.to_json() for config in configs}) == len(configs)
    assert set(claim.paper) <= set(claim.runs)
    assert {run.module for run in claim.runs.values()} == {"classic.main"}
    assert all_claims()[claim.id] is claim


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if len(claim.runs) > 1], ids=lambda claim: claim.id)
def test_an_order_holds_only_if_the_means_fall(claim):
    names = list(claim.runs)
    falling = {name: [0.5 - 0.1 * place, 0.5 - 0.1 * place] for place, name in enumerate(names)}
    assert claim.holds(falling)
    assert not claim.holds({**falling, names[-1]: [0.6, 0.6]})


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if len(claim.runs) == 1], ids=lambda claim: claim.id)
def test_a_papers_number_is_held_to(claim):
    [name] = claim.runs
    assert claim.holds({name: [min(claim.paper[name], 0.3)]})
    assert not claim.holds({name: [claim.paper[name] + 0.1]})
