"""The check of a part's options, which each part declares as DEFAULTS, CHOICES and RANGES."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from common.errors import UserError, unknown

Range = tuple[float, float]  # the least value, and the bound that values stay below
COUNT, SIZE, POSITIVE = (1, math.inf), (0, math.inf), (math.ulp(0.0), math.inf)


def check(
    section: str,
    options: ConfigDict,
    defaults: Mapping[str, Any],
    choices: Mapping[str, Sequence],
    ranges: Mapping[str, Range],
) -> None:
    """Raises UserError unless `config.SECTION` has exactly a part's options, and values that it takes.

    defaults: the part's options; `options` may have a `name` beside them. choices: the values that an option may have.
    ranges: the range of a number, or of each number of a tuple.
    """
    for name in set(options) - set(defaults) - {"name"}:
        raise unknown("option", f"config.{section}.{name}", [f"config.{section}.{known}" for known in defaults])
    for name, default in defaults.items():
        if name not in options:
            raise UserError(f"config.{section}.{name} is missing; its default is {default!r}")
        value = options[name]
        if name in choices and value not in choices[name]:
            raise unknown(f"value of config.{section}.{name}", value, choices[name])
        if name in ranges:
            _check_range(f"config.{section}.{name}", value, default, *ranges[name])


def _check_range(path: str, value: Any, default: Any, low: float, below: float) -> None:
    numbers = value if isinstance(value, tuple | list) else (value,)
    whole = all(isinstance(number, int) for number in (default if isinstance(default, tuple) else (default,)))
    if not numbers:
        raise UserError(f"{path} is empty; expected at least one number, as in {default}")
    if not all(isinstance(number, int if whole else int | float) and low <= number < below for number in numbers):
        least = "more than 0" if low == POSITIVE[0] else f"at least {low}"
        bound = f" and less than {below}" if below < math.inf else ""
        raise UserError(f"{path} is {value}; expected {'a whole number of ' if whole else ''}{least}{bound}")
