"""Linear support vector machine: squared hinge loss, one class against the rest."""

import numpy as np
from jaxtyping import Float, Float32, Int
from ml_collections import ConfigDict

from classic.decoders import linear, regularised
from classic.decoders.rows import Rows, checked
from classic.decoders.selection import Examples

DEFAULTS, CHOICES, RANGES = regularised.DEFAULTS, regularised.CHOICES, regularised.RANGES


def fit(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: ConfigDict,
    seed: int,
    num_classes: int | None = None,
    validation: Examples | None = None,
) -> dict[str, np.ndarray]:
    """The minimum of 1/2 |w|^2 + C sum max(0, 1 - y (w x + b))^2 for each class; see `classic.decoders`.

    The bias is not penalised, unlike LinearSVC's.
    """
    num_classes = checked(features, labels, num_classes)
    judged = None if validation is None else (Rows(validation[0]), validation[1])
    return regularised.fit(Rows(features), labels, options, seed, num_classes, linear.squared_hinge, judged)


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], options: ConfigDict
) -> Float32[np.ndarray, "n k"]:
    """The signed distances, up to scale, from each class's hyperplane."""
    return linear.scores(linear.Linear(arrays["weights"], arrays["bias"]), Rows(features))
