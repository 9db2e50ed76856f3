"""Kernel support vector machines as arrays: one class against another, for each pair of classes, by scikit-learn."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Int

from classic.decoders import linear, selection
from classic.decoders.rows import Rows
from classic.decoders.selection import Examples

if TYPE_CHECKING:
    import sklearn.svm

CACHE_MEGABYTES = 1000  # of kernel values that the solver keeps


def as_arrays(fitted: "sklearn.svm.SVC", num_classes: int) -> dict[str, np.ndarray]:
    """The arrays of a fitted machine: dual coefficients of support vectors in the order of their classes.

    Positive outputs of a pair stand for its first class.
    """
    sign = -1 if len(fitted.classes_) == 2 else 1  # scikit-learn turns the sign for two classes
    return {
        "dual": (sign * fitted.dual_coef_).astype(np.float32),
        "intercept": (sign * fitted.intercept_).astype(np.float32),
        "counts": fitted.n_support_.astype(np.int32),
        "classes": fitted.classes_.astype(np.int32),
        "num_classes": np.array(num_classes, np.int32),
    }


def scores(arrays: dict[str, np.ndarray], kernel: Float[np.ndarray, "n s"]) -> Float32[np.ndarray, "n k"]:
    """The pairs that each class wins, plus less than 1/2 for how clearly: from kernel values with support vectors.

    A class without training images wins none.
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
    """The arrays that `train` returns, for the constant that the options give or that is best on validation."""
    constant, chosen = selection.constant(options.C), {}
    if constant is None:
        kept = np.ones(len(labels), bool) if validation else ~selection.held_out(labels, options.holdout, seed)
        judged = validation or (features[~kept], labels[~kept])
        part = np.asarray(features[kept], np.float32)

        def errors():
            for number in sorted(options.constants):
                fitted = train(part, labels[kept], number)
                yield number, linear.error(outputs(fitted, judged[0]), judged[1])

        choice = selection.best(errors())
        constant, chosen = choice.constant, {"validation_error": np.array(choice.error, np.float32)}
    arrays = train(np.asarray(features, np.float32), labels, constant)
    return {**arrays, "C": np.array(constant, np.float32), **chosen}


def in_blocks(
    arrays: dict[str, np.ndarray],
    features: Float[np.ndarray, "n f"],
    kernel: Callable[[np.ndarray, np.ndarray], np.ndarray],
    support: Float32[np.ndarray, "s f"],
) -> Float32[np.ndarray, "n k"]:
    """`scores` for features of any number, a block of kernel values at a time."""
    rows = Rows(features)
    result = np.empty((len(rows), int(arrays["num_classes"])), np.float32)
    step = max(1, 2**24 // max(len(support), 1))
    for place, block in rows.blocks():
        for start in range(0, len(block), step):
            part = block[start : start + step]
            result[place.start + start : place.start + start + len(part)] = scores(arrays, kernel(part, support))
    return result
