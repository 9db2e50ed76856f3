"""Least-squares fits with a penalty, from sums over blocks of rows."""

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from classic.decoders.rows import Rows


def fit(rows: Rows, labels: Int[np.ndarray, " n"], num_classes: int, ridge: float) -> Float32[np.ndarray, "w k"]:
    """The weights with which rows give +1 for their class and -1 for the others, as nearly as possible.

    ridge: the penalty on the squares of the weights, per row.
    """
    wanted = np.where(labels[:, None] == np.arange(num_classes), np.float32(1), np.float32(-1))
    return solve(*moments(rows, wanted), ridge * len(rows))


def moments(
    rows: Rows, targets: Float[np.ndarray, "n k"]
) -> tuple[Float64[np.ndarray, "w w"], Float64[np.ndarray, "w k"]]:
    """The products of all pairs of inputs, and of inputs and targets, summed over rows."""
    products, sums = np.zeros((rows.width, rows.width)), np.zeros((rows.width, targets.shape[1]))
    for place, block in rows.blocks():
        products += block.T @ block
        sums += block.T @ targets[place]
    return products, sums


def solve(
    products: Float64[np.ndarray, "w w"], sums: Float64[np.ndarray, "w k"], penalty: float
) -> Float32[np.ndarray, "w k"]:
    """The weights with the least squared errors and penalty, from `moments`."""
    return np.linalg.solve(products + penalty * np.eye(len(products)), sums).astype(np.float32)


def outputs(rows: Rows, weights: Float32[np.ndarray, "w k"]) -> Float32[np.ndarray, "n k"]:
    """The results of the weights for each row."""
    return np.concatenate([block @ weights for _, block in rows.blocks()])


def with_one(block: Float32[np.ndarray, "m f"]) -> Float32[np.ndarray, "m w"]:
    """Rows that end in 1, whose weight is the bias; w = f + 1."""
    return np.concatenate([block, np.ones((len(block), 1), np.float32)], axis=1)
