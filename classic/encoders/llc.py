"""Locality-constrained linear coding by nearest words, max-pooled (Wang et al., CVPR 2010, section 4)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int
from ml_collections import ConfigDict

from classic.descriptors.record import Descriptors
from classic.encoders import normalise, vocabulary
from classic.encoders.batches import batch_size, in_batches
from classic.encoders.max_pooling import max_pooled
from classic.options import COUNT, POSITIVE
from common.devices import compilation
from common.errors import UserError

DEFAULTS: dict[str, Any] = {
    "words": 1000,
    "neighbours": 5,  # a descriptor is coded by this many nearest words
    "ridge": 1e-4,  # added to the diagonal of the neighbours' covariance, as a share of its trace
    "power": 1.0,
    "region_norm": "none",
    "norm": "l2",
}
CHOICES = normalise.CHOICES
RANGES = {**normalise.RANGES, "words": COUNT, "neighbours": COUNT, "ridge": POSITIVE}
finish = normalise.finish

_LEAST_RIDGE = 1e-10  # added as well: the trace is 0 if all neighbours equal the descriptor


def fit(
    sample: Float32[np.ndarray, "m d"],
    options: ConfigDict,
    seed: int,
    centres: Float32[np.ndarray, "m 2"] | None = None,
) -> dict[str, np.ndarray]:
    """The vocabulary 'words' [k d] by mini-batch k-means.

    Raises UserError if the sample or the vocabulary is too small.
    """
    if options.neighbours > options.words:
        raise UserError(
            f"config.encode.neighbours is {options.neighbours}, but config.encode.words is {options.words}; "
            "expected at most as many"
        )
    return {"words": vocabulary.fit_kmeans(sample, options.words, seed)}


def encode(
    arrays: dict[str, np.ndarray],
    descriptors: Descriptors,
    regions: Bool[np.ndarray, "n t r"],
    options: ConfigDict,
) -> Float32[np.ndarray, "n r f"]:
    """The largest weight of each word in each region, or 0 if none is positive; f = k."""
    words, weights = codes(arrays, descriptors.vectors, options)
    return max_pooled(words, weights, regions, len(arrays["words"]))


def codes(
    arrays: dict[str, np.ndarray], vectors: Float32[np.ndarray, "n t d"], options: ConfigDict
) -> tuple[Int[np.ndarray, "n t j"], Float32[np.ndarray, "n t j"]]:
    """The nearest words of each descriptor, the nearest first, and their weights, which sum to 1."""
    size = batch_size(4 * vectors.shape[1] * (len(arrays["words"]) + options.neighbours * vectors.shape[2]))
    program = _program(options.neighbours, float(options.ridge))
    words, weights = in_batches(program, arrays, size, [vectors])
    return words, weights


@functools.cache
def _program(neighbours: int, ridge: float) -> Callable:
    def code(arrays: dict, vectors: Float[Array, "n t d"]) -> tuple[Int[Array, "n t j"], Float[Array, "n t j"]]:
        words = arrays["words"]
        chosen = _highest(vocabulary.similarities(vectors, words), neighbours)
        shifted = words[chosen] - vectors[..., None, :]
        covariance = jnp.einsum("ntid,ntjd->ntij", shifted, shifted, precision=jax.lax.Precision.HIGHEST)
        trace = jnp.trace(covariance, axis1=-2, axis2=-1)[..., None, None]
        covariance += (ridge * trace + _LEAST_RIDGE) * jnp.eye(neighbours)
        weights = _solved(covariance)
        return chosen, weights / weights.sum(axis=-1, keepdims=True)

    return compilation.jit(code)


def _highest(values: Float[Array, "n t k"], count: int) -> Int[Array, "n t j"]:
    """The indices of the highest values, the highest first. For a few, repeated maxima are faster than a sort."""
    places = []
    for _ in range(count):
        best = values.argmax(axis=-1)
        places.append(best)
        values = jnp.where(jnp.arange(values.shape[-1]) == best[..., None], -jnp.inf, values)
    return jnp.stack(places, axis=-1)


def _solved(matrices: Float[Array, "n t j j"]) -> Float[Array, "n t j"]:
    """The solution of M x = 1 for positive definite M, by elimination in all matrices at once."""
    size = matrices.shape[-1]
    rows = jnp.concatenate([matrices, jnp.ones((*matrices.shape[:-1], 1))], axis=-1)
    for i in range(size):
        pivot = rows[..., i, :] / rows[..., i, i, None]
        rows = rows - rows[..., :, i, None] * pivot[..., None, :]
        rows = rows.at[..., i, :].set(pivot)
    return rows[..., -1]
