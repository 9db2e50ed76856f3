"""Support vector machine with the Gaussian kernel exp(-gamma |x - y|^2), for pairs of classes."""

import functools

import numpy as np
from jaxtyping import Float, Float32, Int
from ml_collections import ConfigDict

from classic.decoders import scaled
from classic.decoders.kernels import Kernel
from classic.decoders.selection import Examples

DEFAULTS, RANGES = scaled.DEFAULTS, scaled.RANGES
CHOICES: dict = {}


def fit(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: ConfigDict,
    seed: int,
    num_classes: int | None = None,
    validation: Examples | None = None,
) -> dict[str, np.ndarray]:
    """The machine with its support vectors 'support' [s f] and 'gamma'; features have to fit into memory."""
    return scaled.fit(features, labels, options, seed, num_classes, validation, _kernel, {"kernel": "rbf"})


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], options: ConfigDict
) -> Float32[np.ndarray, "n k"]:
    """The number of pairs that each class wins, see `machine.scores`."""
    return scaled.scores(arrays, features, _kernel)


def _kernel(gamma: float) -> Kernel:
    from sklearn.metrics.pairwise import rbf_kernel

    return functools.partial(rbf_kernel, gamma=gamma)
