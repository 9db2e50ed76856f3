"""Gaussian units placed by k-means in each class, and a linear output layer (LeCun et al. 1998, section III-C)."""

from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from ml_collections import ConfigDict

from classic.decoders import least_squares
from classic.decoders.rows import Rows, checked
from classic.decoders.selection import Examples
from classic.encoders import vocabulary
from classic.options import COUNT, POSITIVE

DEFAULTS: dict[str, Any] = {
    "units": 100,  # of each class, at most as many as it has images
    "width": 1.0,  # of the Gaussians: their deviation over the root mean square distance of images to their unit
    "ridge": 1e-5,  # the penalty on the weights of the output layer, per training image
}
CHOICES: dict = {}
RANGES = {"units": COUNT, "width": POSITIVE, "ridge": POSITIVE}


def fit(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: ConfigDict,
    seed: int,
    num_classes: int | None = None,
    validation: Examples | None = None,
) -> dict[str, np.ndarray]:
    """The centres of the 'units' [u f], class by class, their 'gamma' and the 'weights' [u+1 k] of the output layer.

    A class's units are the centres of k-means on its images. The output layer is the least-squares fit of +1 for an
    image's class and -1 for the others: a pseudo-inverse, regularised by `ridge`.
    """
    num_classes = checked(features, labels, num_classes)
    placed, distances = [], []
    for name in np.unique(labels):
        members = np.asarray(features[labels == name], np.float32)
        units = vocabulary.fit_kmeans(members, min(options.units, len(members)), seed)
        placed.append(units)
        distances.append(_squared_distances(members, units).min(axis=1))
    spread = float(np.concatenate(distances).mean(dtype=np.float64)) or 1.0  # 0 if every image is a unit
    gamma = np.array(1 / (2 * options.width**2 * spread), np.float32)
    arrays = {"units": np.concatenate(placed), "gamma": gamma}
    rows = Rows(features, lambda block: activities(arrays, block))
    return {**arrays, "weights": least_squares.fit(rows, labels, num_classes, options.ridge)}


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], options: ConfigDict
) -> Float32[np.ndarray, "n k"]:
    """The fitted targets, between about -1 and 1."""
    rows = Rows(features, lambda block: activities(arrays, block))
    return least_squares.outputs(rows, arrays["weights"])


def activities(arrays: dict[str, np.ndarray], features: Float32[np.ndarray, "m f"]) -> Float32[np.ndarray, "m w"]:
    """The value of each Gaussian unit, 1 at its centre, and 1; w = u + 1."""
    return least_squares.with_one(np.exp(-arrays["gamma"] * _squared_distances(features, arrays["units"])))


def _squared_distances(
    features: Float32[np.ndarray, "m f"], units: Float32[np.ndarray, "u f"]
) -> Float32[np.ndarray, "m u"]:
    from sklearn.metrics.pairwise import euclidean_distances

    return euclidean_distances(features, units, squared=True)
