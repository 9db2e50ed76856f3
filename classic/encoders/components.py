"""Principal components of descriptors, by scikit-learn."""

import numpy as np
from jaxtyping import Float32

from classic.encoders.samples import check_sample

_LEAST = 1e-12  # the least variance that whitening divides by


def fit_pca(sample: Float32[np.ndarray, "m d"], count: int, whiten: bool = False) -> dict[str, np.ndarray]:
    """`principal_components` of a sample of descriptors for the option `config.encode.pca`.

    Raises UserError if the sample has fewer than `count` descriptors, or a descriptor fewer than `count` numbers.
    """
    check_sample(sample, count, "config.encode.pca", "principal components", dimensions=True)
    return principal_components(sample, count, whiten)


def principal_components(rows: Float32[np.ndarray, "m d"], count: int, whiten: bool) -> dict[str, np.ndarray]:
    """The 'mean' [d] and the 'projection' [d count] onto the first `count` principal components of rows.

    whiten: the components have unit variance. Both m and d are at least `count`.
    """
    from sklearn.decomposition import PCA

    # If rows are few and long, their covariance takes far more time and memory than the rows.
    solver = "covariance_eigh" if len(rows) >= rows.shape[1] else "full"
    with np.errstate(invalid="ignore"):  # the shares of variance of equal rows are 0/0; they are not used
        pca = PCA(count, svd_solver=solver).fit(rows)
    scale = np.sqrt(np.maximum(pca.explained_variance_, _LEAST)) if whiten else 1.0
    return {"mean": pca.mean_.astype(np.float32), "projection": (pca.components_.T / scale).astype(np.float32)}


def project(arrays: dict[str, np.ndarray], vectors: Float32[np.ndarray, "*t d"]) -> Float32[np.ndarray, "*t e"]:
    """The components of descriptors."""
    return (vectors - arrays["mean"]) @ arrays["projection"]
