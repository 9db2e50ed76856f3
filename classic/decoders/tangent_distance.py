"""The training images nearest by tangent distance (Simard, LeCun & Denker 1993).

Small distortions move an image along a curved surface; its tangent vectors span the flat space that touches the
surface there. The distance of two images is that between these two spaces, so it hardly changes when either image is
shifted, turned or thickened a little. It is computed only for the training images that are nearest by Euclidean
distance.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from ml_collections import ConfigDict

from classic.decoders import knn
from classic.decoders.rows import Rows, checked, part_size
from classic.decoders.selection import Examples
from classic.options import COUNT, SIZE
from common.errors import UserError

DEFAULTS: dict[str, Any] = {
    "neighbours": 1,
    "candidates": 200,  # training images that are compared, the nearest by Euclidean distance
    "tangents": 7,  # vectors that follow the pixels in an image's features; 0: none, which is Euclidean distance
}
CHOICES: dict = {}
RANGES = {"neighbours": COUNT, "candidates": COUNT, "tangents": SIZE}

# The cost of a step along a tangent vector, of the square of its length. Without it the spaces of quite different
# images may meet far from both, and the system of equations has no single solution for two images that are the same.
_SPRING = 1e-3
_LEAST = 1e-6  # a direction with less than this share of the longest one's square counts as none


def fit(
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: ConfigDict,
    seed: int,
    num_classes: int | None = None,
    validation: Examples | None = None,
) -> dict[str, np.ndarray]:
    """The training 'images' [n d] and an orthonormal basis of their tangent spaces, 'tangents' [n t d].

    They have to fit into memory. Raises UserError for features that are not pixels and as many tangent vectors as the
    options say, and for fewer images than neighbours or fewer candidates than neighbours.
    """
    num_classes = checked(features, labels, num_classes)
    knn.check_neighbours(options.neighbours, len(labels))
    if options.candidates < options.neighbours:
        raise UserError(
            f"config.decode.candidates is {options.candidates}; expected at least config.decode.neighbours, "
            f"{options.neighbours}"
        )
    size = part_size(features, "tangents", options.tangents, "'tangents' gives pixels and 7 vectors")
    images = np.empty((len(features), size), np.float32)
    tangents = np.empty((len(features), options.tangents, size), np.float32)
    for place, block in Rows(features).blocks():
        images[place], tangents[place] = planes(block, options.tangents)
    return {
        "images": images,
        "tangents": tangents,
        "labels": labels.astype(np.int32),
        "num_classes": np.array(num_classes, np.int32),
    }


def scores(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], options: ConfigDict
) -> Float32[np.ndarray, "n k"]:
    """The number of neighbours of each class, as `knn.votes` counts them."""
    from sklearn.neighbors import NearestNeighbors

    images, tangents = arrays["images"], arrays["tangents"]
    candidates = min(options.candidates, len(images))
    search = NearestNeighbors(n_neighbors=candidates, algorithm="brute", metric="euclidean").fit(images)
    nearest = np.empty((len(features), options.neighbours), np.int32)
    for place, block in Rows(features).blocks():
        unknown, their_tangents = planes(block, tangents.shape[1])
        for row, known in enumerate(search.kneighbors(unknown, return_distance=False)):
            found = squared_distances(unknown[row], their_tangents[row], images[known], tangents[known])
            order = np.argsort(found, kind="stable")[: options.neighbours]
            nearest[place.start + row] = arrays["labels"][known[order]]
    return knn.votes(nearest, int(arrays["num_classes"]))


def planes(
    features: Float32[np.ndarray, "m f"], count: int
) -> tuple[Float32[np.ndarray, "m d"], Float32[np.ndarray, "m t d"]]:
    """The pixels of images, and an orthonormal basis of the space that their `count` tangent vectors span.

    The basis ends in vectors of zeros if tangent vectors depend on each other, as those of a blank image do.
    """
    parts = features.reshape(len(features), count + 1, -1)
    vectors = parts[:, 1:]
    lengths = np.linalg.norm(vectors, axis=2, keepdims=True)
    vectors = vectors / np.where(lengths > 0, lengths, 1)
    squares, directions = np.linalg.eigh(vectors @ vectors.transpose(0, 2, 1))
    squares, directions = squares[:, ::-1], directions[:, :, ::-1]
    kept = squares > _LEAST * squares[:, :1]
    scales = np.where(kept, 1 / np.sqrt(np.where(kept, squares, 1)), 0)
    return parts[:, 0], (directions * scales[:, None]).transpose(0, 2, 1) @ vectors


def squared_distances(
    image: Float32[np.ndarray, " d"],
    tangents: Float32[np.ndarray, "t d"],
    images: Float32[np.ndarray, "p d"],
    their_tangents: Float32[np.ndarray, "p t d"],
) -> Float32[np.ndarray, " p"]:
    """The squared two-sided tangent distances of an image from others, whose tangent vectors are `planes`' bases.

    The least value of |x + a T - y - b U|^2 + s (|a|^2 + |b|^2) over the steps a and b, with s = 0.001. It is the same
    for x and y exchanged, and at most the squared Euclidean distance.
    """
    difference = image - images
    count = len(tangents)
    products = (their_tangents.reshape(-1, len(image)) @ tangents.T).reshape(len(images), count, count)
    along_ours = difference @ tangents.T
    along_theirs = np.einsum("ptd,pd->pt", their_tangents, difference)
    # The best a for each b is put in, which leaves one system of equations for b.
    hard = np.float32(1 + _SPRING)
    rest = along_theirs - np.einsum("ptu,pu->pt", products, along_ours) / hard
    system = hard * np.eye(count, dtype=np.float32) - products @ products.transpose(0, 2, 1) / hard
    steps = np.linalg.solve(system, rest[..., None])[..., 0]
    squares = [
        np.einsum("pi,pi->p", a, b) for a, b in ((difference, difference), (along_ours, along_ours), (rest, steps))
    ]
    return np.maximum(squares[0] - squares[1] / hard - squares[2], 0)
