"""Sums and functions in a form that XLA's CPU backend computes with vectors, for layers of at most 16 maps."""

from collections.abc import Callable, Iterable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_TERMS = 32  # With more of them in a loop, LLVM keeps the terms in memory and takes twice as long.


def vectors(values: Float[Array, "*places numbers"]) -> list[Float[Array, " numbers"]]:
    """The vectors along the last axis, each of which is one piece of memory.

    XLA may store an array in any order of its axes, and reads a vector that is not in one piece number by number. A
    single axis has only one order.
    """
    return jnp.split(lax.optimization_barrier(values.reshape(-1)), values.size // values.shape[-1])


def elementwise(function: Callable[[Array], Array], values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`function` of each number, over whole rows of pixels: LLVM computes an axis of 6 or 16 maps number by number."""
    rows = lax.optimization_barrier(values.reshape(*values.shape[:-2], -1))
    return function(rows).reshape(values.shape)


def total(
    terms: Iterable[Float[Array, "*shape"]], start: Float[Array, "*part_of_shape"] | None = None
) -> Float[Array, "*shape"]:
    """The sum of all terms, and of `start`, which may lack the first axes. It is stored after each 32 terms.

    With terms such as a pixel times a vector of weights, the sum stays in a register meanwhile, and a Zen 4 core
    reaches 90% of the rate of large matrix products.
    """
    result = start
    for number, term in enumerate(terms):
        if number and number % _TERMS == 0:
            result = lax.optimization_barrier(result)
        result = term if result is None else result + term
    if result is None:
        raise ValueError("a sum needs a term")
    return lax.optimization_barrier(result)
