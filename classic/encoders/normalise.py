"""Normalisation of pooled codes, which all encoders share."""

import numpy as np
from jaxtyping import Float32
from ml_collections import ConfigDict

from classic.options import POSITIVE

# Every encoder has these options; its DEFAULTS hold its own values of them.
CHOICES = {"region_norm": ("none", "l1", "l2"), "norm": ("none", "l1", "l2")}
RANGES = {"power": POSITIVE}


def finish(
    pooled: Float32[np.ndarray, "n r f"], options: ConfigDict, weights: Float32[np.ndarray, " r"] | None = None
) -> Float32[np.ndarray, "n rf"]:
    """The features of images from codes pooled over r regions.

    Codes are raised to a power, normalised in each region, multiplied by the region's weight, joined, and normalised as
    a whole. options.power: z becomes sign(z) |z|^power; 0.5 with the L2 norm is the improved Fisher vector (Perronnin
    et al. 2010) or, for histograms, the Hellinger kernel. options.region_norm, options.norm: 'l1', 'l2' or 'none'.
    weights: of the regions, see `classic.pooling.weights`. Vectors of zeros stay zeros.
    """
    if options.power != 1:
        pooled = np.copysign(np.abs(pooled) ** np.float32(options.power), pooled)
    pooled = _normed(pooled, options.region_norm)
    if weights is not None:
        pooled = pooled * weights[:, None]
    return _normed(pooled.reshape(len(pooled), -1), options.norm)


def _normed(vectors: np.ndarray, norm: str) -> np.ndarray:
    if norm == "none":
        return vectors
    lengths = np.linalg.norm(vectors, ord=1 if norm == "l1" else 2, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
