"""A classic run from its config to its summary, top to bottom in the order things happen."""

import dataclasses
import datetime
import importlib.metadata
import os
import pathlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from classic import pipeline, saved, workdir
from classic.config import check_colour
from classic.pipeline import Pipeline
from classic.stages import Cost, Stages
from common import config as common_config
from common import config_checks
from common.data import datasets
from common.data.dataset_info import Info, describe, fingerprint, tolerable_changes
from common.data.sources import ImageSource, Record
from common.data.splits import Dataset
from common.devices import host
from common.run import history, lock, metrics, provenance, summary
from common.run import workdir as common_workdir
from common.run.trained import Predictions
from common.run.workdir import StoredRun, write_facts

_SCORES = "scores_"  # before a split's name: the stage that computes scores from the split's features
STEP = 1  # of every record: a pipeline is fitted once
_LIBRARIES = ("scikit-learn", "scipy", "opencv-python-headless", "scikit-image")


def fit(config: ConfigDict, folder: pathlib.Path) -> dict[str, Any]:
    """Fits and tests the config's pipeline, from the last finished stage in `folder` on; returns the run's summary.

    Raises UserError for what the user can fix; the stages that are finished by then are kept.
    """
    dataset = _dated(datasets.open_dataset(config.data, workdir.stored_info(folder)))
    config_checks.check_holdout(config.data, dataset)
    check_colour(config, dataset.info.image_shape[-1])
    with lock.held(folder):
        before = workdir.stored_run(folder, config, dataset.info)
        is_finished = before is not None and _finished(folder, before, config, dataset.info)
        if not is_finished:  # before the new config is written: a kill leaves no result beside another run's config
            summary.remove(folder)
        print(opening_lines(config, dataset, f"{folder}{': finished' if is_finished else ''}"))
        if is_finished:
            write_facts(folder, config, dataset.info)
            saved.update_config(folder, config)
            return summary.read(folder, result_line)
        for note in _notes(before, config, dataset.info):
            print(note)
        history.forget(folder, before)
        history.record(folder, STEP, before, config)
        write_facts(folder, config, dataset.info)
        dataset = datasets.decoded(dataset, config.data)
        done = Stages(folder)
        fitted, rows = pipeline.fit(config, dataset, done, _say)
        saved.save(folder, fitted)
        records = []
        for split, source in pipeline.splits(dataset).items():
            cost = done.costs[_SCORES + split] = Cost(len(source))
            with cost.counting("all"):
                values = pipeline.scores_of_features(fitted, rows[split])
            found = pipeline.as_predictions(values, pipeline.labels_as_read(source))
            elapsed = sum(cost.total for cost in done.costs.values())
            records.append({"step": STEP, "split": split, "epoch": 1.0, "elapsed": elapsed, **errors(found)})
            _say(f"{split:<10}  loss {records[-1]['loss']:8.4f}  error {records[-1]['error']:7.2%}")
        return _write(folder, fitted, done, records, sorted(dataset.bad))


def opening_lines(config: ConfigDict, dataset: Dataset, folder: str) -> str:
    """The lines printed before the first stage."""
    return "\n".join([pipeline.chain(config), describe(dataset.info), *dataset.notes, f"workdir {folder}"])


def errors(found: Predictions) -> dict[str, Any]:
    """Mean loss, error, top-5 error if there are more than five classes (fractions), and the number of examples."""
    order = np.argsort(-found.log_probabilities, axis=-1, kind="stable")[:, :5]
    top5 = float(np.mean((order != found.labels[:, None]).all(-1)))
    return {
        "loss": float(found.losses.mean()),
        "error": found.error,
        **({"top5_error": top5} if found.log_probabilities.shape[1] > 5 else {}),
        "examples": len(found.labels),
    }


def result_line(content: dict[str, Any]) -> str:
    """The result of a finished run, from its summary."""
    seconds = content["seconds"]
    return (
        f"test error {content['test']['error']:.2%}, training error {content['train']['error']:.2%}; "
        f"{content['parameters']:,} numbers learnt in {seconds['fit']:,.1f} s, tested in {seconds['test']:,.1f} s"
    )


