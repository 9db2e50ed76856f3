"""What a network gets wrong: its predictions on a test set, and what is read off them."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, Int

from common.data import pipeline
from common.data.datasets import Source
from common.run import trained
from common.run.trained import Run

_MISTAKES_SHOWN, _PAIRS_SHOWN = 24, 5


@dataclasses.dataclass(frozen=True)
class Results:
    """What the network makes of every test image, in the order of the test set.

    losses: in the classifier's own unit. predicted: the class with the largest logit. probabilities: softmax of the
    logits.
    """

    labels: Int[np.ndarray, " examples"]
    predicted: Int[np.ndarray, " examples"]
    losses: Float[np.ndarray, " examples"]
    probabilities: Float[np.ndarray, "examples classes"]

    @property
    def error(self) -> float:
        """The fraction of images whose predicted class is not theirs."""
        return float(np.mean(self.predicted != self.labels))


def on_test_set(run: Run, source: Source) -> Results:
    """The run's network on every example of a source."""
    parts = []
    for images, labels, mask in pipeline.eval_batches(source, run.config.evaluate.batch_size, run.mesh):
        outputs = trained.outputs(run, images)
        logits = run.classifier.logits(outputs)
        values = (labels, logits.argmax(-1), run.classifier.loss(outputs, labels), jax.nn.softmax(logits))
        parts.append([np.asarray(value)[np.asarray(mask)] for value in values])
    return Results(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def confusion_counts(results: Results, num_classes: int) -> Int[np.ndarray, "classes classes"]:
    """How many examples of each true class (row) are predicted as each class (column)."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (results.labels, results.predicted), 1)
    return counts


def most_confused(counts: Int[np.ndarray, "classes classes"], class_names: Sequence[str]) -> str:
    """A sentence on the most frequent mistakes."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS_SHOWN]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    told = [f"{class_names[r]} as {class_names[c]} ({wrong[r, c]})" for r, c in pairs if wrong[r, c]]
    return f"Most often mistaken: {', '.join(told)}." if told else "There is no mistake."


def worst(results: Results) -> Int[np.ndarray, " mistakes"]:
    """Indices of the mistakes with the largest losses, the largest first; at most 24."""
    mistakes = np.flatnonzero(results.predicted != results.labels)
    return mistakes[np.argsort(-results.losses[mistakes], kind="stable")][:_MISTAKES_SHOWN]
