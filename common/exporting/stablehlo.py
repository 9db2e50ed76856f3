"""StableHLO programs in the files of `jax.export`, which any later JAX reads and runs on any of its devices."""

import pathlib
from typing import Any

import jax
import numpy as np
from jax import export

from common.devices import compilation
from common.errors import UserError
from common.exporting.program import LoadedProgram, Program


def platforms() -> tuple[str, ...] | None:
    """The platforms that a program is written for: on a CPU all of JAX's; on others None, which is the current one.

    On accelerators a program may have operations that only its own platform supports.
    """
    return ("cpu", "cuda", "rocm", "tpu") if compilation.on_cpu() else None


def check_installed() -> None:
    """Raises UserError if the library that writes these files is missing."""
    try:
        import flatbuffers  # noqa: F401
    except ImportError as error:
        raise UserError("StableHLO files need flatbuffers: pip install flatbuffers") from error


def write(program: Program, path: pathlib.Path, facts: dict[str, Any]) -> None:
    """Writes a program for `platforms()` to a file. It does not write `facts`: these files have no metadata."""
    del facts
    images = jax.ShapeDtypeStruct(export.symbolic_shape(program.symbolic_shape), program.input_type)
    with compilation.portable():
        exported = export.export(jax.jit(program.function), platforms=platforms())(images)
    path.write_bytes(exported.serialize())


def read(path: pathlib.Path) -> LoadedProgram:
    """The program in a file, as a function of NumPy arrays."""
    call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    return lambda images: np.asarray(call(images))
