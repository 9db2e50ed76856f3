"""The card of an exported program: network, data, error, recipe, versions, preprocessing and an example of its use."""

import json
import pathlib

from common.exporting import program as programs
from common.exporting.program import Program
from common.optim import schedules
from common.run import summary, workdir

_ONNX = """\
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("{file}")
images = np.zeros({shape}, np.{type})  # yours
outputs = session.run(["{output}"], {{"images": images}})[0]
print(outputs.argmax(-1))"""
_STABLEHLO = """\
import pathlib, numpy as np
from jax import export
program = export.deserialize(bytearray(pathlib.Path("{file}").read_bytes()))
images = np.zeros({shape}, np.{type})  # yours
print(np.asarray(program.call(images)).argmax(-1))"""

_SAVEDMODEL = """\
import numpy as np, tensorflow as tf
program = tf.saved_model.load("{file}")
images = np.zeros({shape}, np.{type})  # yours
outputs = program.signatures["serving_default"](images=tf.constant(images))
print(outputs["{output}"].numpy().argmax(-1))"""
_EXAMPLES = {".onnx": _ONNX, ".stablehlo": _STABLEHLO, ".savedmodel": _SAVEDMODEL}


def text(program: Program, path: pathlib.Path, folder: pathlib.Path, checked: str) -> str:
    """The card of the program in `path`, which was made from the run in `folder`.

    checked: the line on what was measured with the file.
    """
    facts = programs.facts(program, folder.name)
    example = _EXAMPLES[path.suffix].format(
        file=path.name,
        shape=(program.batch or 1, *program.image_shape),
        type=facts["input"].split()[1],
        output=program.output,
    )
    rows = {
        "network": facts["network"],
        "data": facts["dataset"],
        "error": _error(folder),
        "checkpoint": f"step {program.run.step:,}",
        "recipe": _recipe(program),
        "input": facts["input"],
        "preprocessing in the program": facts["preprocessing"],
        "output": facts["output"],
        "checked": checked,
        "versions": f"JAX {facts['jax']}, Lineage {facts['lineage']}",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    classes = ", ".join(program.run.info.class_names)
    return f"# {path.name}\n\n| | |\n|---|---|\n{table}\n\n```python\n{example}\n```\n\nClasses, in order: {classes}\n"


def _recipe(program: Program) -> str:
    """The training in words or, for a network that was only imported, its origin."""
    config = program.run.config
    started = f"weights of {config.init.checkpoint} ({config.init.source})" if config.init.checkpoint else ""
    if started and not program.run.step:
        return f"{started}, not trained here"
    return (
        f"{started and f'from {started}: '}{config.optimizer.name}, "
        f"{schedules.in_words(config.schedule)}, batch {config.train.batch_size}, {config.train.length}"
    )


def _error(folder: pathlib.Path) -> str:
    """The test error in the run's summary and the step of the checkpoint that it belongs to, or 'not measured'."""
    try:
        done = json.loads((folder / workdir.SUMMARY).read_text(encoding="utf-8"))
        return f"{done['test']['error']:.2%} of the run's test images, at step {summary.tested_step(done):,}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "not measured"
