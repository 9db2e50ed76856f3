"""Bag of visual words: histograms of the nearest words (Csurka et al. 2004, section 2.3)."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int
from ml_collections import ConfigDict

from classic.descriptors.record import Descriptors
from classic.encoders import normalise, vocabulary
from classic.encoders.batches import batch_size, in_batches
from classic.options import COUNT

DEFAULTS: dict[str, Any] = {
    "words": 1000,
    # Square root and unit length: the L1-normalised histogram under the Hellinger kernel.
    "power": 0.5,
    "region_norm": "none",
    "norm": "l2",
}
CHOICES = normalise.CHOICES
RANGES = {**normalise.RANGES, "words": COUNT}
finish = normalise.finish


def fit(
    sample: Float32[np.ndarray, "m d"],
    options: ConfigDict,
    seed: int,
    centres: Float32[np.ndarray, "m 2"] | None = None,
) -> dict[str, np.ndarray]:
    """The vocabulary 'words' [k d] by mini-batch k-means. Raises UserError if the sample is smaller."""
    return {"words": vocabulary.fit_kmeans(sample, options.words, seed)}


def encode(
    arrays: dict[str, np.ndarray],
    descriptors: Descriptors,
    regions: Bool[np.ndarray, "n t r"],
    options: ConfigDict,
) -> Float32[np.ndarray, "n r f"]:
    """The number of descriptors of each word in each region; a region's counts sum to its number of descriptors."""
    return histograms(nearest_words(arrays, descriptors.vectors), regions, len(arrays["words"]))


def nearest_words(arrays: dict[str, np.ndarray], vectors: Float32[np.ndarray, "n t d"]) -> Int[np.ndarray, "n t"]:
    """The index of each descriptor's nearest word."""
    size = batch_size(4 * vectors.shape[1] * len(arrays["words"]))
    return in_batches(vocabulary.nearest_program(), arrays, size, [vectors])[0]


def histograms(
    assignment: Int[np.ndarray, "n t"], regions: Bool[np.ndarray, "n t r"], words: int
) -> Float32[np.ndarray, "n r k"]:
    """Counts of words in each region."""
    n, _, r = regions.shape
    image, place, region = np.nonzero(regions)
    flat = (image * r + region) * words + assignment[image, place]
    return np.bincount(flat, minlength=n * r * words).reshape(n, r, words).astype(np.float32)
