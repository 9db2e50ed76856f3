"""Sparse coding with max pooling (ScSPM: Yang, Yu, Gong & Huang 2009).

A descriptor x has the code u that minimises |x - u V|^2 + penalty |u|_1 over a dictionary V of unit rows. FISTA (Beck &
Teboulle 2009) finds it for all descriptors at once.
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
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning

from classic.descriptors.record import Descriptors
from classic.encoders import normalise
from classic.encoders.batches import batch_size, in_batches
from classic.encoders.samples import check_sample
from classic.options import COUNT, POSITIVE
from common.devices import compilation

DEFAULTS: dict[str, Any] = {
    "words": 1024,  # rows of the dictionary
    "penalty": 0.3,  # of the code's L1 norm, for descriptors of unit length
    "iterations": 50,  # of FISTA
    "passes": 1,  # over the sample, to learn the dictionary
    "power": 1.0,
    "region_norm": "none",
    "norm": "l2",
}
CHOICES = normalise.CHOICES
RANGES = {**normalise.RANGES, "words": COUNT, "penalty": POSITIVE, "iterations": COUNT, "passes": COUNT}
finish = normalise.finish

_BATCH = 512  # descriptors in a step of dictionary learning
_STILL = 1e-6  # length below which a row of the dictionary counts as zero


def fit(
    sample: Float32[np.ndarray, "m d"],
    options: ConfigDict,
    seed: int,
    centres: Float32[np.ndarray, "m 2"] | None = None,
) -> dict[str, np.ndarray]:
    """The dictionary 'words' [k d], rows of unit length, and 'bound' [], the largest eigenvalue of V V^T.

    `UserError` if the sample is smaller than the dictionary.
    """
    check_sample(sample, options.words, "config.encode.words", "words")
    # scikit-learn halves the squared error, and so the penalty.
    learner = MiniBatchDictionaryLearning(
        options.words,
        alpha=options.penalty / 2,
        batch_size=min(_BATCH, len(sample)),
        max_iter=options.passes,
        fit_algorithm="cd",
        dict_init=_starting_words(sample, options.words, seed),
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of single codes on the way
        words = learner.fit(sample).components_.astype(np.float32)
    lengths = np.linalg.norm(words, axis=1, keepdims=True)
    words = words / np.where(lengths > _STILL, lengths, 1)
    bound = max(float(np.linalg.norm(words, 2)) ** 2, _STILL)
    return {"words": words, "bound": np.array(bound, np.float32)}


def _starting_words(sample: np.ndarray, words: int, seed: int) -> np.ndarray:
    """Distinct descriptors at random, of unit length; descriptors of zeros make random rows."""
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
    size = batch_size(20 * regions.shape[1] * len(arrays["words"]))
    program = _pooling_program(float(options.penalty), int(options.iterations))
    return in_batches(program, arrays, size, [descriptors.vectors, regions])[0]


def codes(
    arrays: dict[str, Any], vectors: Float[ArrayLike, "t d"], penalty: float, iterations: int
) -> Float[Array, "t k"]:
    """The codes after some iterations of FISTA with its constant step."""
    words, step = arrays["words"], 1 / arrays["bound"]
    target = vectors @ words.T
    # V V^T is the quicker one to multiply with where words are few.
    gram = words @ words.T if len(words) <= 2 * words.shape[1] else None

    def gradient(code: Float[Array, "t k"]) -> Float[Array, "t k"]:
        return (code @ words @ words.T if gram is None else code @ gram) - target

    def iterate(_: Int[Array, ""], state: tuple) -> tuple:
        code, ahead, momentum = state
        moved = ahead - step * gradient(ahead)
        shrunk = jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - step * penalty / 2, 0)
        following = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        return shrunk, shrunk + (momentum - 1) / following * (shrunk - code), following

    start = jnp.zeros_like(target)
    with jax.default_matmul_precision("float32"):
        return jax.lax.fori_loop(0, iterations, iterate, (start, start, jnp.float32(1)))[0]


@functools.cache
def _pooling_program(penalty: float, iterations: int) -> Callable:
    def pooled(
        arrays: dict, vectors: Float[Array, "n t d"], regions: Bool[Array, "n t r"]
    ) -> tuple[Float[Array, "n r k"]]:
        def one(image: tuple) -> Float[Array, "r k"]:
            vectors, regions = image
            size = jnp.abs(codes(arrays, vectors, penalty, iterations))
            # One region after the other, so that the masked codes of all never exist at once.
            return jax.lax.map(lambda inside: jnp.where(inside[:, None], size, 0).max(axis=0), regions.T)

        return (jax.lax.map(one, (vectors, regions)),)

    return compilation.jit(pooled)
