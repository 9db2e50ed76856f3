"""Support vector machine with the histogram intersection kernel (Lazebnik et al. 2006)."""

import numpy as np
from jaxtyping import Float, Float32, Int
from ml_collections import ConfigDict

from classic.decoders import additive, kernels
from classic.decoders.selection import Examples

DEFAULTS, CHOICES, RANGES = additive.DEFAULTS, additive.CHOICES, additive.RANGES


def fit(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: ConfigDict,
    seed: int,
    num_classes: int | None = None,
    validation: Examples | None = None,
) -> dict[str, np.ndarray]:
    """A machine with the exact kernel for up to `exact` images, a linear one of mapped features for more.

    Raises UserError for features below 0. See `classic.decoders`.
    """
    feature_map = kernels.intersection_map(options.steps)
    return additive.fit(features, labels, options, seed, num_classes, validation, kernels.intersection, feature_map)


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], options: ConfigDict
) -> Float32[np.ndarray, "n k"]:
    """The pairs of classes won with the exact kernel, or with the map the distances from the hyperplanes."""
    return additive.scores(arrays, features, kernels.intersection, kernels.intersection_map(options.steps))
