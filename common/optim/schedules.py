"""Learning-rate schedules by name, each with an optional linear warm-up.

A schedule maps the number of updates made so far to a learning rate. 'plateau' depends on the error that the run
measures, so its schedule is constant, and `optimizers.reduce_on_plateau` lowers a separate factor.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from common.errors import UserError, count_of
from common.optim import duration
from common.optim.registry import Entry

SHARED_KEYS = ("warmup", "warmup_from")
ToSteps = Callable[[str], int]


def check(section: ConfigDict) -> None:
    """Raises UserError for a config's `schedule` section that no run can follow."""
    durations = {"warmup": section.warmup, "timescale": section.timescale}
    durations |= {f"boundaries[{i}]": text for i, text in enumerate(section.boundaries)}
    for name, text in durations.items():
        duration.parse(text, f"config.schedule.{name}")
    if section.name == "piecewise" and len(section.rates) != len(section.boundaries) + 1:
        raise UserError(
            f"config.schedule has {count_of(len(section.rates), 'rate')} and "
            f"{count_of(len(section.boundaries), 'boundary', 'boundaries')}; expected one more rate than boundaries"
        )
    if section.min_scale > 1:
        raise UserError(f"config.schedule.min_scale is {section.min_scale}; expected at most 1")
    if section.name == "table" and not section.rates:
        raise UserError("config.schedule.rates is empty; expected one learning rate for each epoch")


def warmup_steps(config: ConfigDict, total_steps: int, num_examples: int, batch_size: int) -> int:
    """The warm-up updates that a `schedule` section asks for; a tenth of the run if they would take the whole run."""
    steps = duration.to_steps(config.warmup, num_examples, batch_size)
    return steps if steps < total_steps else total_steps // 10


def in_words(config: ConfigDict) -> str:
    """The learning rates of a `schedule` section and its name: 'learning rate 0.01 (cosine)'."""
    if "rates" in SCHEDULES[config.name].reads:
        return f"learning rates {', '.join(f'{rate:g}' for rate in config.rates)} ({config.name})"
    return f"learning rate {config.learning_rate:g} ({config.name})"


def make_schedule(config: ConfigDict, total_steps: int, num_examples: int, batch_size: int) -> optax.Schedule:
    """The schedule of a config's `schedule` section for a run of `total_steps` updates.

    Raises UserError for boundaries that are out of order.

    The warm-up is a straight line from `warmup_from` to the schedule's value at its end. 'cosine', 'linear' and
    'polynomial' measure progress from the end of the warm-up to the end of the run, the others from the start.
    """
    to_steps = functools.partial(duration.to_steps, num_examples=num_examples, batch_size=batch_size)
    warmup = warmup_steps(config, total_steps, num_examples, batch_size)
    schedule = SCHEDULES[config.name].build(config, warmup, total_steps, to_steps)
    if warmup == 0:
        return schedule
    return optax.join_schedules(
        [optax.linear_schedule(config.warmup_from, schedule(warmup), warmup), lambda step: schedule(step + warmup)],
        [warmup],
    )


def _constant(config: ConfigDict, warmup: int, total_steps: int, to_steps: ToSteps) -> optax.Schedule:
    return optax.constant_schedule(config.learning_rate)


def _piecewise(config: ConfigDict, warmup: int, total_steps: int, to_steps: ToSteps) -> optax.Schedule:
    """`rates[i]` until `boundaries[i]`. Raises UserError for boundaries that do not follow each other in time."""
    pieces, ends = [optax.constant_schedule(value) for value in config.rates], list(map(to_steps, config.boundaries))
    if ends != sorted(ends):
        raise UserError(
            f"config.schedule.boundaries is {tuple(config.boundaries)}, in updates {tuple(ends)}; expected none "
            "to be earlier than the one before it"
        )
    return optax.join_schedules(pieces, ends)


def _table(config: ConfigDict, warmup: int, total_steps: int, to_steps: ToSteps) -> optax.Schedule:
    """`rates[epoch]`; the last rate stays."""
    pieces = [optax.constant_schedule(value) for value in config.rates]
    return optax.join_schedules(pieces, [to_steps(f"{epoch} epochs") for epoch in range(1, len(pieces))])


def _polynomial(config: ConfigDict, warmup: int, total_steps: int, to_steps: ToSteps) -> optax.Schedule:
    """Final + (peak - final) (1 - progress)^power."""
    decay = optax.polynomial_schedule(config.learning_rate, config.final, config.power, total_steps - warmup)
    return lambda step: decay(jnp.maximum(step - warmup, 0))


def _linear(config: ConfigDict, warmup: int, total_steps: int, to_steps: ToSteps) -> optax.Schedule:
    decay = optax.linear_schedule(config.learning_rate, config.final, total_steps - warmup)
    return lambda step: decay(jnp.maximum(step - warmup, 0))


def _cosine(config: ConfigDict, warmup: int, total_steps: int, to_steps: ToSteps) -> optax.Schedule:
    """Final + (peak - final) (1 + cos(pi progress)) / 2."""
    fall = optax.cosine_decay_schedule(config.learning_rate - config.final, total_steps - warmup)
    return lambda step: config.final + fall(jnp.maximum(step - warmup, 0))


def _inverse_sqrt(config: ConfigDict, warmup: int, total_steps: int, to_steps: ToSteps) -> optax.Schedule:
    """Peak * sqrt(timescale / max(step, timescale))."""
    timescale = max(to_steps(config.timescale), 1)
    return lambda step: config.learning_rate * jnp.sqrt(timescale / jnp.maximum(step, timescale))


SCHEDULES: dict[str, Entry] = {
    "constant": Entry(_constant, ("learning_rate",)),
    "plateau": Entry(_constant, ("learning_rate", "factor", "patience", "min_scale")),
    "piecewise": Entry(_piecewise, ("boundaries", "rates")),
    "table": Entry(_table, ("rates",)),
    "cosine": Entry(_cosine, ("learning_rate", "final")),
    "linear": Entry(_linear, ("learning_rate", "final")),
    "polynomial": Entry(_polynomial, ("learning_rate", "final", "power")),
    "inverse_sqrt": Entry(_inverse_sqrt, ("learning_rate", "timescale")),
}
