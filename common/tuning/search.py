"""The search space: options of a config, each with a range or a list of choices, and the checks before any run.

    optimizer.momentum=0..0.99               a range, both ends included
    schedule.learning_rate=1e-4..1e-1 log    a range searched on a logarithmic scale
    train.batch_size=32|64|128               choices

A value has the type of the option in the config, so the range of a whole number only has whole numbers.
"""

import ast
import itertools
import math
import random
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from common import config as config_lib
from common import config_checks
from common.command_line import option_names
from common.errors import UserError

Space = Mapping[str, BaseDistribution]  # an option's path -> its values
Point = Mapping[str, Any]  # an option's path -> one value; a tuple is kept as text

VALIDATION = "15%"  # of the training set, if the config has no validation set
_FORMS = "expected a range, as '0.1..0.9' or '1e-4..1e-1 log', or choices, as '32|64|128'"
_LARGEST_GRID = 100_000  # points
_RANGE = re.compile(r"(?P<low>\S+?)\s*\.\.\s*(?P<high>\S+?)(?P<log>\s+log)?")
# Options that decide when a trial is judged, and on which images; trials that differ in them cannot be compared.
_JUDGING = (
    *("seed", "evaluate", "checkpoint", "data.source", "data.directory", "data.train_split", "data.test_split"),
    *("data.holdout", "data.validation", "data.skip_bad"),
)


def trial_changes(config: ConfigDict) -> dict[str, Any]:
    """The options that every trial changes: no trial reads the test set, and each has a validation set."""
    validation = {} if config.data.validation else {"data.validation": VALIDATION}
    return {**validation, "evaluate.test": False}


def parse(texts: Sequence[str], config: ConfigDict) -> dict[str, BaseDistribution]:
    """The space that texts such as 'train.batch_size=32|64|128' describe. Raises UserError for an invalid one."""
    known = config_lib.flat(config)
    space: dict[str, BaseDistribution] = {}
    for text in texts:
        path, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not values:
            raise UserError(f"--search='{text}' has no values; {_FORMS}")
        if path not in known:
            raise UserError(
                f"--search: unknown option '{path}'; {option_names.instead(path.removeprefix('config.'), known)}"
            )
        option_names.check_changeable([path])
        if path in space:
            raise UserError(f"--search gives {path} twice; expected each option once")
        if path in _JUDGING or path.partition(".")[0] in _JUDGING:
            use = "; --seeds=K averages over K seeds" if path == "seed" else ""
            raise UserError(f"--search: {path} decides how a trial is judged, so it must be the same in all{use}")
        space[path] = _values(path, values, known[path])
    return space


def as_written(texts: Sequence[str]) -> dict[str, str]:
    """An option's path -> its values as the user wrote them, of texts that `parse` has read."""
    pairs = (text.partition("=") for text in texts)
    return {path.strip(): values.strip() for path, _, values in pairs}


def _values(path: str, text: str, default: Any) -> BaseDistribution:
    numeric = isinstance(default, int | float) and not isinstance(default, bool)
    found = _RANGE.fullmatch(text) if numeric else None
    if found:
        low, high = (_value(path, found[end], default) for end in ("low", "high"))
        if low >= high:
            raise UserError(f"--search: {path}={text} is empty; expected a low end below the high end")
        if found["log"] and low <= 0:
            raise UserError(f"--search: {path}={text} starts at {low}; a logarithmic range needs a low end above 0")
        kind = IntDistribution if isinstance(default, int) else FloatDistribution
        return kind(low, high, log=bool(found["log"]))
    if numeric and ".." in text:
        raise UserError(f"--search: {path}={text} is no range; {_FORMS}")
    choices = [_value(path, choice.strip(), default) for choice in text.split("|")]
    if len(set(choices)) < len(choices):
        raise UserError(f"--search: {path}={text} has a choice twice")
    if len(choices) < 2:
        ranges = "" if numeric else f"; {path} is not a number, so it has no range"
        raise UserError(f"--search: {path}={text} is one value; {_FORMS}{ranges}")
    return CategoricalDistribution(choices)


def _value(path: str, text: str, default: Any) -> Any:
    """The value that a text means for an option with this default. Raises UserError if it has another type."""
    wrong = f"--search: {path} is '{text}'; expected"
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise UserError(f"{wrong} true or false")
        return text.lower() == "true"
    if isinstance(default, int):
        if not re.fullmatch(r"[+-]?\d{1,18}", text):
            raise UserError(f"{wrong} a whole number")
        return int(text)
    if isinstance(default, float):
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"{wrong} a number")
        return number
    if isinstance(default, list):
        _tuple(text, wrong)
    return text


def _tuple(text: str, wrong: str) -> tuple:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, tuple):
        raise UserError(f"{wrong} a tuple, as '(0.9, 1.1)'")
    return value


def check(space: Space, config: ConfigDict, given: Collection[str] = ()) -> None:
    """Raises UserError for values that a run would refuse: out of range, in contradiction or without effect.

    It tries each end and each choice with the first values of the other options, then all last values together.
    given: the paths of the options that the command line gives to every trial.
    """
    ends = {path: _ends(values) for path, values in space.items()}
    first = {path: found[0] for path, found in ends.items()}
    last = {path: found[-1] for path, found in ends.items()}
    each = ({**first, path: value} for path, found in ends.items() for value in found[1:])
    for point in (first, *each, last):
        changed = with_point(config, point)
        try:
            config_checks.validate(changed)
            config_checks.check_given(changed, [*given, *point])
        except UserError as error:
            chosen = ", ".join(f"{path}={value}" for path, value in point.items())
            raise UserError(f"--search cannot have {chosen}: {error}") from error


def _ends(values: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(values, CategoricalDistribution):
        return values.choices
    assert isinstance(values, IntDistribution | FloatDistribution)
    return values.low, values.high


def with_point(config: ConfigDict, point: Point) -> ConfigDict:
    """A copy of the config with the options of a point."""
    changed = config.copy_and_resolve_references()
    known = config_lib.flat(config)
    changed.update_from_flattened_dict(
        {path: ast.literal_eval(value) if isinstance(known[path], list) else value for path, value in point.items()}
    )
    return changed


def grid(space: Space, seed: int) -> list[dict[str, Any]]:
    """Every combination of the choices and whole numbers of a space, in an order that the seed draws.

    Raises UserError for a range of fractions or a logarithmic one, and for more points than anyone can try.
    """
    columns: list[Sequence[Any]] = []
    for path, values in space.items():
        if isinstance(values, CategoricalDistribution):
            columns.append(values.choices)
        elif isinstance(values, IntDistribution) and not values.log:
            columns.append(range(values.low, values.high + 1))
        else:
            raise UserError(f"--sampler=grid needs choices for {path}, as '--search={path}=0.1|0.2', not a range")
    size = math.prod(map(len, columns))
    if size > _LARGEST_GRID:
        raise UserError(f"the grid has {size:,} points; expected at most {_LARGEST_GRID:,}")
    points = [dict(zip(space, values, strict=True)) for values in itertools.product(*columns)]
    random.Random(seed).shuffle(points)
    return points
