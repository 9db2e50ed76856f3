"""The error of a fitted pipeline: `python -m classic.main --mode=evaluate --workdir=DIR`."""

import dataclasses
import pathlib
from typing import Any

from ml_collections import ConfigDict

from classic import pipeline, saved, train, workdir
from common.data import datasets
from common.run import workdir as common_workdir

FILE = "evaluate_single.json"


def measure(folder: pathlib.Path, config: ConfigDict | None = None) -> dict[str, Any]:
    """Tests the pipeline in a folder on whole test images, once each, and writes the result to `evaluate_single.json`.

    config: the same experiment with other test data. Returns top1_error, top5_error if there are more than five
    classes (fractions), cross_entropy (nats) of the softmax of the scores, examples, test_data (the options that chose
    the images) and environment.
    """
    fitted = saved.load(folder)
    known, elsewhere = fitted.config.data.source, False
    if config is not None:
        workdir.check_same(folder, fitted.config, config, evaluating=True)
        fitted, elsewhere = dataclasses.replace(fitted, config=config), config.data.source != known
    test = datasets.load_test(fitted.config.data, known=fitted.info, everything=elsewhere)
    found = train.errors(pipeline.predictions(fitted, test))
    names = {"error": "top1_error", "loss": "cross_entropy"}
    result = {
        "protocol": "single",
        **{names.get(name, name): value for name, value in found.items()},
        "members": [{"workdir": str(folder), "pipeline": pipeline.chain(fitted.config)}],
        "test_data": common_workdir.test_data(fitted.config.data),
        "environment": common_workdir.environment(),
    }
    common_workdir.write_json(folder / FILE, result)
    return result


def as_line(result: dict[str, Any]) -> str:
    """A result as a line of text."""
    top5 = f", top-5 error {result['top5_error']:.2%}" if "top5_error" in result else ""
    return f"single, top-1 error {result['top1_error']:.2%}{top5} of {result['examples']:,} images"
