"""Compiler options, and the cache of compiled programs that a resumed run starts from.

By default XLA's CPU backend gives matrix products, convolutions and sums to YNNPACK, whose kernel gradients take three
to nine times as long as the convolution itself; these options leave it only the sums. XLA also removes
jax.lax.optimization_barrier before fusion, so a barrier would not keep loops apart. With both corrected, a step of
ResNet-20 takes less than half the time. XLA also uses vectors of 256 bits where the processor has 512; `narrow` needs
the wider ones, and other networks are as fast with them.

oneDNN's products gained a Vision Transformer 5% on an Intel processor and cost it 9% on an AMD one, and programs that
use them cannot be cached (jaxlib 0.10.2).
"""

import contextlib
import contextvars
import functools
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax

FOLDER = "compiled"  # of a run

CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
    "xla_disable_hlo_passes": "cse_barrier_expander",
    "xla_cpu_prefer_vector_width": "512",
}


_target = contextvars.ContextVar("target", default="")


@contextlib.contextmanager
def compiled_for(platform: str) -> Iterator[None]:
    """Makes the formulations those of another platform ('tpu'), for programs that are compiled for it on this one."""
    token = _target.set(platform)
    try:
        yield
    finally:
        _target.reset(token)


def on_cpu() -> bool:
    """True if programs run on XLA's CPU backend, which some formulations are written for."""
    return (_target.get() or jax.default_backend()) == "cpu"


_portable = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Makes `tuned_for_cpu` false, for programs whose operations are counted, or that will run elsewhere."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def tuned_for_cpu() -> bool:
    """True if a formulation that only suits XLA's CPU backend may be used."""
    return on_cpu() and not _portable.get()


def jit(function: Callable, **options: Any) -> Callable:
    """`jax.jit` with `compiler_options()`, for functions whose speed matters."""
    return jax.jit(function, compiler_options=compiler_options(), **options)


def compiler_options() -> dict[str, Any]:
    """XLA's options for the platform that programs are compiled for: none for an accelerator."""
    return cpu_options() if on_cpu() else {}


@functools.cache
def cpu_options() -> dict[str, Any]:
    """`CPU_OPTIONS` if this version of XLA knows them, else none."""
    try:
        jax.jit(lambda number: number, compiler_options=CPU_OPTIONS).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # they are experimental: a later XLA may have dropped or renamed one
        return {}
    return CPU_OPTIONS


def keep_in(workdir: pathlib.Path) -> None:
    """Caches compiled programs in WORKDIR/compiled, or where JAX_COMPILATION_CACHE_DIR says."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(workdir.absolute() / FOLDER))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # A full disk or a kill leaves a truncated entry, which is compiled again. The user is told about a full disk when
    # a checkpoint is written.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
