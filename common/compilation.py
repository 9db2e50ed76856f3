"""Steps compiled as XLA's CPU backend runs them fastest.

By default it gives matrix products, convolutions and sums to YNNPACK, whose gradients to kernels take three to nine
times as long as the convolution itself: only sums stay there. And it drops jax.lax.optimization_barrier before it fuses
the loops that a network keeps apart with it. With both mended a step of ResNet-20 takes less than half of the time.

Products would be faster still in oneDNN, but a program with those cannot be kept for the next start (jaxlib 0.10.2).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

_CPU = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
    "xla_disable_hlo_passes": "cse_barrier_expander",
}


def jit(function: Callable, **options: Any) -> Callable:
    """jax.jit, for functions whose speed matters: with the default backend's `compiler_options`."""
    return jax.jit(function, compiler_options=compiler_options(), **options)


@functools.cache
def compiler_options() -> dict[str, Any]:
    """What to tell XLA on this backend: on CPU what to leave out, if this version of it knows."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda number: number, compiler_options=_CPU).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # they are experimental: a later XLA may have dropped or renamed one
        return {}
    return _CPU
