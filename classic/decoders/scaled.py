"""Support vector machines for pairs of classes whose kernel has a scale gamma; the decoders differ in the kernel."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

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
RANGES = {"constants": regularised.RANGES["constants"], "holdout": regularised.RANGES["holdout"], "gamma": SIZE}

ScaledKernel = Callable[[float], Kernel]  # gamma -> the kernel


def fit(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: Any,
    seed: int,
    num_classes: int | None,
    validation: Examples | None,
    kernel: ScaledKernel,
    svc_options: Mapping[str, Any],
    of_pairs: Callable[..., dict[str, np.ndarray]] = machine.of_pairs,
) -> dict[str, np.ndarray]:
    """The machine with its support vectors 'support' [s f] and 'gamma'; features have to fit into memory.

    svc_options: the same kernel as options of SVC, without gamma. of_pairs: fits the machine, as `machine.of_pairs`.
    """
    num_classes = checked(features, labels, num_classes)
    gamma = options.gamma or scale(features)

    def train(part: np.ndarray, part_labels: np.ndarray, constant: float) -> dict[str, np.ndarray]:
        svc = {**svc_options, "gamma": gamma}
        arrays = of_pairs(kernel(gamma), part, part_labels, constant, num_classes, svc)
        return {**arrays, "gamma": np.array(gamma, np.float32)}

    def outputs(arrays: dict[str, np.ndarray], part: np.ndarray) -> np.ndarray:
        return scores(arrays, part, kernel)

    return machine.fit(train, outputs, features, labels, options, seed, validation)


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], kernel: ScaledKernel
) -> Float32[np.ndarray, "n k"]:
    """The number of pairs that each class wins, see `machine.scores`."""
    return machine.in_blocks(arrays, features, kernel(float(arrays["gamma"])))


def scale(features: Float[np.ndarray, "n f"]) -> float:
    """The default of gamma: 1 / (number of features x their variance)."""
    variance = float(np.var(features, dtype=np.float64))
    return 1 / (features.shape[1] * variance) if variance else 1.0
