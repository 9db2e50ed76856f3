"""K-nearest neighbours among all training images, by scikit-learn."""

from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from ml_collections import ConfigDict

from classic.decoders.rows import Rows, checked
from classic.decoders.selection import Examples
from classic.options import COUNT
from common.errors import UserError

DEFAULTS: dict[str, Any] = {
    "neighbours": 3,
    "metric": "l2",  # distance between features: 'l2', or 'l1', which takes many times as long
}
# scikit-learn computes distances as products of matrices for the name 'euclidean', but not for 'l2'.
_METRICS = {"l2": "euclidean", "l1": "manhattan"}
CHOICES = {"metric": tuple(_METRICS)}
RANGES = {"neighbours": COUNT}


def fit(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: ConfigDict,
    seed: int,
    num_classes: int | None = None,
    validation: Examples | None = None,
) -> dict[str, np.ndarray]:
    """The training images themselves, which have to fit into memory; `validation` is not used.

    Raises UserError for fewer training images than neighbours.
    """
    num_classes = checked(features, labels, num_classes)
    check_neighbours(options.neighbours, len(labels))
    return {
        "features": np.array(features, np.float32),
        "labels": labels.astype(np.int32),
        "num_classes": np.array(num_classes, np.int32),
    }


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], options: ConfigDict
) -> Float32[np.ndarray, "n k"]:
    """The number of neighbours of each class, see `votes`."""
    from sklearn.neighbors import NearestNeighbors

    metric = _METRICS[options.metric]
    search = NearestNeighbors(n_neighbors=options.neighbours, algorithm="brute", metric=metric).fit(arrays["features"])
    found = [search.kneighbors(block, return_distance=False) for _, block in Rows(features).blocks()]
    return votes(arrays["labels"][np.concatenate(found)], int(arrays["num_classes"]))


def check_neighbours(neighbours: int, images: int) -> None:
    """Raises UserError for fewer training images than neighbours."""
    if images < neighbours:
        raise UserError(
            f"config.decode.neighbours is {neighbours}, but there are {images} training images; expected at most as "
            "many"
        )


def votes(nearest: Int[np.ndarray, "n count"], num_classes: int) -> Float32[np.ndarray, "n k"]:
    """The number of neighbours of each class. Nearer ones count a little more, to decide between equal numbers.

    nearest: the classes of each image's neighbours, the nearest first.
    """
    rows, count = nearest.shape
    weight = 1 + 0.5 ** np.arange(1, count + 1) / (2 * count)
    result = np.zeros((rows, num_classes), np.float32)
    for rank in range(count):
        result[np.arange(rows), nearest[:, rank]] += weight[rank]
    return result
