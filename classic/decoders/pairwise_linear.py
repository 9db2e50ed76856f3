"""Linear units that tell two classes apart, one for each pair of classes (LeCun et al. 1998, section III-C)."""

from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from ml_collections import ConfigDict

from classic.decoders import least_squares
from classic.decoders.rows import Rows, checked
from classic.decoders.selection import Examples
from classic.options import POSITIVE, SIZE

DEFAULTS: dict[str, Any] = {
    "ridge": 1e-4,  # the penalty on the weights, per training image of the two classes
    # Outputs are added up as tanh(squash x), so that no unit outvotes all others on images of a class that it has not
    # seen; 0: as they are.
    "squash": 0.0,
}
CHOICES: dict = {}
RANGES = {"ridge": POSITIVE, "squash": SIZE}


def fit(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: ConfigDict,
    seed: int,
    num_classes: int | None = None,
    validation: Examples | None = None,
) -> dict[str, np.ndarray]:
    """The 'weights' [f+1 p] of a unit for each pair of the 'classes' that have images, the bias in the last row.

    A unit is the least-squares fit of +1 for the images of its first class and -1 for those of its second; other images
    do not count. Pairs are in the order (0, 1), (0, 2), ... (1, 2), ...
    """
    num_classes = checked(features, labels, num_classes)
    classes, counts = np.unique(labels, return_counts=True)
    # With targets of 1, the products of inputs and targets are the sums of the inputs.
    moments = [
        least_squares.moments(Rows(features[labels == name], least_squares.with_one), np.ones((count, 1)))
        for name, count in zip(classes, counts, strict=True)
    ]
    units = []
    for i, j in zip(*_pairs(len(classes)), strict=True):
        (products, sums), (other_products, other_sums) = moments[i], moments[j]
        penalty = options.ridge * float(counts[i] + counts[j])
        units.append(least_squares.solve(products + other_products, sums - other_sums, penalty))
    return {
        "weights": np.concatenate(units, axis=1),
        "classes": classes.astype(np.int32),
        "num_classes": np.array(num_classes, np.int32),
    }


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], options: ConfigDict
) -> Float32[np.ndarray, "n k"]:
    """The sum of the units whose first class it is, minus the sum of those whose second class it is.

    A class without training images has 1 less than the lowest score.
    """
    rows, classes = Rows(features, least_squares.with_one), arrays["classes"]
    outputs = least_squares.outputs(rows, arrays["weights"])
    if options.squash:
        outputs = np.tanh(np.float32(options.squash) * outputs)
    first, second = _pairs(len(classes))
    sides = np.arange(len(classes))
    found = outputs @ ((first[:, None] == sides).astype(np.float32) - (second[:, None] == sides))
    result = np.repeat(found.min(axis=1, keepdims=True) - 1, int(arrays["num_classes"]), axis=1)
    result[:, classes] = found
    return result


def _pairs(count: int) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """The first and the second class of each pair."""
    return np.triu_indices(count, 1)
