"""Exact claims: each agrees, unless its recorded result says otherwise, and a wrong number or layer is noticed."""

import functools
import json

import jax
import jax.numpy as jnp
import pytest

from common.claims import fact, statement
from common.claims.claim import all_claims
from common.claims.fact import Fact, all_facts
from common.nn import batch_norm, layers, losses
from common.optim import optimizers
from lecture import identities
from tests.runs import ROOT

# The networks' own tests count the same layers.
LONG = {
    *("vit-sequence-length", "resnet-shortcuts-are-free", "resnet-t6-parameters", "vgg-depth-of-networks"),
    *("googlenet-table1-ops", "vit-t6-exaflops", "resnet-t1-50", "resnet-t1-101", "resnet-t1-152", "vgg-dense-layers"),
    *("googlenet-table1-parameters", "resnet-152-cheaper-than-vgg"),
}


def number(value, expected, tolerance=0.0):
    made = Fact(
        id="a",
        where="here",
        says="it is so",
        compute=lambda: {"number": value},
        expected={"number": expected},
        tolerance=tolerance,
    )
    return fact.evaluate(made)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in all_facts()]
)
def test_a_fact_is_as_recorded(name):
    found = fact.evaluate(all_facts()[name])
    recorded = json.loads(fact.result_path(ROOT / "results", name).read_text())
    counts = [
        {key: part["computed"] for key, part in result["numbers"].items() if isinstance(part["computed"], int)}
        for result in (found, recorded)
    ]
    assert counts[0] == counts[1]
    assert {**found, "numbers": {}} == {**recorded, "numbers": {}}, f"python -m common.reproduce --claims={name}"


def test_the_recorded_facts_are_the_declared_ones():
    assert {path.stem for path in (ROOT / "results" / "facts").iterdir()} == all_facts().keys()


@pytest.mark.parametrize(
    ("value", "expected", "tolerance", "verdict"),
    [
        (60_000, 60_000, 0.0, "agrees"),
        (60_001, 60_000, 0.0, "does not agree"),
        (60_965_224, 60_000_000, 0.02, "agrees"),
        (61_300_000, 60_000_000, 0.02, "does not agree"),
        (58_700_000, 60_000_000, 0.02, "does not agree"),
        (3_857_973_248, "3.9B", 0.0, "agrees"),
        (3_857_973_248, "3.8B", 0.0, "does not agree"),
        (0.8148, "81%", 0.0, "agrees"),
        (8.7, "12", 0.0, "does not agree"),
        (0.0, (0.0, 1e-5), 0.0, "holds"),
        (2e-5, (0.0, 1e-5), 0.0, "does not hold"),
        (float("nan"), (0.0, 1e-5), 0.0, "does not hold"),
        (float("nan"), (0.05, None), 0.0, "does not hold"),
        (0.06, (0.05, None), 0.0, "holds"),
        (0.04, (0.05, None), 0.0, "does not hold"),
    ],
)
def test_a_number_that_is_not_the_papers_does_not_agree(value, expected, tolerance, verdict):
    assert number(value, expected, tolerance)["verdict"] == verdict


def test_a_fact_computes_the_numbers_that_it_expects():
    made = Fact(id="a", where="here", says="so", compute=lambda: {"one": 1}, expected={"two": 2})
    with pytest.raises(ValueError, match=r"computed \['one'\], expected \['two'\]"):
        fact.evaluate(made)


def test_ids_are_unique_and_their_package_is_known():
    assert not all_facts().keys() & all_claims().keys()
    assert statement.packages_by_id()["zip89-parameters"] == statement.packages_by_id()["zip89-test-error"] == "lenet"
    assert statement.packages_by_id()["lecture-softmax"] == "lecture"


_LOSS, _LRN, _CHAIN = losses.cross_entropy, layers.local_response_norm, optimizers.make_chain
_STATISTICS = batch_norm.centred_statistics  # of a CPU, which the tests run on


def _with_half_decay(section, schedule, plateau):
    section.weight_decay /= 2
    return _CHAIN(section, schedule, plateau)


@pytest.mark.parametrize(
    ("name", "module", "part", "wrong"),
    [
        ("cross-entropy-gradient", losses, "cross_entropy", lambda z, y: _LOSS(z, y) / 2),
        ("entropy", losses, "cross_entropy", lambda z, y: _LOSS(z, y) / jnp.log(2)),
        ("divergence", losses, "cross_entropy", lambda z, y: -jnp.sum(jax.nn.softmax(z) * jnp.log(y), -1)),
        ("softmax", jax.nn, "softmax", lambda z, axis=-1: jnp.exp(z) / jnp.exp(z).sum(axis, keepdims=True)),
        (
            "convolution",
            identities.fastest,
            "convolution",
            lambda x, w, *args, **kwargs: _flipped(x, w, *args, **kwargs),
        ),
        ("local-response-norm", layers, "local_response_norm", functools.partial(_LRN, size=3)),
        ("normalisation-axes", batch_norm, "centred_statistics", lambda x: _STATISTICS(x)[:2] + (x,)),
        ("momentum", optimizers, "make_chain", _with_half_decay),
    ],
)
def test_a_wrong_implementation_breaks_its_identity(monkeypatch, name, module, part, wrong):
    monkeypatch.setattr(module, part, wrong)
    assert fact.evaluate(all_facts()[f"lecture-{name}"])["verdict"].startswith("does not")


def _flipped(x, w, *args, **kwargs):
    return jax.lax.conv_general_dilated(x, w[::-1, ::-1], *args, **kwargs)
