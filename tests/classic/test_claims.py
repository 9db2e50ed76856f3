"""Tests that the claims on classic pipelines describe runs that can be made, and hold where the numbers say so."""

import importlib

import pytest

from classic.claims import CLAIMS
from classic.config import validate
from common import config_checks
from common.claims import verdicts
from common.claims.claim import Experiment, all_claims


def config_of(experiment: Experiment):
    path, _, argument = experiment.config.partition(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    config = module.get_config(argument) if argument else module.get_config()
    config.update_from_flattened_dict(dict(experiment.changes))
    return config


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_runs_of_a_claim_are_valid_and_differ(claim):
    scales = [{}] if claim.quick is None else [{}, claim.quick]
    runs = [run.with_changes(changes) for run in claim.runs.values() for changes in scales]
    configs = [config_of(run) for run in runs]
    for run, config in zip(runs, configs, strict=True):
        (validate if run.module == "classic.main" else config_checks.validate)(config)
    assert len({config.to_json() for config in configs}) == len(configs)
    assert set(claim.paper) <= set(claim.runs)
    assert any(run.module == "classic.main" for run in runs)
    assert all_claims()[claim.id] is claim


ORDERS = [claim for claim in CLAIMS if all(isinstance(getattr(rule, "more", None), str) for rule in claim.rules)]


@pytest.mark.parametrize("claim", ORDERS, ids=lambda claim: claim.id)
def test_an_order_holds_if_the_errors_fall_and_not_if_the_last_rises(claim):
    names = list(claim.runs)
    falling = {name: [0.5 - 0.1 * place + noise for noise in (0, 0.001, 0.002)] for place, name in enumerate(names)}
    rising = {**falling, names[-1]: [0.6, 0.61, 0.62]}
    for errors, expected in ((falling, "holds"), (rising, "does not hold")):
        assert verdicts.combine([found.verdict for found in verdicts.judge(claim.rules, errors, {})]) == expected


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if len(claim.runs) == 1], ids=lambda claim: claim.id)
def test_a_papers_number_can_be_missed_in_both_directions(claim):
    [name] = claim.runs
    for shift, expected in ((0.0, "agrees"), (0.1, "worse"), (-0.1, "better")):
        [found] = verdicts.judge(claim.rules, {name: [claim.paper[name] + shift] * 3}, {}, claim.random)
        assert found.verdict == expected
