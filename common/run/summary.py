"""`summary.json`, which a run writes when it is done, and the line that it prints then."""

import datetime
import json
import pathlib
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, PyTree
from ml_collections import ConfigDict

from common.anatomy import layer_table
from common.devices import host
from common.errors import UserError, count_of
from common.files import writing
from common.models import Classifier
from common.processes import distributed
from common.run import metrics, provenance, workdir
from common.training.state import num_parameters

SKIPPED = "skipped_images.json"
_SKIPPED_KEY = "skipped_images"
_PATIENCE = 300.0  # seconds to wait for the messages of all processes


def exists(folder: pathlib.Path) -> bool:
    """True if the run in `folder` is finished."""
    return (folder / workdir.SUMMARY).exists()


def remove(folder: pathlib.Path) -> None:
    """Removes the summary, if any, of a run that goes on: until it ends again, it is not finished."""
    with writing(folder / workdir.SUMMARY):
        (folder / workdir.SUMMARY).unlink(missing_ok=True)


def test_error_text(content: dict[str, Any]) -> str:
    """The test error of a finished run of any kind, as text, or a remark that the run was not tested."""
    if "best_validation" in content and "test" not in content:
        return "not tested (config.evaluate.test is False)"
    return f"test error {content['test']['error']:.2%}"


def tested_step(content: dict[str, Any]) -> int:
    """The step of the checkpoint with the test error: the last one or, with a validation set, the one it chose."""
    return content.get("best_validation", content)["step"]


def read(folder: pathlib.Path, check: Callable[[dict[str, Any]], Any] = test_error_text) -> dict[str, Any]:
    """The summary of a finished run. Raises UserError if there is none, or if `check` fails on it."""
    if not exists(folder):
        raise UserError(f"the run in {folder} is not finished: {workdir.SUMMARY} is missing")
    content = workdir.read_json(folder / workdir.SUMMARY)
    try:
        check(content)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"{folder / workdir.SUMMARY} is damaged: it is not the summary of a run ({said})") from error
    return content


def read_complete(folder: pathlib.Path, evaluate: ConfigDict) -> dict[str, Any] | None:
    """The summary of a finished run; None without one, or if it lacks a result that the section `evaluate` asks for.

    Raises UserError for a damaged summary.
    """
    if not exists(folder):
        return None
    content = read(folder, result_line)
    return content if all(name in content for name in ("test", "train_set") if evaluate[name]) else None


class Skipped:
    """The messages about unreadable images of a run, from all its starts.

    Training finds unreadable images as it draws them, so a process knows only those that it has drawn itself, in this
    start. The messages are saved with each checkpoint: what is drawn after the last one is drawn again by the next
    start.
    """

    def __init__(self, folder: pathlib.Path, found: Collection[str], resumed: bool, write: bool):
        """found: the messages of this start, which may grow. resumed: whether the run has an earlier start.

        write: True in one of several processes.
        """
        self._path, self._found, self._write = folder / SKIPPED, found, write
        self._earlier: list[str] = []
        self._told: set[str] = set()  # to the other processes
        if resumed and self._path.exists():
            self._earlier = workdir.read_json(self._path).get(_SKIPPED_KEY, [])
        elif write:
            with writing(self._path):
                self._path.unlink(missing_ok=True)  # of a run that ended before its first checkpoint

    def save(self) -> list[str]:
        """Keeps and returns the messages of all processes so far, sorted; all have to call it."""
        found = set(self._found)  # at once: the threads that read images may add to it
        texts = distributed.gathered("skipped images", json.dumps(sorted(found - self._told)), _PATIENCE)
        self._told |= found
        messages = sorted({*self._earlier, *(message for text in texts for message in json.loads(text))})
        if self._write and messages != self._earlier:
            workdir.write_json(self._path, {_SKIPPED_KEY: messages})
        self._earlier = messages
        return messages


def class_errors(
    class_names: Sequence[str], counts: Int[np.ndarray, "2 classes"]
) -> dict[str, dict[str, int | float | None]]:
    """The number of examples and the error (a fraction, None without examples) of each class, by its name.

    counts: the numbers of examples and of errors, as from `training.evaluate`.
    """
    triples = zip(class_names, *counts.tolist(), strict=True)
    return {name: {"examples": n, "error": wrong / n if n else None} for name, n, wrong in triples}


def size(classifier: Classifier, variables: PyTree) -> dict[str, int]:
    """The numbers of parameters and of multiply-adds for one image, forwards; `variables` may be shapes."""
    work = layer_table.multiply_adds_per_image(classifier.module, variables, classifier.input_shape)
    return {"parameters": num_parameters(variables.get("params", {})), "multiply_adds": work}


