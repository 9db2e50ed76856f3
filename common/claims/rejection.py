"""The share of test examples that a network has to reject so that only few of the others are wrong.

LeCun 1989, section 5, and 1998, section III-C: an example is rejected if its two best classes score nearly the same.
"""

import pathlib

import numpy as np
from jaxtyping import Bool, Float

from common.data import datasets
from common.run import trained


def rejection_rate(folder: pathlib.Path, error: float) -> float:
    """The fraction of the test set that a finished run has to reject for this error (a fraction) on the rest.

    The score of a class is its logit. Reads the run's checkpoint.
    """
    run = trained.load(folder)
    found = trained.predictions(run, datasets.load_test(run.config.data, known=run.info))
    best = np.sort(found.log_probabilities, axis=1)
    return least_rejected(best[:, -1] - best[:, -2], found.predicted != found.labels, error)


def least_rejected(gaps: Float[np.ndarray, " examples"], wrong: Bool[np.ndarray, " examples"], error: float) -> float:
    """The smallest fraction of examples to reject, by a threshold on `gaps`, that leaves at most this error.

    It is 1 if every threshold leaves more; examples with equal gaps are rejected together.
    """
    order = np.argsort(gaps)
    errors_left = np.cumsum(wrong[order][::-1])[::-1]
    examples_left = np.arange(len(gaps), 0, -1)
    thresholds = np.diff(gaps[order], prepend=-np.inf) > 0
    enough = thresholds & (errors_left <= error * examples_left)
    return float(np.argmax(enough) / len(gaps)) if enough.any() else 1.0
