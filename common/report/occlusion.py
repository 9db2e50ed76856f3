"""Occlusion maps: how the probability of the true class falls when a part of the image is covered.

Zeiler and Fergus 2014, section 4.2: a grey square slides over the image.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from common.devices import compilation

Images = Float[Array, "batch height width channels"]
Predict = Callable[[PyTree, Images], Float[Array, "batch classes"]]

_BATCH = 64  # covered images in a batch


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """The probability of a class while a square covers a part of the image.

    probabilities: for each position of the square's centre on a grid. rows, columns: the positions, in pixels of the
    image. side: the side of the square, in pixels. uncovered: the probability without a square.
    """

    probabilities: Float[np.ndarray, "images rows columns"]
    rows: Float[np.ndarray, " rows"]
    columns: Float[np.ndarray, " columns"]
    side: int
    uncovered: Float[np.ndarray, " images"]


def sensitivity(
    predict: Predict,
    variables: PyTree,
    images: Float[np.ndarray, "images height width channels"],
    labels: Int[np.ndarray, " images"],
    side: int,
    stride: int,
    grey: Float[np.ndarray, " channels"],
) -> Sensitivity:
    """The probability of each image's label while a square of `side` pixels moves over it in steps of `stride`.

    predict: (variables, network input) -> probabilities, a pure function. images and `grey`, the square's colour, are
    on the network's scale. At the edges of the image half of the square is outside it.
    """
    tops, lefts = (_starts(length, side, stride) for length in images.shape[1:3])
    corners = np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)
    covered = compilation.jit(functools.partial(_probabilities, predict, side=side))
    kept = [
        np.asarray(covered(variables, image, label, corners, grey)) for image, label in zip(images, labels, strict=True)
    ]
    alone = np.asarray(compilation.jit(predict)(variables, images))[np.arange(len(labels)), labels]
    middle = (side - 1) / 2
    return Sensitivity(np.stack(kept).reshape(-1, len(tops), len(lefts)), tops + middle, lefts + middle, side, alone)


def _starts(length: int, side: int, stride: int) -> Int[np.ndarray, " places"]:
    """The first pixel of the square at each place along an axis; the places are centred on the axis."""
    return np.arange(0, length, stride) + (length - 1) % stride // 2 - side // 2


def _probabilities(
    predict: Predict,
    variables: PyTree,
    image: Float[Array, "height width channels"],
    label: Int[Array, ""],
    corners: Int[Array, "places 2"],
    grey: Float[Array, " channels"],
    *,
    side: int,
) -> Float[Array, " places"]:
    """The label's probability with the square at each place, a batch of places at a time."""
    one = functools.partial(_covered_probability, predict, variables, image, label, grey, side)
    return jax.lax.map(one, corners, batch_size=min(_BATCH, len(corners)))


def _covered_probability(
    predict: Predict,
    variables: PyTree,
    image: Array,
    label: Array,
    grey: Array,
    side: int,
    corner: Int[Array, "2"],
) -> Float[Array, ""]:
    return predict(variables, cover(image, corner, side, grey)[None])[0, label]


def cover(
    image: Float[Array, "height width channels"],
    corner: Int[Array, "2"],
    side: int,
    grey: Float[Array, " channels"],
) -> Float[Array, "height width channels"]:
    """The image with a square of `side` pixels in `grey`, whose first row and column are `corner`."""
    down, across = (_within(length, first, side) for length, first in zip(image.shape[:2], corner, strict=True))
    return jnp.where((down[:, None] & across)[..., None], grey, image)


def _within(length: int, first: Int[Array, ""], side: int) -> Bool[Array, " length"]:
    places = jnp.arange(length)
    return (places >= first) & (places < first + side)
