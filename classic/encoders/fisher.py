"""Fisher vectors: gradients of a Gaussian mixture's likelihood (Perronnin & Dance 2007; Perronnin et al. 2010).

For a diagonal mixture with weights w, means mu and deviations sigma, and T descriptors x_t with posteriors g_t(k),

    G_mu,k    = 1 / (T sqrt(w_k))   sum_t g_t(k) (x_t - mu_k) / sigma_k
    G_sigma,k = 1 / (T sqrt(2 w_k)) sum_t g_t(k) ((x_t - mu_k)^2 / sigma_k^2 - 1)

The gradients with respect to the weights are left out, as in the papers.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Float32
from ml_collections import ConfigDict

from classic.descriptors.record import Descriptors
from classic.encoders import components, normalise
from classic.encoders.batches import batch_size, in_batches
from classic.encoders.samples import check_sample
from classic.options import COUNT, POSITIVE, SIZE
from common.devices import compilation

DEFAULTS: dict[str, Any] = {
    "components": 64,  # Gaussians of the mixture
    "pca": 64,  # principal components to keep of a descriptor; 0: no PCA
    "positions": False,  # append the place (y, x) to each descriptor (Sanchez et al. 2012), after the PCA
    "iterations": 100,  # of expectation maximisation at most
    "variance_floor": 1e-6,  # added to every variance
    # The improved Fisher vector: square root and L2 norm of each region, then of the whole.
    "power": 0.5,
    "region_norm": "l2",
    "norm": "l2",
}
CHOICES = normalise.CHOICES
RANGES = {
    **normalise.RANGES,
    "components": COUNT,
    "pca": SIZE,
    "iterations": COUNT,
    "variance_floor": POSITIVE,
}
finish = normalise.finish

_LEAST_WEIGHT = 1e-9  # of a Gaussian that no descriptor belongs to


def fit(
    sample: Float32[np.ndarray, "m d"],
    options: ConfigDict,
    seed: int,
    centres: Float32[np.ndarray, "m 2"] | None = None,
) -> dict[str, np.ndarray]:
    """The PCA and the mixture: 'mean', 'projection', 'weights' [k], 'means' [k e], 'variances' [k e].

    centres: the places of the sampled descriptors, needed for the option `positions`. Raises UserError if the sample
    is too small.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    check_sample(sample, options.components, "config.encode.components", "Gaussians")
    arrays: dict[str, np.ndarray] = {}
    if options.pca:
        arrays = components.fit_pca(sample, options.pca)
        sample = components.project(arrays, sample)
    if options.positions:
        if centres is None:
            raise ValueError("positions need the centres of the sampled descriptors")
        sample = np.concatenate([sample, centres - np.float32(0.5)], axis=1)
    mixture = GaussianMixture(
        options.components,
        covariance_type="diag",
        reg_covar=options.variance_floor,
        max_iter=options.iterations,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # The user chose the number of iterations; and k-means finds too few centres if descriptors are equal.
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            mixture.fit(sample)
        except ValueError:  # rounding to float32 made the variance of nearly equal descriptors negative
            mixture.fit(sample.astype(np.float64))
    return {
        **arrays,
        "weights": np.maximum(mixture.weights_, _LEAST_WEIGHT).astype(np.float32),
        "means": mixture.means_.astype(np.float32),
        "variances": mixture.covariances_.astype(np.float32),
    }


def encode(
    arrays: dict[str, np.ndarray],
    descriptors: Descriptors,
    regions: Bool[np.ndarray, "n t r"],
    options: ConfigDict,
) -> Float32[np.ndarray, "n r f"]:
    """The Fisher vector of each region before `finish`: f = 2 k e, gradients of means first; zeros if it is empty."""
    k, e = arrays["means"].shape
    t, r = regions.shape[1:]
    size = batch_size(4 * (t * k * (r + 2) + 4 * r * k * e))
    inputs = [descriptors.vectors, descriptors.centres, regions]
    return in_batches(_program(bool(options.positions)), arrays, size, inputs)[0]


def posteriors(
    arrays: dict[str, np.ndarray], descriptors: Descriptors, options: ConfigDict
) -> Float32[np.ndarray, "n t k"]:
    """The probability of each Gaussian given each descriptor."""
    with jax.default_matmul_precision("float32"):
        both = _with_squares(arrays, descriptors.vectors, descriptors.centres, bool(options.positions))
        return np.asarray(_posterior(both, arrays["weights"], arrays["means"], arrays["variances"]))


@functools.cache
def _program(positions: bool) -> Callable:
    def fisher(
        arrays: dict, vectors: Float[Array, "n t d"], centres: Float[Array, "n t 2"], regions: Bool[Array, "n t r"]
    ) -> tuple[Float[Array, "n r f"]]:
        with jax.default_matmul_precision("float32"):
            both = _with_squares(arrays, vectors, centres, positions)
            weights, means, variances = arrays["weights"], arrays["means"], arrays["variances"]
            posterior = _posterior(both, weights, means, variances)
            share = regions / jnp.maximum(regions.sum(axis=1, keepdims=True), 1)  # 1/T of the region, or 0
            mass = jnp.einsum("ntr,ntk->nrk", share, posterior)[..., None]
            first, second = jnp.split(jnp.einsum("ntr,ntk,nte->nrke", share, posterior, both), 2, axis=-1)
            root = jnp.sqrt(weights)[:, None]
            by_mean = (first - mass * means) / (jnp.sqrt(variances) * root)
            squares = second - 2 * means * first + mass * means**2
            by_deviation = (squares / variances - mass) / (jnp.sqrt(2.0) * root)
            n, r = by_mean.shape[:2]
            return (jnp.concatenate([by_mean.reshape(n, r, -1), by_deviation.reshape(n, r, -1)], axis=-1),)

    return compilation.jit(fisher)


def _with_squares(
    arrays: dict, vectors: Float[ArrayLike, "n t d"], centres: Float[ArrayLike, "n t 2"], positions: bool
) -> Float[Array, "n t e2"]:
    """Descriptors as the mixture takes them, after the PCA and with their places, followed by their squares."""
    vectors, centres = jnp.asarray(vectors), jnp.asarray(centres)
    if "projection" in arrays:
        vectors = (vectors - arrays["mean"]) @ arrays["projection"]
    if positions:
        vectors = jnp.concatenate([vectors, centres - 0.5], axis=-1)
    return jnp.concatenate([vectors, vectors**2], axis=-1)


def _posterior(
    both: Float[Array, "n t e2"],
    weights: Float[ArrayLike, " k"],
    means: Float[ArrayLike, "k e"],
    variances: Float[ArrayLike, "k e"],
) -> Float[Array, "n t k"]:
    linear = jnp.concatenate([means / variances, -0.5 / variances], axis=-1)
    constant = jnp.log(weights) - 0.5 * (jnp.log(variances) + means**2 / variances).sum(axis=-1)
    return jax.nn.softmax(both @ linear.T + constant, axis=-1)
