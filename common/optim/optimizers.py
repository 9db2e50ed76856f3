"""Optimizers by name, as optax chains that read like the papers' update equations.

Every chain is: clip -> (coupled decay) -> direction -> (decoupled decay) -> learning rate -> (velocity).
'momentum' keeps the learning rate *inside* the velocity, as AlexNet's section 5 and Caffe write it,

    v <- momentum * v - decay * rate * w - rate * gradient;    w <- w + v

so a change of the rate does not rescale what has been accumulated; 'nesterov' is the same with a look-ahead step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from common.errors import UserError
from common.optim.levenberg_marquardt import scale_by_diagonal_levenberg_marquardt
from common.optim.registry import Entry

SHARED_KEYS = ("weight_decay", "decay", "decay_mask", "clip_norm", "ema")


class PlateauState(NamedTuple):
    """The factor on the learning rate that 'plateau' has reached, and what decides its next drop."""

    plateau: optax.contrib.ReduceLROnPlateauState


def make_chain(config: ConfigDict, schedule: optax.Schedule, plateau: bool) -> optax.GradientTransformation:
    """The chain of a config's `optimizer` section with this schedule; `plateau` adds the factor `observe` lowers."""
    before, after = OPTIMIZERS[config.name].build(config)
    decay = [_weight_decay(config)] if config.weight_decay else []
    return optax.chain(
        *([optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []),
        *(decay if config.decay == "coupled" else []),
        *before,
        *(decay if config.decay == "decoupled" else []),
        optax.scale_by_learning_rate(schedule),
        *([_scale_by_plateau()] if plateau else []),
        *after,
    )


def uses_curvature(config: ConfigDict) -> bool:
    """Whether the optimizer divides by a curvature that the loop has to estimate."""
    return config.name == "diagonal_levenberg_marquardt"


def _weight_decay(config: ConfigDict) -> optax.GradientTransformation:
    return optax.add_decayed_weights(config.weight_decay, _kernels if config.decay_mask == "kernels" else None)


def _kernels(params: PyTree) -> PyTree:
    """True for arrays named `kernel`: not for biases, scales and embeddings, whatever their axes."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _sgd(config: ConfigDict) -> tuple[list, list]:
    return [], []


def _momentum(config: ConfigDict) -> tuple[list, list]:
    return [], [optax.trace(config.momentum)]


def _nesterov(config: ConfigDict) -> tuple[list, list]:
    return [], [optax.trace(config.momentum, nesterov=True)]


def _adam(config: ConfigDict) -> tuple[list, list]:
    return [optax.scale_by_adam(config.b1, config.b2, config.eps, mu_dtype=config.moment_dtype)], []


def _adamw(config: ConfigDict) -> tuple[list, list]:
    if config.decay != "decoupled":
        raise UserError("config.optimizer.decay is 'coupled'; 'adamw' needs 'decoupled' (or use 'adam')")
    return _adam(config)


def _diagonal_levenberg_marquardt(config: ConfigDict) -> tuple[list, list]:
    return [scale_by_diagonal_levenberg_marquardt(config.mu)], []


OPTIMIZERS: dict[str, Entry] = {
    "sgd": Entry(_sgd),
    "momentum": Entry(_momentum, ("momentum",)),
    "nesterov": Entry(_nesterov, ("momentum",)),
    "adam": Entry(_adam, ("b1", "b2", "eps", "moment_dtype")),
    "adamw": Entry(_adamw, ("b1", "b2", "eps", "moment_dtype")),
    "diagonal_levenberg_marquardt": Entry(_diagonal_levenberg_marquardt, ("mu", "curvature_examples")),
}


def _scale_by_plateau() -> optax.GradientTransformation:
    """Multiply updates by a factor that only `observe` changes."""

    def init(params: PyTree) -> PlateauState:
        return PlateauState(optax.contrib.reduce_on_plateau().init(params))

    def update(updates: PyTree, state: PlateauState, params: PyTree = None) -> tuple[PyTree, PlateauState]:
        return optax.tree.scale(state.plateau.scale, updates), state

    return optax.GradientTransformation(init, update)


def observe(opt_state: PyTree, config: ConfigDict, error: float) -> PyTree:
    """Tell a 'plateau' schedule the latest test error; lowers its factor after `patience` without improvement."""
    rule = optax.contrib.reduce_on_plateau(config.factor, config.patience, min_scale=config.min_scale)
    _, after = rule.update({}, plateau_state(opt_state).plateau, value=jnp.asarray(error, jnp.float32))
    return optax.tree.set(opt_state, plateau=after)


def plateau_state(opt_state: PyTree) -> PlateauState | None:
    """The state of the plateau factor inside a chain's state, None when there is none."""
    is_plateau = lambda node: isinstance(node, PlateauState)  # noqa: E731
    found = [node for node in jax.tree.leaves(opt_state, is_leaf=is_plateau) if is_plateau(node)]
    return found[0] if found else None