def _say(text: str) -> None:
    print(text, flush=True)


def _dated(dataset: Dataset[ImageSource]) -> Dataset[ImageSource]:
    """The dataset, with the size and time of each image file in its fingerprint.

    Stages depend on the fingerprint, so that a file that has other pixels under the same name is described again.
    """
    parts = (dataset.train, dataset.validation, dataset.test)
    sources = [source for source in parts if source is not None and isinstance(source.records[0].image, os.PathLike)]
    if not sources:
        return dataset
    records = (source.records[index] for source in sources for index in range(len(source)))
    kept = fingerprint([dataset.info.fingerprint, *map(_size_and_time, records)])
    return dataclasses.replace(dataset, info=dataclasses.replace(dataset.info, fingerprint=kept))


def _size_and_time(record: Record) -> str:
    if not isinstance(record.image, os.PathLike):
        return "stored"
    try:
        found = os.stat(record.image)
    except OSError:  # a missing image is reported or skipped when it is read
        return "missing"
    return f"{found.st_size} {found.st_mtime_ns}"


def _finished(folder: pathlib.Path, before: StoredRun, config: ConfigDict, info: Info) -> bool:
    """True if the folder holds the result of this very run."""
    changed = common_config.differences(before.config, config)
    same = not any(path.startswith("decode") for path in changed) and before.info == info
    return same and summary.exists(folder) and saved.exists(folder)


def _notes(before: StoredRun | None, config: ConfigDict, info: Info) -> list[str]:
    """Lines on what has changed in a run that goes on: its dataset and its decoder."""
    if before is None:
        return []
    lines = [note] if (note := tolerable_changes(before.info, info)) else []
    # Another decoder has options of its own, which had no value before.
    other = before.config.decode.name != config.decode.name
    return lines + history.changed_options(before.config, config, ("decode.name" if other else "decode",))


def _write(
    folder: pathlib.Path, fitted: Pipeline, done: Stages, records: list[dict[str, Any]], skipped: list[str]
) -> dict[str, Any]:
    """Writes metrics and `summary.json`, and returns the summary: errors (fractions), cost of each stage.

    `seconds` has the time to fit and the time to test (features and scores of the test set), both over all starts of
    the run. Scores of other splits belong to neither. `core_seconds` has the same for all cores together, unless a
    stage was made by an earlier version, which did not count them. skipped: a message for each image that could not be
    read.
    """
    metrics.write(folder, records)
    seconds = _fit_and_test({name: cost.total for name, cost in done.costs.items()})
    cores = {name: cost.core_total for name, cost in done.costs.items()}
    counted = {name: total for name, total in cores.items() if total is not None}
    environment = common_workdir.environment()
    content = {
        "step": STEP,
        **{record["split"]: {k: v for k, v in record.items() if k not in metrics.RECORD_KEYS} for record in records},
        "parameters": fitted.parameters,
        "stages": {name: cost.facts() for name, cost in done.costs.items()},
        "images_per_second": fitted.info.train_size / seconds["fit"],
        "seconds": seconds,
        **({"core_seconds": _fit_and_test(counted)} if len(counted) == len(cores) else {}),
        "peak_memory_bytes": host.peak_resident_memory(),
        "computed": done.computed,
        "skipped_images": skipped,
        "seed": fitted.config.seed,
        **provenance.facts(),
        "date": datetime.date.today().isoformat(),
        "environment": {**environment, **{name: importlib.metadata.version(name) for name in _LIBRARIES}},
    }
    common_workdir.write_json(folder / common_workdir.SUMMARY, content)
    return content


def _fit_and_test(costs: dict[str, float]) -> dict[str, float]:
    """The costs to fit and to test, from those of each stage and of each split's scores."""
    testing = {"features_test", f"{_SCORES}test"}
    fitting = sum(cost for name, cost in costs.items() if name not in testing and not name.startswith(_SCORES))
    return {"fit": fitting, "test": sum(costs[name] for name in testing)}
