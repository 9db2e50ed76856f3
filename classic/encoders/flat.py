"""Descriptors as they are or reduced by PCA: those of a region are joined or added up."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float32
from ml_collections import ConfigDict

from classic.descriptors.record import Descriptors
from classic.encoders import components, normalise
from classic.options import SIZE

DEFAULTS: dict[str, Any] = {
    "join": True,  # True: joins the descriptors of a region; False: adds them up
    "pca": 0,  # principal components to keep of a descriptor; 0: no PCA
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
    """The 'mean' [d] and the 'projection' [d pca] of the PCA; nothing without one.

    Raises UserError if the sample has fewer than `pca` descriptors, or a descriptor fewer than `pca` numbers.
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
    """The descriptors of each region: with `join` t d numbers, zeros for the places outside it; else d, their sum."""
    vectors = descriptors.vectors
    if options.pca:
        vectors = components.project(arrays, vectors)
    if not options.join:
        return np.einsum("ntr,ntd->nrd", regions.astype(np.float32), vectors, optimize=True)
    inside = regions.transpose(0, 2, 1)[..., None] * vectors[:, None]
    return inside.reshape(*inside.shape[:2], -1).astype(np.float32)
