"""The choice of a classifier's constant C by the error on examples that it was not fitted to."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from common.errors import UserError

Examples = tuple[Float[np.ndarray, "v f"], Int[np.ndarray, " v"]]
PATIENCE = 2  # the number of constants with a higher error than the best after which no more are tried


class Choice(NamedTuple):
    """The constant with the lowest error, and that error."""

    constant: float
    error: float


def constant(value: str | float) -> float | None:
    """The number that an option C holds; None for 'validation'. Raises UserError for anything else."""
    if value == "validation":
        return None
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise UserError(f"config.decode.C is '{value}'; expected a number above 0, or 'validation'")
    return number


def held_out(labels: Int[np.ndarray, " n"], share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """The examples that are held out: a random share of each class, but never all of a class.

    Raises UserError if none can be held out.
    """
    rng = np.random.default_rng(seed)
    out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        out[members[: min(round(share * len(members)), len(members) - 1)]] = True
    if not out.any():
        raise UserError(
            f"config.decode.C is 'validation', but {len(labels)} training images of {len(np.unique(labels))} classes "
            "are too few to hold any out; give a number"
        )
    return out


def best(errors: Iterable[tuple[float, float]]) -> Choice:
    """The constant with the lowest error, the first of those if there are several.

    errors: pairs of a constant and its error, computed on demand; after `PATIENCE` higher ones no more are taken.
    """
    chosen, since = None, 0
    for number, error in errors:
        if chosen is None or error < chosen.error:
            chosen, since = Choice(number, error), 0
        elif error > chosen.error:
            since += 1
            if since == PATIENCE:
                break
    if chosen is None:
        raise UserError("config.decode.constants is empty; expected at least one number")
    return chosen
