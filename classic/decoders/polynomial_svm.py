"""Support vector machine with the polynomial kernel (gamma x . y + offset)^degree (Cortes & Vapnik 1995)."""

import functools
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from ml_collections import ConfigDict

from classic.decoders import scaled
from classic.decoders.scaled import ScaledKernel
from classic.decoders.selection import Examples
from classic.options import COUNT, SIZE

DEFAULTS: dict[str, Any] = {
    **scaled.DEFAULTS,
    "degree": 4,
    "offset": 1.0,  # 0: products of exactly `degree` features; more: also those of fewer, down to none
}
CHOICES: dict = {}
RANGES = {**scaled.RANGES, "degree": COUNT, "offset": SIZE}


def fit(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: ConfigDict,
    seed: int,
    num_classes: int | None = None,
    validation: Examples | None = None,
) -> dict[str, np.ndarray]:
    """The machine with its support vectors 'support' [s f] and 'gamma'; features have to fit into memory."""
    return scaled.fit(features, labels, options, seed, num_classes, validation, kernel(options), svc_options(options))


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], options: ConfigDict
) -> Float32[np.ndarray, "n k"]:
    """The number of pairs that each class wins, see `machine.scores`."""
    return scaled.scores(arrays, features, kernel(options))


def kernel(options: ConfigDict) -> ScaledKernel:
    """The kernel for each gamma."""
    from sklearn.metrics.pairwise import polynomial_kernel

    return lambda gamma: functools.partial(polynomial_kernel, degree=options.degree, gamma=gamma, coef0=options.offset)


def svc_options(options: ConfigDict) -> dict[str, Any]:
    """The kernel as options of scikit-learn's SVC, without gamma."""
    return {"kernel": "poly", "degree": options.degree, "coef0": options.offset}
