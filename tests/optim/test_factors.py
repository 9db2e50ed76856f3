"""Learning rates by the names of arrays: what is frozen stays, the rest moves in proportion."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common import models
from common.config import base
from common.errors import UserError
from common.optim import factors, optimizers
from common.optim.levenberg_marquardt import with_curvature

PARAMS = {"conv1": {"kernel": jnp.ones(3)}, "conv2": {"kernel": jnp.ones(3)}, "fc": {"kernel": jnp.ones(3)}}
GRADIENTS = jax.tree.map(lambda array: 0.1 * array, PARAMS)


def chain(plateau=False, **options):
    section = base(models.section("lenet", "lenet5_modern")).optimizer
    section.update(options)
    return optimizers.make_chain(section, optax.constant_schedule(0.1), plateau)


@pytest.mark.parametrize(
    "options", [{"name": "momentum", "weight_decay": 0.1}, {"name": "adamw", "decay": "decoupled", "weight_decay": 0.1}]
)
def test_frozen_arrays_stay_and_have_no_state_and_others_move_in_proportion(options):
    plain, by_name = chain(**options), chain(**options, factors=("conv1*=0", "fc*=10"))
    states, moved = (plain.init(PARAMS), by_name.init(PARAMS)), []
    for _ in range(3):
        updates = [one.update(GRADIENTS, state, PARAMS) for one, state in zip((plain, by_name), states, strict=True)]
        moved, states = [found for found, _ in updates], [state for _, state in updates]
    (expected, found), (before, after) = moved, states
    assert not np.any(found["conv1"]["kernel"])
    np.testing.assert_allclose(found["conv2"]["kernel"], expected["conv2"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(found["fc"]["kernel"], 10 * expected["fc"]["kernel"], rtol=1e-6)
    arrays = [sum(leaf.ndim for leaf in jax.tree.leaves(state)) for state in (before, after)]
    assert 3 * arrays[1] == 2 * arrays[0]


def test_clipping_counts_the_arrays_that_train():
    updates, _ = chain(name="sgd", clip_norm=1.0, factors=("conv*=0",)).update(
        {**PARAMS, "conv1": {"kernel": jnp.full(3, 1e6)}},
        chain(name="sgd", clip_norm=1.0, factors=("conv*=0",)).init(PARAMS),
        PARAMS,
    )
    np.testing.assert_allclose(jnp.linalg.norm(updates["fc"]["kernel"]), 0.1, rtol=1e-6)


def test_the_curvature_of_frozen_arrays_is_left_out():
    curvature = jax.tree.map(lambda array: 0.18 * array, PARAMS)
    found = []
    for more in ({}, {"factors": ("conv1*=0", "fc*=10")}):
        optimizer = chain(name="diagonal_levenberg_marquardt", mu=0.02, **more)
        state = optimizer.init(PARAMS)
        after = jax.jit(with_curvature)(state, curvature)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        found.append(optimizer.update(GRADIENTS, after, PARAMS)[0])
    plain, by_name = found
    assert not np.any(by_name["conv1"]["kernel"])
    np.testing.assert_allclose(by_name["conv2"]["kernel"], plain["conv2"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(by_name["fc"]["kernel"], 10 * plain["fc"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(plain["fc"]["kernel"], -0.1 * 0.1 / 0.2, rtol=1e-5)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_freezes_and_follows_a_plateau(name):
    options = {"decay": "decoupled"} if name == "adamw" else {}
    optimizer = chain(name=name, plateau=True, factors=("conv1*=0",), weight_decay=0.1, clip_norm=1.0, **options)
    state = optimizer.init(PARAMS)
    section = base(models.section("lenet", "lenet5_modern")).schedule
    section.patience = 1
    for error in (0.5, 0.5, 0.5):
        state = optimizers.reduce_on_plateau(state, section, error)
    assert optimizers.plateau_state(state).scale < 1
    updates, after = optimizer.update(GRADIENTS, state, PARAMS)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert not np.any(updates["conv1"]["kernel"])
    assert np.all(updates["conv2"]["kernel"])


def test_the_first_pattern_decides():
    assert factors.count_frozen(PARAMS, factors.parse(("conv1*=0", "conv*=1", "fc*=0"))) == 6


@pytest.mark.parametrize("text", ["conv1*", "=0", "conv1*=-1", "conv1*=fast", "conv1*=nan", "conv1*=inf"])
def test_an_invalid_factor_is_refused(text):
    with pytest.raises(UserError, match="expected PATTERN=NUMBER"):
        factors.parse([text])


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (("conf2*=0",), r"did you mean 'conv2\*'"),
        (("*=0",), "freezes every"),
        (("conv*=0.1", "conv2*=0", "fc*=10"), r"'conv2\*' after patterns that match all of its arrays"),
        (("fc*=0", "fc*=10"), r"'fc\*' twice"),
    ],
)
def test_patterns_that_make_no_sense_are_refused(patterns, said):
    with pytest.raises(UserError, match=said):
        chain(name="sgd", factors=patterns).init(PARAMS)
