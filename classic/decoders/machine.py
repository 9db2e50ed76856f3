"""Kernel support vector machines as arrays, fitted by scikit-learn to each pair of classes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from classic.decoders import linear, selection
from classic.decoders.kernels import Kernel
from classic.decoders.rows import Rows
from classic.decoders.selection import Examples

_CACHE_MEGABYTES = 1000  # of kernel values that the solver keeps
_BLOCK_VALUES = 2**24  # kernel values with the support vectors that are computed at once
LARGEST_PAIR = 16_000  # most images of two classes for which all kernel values, 2 GB in float64, are computed at once


def of_pairs(
    kernel: Kernel,
    features: Float32[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    constant: float,
    num_classes: int,
    svc_options: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """The arrays of a machine that is fitted to one pair of classes after the other.

    'support' [s f] has the support vectors, class by class, and 'dual' their coefficients against each other class. A
    pair's output is positive for its first class. All kernel values of a pair are computed at once, as products of
    matrices: the solver computes them one by one, which takes many times as long. svc_options: SVC's options for pairs
    that are too large for that.
    """
    from sklearn.svm import SVC

    classes = np.unique(labels)
    members = [np.flatnonzero(labels == name) for name in classes]
    dual = np.zeros((len(labels), len(classes) - 1), np.float32)
    intercepts = []
    for i, first in enumerate(members[:-1]):
        within = kernel(features[first], features[first]) if len(first) <= LARGEST_PAIR else None
        for j, second in enumerate(members[i + 1 :], i + 1):
            rows = np.concatenate([first, second])
            sides = np.repeat([0, 1], [len(first), len(second)])
            if within is None or len(rows) > LARGEST_PAIR:
                fitted = SVC(C=constant, cache_size=_CACHE_MEGABYTES, **svc_options).fit(features[rows], sides)
            else:
                values = _of_pair(kernel, within, features[first], features[second])
                fitted = SVC(C=constant, cache_size=_CACHE_MEGABYTES, kernel="precomputed").fit(values, sides)
            # scikit-learn's outputs for two classes have the opposite sign.
            support, weights = rows[fitted.support_], -fitted.dual_coef_[0]
            of_first = fitted.support_ < len(first)
            dual[support[of_first], j - 1], dual[support[~of_first], i] = weights[of_first], weights[~of_first]
            intercepts.append(-fitted.intercept_[0])
    used = [images[dual[images].any(axis=1)] for images in members]
    order = np.concatenate(used)
    return {
        "dual": np.ascontiguousarray(dual[order].T),
        "intercept": np.array(intercepts, np.float32),
        "counts": np.array([len(images) for images in used], np.int32),
        "classes": classes.astype(np.int32),
        "num_classes": np.array(num_classes, np.int32),
        "support": features[order],
    }


def _of_pair(
    kernel: Kernel,
    within: Float[np.ndarray, "a a"],
    first: Float32[np.ndarray, "a f"],
    second: Float32[np.ndarray, "b f"],
) -> Float[np.ndarray, "m m"]:
    """The kernel values between all images of two classes. within: those of the first class."""
    across = kernel(first, second)
    return np.block([[within, across], [across.T, kernel(second, second)]])


def scores(arrays: dict[str, np.ndarray], kernel: Float[np.ndarray, "n s"]) -> Float32[np.ndarray, "n k"]:
    """The number of pairs that each class wins, plus or minus less than 1/3 for how clearly it wins or loses them.

    kernel: the kernel values between the images and the support vectors. A class without training images has -1.
    """
    classes, counts = arrays["classes"], arrays["counts"]
    ends = np.cumsum(counts)
    parts = [
        kernel[:, end - count : end] @ arrays["dual"][:, end - count : end].T
        for end, count in zip(ends, counts, strict=True)
    ]
    votes, clarity = np.zeros((len(kernel), len(classes))), np.zeros((len(kernel), len(classes)))
    pair = 0
    for i in range(len(classes)):
        for j in range(i + 1, len(classes)):
            output = parts[i][:, j - 1] + parts[j][:, i] + arrays["intercept"][pair]
            votes[:, i] += output > 0
            votes[:, j] += output <= 0
            clarity[:, i] += output
            clarity[:, j] -= output
            pair += 1
    result = np.full((len(kernel), int(arrays["num_classes"])), -1, np.float32)
    result[:, classes] = votes + clarity / (3 * (np.abs(clarity) + 1))
    return result


def fit(
    train: Callable[[Float[np.ndarray, "m f"], Int[np.ndarray, " m"], float], dict[str, np.ndarray]],
    outputs: Callable[[dict[str, np.ndarray], Float[np.ndarray, "n f"]], Float32[np.ndarray, "n k"]],
    features: Float[np.ndarray, "n f"],
    labels: Int[np.ndarray, " n"],
    options: Any,
    seed: int,
    validation: Examples | None,
) -> dict[str, np.ndarray]:
    """The arrays that `train` returns for the constant C, which is given or the best on validation.

    train: fits a machine to features and labels with a constant. outputs: the scores of a machine for features.
    """
    constant, chosen = selection.constant(options.C), {}
    if constant is None:
        kept = np.ones(len(labels), bool) if validation else ~selection.held_out(labels, options.holdout, seed)
        judged = validation or (features[~kept], labels[~kept])
        part = np.asarray(features[kept], np.float32)

        def errors() -> Iterator[tuple[float, float]]:
            for number in sorted(options.constants):
                fitted = train(part, labels[kept], number)
                yield number, linear.error(outputs(fitted, judged[0]), judged[1])

        choice = selection.best(errors())
        constant, chosen = choice.constant, {"validation_error": np.array(choice.error, np.float32)}
    arrays = train(np.asarray(features, np.float32), labels, constant)
    return {**arrays, "C": np.array(constant, np.float32), **chosen}


def in_blocks(
    arrays: dict[str, np.ndarray], features: Float[np.ndarray, "n f"], kernel: Kernel
) -> Float32[np.ndarray, "n k"]:
    """`scores` for any number of images, computed from a block of kernel values at a time."""
    rows, support = Rows(features), arrays["support"]
    result = np.empty((len(rows), int(arrays["num_classes"])), np.float32)
    step = max(1, _BLOCK_VALUES // max(len(support), 1))
    for place, block in rows.blocks():
        for start in range(0, len(block), step):
            part = block[start : start + step]
            result[place.start + start : place.start + start + len(part)] = scores(arrays, kernel(part, support))
    return result
