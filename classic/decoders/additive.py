"""Support vector machines with an additive kernel: exact for few images, by an explicit feature map for many."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from classic.decoders import kernels, linear, machine, regularised
from classic.decoders.kernels import FeatureMap, Kernel
from classic.decoders.rows import Rows, checked
from classic.decoders.selection import Examples
from classic.options import SIZE

DEFAULTS: dict[str, Any] = {
    "C": "validation",  # weight of the losses against 1/2 |w|^2: a number, or the best of `constants` on validation
    "constants": (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0),
    "holdout": 0.1,  # share of the training images for that choice, where the data have no validation part
    "exact": 2000,  # most training images for the exact kernel (pairs of classes); with more, the feature map is used
    "steps": 2,  # samples of the kernel's spectrum: the map has 2 steps - 1 times as many features
}
CHOICES = {"steps": kernels.STEPS}
RANGES = {"constants": regularised.RANGES["constants"], "holdout": regularised.RANGES["holdout"], "exact": SIZE}


def fit(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: Any,
    seed: int,
    num_classes: int | None,
    validation: Examples | None,
    kernel: Kernel,
    feature_map: FeatureMap,
) -> dict[str, np.ndarray]:
    """A kernel machine with its support vectors 'support' [s f], or a linear classifier of mapped features."""
    num_classes = checked(features, labels, num_classes)
    if len(labels) > options.exact:
        judged = None if validation is None else (Rows(validation[0], feature_map), validation[1])
        # The map gives no feature that standardising would help.
        section = SimpleNamespace(C=options.C, constants=options.constants, holdout=options.holdout, standardise=False)
        rows = Rows(features, feature_map)
        return regularised.fit(rows, labels, section, seed, num_classes, linear.squared_hinge, judged)
    for _, block in Rows(features).blocks():
        kernels.check_positive(block)

    def train(part: np.ndarray, of: np.ndarray, constant: float) -> dict[str, np.ndarray]:
        return machine.of_pairs(kernel, part, of, constant, num_classes, {"kernel": kernel})

    def outputs(arrays: dict[str, np.ndarray], part: np.ndarray) -> np.ndarray:
        return machine.in_blocks(arrays, part, kernel, arrays["support"])

    return machine.fit(train, outputs, features, labels, options, seed, validation)


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], kernel: Kernel, feature_map: FeatureMap
) -> Float32[np.ndarray, "n k"]:
    """Scores by the kernel machine or the linear classifier, whichever `fit` returned."""
    if "support" in arrays:
        return machine.in_blocks(arrays, features, kernel, arrays["support"])
    return linear.scores(linear.Linear(arrays["weights"], arrays["bias"]), Rows(features, feature_map))
