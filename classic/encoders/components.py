"""Principal components of descriptors, by scikit-learn."""

from typing import Any

import numpy as np
from jaxtyping import Float32

from classic.encoders.samples import check_sample

_LEAST = 1e-12  # variance that whitening divides by


def fit_pca(sample: Float32[np.ndarray, "m d"], count: int, whiten: bool = False) -> dict[str, np.ndarray]:
    """The 'mean' [d] and the 'projection' [d count] onto the first components, of unit variance with `whiten`.

    Raises UserError if the sample has fewer descriptors, or they fewer numbers, than components are asked for.
    """
    check_sample(sample, count, "config.encode.pca", "principal components", dimensions=True)
    pca = principal_components(sample, count)
    scale = np.sqrt(np.maximum(pca.explained_variance_, _LEAST)) if whiten else 1.0
    return {"mean": pca.mean_.astype(np.float32), "projection": (pca.components_.T / scale).astype(np.float32)}


def principal_components(rows: Float32[np.ndarray, "m d"], count: int) -> Any:
    """scikit-learn's `PCA`, fitted to rows of at least `count` numbers."""
    from sklearn.decomposition import PCA

    # The covariance of few rows of many numbers takes far more time and memory than the rows.
    solver = "covariance_eigh" if len(rows) >= rows.shape[1] else "full"
    with np.errstate(invalid="ignore"):  # equal rows have shares 0/0 of variance, which nobody reads
        return PCA(count, svd_solver=solver).fit(rows)


def project(arrays: dict[str, np.ndarray], vectors: Float32[np.ndarray, "*t d"]) -> Float32[np.ndarray, "*t e"]:
    """The components of descriptors."""
    return (vectors - arrays["mean"]) @ arrays["projection"]
