"""Runs opened for a comparison, grouped by experiment: those of a group differ only in their seed."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from common import config as config_lib
from common import models
from common.anatomy import layer_table
from common.data.dataset_info import Info
from common.errors import UserError, count_of
from common.files import as_text, user_path
from common.run import metrics, summary, workdir


@dataclasses.dataclass(frozen=True)
class Compared:
    """A run of a network or of a classic pipeline.

    options: of its config, by path, without those that change no result. records: of `metrics.jsonl`. summary: None if
    the run is not finished.
    """

    name: str
    options: dict[str, Any]
    info: Info
    records: list[dict[str, Any]]
    summary: dict[str, Any] | None
    parameters: int | None
    multiply_adds: int | None

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.options["seed"]

    @property
    def is_network(self) -> bool:
        """False for a classic pipeline, which has no learning curve."""
        return "model.family" in self.options

    @property
    def watched(self) -> str:
        """The split that is evaluated while the run trains."""
        return "validation" if self.info.validation_size else "test"

    def epochs(self, step: int) -> float:
        """The passes over the training set in `step` updates of a network."""
        return step * self.options["train.batch_size"] / self.info.train_size


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one experiment with different seeds."""

    name: str
    runs: tuple[Compared, ...]


def open_runs(names: Sequence[str]) -> list[Compared]:
    """The runs in the folders that a command line names.

    Raises UserError for fewer than two or for a folder given twice.
    """
    if len(names) < 2:
        raise UserError("expected two or more folders of runs: python -m common.compare RUN RUN ...")
    folders = [user_path(name) for name in names]
    workdir.check_distinct(folders)
    ends = [as_text(folder.resolve().name) for folder in folders]
    return [
        _opened(folder, end if ends.count(end) == 1 else as_text(str(folder)))
        for folder, end in zip(folders, ends, strict=True)
    ]


def _opened(folder: pathlib.Path, name: str) -> Compared:
    if not (folder / workdir.CONFIG).is_file():
        raise workdir.no_run(folder, workdir.CONFIG)
    stored = workdir.read_json(folder / workdir.CONFIG)
    config = workdir.load_config(folder) if "model" in stored else ConfigDict(stored)
    if not isinstance(config.get("seed"), int) or "data" not in config:
        raise UserError(f"{folder / workdir.CONFIG} is damaged: it is not the config of a run")
    info, done = workdir.load_info(folder), summary.read(folder, _used) if summary.exists(folder) else None
    parameters, multiply_adds = _size(done or {}, config, info)
    options = {
        path: value for path, value in config_lib.flat(config).items() if not workdir.changes_no_result(path, config)
    }
    return Compared(name, options, info, metrics.read(folder), done, parameters, multiply_adds)


def _used(content: dict[str, Any]) -> str:
    """The numbers of a summary that a comparison reads, as one text. Raises KeyError or TypeError if one is missing."""
    numbers = (content["train"]["error"], summary.training_seconds(content), content["images_per_second"])
    return summary.test_error_text(content) + "".join(f", {number:g}" for number in numbers)


def _size(done: dict[str, Any], config: ConfigDict, info: Info) -> tuple[int | None, int | None]:
    """Parameters and multiply-adds, from the summary or, for a network whose summary lacks one, by tracing it."""
    known = done.get("parameters"), done.get("multiply_adds")
    if "model" not in config or None not in known:
        return known
    classifier = models.make_classifier(config.model, info)
    counted = summary.size(classifier, layer_table.variable_shapes(classifier.module, classifier.input_shape))
    return counted["parameters"], counted["multiply_adds"]


def group_runs(runs: Sequence[Compared]) -> list[Group]:
    """The runs by experiment, in the order of their first runs.

    Two runs of one experiment with the same seed are not independent, so the second starts another group.
    """
    found: list[list[Compared]] = []
    for run in runs:
        for members in found:
            if _experiment(run) == _experiment(members[0]) and run.seed not in [other.seed for other in members]:
                members.append(run)
                break
        else:
            found.append([run])
    names = [_common_name([run.name for run in members]) for members in found]
    return [
        Group(name if names.count(name) == 1 else members[0].name, tuple(members))
        for name, members in zip(names, found, strict=True)
    ]


def _experiment(run: Compared) -> tuple[Any, ...]:
    """Everything that runs of one experiment have in common: they differ only in the seed."""
    info, options = run.info, {path: value for path, value in run.options.items() if path != "seed"}
    return info.name, info.class_names, info.train_size, info.test_size, options


def _common_name(names: Sequence[str]) -> str:
    """The beginning that the names share, without half a number or the word 'seed' at its end.

    A single name stays as it is. Of a path, such as 'seed1/lenet', only the last folder counts; if that is the same for
    all, it is their name.
    """
    ends = [os.path.basename(name) for name in names]
    if len(set(ends)) == 1:
        return names[0] if len(names) == 1 else ends[0]
    shared = os.path.commonprefix(ends)
    if any(end[len(shared) :][:1].isdecimal() for end in ends):  # run10 and run12 share no number
        shared = shared.rstrip("0123456789")
    return shared.rstrip("_-. ").removesuffix("seed").rstrip("_-. ") or names[0]


def _test_set(info: Info) -> str:
    images = count_of(info.test_size, "test image") if info.test_size else "a file with no dataset"
    return f"{info.name}, {images}, {info.num_classes} classes"


def notes(compared: Sequence[Group]) -> list[str]:
    """Sentences that a reader must know before comparing the errors of these groups."""
    runs = [run for group in compared for run in group.runs]
    said = []
    tests = {(run.info.name, run.info.test_size, run.info.class_names): run.info for run in runs}
    if len(tests) > 1:
        sets = "; ".join(map(_test_set, tests.values()))
        said.append(f"The runs used different datasets ({sets}), so their errors do not compare directly.")
    if unfinished := [run.name for run in runs if run.summary is None]:
        said.append(f"Not finished, and shown as far as recorded: {', '.join(unfinished)}.")
    experiments = [_experiment(group.runs[0]) for group in compared]
    if any(experiments.count(one) > 1 for one in experiments):
        said.append("Some runs have the same config and the same seed, and are listed apart.")
    return said
