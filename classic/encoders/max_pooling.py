"""Max pooling of sparse codes, each given by a few words and their values."""

import numpy as np
from jaxtyping import Bool, Float32, Int


def max_pooled(
    words: Int[np.ndarray, "n t j"], codes: Float32[np.ndarray, "n t j"], regions: Bool[np.ndarray, "n t r"], count: int
) -> Float32[np.ndarray, "n r k"]:
    """The largest code of each of `count` words in each region; 0 where none is positive."""
    n, _, r = regions.shape
    pooled = np.zeros((n, r, count), np.float32)
    image, place, region = np.nonzero(regions)
    values = codes[image, place]
    positive = values > 0
    flat = (image * r + region)[:, None] * count + words[image, place]
    np.maximum.at(pooled.reshape(-1), flat[positive], values[positive])
    return pooled
