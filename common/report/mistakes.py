"""The mistakes of a network on a test set: the most frequent and the worst."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from common.run.trained import Predictions

_MISTAKES_SHOWN, _PAIRS_SHOWN = 24, 5


def confusion_counts(predictions: Predictions, num_classes: int) -> Int[np.ndarray, "classes classes"]:
    """The number of examples of each true class (row) that are predicted as each class (column)."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (predictions.labels, predictions.predicted), 1)
    return counts


def class_errors(
    predictions: Predictions, num_classes: int
) -> tuple[Int[np.ndarray, " classes"], Float[np.ndarray, " classes"]]:
    """The number of examples of each class, and the fraction of them that is misclassified (NaN without examples)."""
    counts = confusion_counts(predictions, num_classes)
    examples = counts.sum(1)
    errors = np.full(num_classes, np.nan)
    np.divide(examples - np.diag(counts), examples, out=errors, where=examples > 0)
    return examples, errors


def confused_pairs(counts: Int[np.ndarray, "classes classes"], most: int) -> list[tuple[int, int, int]]:
    """The most frequent mistakes as (true class, predicted class, number of images), the most frequent first."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(true), int(said), int(wrong[true, said])) for true, said in pairs if wrong[true, said]]


def most_confused(counts: Int[np.ndarray, "classes classes"], class_names: Sequence[str]) -> str:
    """A sentence on the most frequent mistakes."""
    pairs = confused_pairs(counts, _PAIRS_SHOWN)
    told = [f"{class_names[true]} as {class_names[said]} ({count})" for true, said, count in pairs]
    return f"Most often mistaken: {', '.join(told)}." if told else "There is no mistake."


def worst(predictions: Predictions) -> Int[np.ndarray, " mistakes"]:
    """Indices of the mistakes whose true class has the lowest probability, the lowest first; at most 24."""
    mistakes = np.flatnonzero(predictions.predicted != predictions.labels)
    true = predictions.log_probabilities[mistakes, predictions.labels[mistakes]]
    return mistakes[np.argsort(true, kind="stable")][:_MISTAKES_SHOWN]
