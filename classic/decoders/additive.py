"""Support vector machines with an additive kernel: the exact kernel for few images, a feature map for many."""

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
    "holdout": 0.1,  # share of the training images held out for this choice if there is no validation set
    "exact": 2000,  # up to this many training images, the exact kernel (pairs of classes); beyond, the feature map
    "steps": 2,  # samples of the kernel's spectrum; the map multiplies the number of features by 2 steps - 1
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
        rows = Rows(features, feature_map)
        return regularised.fit(rows, labels, options, seed, num_classes, linear.squared_hinge, judged)
    for _, block in Rows(features).blocks():
        kernels.check_not_negative(block)

    def train(part: np.ndarray, part_labels: np.ndarray, constant: float) -> dict[str, np.ndarray]:
        return machine.of_pairs(kernel, part, part_labels, constant, num_classes, {"kernel": kernel})

    def outputs(arrays: dict[str, np.ndarray], part: np.ndarray) -> np.ndarray:
        return machine.in_blocks(arrays, part, kernel)

    return machine.fit(train, outputs, features, labels, options, seed, validation)


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], kernel: Kernel, feature_map: FeatureMap
) -> Float32[np.ndarray, "n k"]:
    """Scores by the kernel machine or the linear classifier, whichever `fit` returned."""
    if "support" in arrays:
        return machine.in_blocks(arrays, features, kernel)
    return linear.scores(linear.Linear(arrays["weights"], arrays["bias"]), Rows(features, feature_map))
