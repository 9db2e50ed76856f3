"""Sparse coding with max pooling (ScSPM: Yang, Yu, Gong & Huang 2009).

The code u of a descriptor x minimises |x - u V|^2 + penalty |u|_1, where V is a dictionary with rows of unit length.
FISTA (Beck & Teboulle 2009) finds the codes of all descriptors at once.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Float32, Int
from ml_collections import ConfigDict

from classic.descriptors.record import Descriptors
from classic.encoders import normalise
from classic.encoders.batches import batch_size, in_batches
from classic.encoders.max_pooling import max_pooled
from classic.encoders.samples import check_sample
from classic.options import COUNT, POSITIVE, SIZE
from common.devices import compilation

DEFAULTS: dict[str, Any] = {
    "words": 1024,  # rows of the dictionary
    "penalty": 0.3,  # of the code's L1 norm, for descriptors of unit length
    "iterations": 50,  # of FISTA
    "candidates": 64,  # a code uses only this many words, those of largest correlation; 0: all, six times as slow
    "learn_from": 50000,  # most descriptors of the sample to learn the dictionary from, which takes long
    "passes": 1,  # over these descriptors
    "power": 1.0,
    "region_norm": "none",
    "norm": "l2",
}
CHOICES = normalise.CHOICES
RANGES = {
    **normalise.RANGES,
    "words": COUNT,
    "penalty": POSITIVE,
    "iterations": COUNT,
    "candidates": SIZE,
    "learn_from": COUNT,
    "passes": COUNT,
}
finish = normalise.finish

_BATCH = 512  # descriptors in a step of dictionary learning
# Sweeps of coordinate descent in a step of dictionary learning. They do not find the minimum: SIFT's histograms have no
# negative numbers and so resemble each other, which makes convergence slow. The next step has new descriptors anyway.
_SWEEPS = 20
_STILL = 1e-6  # length below which a row of the dictionary counts as zero


def fit(
    sample: Float32[np.ndarray, "m d"],
    options: ConfigDict,
    seed: int,
    centres: Float32[np.ndarray, "m 2"] | None = None,
) -> dict[str, np.ndarray]:
    """The dictionary 'words' [k d], rows of unit length, and 'bound' [], the largest eigenvalue of V V^T.

    Raises UserError if the sample is smaller than the dictionary.
    """
    from sklearn.decomposition import MiniBatchDictionaryLearning
    from sklearn.exceptions import ConvergenceWarning

    if len(sample) > options.learn_from:
        sample = sample[np.random.default_rng(seed).choice(len(sample), options.learn_from, replace=False)]
    check_sample(sample, options.words, "config.encode.words", "words")
    # scikit-learn's objective has half the squared error, so it needs half the penalty.
    learner = MiniBatchDictionaryLearning(
        options.words,
        alpha=options.penalty / 2,
        batch_size=min(_BATCH, len(sample)),
        max_iter=options.passes,
        fit_algorithm="cd",
        transform_max_iter=_SWEEPS,
        dict_init=_starting_words(sample, options.words, seed),
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # see _SWEEPS
        words = learner.fit(sample).components_.astype(np.float32)
    lengths = np.linalg.norm(words, axis=1, keepdims=True)
    words = words / np.where(lengths > _STILL, lengths, 1)
    bound = max(float(np.linalg.norm(words, 2)) ** 2, _STILL)
    return {"words": words, "bound": np.array(bound, np.float32)}


def _starting_words(sample: np.ndarray, words: int, seed: int) -> np.ndarray:
    """Descriptors drawn at random, each at most once, of unit length; random rows in place of zeros."""
    rng = np.random.default_rng(seed)
    chosen = sample[rng.choice(len(sample), words, replace=False)].astype(np.float32)
    lengths = np.linalg.norm(chosen, axis=1)
    flat = lengths <= _STILL
    chosen[flat] = rng.normal(size=(int(flat.sum()), sample.shape[1]))
    return chosen / np.linalg.norm(chosen, axis=1, keepdims=True)


def encode(
    arrays: dict[str, np.ndarray],
    descriptors: Descriptors,
    regions: Bool[np.ndarray, "n t r"],
    options: ConfigDict,
) -> Float32[np.ndarray, "n r f"]:
    """The largest absolute code of each word in each region, 0 in an empty one (section 3.2); f = k."""
    places, words, few = regions.shape[1], len(arrays["words"]), int(options.candidates)
    if 0 < few < words:
        size = batch_size(8 * places * (words + few**2))
        screened = _screening_program(few, float(options.penalty), int(options.iterations))
        chosen, sizes = in_batches(screened, arrays, size, [descriptors.vectors])
        return max_pooled(chosen, sizes, regions, words)
    size = batch_size(20 * places * words)
    program = _pooling_program(float(options.penalty), int(options.iterations))
    return in_batches(program, arrays, size, [descriptors.vectors, regions])[0]


def codes(
    arrays: dict[str, Any], vectors: Float[ArrayLike, "t d"], penalty: float, iterations: int
) -> Float[Array, "t k"]:
    """The codes after some iterations of FISTA with its constant step."""
    words = jnp.asarray(arrays["words"])
    with jax.default_matmul_precision("float32"):
        target = jnp.asarray(vectors) @ words.T
        # If words are few, it is faster to multiply by V V^T than by V and V^T.
        if len(words) <= 2 * words.shape[1]:
            gram = words @ words.T
            return _fista(lambda code: code @ gram, target, arrays["bound"], penalty, iterations)
        return _fista(lambda code: code @ words @ words.T, target, arrays["bound"], penalty, iterations)


def screened_codes(
    arrays: dict[str, Any], vectors: Float[ArrayLike, "t d"], candidates: int, penalty: float, iterations: int
) -> tuple[Int[Array, "t j"], Float[Array, "t j"]]:
    """The words of largest absolute correlation with each descriptor, and its code over these words alone.

    This is the code over all words, unless that one uses a word outside these.
    """
    words = jnp.asarray(arrays["words"])
    with jax.default_matmul_precision("float32"):
        target = jnp.asarray(vectors) @ words.T
        _, chosen = jax.lax.top_k(jnp.abs(target), candidates)
        gram = (words @ words.T)[chosen[:, :, None], chosen[:, None, :]]
        target = jnp.take_along_axis(target, chosen, axis=1)

        def products(code: Float[Array, "t j"]) -> Float[Array, "t j"]:
            return jnp.einsum("tj,tij->ti", code, gram)

        return chosen, _fista(products, target, arrays["bound"], penalty, iterations)


def _fista(
    products: Callable, target: Float[Array, "t k"], bound: Any, penalty: float, iterations: int
) -> Float[Array, "t k"]:
    """FISTA with a constant step: `products` multiplies codes with V V^T, whose eigenvalues are at most `bound`."""
    step = 1 / bound

    def iterate(_: Int[Array, ""], state: tuple) -> tuple:
        code, ahead, momentum = state
        moved = ahead - step * (products(ahead) - target)
        shrunk = jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - step * penalty / 2, 0)
        following = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        return shrunk, shrunk + (momentum - 1) / following * (shrunk - code), following

    start = jnp.zeros_like(target)
    return jax.lax.fori_loop(0, iterations, iterate, (start, start, jnp.float32(1)))[0]


@functools.cache
def _screening_program(candidates: int, penalty: float, iterations: int) -> Callable:
    def screened(arrays: dict, vectors: Float[Array, "n t d"]) -> tuple[Int[Array, "n t j"], Float[Array, "n t j"]]:
        chosen, code = jax.lax.map(
            lambda image: screened_codes(arrays, image, candidates, penalty, iterations), vectors
        )
        return chosen, jnp.abs(code)

    return compilation.jit(screened)


@functools.cache
def _pooling_program(penalty: float, iterations: int) -> Callable:
    def pooled(
        arrays: dict, vectors: Float[Array, "n t d"], regions: Bool[Array, "n t r"]
    ) -> tuple[Float[Array, "n r k"]]:
        def one(image: tuple) -> Float[Array, "r k"]:
            vectors, regions = image
            size = jnp.abs(codes(arrays, vectors, penalty, iterations))
            # One region after the other, so that memory never holds the masked codes of all regions.
            return jax.lax.map(lambda inside: jnp.where(inside[:, None], size, 0).max(axis=0), regions.T)

        return (jax.lax.map(one, (vectors, regions)),)

    return compilation.jit(pooled)
