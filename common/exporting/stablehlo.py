"""StableHLO programs in the files of `jax.export`, which any later JAX reads and runs on any of its devices."""

import pathlib
from typing import Any

import jax
import numpy as np
from jax import export

from common.devices import compilation
from common.errors import UserError
from common.exporting.program import Numpy, Program

ALL_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def check_installed() -> None:
    """UserError where the library that writes these files is missing."""
    try:
        import flatbuffers  # noqa: F401
    except ImportError as error:
        raise UserError("StableHLO files need flatbuffers: pip install flatbuffers") from error


def write(program: Program, path: pathlib.Path, facts: dict[str, Any]) -> None:
    """Writes a program to a file. `facts` are not in it: files of this kind hold no metadata.

    Written on a CPU it runs on every platform of JAX; elsewhere it may hold operations of that platform, the only one
    that it then runs on.
    """
    del facts
    size = "batch" if program.batch is None else str(program.batch)
    shape = export.symbolic_shape(f"{size}, {', '.join(map(str, program.image_shape))}")
    platforms = ALL_PLATFORMS if compilation.on_cpu() else None
    with compilation.portable():
        exported = export.export(jax.jit(program.function), platforms=platforms)(
            jax.ShapeDtypeStruct(shape, program.input_type)
        )
    path.write_bytes(exported.serialize())


def read(path: pathlib.Path) -> Numpy:
    """The program in a file, as a function of NumPy arrays."""
    call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    return lambda images: np.asarray(call(images))
