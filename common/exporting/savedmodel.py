"""Programs in TensorFlow's SavedModel folders: StableHLO, wrapped by JAX, for TensorFlow and its servers."""

import json
import os
import pathlib
from typing import Any

import jax
import numpy as np

from common.devices import compilation
from common.errors import UserError
from common.exporting.program import INPUT, LoadedProgram, Program
from common.exporting.stablehlo import platforms

SIGNATURE = "serving_default"  # by which TensorFlow's servers call a program


def check_installed() -> None:
    """Raises UserError if a library that writes and reads these folders is missing."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # fatal errors: others are raised
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise UserError(f"SavedModels need {error.name}: pip install -e '.[savedmodel]'") from error
    try:
        from jax.experimental import jax2tf  # noqa: F401
    except ImportError as error:
        raise UserError("SavedModels need jax.experimental.jax2tf, which this JAX lacks; use .stablehlo") from error


def write(program: Program, path: pathlib.Path, facts: dict[str, Any]) -> None:
    """Writes a program for `platforms()` to a new folder.

    facts: its metadata, which the loaded program has as JSON in `metadata`.
    """
    import tensorflow as tf
    from jax.experimental import jax2tf

    module = tf.Module()
    module.metadata = tf.Variable(json.dumps(facts), trainable=False)
    leaves, tree = jax.tree.flatten(program.run.variables)
    # As constants they would take several times the memory.
    module.arrays = [tf.Variable(np.asarray(leaf), trainable=False) for leaf in leaves]
    variables = jax.tree.unflatten(tree, list(module.arrays))
    with compilation.portable():
        function = jax2tf.convert(
            jax.jit(program.apply),
            polymorphic_shapes=[None, f"({program.symbolic_shape})"],
            with_gradient=False,
            native_serialization_platforms=platforms(),
        )
        images = tf.TensorSpec((program.batch, *program.image_shape), program.input_type, name=INPUT)
        module.serve = tf.function(
            lambda images: {program.output: function(variables, images)}, [images], autograph=False
        )
        tf.saved_model.save(module, str(path), signatures={SIGNATURE: module.serve})


def read(path: pathlib.Path) -> LoadedProgram:
    """The program in a folder, as a function of NumPy arrays that TensorFlow runs."""
    import tensorflow as tf

    module = tf.saved_model.load(str(path))  # the function keeps it, because TensorFlow frees what nobody holds

    def call(images: np.ndarray) -> np.ndarray:
        [outputs] = module.signatures[SIGNATURE](**{INPUT: tf.constant(images)}).values()
        return outputs.numpy()

    return call
