"""Principal components of descriptors, by scikit-learn."""

import numpy as np
from jaxtyping import Float32

from classic.encoders.samples import check_sample

_LEAST = 1e-12  # variance that whitening divides by


def fit_pca(sample: Float32[np.ndarray, "m d"], count: int, whiten: bool = False) -> dict[str, np.ndarray]:
    """The 'mean' [d] and the 'projection' [d count] onto the first components, of unit variance with `whiten`.

    Raises UserError if the sample has fewer descriptors, or they fewer numbers, than components are asked for.
    """
    from sklearn.decomposition import PCA

    check_sample(sample, count, "config.encode.pca", "principal components", dimensions=True)
    with np.errstate(invalid="ignore"):  # equal descriptors have shares 0/0 of variance, which nobody reads
        pca = PCA(count, svd_solver="covariance_eigh").fit(sample)
    scale = np.sqrt(np.maximum(pca.explained_variance_, _LEAST)) if whiten else 1.0
    return {"mean": pca.mean_.astype(np.float32), "projection": (pca.components_.T / scale).astype(np.float32)}


def project(arrays: dict[str, np.ndarray], vectors: Float32[np.ndarray, "*t d"]) -> Float32[np.ndarray, "*t e"]:
    """The components of descriptors."""
    return (vectors - arrays["mean"]) @ arrays["projection"]
