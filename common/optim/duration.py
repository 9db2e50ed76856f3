"""Durations in a config, such as '20 epochs', '0.5 epochs' or '64000 steps'."""

import re

from common.errors import UserError

_MOST_STEPS = 2**31 - 1  # a run's counter of updates holds no more, so a longer duration has no other effect
_FORM = re.compile(r"\s*(\d+(?:\.\d*)?)\s*(epoch|step)s?\s*")


def parse(text: str, name: str = "duration") -> tuple[float, str]:
    """The number and the unit ('epoch' or 'step') of a duration; a UserError names the option if it is malformed."""
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise UserError(f"{name} is '{text}'; expected a duration such as '20 epochs' or '64000 steps'")
    return float(match[1]), match[2]


def to_steps(text: str, num_examples: int, batch_size: int) -> int:
    """A duration in whole updates of `batch_size` examples, rounded to the nearest.

    It is at most 2^31 - 1, and a positive one is at least 1.
    """
    number, unit = parse(text)
    steps = number * num_examples / batch_size if unit == "epoch" else number
    return max(round(min(steps, _MOST_STEPS)), 1 if number > 0 else 0)
