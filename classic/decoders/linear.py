"""Linear classifiers by L-BFGS, all classes at once, over features that may be larger than memory.

scikit-learn's LinearSVC stores a copy of dense features at 24 bytes a number, 7.7 GB for 50,000 x 6,400, and works on
one core. Here a pass over the features is two matrix products, and few passes are needed thanks to a preconditioner.

The bias has no penalty, unlike LinearSVC's, so a shift of the features changes only the bias. The features are centred:
weights and bias then hardly depend on each other.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int
from scipy.special import logsumexp, softmax
from threadpoolctl import threadpool_limits

from classic.decoders.preconditioner import preconditioner
from classic.decoders.rows import Rows

MOST_FEATURES = 12_000  # the most to measure the covariance for; it then takes 0.6 GB, and its root 1.2 GB
_THREADED = 1e8  # several threads save time in a pass of more operations than this, even on a busy machine

# Outputs [m classes] and labels -> the sum of the losses, and its derivative with respect to the outputs.
Loss = Callable[[Float32[np.ndarray, "m k"], Int[np.ndarray, " m"]], tuple[float, Float32[np.ndarray, "m k"]]]


class Linear(NamedTuple):
    """A linear classifier: scores are features @ weights + bias."""

    weights: Float32[np.ndarray, "f k"]
    bias: Float32[np.ndarray, " k"]


def squared_hinge(
    outputs: Float32[np.ndarray, "m k"], labels: Int[np.ndarray, " m"]
) -> tuple[float, Float32[np.ndarray, "m k"]]:
    """The sum of max(0, 1 - y s)^2, where y is 1 for the label and -1 for the other classes, and its derivative."""
    signs = np.where(labels[:, None] == np.arange(outputs.shape[1]), np.float32(1), np.float32(-1))
    short = np.maximum(0, 1 - signs * outputs)
    return float(np.vdot(short, short)), -2 * signs * short


def cross_entropy(
    outputs: Float32[np.ndarray, "m k"], labels: Int[np.ndarray, " m"]
) -> tuple[float, Float32[np.ndarray, "m k"]]:
    """The sum of the negative logarithms of the labels' softmax probabilities, and its derivative."""
    rows = np.arange(len(labels))
    value = float((logsumexp(outputs, axis=1) - outputs[rows, labels]).sum(dtype=np.float64))
    slope = softmax(outputs, axis=1)
    slope[rows, labels] -= 1
    return value, slope


class Scaling(NamedTuple):
    """The mean and the divisor by which each feature is scaled, and the covariance of the scaled features.

    covariance: None if it is not worth the memory and time that it takes.
    """

    mean: Float32[np.ndarray, " f"]
    deviation: Float32[np.ndarray, " f"]
    covariance: Float32[np.ndarray, "f f"] | None = None


def scaling(rows: Rows, standardise: bool) -> Scaling:
    """The mean of each feature, its divisor, and the covariance of the scaled features.

    standardise: the divisor is the feature's deviation, or 1 if the feature never changes; otherwise it is 1. The
    covariance is measured for at most `MOST_FEATURES` features, and only if there are at least half as many rows. With
    fewer rows its root would take longer than the passes that it saves.
    """
    width = rows.width
    total = np.zeros(width)
    for _, block in rows.blocks():
        total += block.sum(axis=0, dtype=np.float64)
    mean = (total / len(rows)).astype(np.float32)
    if width <= min(MOST_FEATURES, 2 * len(rows)):
        covariance = np.zeros((width, width), np.float32)
        for _, block in rows.blocks():
            centred = block - mean
            covariance += centred.T @ centred
        covariance /= len(rows)
        variance = np.diagonal(covariance)
    else:
        covariance, variance = None, np.zeros(width)
        for _, block in rows.blocks() if standardise else ():
            centred = block - mean
            variance += np.einsum("nf,nf->f", centred, centred) / len(rows)
    if not standardise:
        return Scaling(mean, np.ones(width, np.float32), covariance)
    deviation = np.sqrt(variance)
    still = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
    deviation = np.where(still, 1, deviation).astype(np.float32)
    if covariance is not None:
        covariance /= deviation
        covariance /= deviation[:, None]
    return Scaling(mean, deviation, covariance)


