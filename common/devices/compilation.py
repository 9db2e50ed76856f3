"""How steps are compiled, and where compiled programs are kept for a run that goes on.

By default XLA's CPU backend gives matrix products, convolutions and sums to YNNPACK, whose gradients to kernels take
three to nine times as long as the convolution itself: only sums stay there. And it drops jax.lax.optimization_barrier
before it fuses the loops that a network keeps apart with it. With both mended a step of ResNet-20 takes less than half
of the time.

Products would be faster still in oneDNN, but a program with those cannot be kept for the next start (jaxlib 0.10.2).
"""

import functools
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import jax

FOLDER = "compiled"  # of a run

_CPU = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
    "xla_disable_hlo_passes": "cse_barrier_expander",
}


def jit(function: Callable, **options: Any) -> Callable:
    """jax.jit, for functions whose speed matters: with the default backend's `compiler_options`."""
    return jax.jit(function, compiler_options=compiler_options(), **options)


def on_cpu() -> bool:
    """True where programs run on XLA's CPU backend, which some formulations are written for."""
    return jax.default_backend() == "cpu"


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


def keep_in(workdir: pathlib.Path) -> None:
    """Keep compiled programs in WORKDIR/compiled, or where JAX_COMPILATION_CACHE_DIR says."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(workdir.absolute() / FOLDER))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # A full disk or a kill leaves an entry that is cut short: it is compiled again, and what a full disk
    # means for the run is told where its checkpoints are written.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
