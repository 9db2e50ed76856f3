"""Vocabularies of visual words by k-means, and the words nearest to descriptors."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from classic.encoders.samples import check_sample
from common.devices import compilation

_BATCH = 4096  # descriptors in a step of k-means


def fit_kmeans(sample: Float32[np.ndarray, "m d"], words: int, seed: int) -> Float32[np.ndarray, "k d"]:
    """The centres of mini-batch k-means. Raises UserError if the sample is smaller than the vocabulary."""
    from sklearn.cluster import MiniBatchKMeans

    check_sample(sample, words, "config.encode.words", "words")
    found = MiniBatchKMeans(words, batch_size=_BATCH, n_init=1, random_state=seed).fit(sample)
    return found.cluster_centers_.astype(np.float32)


def similarities(vectors: Float[Array, "*t d"], words: Float[Array, "k d"]) -> Float[Array, "*t k"]:
    """The values x . c - |c|^2 / 2, highest for the nearest word c of x; in float32 precision on every device."""
    products = jnp.matmul(vectors, words.T, precision=jax.lax.Precision.HIGHEST)
    return products - (words * words).sum(axis=-1) / 2


@functools.cache
def nearest_program() -> Callable:
    """The compiled program (arrays, vectors [n t d]) -> (index of the nearest word [n t],)."""

    def nearest(arrays: dict, vectors: Float[Array, "n t d"]) -> tuple[Int[Array, "n t"]]:
        return (similarities(vectors, arrays["words"]).argmax(axis=-1),)

    return compilation.jit(nearest)
