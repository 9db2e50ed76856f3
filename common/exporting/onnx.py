"""ONNX programs, converted by jax2onnx and read by ONNX Runtime."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from common.errors import UserError
from common.exporting.program import INPUT, Numpy, Program

ENDING = ".onnx"


def check_installed() -> None:
    """UserError where a library that writes or runs these files is missing."""
    try:
        import jax2onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(f"ONNX files need {error.name}: pip install '.[export]'") from error
    del jax2onnx


def write(program: Program, path: pathlib.Path) -> None:
    """Writes a program to a file."""
    import onnx
    from jax2onnx import to_onnx

    shape = (program.batch or "batch", *program.image_shape)
    model = to_onnx(
        program.function,
        [jax.ShapeDtypeStruct(shape, program.input_type)],
        model_name=program.run.config.model.variant,
        input_names=[INPUT],
        output_names=[program.output],
    )
    onnx.save(model, path)


def read(path: pathlib.Path) -> Numpy:
    """The program in a file, as a function of NumPy arrays that runs on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images})[0]