def write(
    folder: pathlib.Path,
    config: ConfigDict,
    size: Mapping[str, int],
    class_errors: dict[str, Any],
    train_set: dict[str, float],
    resumed_from: int,
    skipped: list[str],
    best_step: int | None = None,
) -> dict[str, Any]:
    """Writes and returns the summary of a finished run: errors (fractions), speed, versions.

    `test` is the error at the end, and `best_test` the lowest of all tests. With a validation set, `test` is the error
    of the checkpoint with the lowest validation error, `best_validation`, and the test set was read only this once. A
    run that did not read the test set has neither `test` nor `class_errors`. Raises UserError if `metrics.jsonl` has
    lost all numbers of the training.

    size, class_errors: from the functions of these names. train_set: loss and errors of the same network over the
    training set, {} if not asked for; `train` is what was measured as it learned. skipped: a message for each image
    that could not be read, from `Skipped`. best_step: the step of the checkpoint with the lowest validation error or,
    without a validation set, the lowest test error. `core_seconds` counts the work of all cores, which other programs
    on the machine hardly change; a run that an earlier version began has none.
    """
    records = {split: metrics.read(folder, split) for split in ("train", "validation", "test")}
    validation, test, train = records["validation"], records["test"], records["train"]
    if not train:
        raise UserError(
            f"{folder / metrics.FILE} has no numbers of the training, so the run has no summary; raise "
            "config.train.length to go on, or test it with --mode=evaluate"
        )
    # Several evaluations may share the lowest error, but not all have a checkpoint, and that checkpoint may be damaged.
    chosen = [record for record in validation if record["step"] == best_step]
    best = min(
        chosen or validation or test,
        key=lambda record: (record["error"], record["step"] != best_step, -record["step"]),
    )
    selected = {"validation": _values(validation[-1])} if validation else {}
    # A run that went on after its end may have tested other checkpoints before.
    of_chosen = [record for record in test if validation and record["step"] == best_step]
    tested = {"test": _values((of_chosen or test)[-1])} if class_errors else {}
    content = {
        "step": max(record["step"] for record in (*train, *validation, *test)),
        **tested,
        **selected,
        f"best_{'validation' if validation else 'test'}": {"step": best["step"], "error": best["error"]},
        **({"class_errors": class_errors} if class_errors else {}),
        "train": {key: train[-1][key] for key in ("loss", "error")},
        **({"train_set": train_set} if train_set else {}),
        **size,
        "images_per_second": statistics.median_high(record["images_per_second"] for record in train),
        "seconds": _spent(records, "seconds"),
        **({"core_seconds": _spent(records, "core_seconds")} if _counts_cores(records) else {}),
        "peak_memory_bytes": host.peak_resident_memory(),
        "resumed_from": resumed_from,
        "skipped_images": skipped,
        "seed": config.seed,
        **provenance.facts(),
        "environment": workdir.environment(),
        "date": datetime.date.today().isoformat(),
    }
    workdir.write_json(folder / workdir.SUMMARY, content, compact=("class_errors",))
    return content


def result_line(content: dict[str, Any]) -> str:
    """The result of a finished run, from its summary."""
    error, steps = test_error_text(content), f"after {count_of(content['step'], 'step')}"
    if "best_validation" in content:
        best = content["best_validation"]
        if "test" not in content:
            return f"validation error {best['error']:.2%} at step {best['step']:,}, the lowest; {steps}; {error}"
        return f"{error} at step {best['step']:,}, which has the lowest validation error, {best['error']:.2%}; {steps}"
    best = content["best_test"]
    return f"{error} {steps} (lowest {best['error']:.2%} at step {best['step']:,}, a choice made on the test set)"


def training_seconds(content: dict[str, Any], clock: str = "seconds") -> float:
    """The time that a finished run of any kind trained for, from its summary; clock: 'seconds' or 'core_seconds'."""
    spent = content[clock]
    return spent["fit"] if "fit" in spent else spent["train"]


def _spent(records: Mapping[str, Sequence[dict[str, Any]]], clock: str) -> dict[str, float]:
    """The time of each split's records together, by a clock: 'seconds' or 'core_seconds'."""
    return {split: sum(record[clock] for record in found) for split, found in records.items() if found}


def _counts_cores(records: Mapping[str, Sequence[dict[str, Any]]]) -> bool:
    return all("core_seconds" in record for found in records.values() for record in found)


def _values(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in metrics.RECORD_KEYS}
