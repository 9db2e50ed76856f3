"""Loops in compiled programs, in the form that suits the device."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree

from common.devices import compilation


def map_examples(function: Callable[..., PyTree], *examples: PyTree) -> PyTree:
    """`function` applied to each example of a batch: `jax.vmap`, but on CPU one example after the other.

    Under vmap a `lax.switch` computes all its branches. One example at a time computes only one of them, which is
    faster on few cores.
    """
    if compilation.on_cpu():
        return jax.lax.map(lambda example: function(*example), examples)
    return jax.vmap(function)(*examples)


def scan(body: Callable[[Any, Any], tuple[Any, Any]], init: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
    """`jax.lax.scan`, unrolled on CPU, where XLA is slow at convolutions inside loops."""
    return jax.lax.scan(body, init, xs, unroll=compilation.on_cpu())
