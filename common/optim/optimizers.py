"""Optimizers by name, as optax chains that read like the papers' update equations.

Every chain is: clip -> (coupled decay) -> direction -> (decoupled decay) -> learning rate -> (velocity) -> (factors).
'momentum' keeps the learning rate *inside* the velocity, as AlexNet's section 5 and Caffe write it,

    v <- momentum * v - decay * rate * w - rate * gradient;    w <- w + v

so a change of the rate does not rescale the accumulated velocity. 'nesterov' is the same with a look-ahead step. With
these and 'sgd' the direction is the gradient itself, so both kinds of decay are the same and enter the velocity.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree
from ml_collections import ConfigDict

from common.errors import UserError
from common.optim import factors, plan, schedules
from common.optim.levenberg_marquardt import scale_by_diagonal_levenberg_marquardt
from common.optim.registry import Entry

_TOLERANCE = float(jnp.finfo(jnp.float32).tiny)  # lost in rounding beside any error but 0
SHARED_KEYS = ("weight_decay", "decay", "decay_mask", "clip_norm", "ema", "factors")


class PlateauState(NamedTuple):
    """The current factor that 'plateau' puts on the learning rate, and the record that decides its next drop."""

    plateau: optax.contrib.ReduceLROnPlateauState


def make_optimizer(config: ConfigDict, num_examples: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimizer of a config for a training set of `num_examples`, and its learning-rate schedule."""
    total = plan.make_plan(config, num_examples).total
    schedule = schedules.make_schedule(config.schedule, total, num_examples, config.train.batch_size)
    return make_chain(config.optimizer, schedule, plateau=config.schedule.name == "plateau"), schedule


def check(section: ConfigDict) -> None:
    """Raises UserError for options of a config's `optimizer` section that contradict each other."""
    if section.name == "adamw" and section.decay != "decoupled":
        raise UserError("config.optimizer.decay is 'coupled'; 'adamw' needs 'decoupled' (or use 'adam')")
    if uses_curvature(section) and section.mu <= 0:
        raise UserError(f"config.optimizer.mu is {section.mu}; expected above 0: steps are divided by mu + curvature")
    factors.parse(section.factors)


def make_chain(config: ConfigDict, schedule: optax.Schedule, plateau: bool) -> optax.GradientTransformation:
    """The chain of a config's `optimizer` section; `plateau` adds the factor that `reduce_on_plateau` lowers."""
    before, after = OPTIMIZERS[config.name].build(config)
    decay = [_weight_decay(config)] if config.weight_decay else []
    chain = optax.chain(
        *([optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []),
        *(decay if config.decay == "coupled" else []),
        *before,
        *(decay if config.decay == "decoupled" else []),
        optax.scale_by_learning_rate(schedule),
        *([_scale_by_plateau()] if plateau else []),
        *after,
    )
    return factors.scale_by_factors(chain, factors.parse(config.factors)) if config.factors else chain


def uses_curvature(config: ConfigDict) -> bool:
    """True for an optimizer that divides by a curvature, which the loop has to estimate."""
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


def _diagonal_levenberg_marquardt(config: ConfigDict) -> tuple[list, list]:
    return [scale_by_diagonal_levenberg_marquardt(config.mu)], []


OPTIMIZERS: dict[str, Entry] = {
    "sgd": Entry(_sgd),
    "momentum": Entry(_momentum, ("momentum",)),
    "nesterov": Entry(_nesterov, ("momentum",)),
    "adam": Entry(_adam, ("b1", "b2", "eps", "moment_dtype")),
    "adamw": Entry(_adam, ("b1", "b2", "eps", "moment_dtype")),
    "diagonal_levenberg_marquardt": Entry(_diagonal_levenberg_marquardt, ("mu", "curvature_examples")),
}


def _scale_by_plateau() -> optax.GradientTransformation:
    """Multiplies updates by a factor that only `reduce_on_plateau` changes."""

    def init(params: PyTree) -> PlateauState:
        return PlateauState(optax.contrib.reduce_on_plateau().init(params))

    def update(updates: PyTree, state: PlateauState, params: PyTree = None) -> tuple[PyTree, PlateauState]:
        return optax.tree.scale(state.plateau.scale, updates), state

    return optax.GradientTransformation(init, update)


def reduce_on_plateau(opt_state: PyTree, config: ConfigDict, error: float) -> PyTree:
    """The state after an evaluation with this error: the factor falls after `patience` of them without improvement.

    An improvement may be as small as one image. Raises ValueError for a state that holds no such factor.
    """
    # By default optax ignores improvements by less than a ten-thousandth; it does not take a tolerance of 0.
    rule = optax.contrib.reduce_on_plateau(
        config.factor, config.patience, rtol=0.0, atol=_TOLERANCE, min_scale=config.min_scale
    )
    before = plateau_state(opt_state)
    if before is None:
        raise ValueError("this optimizer has no plateau factor")
    # optax waits for the count to equal `patience`, which a run that goes on with less may have passed.
    before = before._replace(plateau_count=jnp.minimum(before.plateau_count, config.patience - 1))
    _, after = rule.update({}, before, value=jnp.asarray(error, jnp.float32))
    return optax.tree.set(opt_state, plateau=after)


def plateau_state(opt_state: PyTree) -> optax.contrib.ReduceLROnPlateauState | None:
    """The factor of 'plateau' and the record that decides its next drop; None for the state of other schedules."""
    return optax.tree.get(opt_state, "plateau")


def learning_rate(schedule: optax.Schedule, opt_state: PyTree, step: int) -> float:
    """The rate of the last of `step` updates, with the current factor of a plateau schedule."""
    plateau = plateau_state(opt_state)
    scale = 1.0 if plateau is None else float(plateau.scale)
    return scale * float(schedule(max(step - 1, 0)))
