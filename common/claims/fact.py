"""A paper's claim that needs no training: numbers computed exactly, in seconds, beside the paper's.

A package beside `common` lists its own in `facts.py` as `FACTS`; `python -m common.reproduce` computes any of them.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Array

from common.anatomy.rounding import rounded_like
from common.claims import statement
from common.claims.statement import Statement

Expected = float | str | tuple[float | None, float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fact(Statement):
    """A statement that a computation decides.

    compute: the numbers by name, of our networks or of an identity's two sides. expected: what each of these numbers
    must be. A number: ours must equal it, to within the fraction `tolerance` of it. Text, as the paper prints it
    ('1.5B', '0.27M', '81%'): ours must equal it when rounded in the same way. A range (low, high): ours must lie in it,
    ends included; None is an open end.
    note: the reason for a difference, or the way of counting.
    """

    compute: Callable[[], Mapping[str, float]]
    expected: Mapping[str, Expected]
    tolerance: float = 0.0
    note: str = ""


def evaluate(fact: Fact) -> dict[str, Any]:
    """Computes a fact: each number beside the expected one, and the verdict.

    The verdict is 'holds' or 'does not hold' if only ranges are expected, else 'agrees' or 'does not agree'. One number
    that is not as expected decides against the fact. Raises ValueError if a number is missing or unexpected.
    """
    with jax.default_matmul_precision("highest"):  # accelerators would round the factors of float32 products
        computed = {name: _plain(value) for name, value in fact.compute().items()}
    if computed.keys() != fact.expected.keys():
        raise ValueError(f"{fact.id}: computed {sorted(computed)}, expected {sorted(fact.expected)}")
    numbers = {
        name: {
            "expected": list(expected) if isinstance(expected, tuple) else expected,
            "computed": computed[name],
            "agrees": _agrees(computed[name], expected, fact.tolerance),
        }
        for name, expected in fact.expected.items()
    }
    word = "hold" if all(isinstance(expected, tuple) for expected in fact.expected.values()) else "agree"
    true = all(number["agrees"] for number in numbers.values())
    return {
        "fact": fact.id,
        "where": fact.where,
        "says": fact.says,
        "note": fact.note,
        "unit": fact.unit,
        "tolerance": fact.tolerance,
        "numbers": numbers,
        "verdict": f"{word}s" if true else f"does not {word}",
    }


def result_path(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The file of a fact's result in the folder of all results."""
    return folder / "facts" / f"{name}.json"


def relative_difference(ours: Array | np.ndarray, theirs: Array | np.ndarray) -> float:
    """The largest difference between two arrays of one shape, divided by the largest number of the second (float64)."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes {ours.shape} and {theirs.shape} differ")
    return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))


def all_facts() -> dict[str, Fact]:
    """The facts of every package that has some, by id."""
    return cast(dict[str, Fact], statement.by_id("facts"))


def _plain(value: Any) -> float:
    """A number for JSON: an integer, or a float to six digits, since later digits differ between machines."""
    number = value.item() if hasattr(value, "item") else value
    return number if isinstance(number, int) else float(f"{number:.6g}")


def _agrees(computed: float, expected: Expected, tolerance: float) -> bool:
    if isinstance(expected, str):
        return rounded_like(computed, expected) == expected
    if isinstance(expected, tuple):
        low, high = expected
        return (low is None or low <= computed) and (high is None or computed <= high)
    return abs(computed - expected) <= tolerance * abs(expected)
