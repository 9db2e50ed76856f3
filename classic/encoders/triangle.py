"""Single-layer k-means features: whitened patches, triangle or hard assignment, sums (Coates, Lee & Ng 2011)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Float32
from ml_collections import ConfigDict

from classic.descriptors.record import Descriptors
from classic.encoders import normalise, vocabulary
from classic.encoders.batches import batch_size, in_batches
from classic.encoders.samples import check_sample
from classic.options import COUNT, POSITIVE
from common.devices import compilation

DEFAULTS: dict[str, Any] = {
    "words": 1600,
    "assignment": "triangle",  # max(0, mean distance - distance) for each word, or 'hard': 1 for the nearest word only
    "whiten": True,  # ZCA (section 3.1)
    "eps": 0.1,  # added to the variance of each principal component before whitening divides by it
    "power": 1.0,
    "region_norm": "none",
    "norm": "none",
}
CHOICES = {**normalise.CHOICES, "assignment": ("triangle", "hard")}
RANGES = {**normalise.RANGES, "words": COUNT, "eps": POSITIVE}
finish = normalise.finish


def fit(
    sample: Float32[np.ndarray, "m d"],
    options: ConfigDict,
    seed: int,
    centres: Float32[np.ndarray, "m 2"] | None = None,
) -> dict[str, np.ndarray]:
    """The whitening, 'mean' [d] and 'whitening' [d d], and the 'words' [k d] of whitened patches.

    Raises UserError if the sample is smaller than the vocabulary.
    """
    check_sample(sample, options.words, "config.encode.words", "words")
    arrays: dict[str, np.ndarray] = {}
    if options.whiten:
        arrays = zca(sample, options.eps)
        sample = (sample - arrays["mean"]) @ arrays["whitening"]
    return {**arrays, "words": vocabulary.fit_kmeans(sample, options.words, seed)}


def zca(sample: Float32[np.ndarray, "m d"], eps: float) -> dict[str, np.ndarray]:
    """The mean and the symmetric matrix V (D + eps)^-1/2 V^T, where V D V^T is the covariance."""
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = sample - mean
    variances, axes = np.linalg.eigh((centred.T @ centred / len(sample)).astype(np.float64))
    whitening = (axes / np.sqrt(np.maximum(variances, 0) + eps)) @ axes.T
    return {"mean": mean, "whitening": whitening.astype(np.float32)}


def encode(
    arrays: dict[str, np.ndarray],
    descriptors: Descriptors,
    regions: Bool[np.ndarray, "n t r"],
    options: ConfigDict,
) -> Float32[np.ndarray, "n r f"]:
    """The activations of each word, summed over each region; f = k."""
    size = batch_size(12 * regions.shape[1] * len(arrays["words"]))
    return in_batches(_program(options.assignment), arrays, size, [descriptors.vectors, regions])[0]


def activations(
    arrays: dict[str, Any], vectors: Float[ArrayLike, "t d"], assignment: str = "triangle"
) -> Float[Array, "t k"]:
    """The activation of each word for each patch of an image (section 3.2.1)."""
    words, vectors = jnp.asarray(arrays["words"]), jnp.asarray(vectors)
    if "whitening" in arrays:
        vectors = jnp.matmul(vectors - arrays["mean"], arrays["whitening"], precision=jax.lax.Precision.HIGHEST)
    similar = vocabulary.similarities(vectors, words)
    if assignment == "hard":
        return jax.nn.one_hot(similar.argmax(axis=-1), len(words), dtype=jnp.float32)
    lengths = (vectors * vectors).sum(axis=-1, keepdims=True)
    distances = jnp.sqrt(jnp.maximum(lengths - 2 * similar, 0))
    return jnp.maximum(distances.mean(axis=-1, keepdims=True) - distances, 0)


@functools.cache
def _program(assignment: str) -> Callable:
    def pooled(
        arrays: dict, vectors: Float[Array, "n t d"], regions: Bool[Array, "n t r"]
    ) -> tuple[Float[Array, "n r k"]]:
        def one(image: tuple) -> Float[Array, "r k"]:
            vectors, regions = image
            active = activations(arrays, vectors, assignment)
            return jnp.matmul(regions.T.astype(jnp.float32), active, precision=jax.lax.Precision.HIGHEST)

        # One image at a time, so that its activations stay in the cache until they are summed.
        return (jax.lax.map(one, (vectors, regions)),)

    return compilation.jit(pooled)
