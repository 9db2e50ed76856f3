"""Additive kernels between histograms, and explicit feature maps that approximate them (Vedaldi & Zisserman 2012)."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32

from common.errors import UserError

Histograms = Float[np.ndarray, "n f"]
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
FeatureMap = Callable[[np.ndarray], np.ndarray]

# Number of samples -> the interval between them in the intersection kernel's spectrum. It minimises the mean error over
# ratios x / y up to e^4.
_INTERVALS = {1: 0.58, 2: 0.7, 3: 0.62, 4: 0.54}
STEPS = tuple(_INTERVALS)


def intersection(x: Histograms, y: Float[np.ndarray, "m f"]) -> Float[np.ndarray, "n m"]:
    """The sum of min(x, y) over the features, computed as that of (x + y - |x - y|) / 2."""
    from sklearn.metrics.pairwise import manhattan_distances

    return (_sums(x, y) - manhattan_distances(x, y)) / 2


def chi2(x: Histograms, y: Float[np.ndarray, "m f"]) -> Float[np.ndarray, "n m"]:
    """The additive chi-square kernel, the sum of 2 x y / (x + y) over the features.

    scikit-learn's is the sum of -(x - y)^2 / (x + y), to which x + y is added here.
    """
    from sklearn.metrics.pairwise import additive_chi2_kernel

    # Memory-mapped arrays are read-only. scikit-learn does not take those.
    return (_sums(x, y) + additive_chi2_kernel(*(np.require(part, requirements="W") for part in (x, y)))) / 2


def intersection_map(steps: int) -> FeatureMap:
    """A map to 2 steps - 1 times as many features, whose dot products approximate `intersection`.

    The kernel is homogeneous. Its spectrum 2 / (pi (1 + 4 omega^2)) is sampled `steps` times, from 0 on.
    """
    interval = _INTERVALS[steps]

    def mapped(block: Float32[np.ndarray, "m f"]) -> Float32[np.ndarray, "m w"]:
        check_not_negative(block)
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
    """scikit-learn's map to 2 steps - 1 times as many features, whose dot products approximate `chi2`."""
    from sklearn.kernel_approximation import AdditiveChi2Sampler

    def mapped(block: Float32[np.ndarray, "m f"]) -> Float32[np.ndarray, "m w"]:
        check_not_negative(block)
        # scikit-learn chooses the interval itself for up to 3 samples.
        sampler = AdditiveChi2Sampler(sample_steps=steps, sample_interval=0.3 if steps > 3 else None)
        return sampler.fit_transform(block).astype(np.float32)

    return mapped


def check_not_negative(features: Float[np.ndarray, "n f"]) -> None:
    """Raises UserError for features below 0."""
    if features.size and features.min() < 0:
        raise UserError(
            f"kernels between histograms need features of at least 0, and one is {features.min():.3g}; "
            "config.encode 'words' gives histograms"
        )


def _sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x.sum(axis=1)[:, None] + y.sum(axis=1)[None]
