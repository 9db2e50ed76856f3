"""Stochastic diagonal Levenberg-Marquardt: the paper's update, wherever it stands in a chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from common.errors import UserError
from common.optim.levenberg_marquardt import (
    DiagonalCurvatureState,
    scale_by_diagonal_levenberg_marquardt,
    with_curvature,
)

PARAMS = {"C1": {"kernel": jnp.array([1.0, 2.0]), "bias": jnp.array(3.0)}}
GRADIENTS = {"C1": {"kernel": jnp.array([0.4, -0.4]), "bias": jnp.array(1.0)}}
CURVATURE = {"C1": {"kernel": jnp.array([0.0, 0.18]), "bias": jnp.array(0.48)}}


def _step(optimizer, state):
    updates, _ = optimizer.update(GRADIENTS, state, PARAMS)
    return jax.tree.map(lambda new, old: new - old, optax.apply_updates(PARAMS, updates), PARAMS)["C1"]


def test_each_weight_has_its_own_step_size():
    optimizer = optax.chain(scale_by_diagonal_levenberg_marquardt(0.02), optax.scale_by_learning_rate(0.0005))
    step = _step(optimizer, with_curvature(optimizer.init(PARAMS), CURVATURE))
    # w <- w - eta / (mu + h) g: eta/mu = 0.025 where the surface is flat, ten times less where h = 0.18
    np.testing.assert_allclose(step["kernel"], [-0.025 * 0.4, 0.0025 * 0.4], rtol=1e-4)
    np.testing.assert_allclose(step["bias"], -0.001, rtol=1e-3)


def test_before_any_estimate_the_step_is_eta_over_mu():
    optimizer = optax.chain(scale_by_diagonal_levenberg_marquardt(0.02), optax.scale_by_learning_rate(0.0005))
    step = _step(optimizer, optimizer.init(PARAMS))
    np.testing.assert_allclose(step["kernel"], [-0.01, 0.01], rtol=1e-4)


@pytest.mark.parametrize("wrap", [lambda transform: transform, optax.MultiSteps, optax.apply_if_finite])
def test_curvature_is_replaced_anywhere_and_nothing_else_changes(wrap):
    chain = optax.chain(
        optax.clip(1.0),
        optax.chain(optax.trace(0.9), scale_by_diagonal_levenberg_marquardt(0.02)),
        optax.scale_by_learning_rate(lambda step: 0.1),
    )
    arguments = {optax.MultiSteps: (2,), optax.apply_if_finite: (3,)}.get(wrap, ())
    optimizer = wrap(chain, *arguments)
    before = optimizer.init(PARAMS)
    after = jax.jit(with_curvature)(before, CURVATURE)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    changed = [np.any(new != old) for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)]
    assert sum(changed) == len(jax.tree.leaves(CURVATURE))
    [state] = [
        leaf
        for leaf in jax.tree.leaves(after, is_leaf=lambda node: isinstance(node, DiagonalCurvatureState))
        if isinstance(leaf, DiagonalCurvatureState)
    ]
    jax.tree.map(np.testing.assert_array_equal, state.curvature, CURVATURE)


def test_steps_keep_the_curvature_for_the_whole_pass():
    optimizer = scale_by_diagonal_levenberg_marquardt(0.02)
    state = with_curvature(optimizer.init(PARAMS), CURVATURE)
    for _ in range(3):
        _, state = optimizer.update(GRADIENTS, state, PARAMS)
    jax.tree.map(np.testing.assert_array_equal, state.curvature, CURVATURE)


def test_an_optimizer_without_curvature_is_refused():
    with pytest.raises(UserError, match="uses no curvature"):
        with_curvature(optax.sgd(0.1, momentum=0.9).init(PARAMS), CURVATURE)


@pytest.mark.parametrize("mu", [0.0, -0.02])
def test_mu_must_be_positive(mu):
    with pytest.raises(UserError, match="mu > 0"):
        scale_by_diagonal_levenberg_marquardt(mu)