def fit(
    rows: Rows,
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    loss: Loss,
    scale: Scaling,
    constant: float,
    *,
    kept: Bool[np.ndarray, " n"] | None = None,
    start: Linear | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 300,
) -> Linear:
    """The minimum of 1/2 |w|^2 + constant * sum of losses over weights w of the scaled features and a bias.

    kept: the rows that count, all by default. start: the classifier to begin from, such as that of a similar constant.
    tolerance: the search ends when no derivative is larger than this share of the largest one at zero.
    """
    from scipy import optimize  # slow to import

    width = rows.width
    kept = np.ones(len(rows), bool) if kept is None else kept
    count = int(kept.sum())
    mean, deviation = scale.mean[:, None], scale.deviation[:, None]
    decay = 1 / (constant * count)

    def objective(flat: Float64[np.ndarray, " p"]) -> tuple[float, Float64[np.ndarray, " p"]]:
        scaled = change.weights(flat[:-num_classes].reshape(width, num_classes))
        # The scaling is applied to the weights and not to the features, which saves a pass over them.
        weights = (scaled / deviation).astype(np.float32)
        shift = (flat[-num_classes:] - (mean * weights).sum(axis=0, dtype=np.float64)).astype(np.float32)
        value, slope, slope_bias = 0.0, np.zeros((width, num_classes)), np.zeros(num_classes)
        for place, block in rows.blocks():
            outputs, here = block @ weights + shift, kept[place]
            # Rows that do not count are left out of the outputs, which are few. A copy of the block would take longest.
            by_output = np.zeros_like(outputs)
            lost, by_output[here] = loss(outputs[here], labels[place][here])
            value += lost
            slope += block.T @ by_output
            slope_bias += by_output.sum(axis=0, dtype=np.float64)
        slope = change.slope((slope - mean * slope_bias) / deviation / count + decay * scaled)
        value = value / count + decay / 2 * np.vdot(scaled, scaled)
        return float(value), np.concatenate([slope.ravel(), slope_bias / count])

    threads = None if 2.0 * len(rows) * width * num_classes > _THREADED else 1
    with threadpool_limits(threads):
        change = preconditioner(scale.covariance, decay)
        begin = np.zeros((width + 1) * num_classes)
        largest = np.abs(objective(begin)[1]).max()
        if start is not None:
            moved = change.variables(start.weights * deviation)
            begin = np.concatenate([moved.ravel(), start.bias + scale.mean @ start.weights], dtype=np.float64)
        options = {"maxiter": max_iterations, "maxfun": 2 * max_iterations, "gtol": tolerance * largest, "ftol": 0.0}
        found = optimize.minimize(objective, begin, jac=True, method="L-BFGS-B", options=options).x
        weights = change.weights(found[:-num_classes].reshape(width, num_classes)) / deviation
    return Linear(weights.astype(np.float32), (found[-num_classes:] - (mean * weights).sum(axis=0)).astype(np.float32))


def scores(linear: Linear, rows: Rows) -> Float32[np.ndarray, "n k"]:
    """The outputs for each row."""
    result = np.empty((len(rows), len(linear.bias)), np.float32)
    for place, block in rows.blocks():
        result[place] = block @ linear.weights + linear.bias
    return result


def path(
    rows: Rows,
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    loss: Loss,
    scale: Scaling,
    constants: Sequence[float],
    kept: Bool[np.ndarray, " n"] | None = None,
) -> Iterator[tuple[float, Linear]]:
    """The classifier for each constant, the smallest first. Each search begins at the result of the one before."""
    start = None
    for constant in sorted(constants):
        start = fit(rows, labels, num_classes, loss, scale, constant, kept=kept, start=start)
        yield constant, start


def error(outputs: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> float:
    """The share of rows whose highest output is not that of the label."""
    return float((outputs.argmax(axis=1) != labels).mean())
