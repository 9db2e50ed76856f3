"""ONNX programs, converted by jax2onnx and read by ONNX Runtime."""

import json
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np
from jax import export

from common.devices import compilation
from common.errors import UserError
from common.exporting import primitives
from common.exporting.program import INPUT, LoadedProgram, Program

_OPSET = 21  # of 2024; the lowest version that runtimes must have


def check_installed() -> None:
    """Raises UserError if a library that writes or runs these files is missing."""
    try:
        import jax2onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(f"ONNX files need {error.name}: pip install -e '.[export]'") from error


def write(program: Program, path: pathlib.Path, facts: dict[str, Any]) -> None:
    """Writes a program to a file. facts: its metadata; values that are not text become JSON."""
    import onnx
    from jax2onnx import to_onnx

    images = jax.ShapeDtypeStruct(export.symbolic_shape(program.symbolic_shape), program.input_type)
    with compilation.portable():
        model = to_onnx(
            primitives.flattened(program.function, images),
            [images],
            model_name=program.run.config.model.variant,
            opset=_OPSET,
            input_names=[INPUT],
            output_names=[program.output],
        )
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, path)


def read(path: pathlib.Path) -> LoadedProgram:
    """The program in a file, as a function of NumPy arrays that runs on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(None, {INPUT: images})[0])


def quantize(path: pathlib.Path, to: pathlib.Path) -> None:
    """Writes the program in a file with weights of 8 bits, and products of 8-bit numbers, scaled for each batch."""
    import onnx
    import onnxruntime
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder:
        folded = pathlib.Path(folder, "folded.onnx")  # only weights that no node changes are quantised
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        model = onnx.load(folded)
        _multiply(model)
        onnx.save(model, folded)
        quantization.quantize_dynamic(folded, to, weight_type=quantization.QuantType.QUInt8)


def _multiply(model: Any) -> None:
    """Turns each `Gemm` without a bias, which jax2onnx writes, into `MatMul`, the only product that is quantised."""
    for node in model.graph.node:
        options = {attribute.name: attribute.f or attribute.i for attribute in node.attribute}
        transposed = options.get("transA") or options.get("transB")
        if node.op_type == "Gemm" and options.get("beta") == 0 and not transposed:
            node.op_type = "MatMul"
            del node.input[2:], node.attribute[:]
