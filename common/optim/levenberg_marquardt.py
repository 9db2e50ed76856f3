"""Stochastic diagonal Levenberg-Marquardt (LeCun et al. 1998, section III-B and appendix C), as an optax transform.

    optimizer = optax.chain(scale_by_diagonal_levenberg_marquardt(mu), optax.scale_by_learning_rate(eta))
    state = optimizer.init(params)
    before each pass over the data:
        state = with_curvature(state, classifier.curvature(params, images, labels))

so that w_k <- w_k - eta / (mu + h_kk) dE/dw_k. h_kk is estimated on a few hundred examples and kept for the pass. It
cannot be estimated from gradients, so the network estimates it, not the optimizer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from common.errors import UserError


class DiagonalCurvatureState(NamedTuple):
    """The curvature h_kk, a tree like the parameters; zeros until `with_curvature` sets it (a step is then eta/mu)."""

    curvature: PyTree


def scale_by_diagonal_levenberg_marquardt(mu: float) -> optax.GradientTransformation:
    """Divides each gradient by mu + h_kk.

    mu: keeps steps finite where the error surface is flat (the paper: 0.02). Raises UserError unless it is positive.
    """
    if mu <= 0:
        raise UserError(f"mu={mu}: diagonal Levenberg-Marquardt divides by mu + curvature and needs mu > 0")

    def init(params: PyTree) -> DiagonalCurvatureState:
        return DiagonalCurvatureState(jax.tree.map(jnp.zeros_like, params))

    def update(gradients, state, params=None):
        del params
        return jax.tree.map(lambda gradient, h: gradient / (mu + h), gradients, state.curvature), state

    return optax.GradientTransformation(init, update)


def with_curvature(opt_state: PyTree, curvature: PyTree) -> PyTree:
    """The optimizer state with `curvature` as h_kk, wherever the transform is in a chain.

    curvature: a tree like the parameters; it is left out where the state leaves frozen arrays out. Raises UserError for
    the state of an optimizer that uses no curvature.
    """
    before = optax.tree.get(opt_state, "curvature")
    if before is None:
        raise UserError("this optimizer uses no curvature: expected one with scale_by_diagonal_levenberg_marquardt")
    after = jax.tree.map(lambda old, h: old if _is_masked(old) else h, before, curvature, is_leaf=_is_masked)
    return optax.tree.set(opt_state, curvature=after)


def _is_masked(node: object) -> bool:
    return isinstance(node, optax.MaskedNode)
