"""The calibration of a network: its confidence beside its accuracy (Guo et al. 2017)."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from common.run.trained import Predictions

BINS = 15  # as in Guo et al., table 1


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Images in M equal bins of confidence, the probability of the top prediction: bin m is (m/M, (m+1)/M].

    counts: the number of images in each bin. accuracies: the fraction of them that is classified correctly.
    confidences: their mean confidence. The latter two are NaN for a bin without images.
    """

    counts: Int[np.ndarray, " bins"]
    accuracies: Float[np.ndarray, " bins"]
    confidences: Float[np.ndarray, " bins"]

    @property
    def bins(self) -> int:
        """The number of bins, M."""
        return len(self.counts)

    @property
    def error(self) -> float:
        """The expected calibration error: sum over bins of (share of images) |accuracy - confidence| (equation 3)."""
        gaps = np.nan_to_num(np.abs(self.accuracies - self.confidences))
        return float((self.counts / self.counts.sum() * gaps).sum())


def calibration(predictions: Predictions, bins: int = BINS) -> Calibration:
    """The calibration of predictions for a test set."""
    confidence = np.exp(predictions.log_probabilities.max(-1).astype(np.float64)).clip(0, 1)
    right = predictions.predicted == predictions.labels
    places = (np.ceil(confidence * bins) - 1).clip(0, bins - 1).astype(int)
    counts = np.bincount(places, minlength=bins)
    sums = (np.bincount(places, weights=values, minlength=bins) for values in (right, confidence))
    with np.errstate(invalid="ignore"):
        accuracies, confidences = (total / counts for total in sums)
    return Calibration(counts, accuracies, confidences)
