"""Descriptors as they are, or reduced by PCA: the summed descriptors of each region."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float32
from ml_collections import ConfigDict

from classic.descriptors.record import Descriptors
from classic.encoders import components, normalise
from classic.options import SIZE

DEFAULTS: dict[str, Any] = {
    "join": True,  # descriptors stand one behind the other; False adds up those of a region
    "pca": 0,  # principal components that are kept of a descriptor; 0 is no PCA
    "whiten": False,  # divide each component by its deviation
    "power": 1.0,
    "region_norm": "none",
    "norm": "none",
}
CHOICES = normalise.CHOICES
RANGES = {**normalise.RANGES, "pca": SIZE}
finish = normalise.finish


def fit(
    sample: Float32[np.ndarray, "m d"],
    options: ConfigDict,
    seed: int,
    centres: Float32[np.ndarray, "m 2"] | None = None,
) -> dict[str, np.ndarray]:
    """The mean and the projection [d components] of the PCA; nothing without one.

    Raises UserError if the sample has fewer descriptors, or they fewer numbers, than components are asked for.
    """
    if not options.pca:
        return {}
    return components.fit_pca(sample, options.pca, options.whiten)


def encode(
    arrays: dict[str, np.ndarray],
    descriptors: Descriptors,
    regions: Bool[np.ndarray, "n t r"],
    options: ConfigDict,
) -> Float32[np.ndarray, "n r f"]:
    """The descriptors of each region, absent ones as zeros: t d numbers with `join`, else their sum of d numbers."""
    vectors = descriptors.vectors
    if options.pca:
        vectors = components.project(arrays, vectors)
    if not options.join:
        return np.einsum("ntr,ntd->nrd", regions.astype(np.float32), vectors, optimize=True)
    parted = regions.transpose(0, 2, 1)[..., None] * vectors[:, None]
    return parted.reshape(*parted.shape[:2], -1).astype(np.float32)
