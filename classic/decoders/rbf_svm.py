"""Support vector machine with the Gaussian kernel exp(-gamma |x - y|^2), for pairs of classes."""

import functools
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from ml_collections import ConfigDict

from classic.decoders import machine, regularised
from classic.decoders.kernels import Kernel
from classic.decoders.rows import checked
from classic.decoders.selection import Examples
from classic.options import SIZE

DEFAULTS: dict[str, Any] = {
    "C": "10",  # a number, or the best of `constants` on validation
    "constants": (0.1, 1.0, 10.0, 100.0),
    "holdout": 0.1,  # share of the training images held out for this choice if there is no validation set
    "gamma": 0.0,  # 0: 1 / (number of features x their variance), which scikit-learn calls 'scale'
}
CHOICES: dict = {}
RANGES = {"constants": regularised.RANGES["constants"], "holdout": regularised.RANGES["holdout"], "gamma": SIZE}


def fit(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: ConfigDict,
    seed: int,
    num_classes: int | None = None,
    validation: Examples | None = None,
) -> dict[str, np.ndarray]:
    """The machine with its support vectors 'support' [s f] and 'gamma'; features have to fit into memory."""
    num_classes = checked(features, labels, num_classes)
    gamma = options.gamma or _scale(features)

    def train(part: np.ndarray, part_labels: np.ndarray, constant: float) -> dict[str, np.ndarray]:
        arrays = machine.of_pairs(_kernel(gamma), part, part_labels, constant, num_classes, {"gamma": gamma})
        return {**arrays, "gamma": np.array(gamma, np.float32)}

    def outputs(arrays: dict[str, np.ndarray], part: np.ndarray) -> np.ndarray:
        return scores(arrays, part, options)

    return machine.fit(train, outputs, features, labels, options, seed, validation)


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], options: ConfigDict
) -> Float32[np.ndarray, "n k"]:
    """The number of pairs that each class wins, see `machine.scores`."""
    return machine.in_blocks(arrays, features, _kernel(float(arrays["gamma"])))


def _kernel(gamma: float) -> Kernel:
    from sklearn.metrics.pairwise import rbf_kernel

    return functools.partial(rbf_kernel, gamma=gamma)


def _scale(features: Float[np.ndarray, "n f"]) -> float:
    variance = float(np.var(features, dtype=np.float64))
    return 1 / (features.shape[1] * variance) if variance else 1.0
