"""Additive kernels between histograms, and explicit feature maps that approximate them (Vedaldi & Zisserman 2012)."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32

from common.errors import UserError

Histograms = Float[np.ndarray, "n f"]
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
FeatureMap = Callable[[np.ndarray], np.ndarray]

# Frequencies of the intersection map by its number of samples: the mean error over ratios x / y up to e^4 is least.
_INTERVALS = {1: 0.58, 2: 0.7, 3: 0.62, 4: 0.54}
STEPS = tuple(_INTERVALS)


def intersection(x: Histograms, y: Float[np.ndarray, "m f"]) -> Float[np.ndarray, "n m"]:
    """Sum of min(x, y): (x + y - |x - y|) / 2, summed."""
    from sklearn.metrics.pairwise import manhattan_distances

    return (_sums(x, y) - manhattan_distances(x, y)) / 2


def chi2(x: Histograms, y: Float[np.ndarray, "m f"]) -> Float[np.ndarray, "n m"]:
    """Sum of 2 x y / (x + y), the additive chi-square kernel; scikit-learn has it without x + y.

    It takes no array that is read-only, as memory-mapped ones are.
    """
    from sklearn.metrics.pairwise import additive_chi2_kernel

    return (_sums(x, y) + additive_chi2_kernel(*(np.require(part, requirements="W") for part in (x, y)))) / 2


def intersection_map(steps: int) -> FeatureMap:
    """A map whose dot products approximate `intersection`; features are 2 steps - 1 times as many.

    The kernel is homogeneous, with the spectrum 2 / (pi (1 + 4 omega^2)), sampled `steps` times from 0.
    """
    interval = _INTERVALS[steps]

    def mapped(block: Float32[np.ndarray, "m f"]) -> Float32[np.ndarray, "m w"]:
        check_positive(block)
        root = np.sqrt(block)
        logarithm = np.log(np.where(block > 0, block, 1))
        parts = [np.float32(np.sqrt(interval * 2 / np.pi)) * root]
        for j in range(1, steps):
            omega = np.float32(j * interval)
            size = np.float32(np.sqrt(2 * interval * 2 / (np.pi * (1 + 4 * omega**2)))) * root
            parts += [size * np.cos(omega * logarithm), size * np.sin(omega * logarithm)]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    return mapped


def chi2_map(steps: int) -> FeatureMap:
    """A map whose dot products approximate `chi2`, scikit-learn's; features are 2 steps - 1 times as many."""
    from sklearn.kernel_approximation import AdditiveChi2Sampler

    def mapped(block: Float32[np.ndarray, "m f"]) -> Float32[np.ndarray, "m w"]:
        check_positive(block)
        # scikit-learn has intervals of its own for up to 3 samples.
        sampler = AdditiveChi2Sampler(sample_steps=steps, sample_interval=0.3 if steps > 3 else None)
        return sampler.fit_transform(block).astype(np.float32)

    return mapped


def check_positive(features: Float[np.ndarray, "n f"]) -> None:
    """Raises UserError for features below 0."""
    if features.size and features.min() < 0:
        raise UserError(
            f"kernels between histograms need features of at least 0, and one is {features.min():.3g}; "
            "encode 'words' gives histograms"
        )


def _sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x.sum(axis=1)[:, None] + y.sum(axis=1)[None]
