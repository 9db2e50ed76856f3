"""PCA and a classifier that is quadratic in the components (LeCun et al. 1998, section III.C.4).

The classifier is linear in the products of all pairs of components and a constant: 821 inputs for 40 components. The
mean is not subtracted from the pixels, since the products of centred components are the same for x and -x.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from ml_collections import ConfigDict

from classic.decoders import least_squares
from classic.decoders.rows import Rows, checked
from classic.decoders.selection import Examples
from classic.encoders import components
from classic.options import COUNT, POSITIVE
from common.errors import UserError

DEFAULTS: dict[str, Any] = {
    "components": 40,  # principal components of the features
    "ridge": 1e-4,  # the penalty on the weights, per training image
}
CHOICES: dict = {}
RANGES = {"components": COUNT, "ridge": POSITIVE}


def fit(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: ConfigDict,
    seed: int,
    num_classes: int | None = None,
    validation: Examples | None = None,
) -> dict[str, np.ndarray]:
    """The least-squares fit of +1 for an image's class and -1 for the others; features have to fit into memory.

    'projection' [f components] gives components of unit variance, 'weights' [inputs k] the scores from their products.
    Raises UserError if there are fewer images or features than components.
    """
    num_classes = checked(features, labels, num_classes)
    if options.components > min(features.shape):
        raise UserError(
            f"config.decode.components is {options.components}, but there are {len(features)} training images of "
            f"{features.shape[1]} features; expected at most as many"
        )
    found = components.principal_components(np.asarray(features, np.float32), options.components, whiten=True)
    arrays = {"projection": found["projection"]}
    rows = Rows(features, lambda block: inputs(arrays, block))
    weights = least_squares.fit(rows, labels, num_classes, options.ridge)
    return {**arrays, "weights": weights}


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], options: ConfigDict
) -> Float32[np.ndarray, "n k"]:
    """The fitted targets, between about -1 and 1."""
    rows = Rows(features, lambda block: inputs(arrays, block))
    return least_squares.outputs(rows, arrays["weights"])


def inputs(arrays: dict[str, np.ndarray], features: Float32[np.ndarray, "m f"]) -> Float32[np.ndarray, "m i"]:
    """The products of all pairs of components, squares included, and 1."""
    parts = features @ arrays["projection"]
    first, second = np.triu_indices(parts.shape[1])
    return least_squares.with_one(parts[:, first] * parts[:, second])
