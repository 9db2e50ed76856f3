"""The starts of a run, one JSON object a line in `history.jsonl`: date, step, command, commit, versions, changes."""

import datetime
import json
import pathlib

from jaxtyping import PyTree
from ml_collections import ConfigDict

from common import config as config_lib
from common.data.dataset_info import Info, tolerable_changes
from common.files import append_line, writing
from common.optim import optimizers
from common.run import provenance, workdir
from common.run.workdir import StoredRun
from common.training.state import TrainState

FILE = "history.jsonl"


def start(
    folder: pathlib.Path, state: TrainState, before: StoredRun | None, config: ConfigDict, info: Info, write: bool
) -> None:
    """Prints what a run resumed from `state` changes.

    If `write` is set, it appends this start to the run's history, and then writes the config and the dataset's facts.
    """
    step = int(state.step)
    for note in notes(before, config, info, step, state.opt_state):
        print(note)
    profile = config.profile
    if profile.steps and step >= profile.start + profile.steps and not (folder / "profile").exists():
        print(f"no step is traced: config.profile.start is {profile.start}, and the run goes on from step {step}")
    if write:
        forget(folder, before)
        record(folder, step, before, config)
        workdir.write_facts(folder, config, info)


def config_of_ended(config: ConfigDict, before: StoredRun | None, step: int, total: int, finished: bool) -> ConfigDict:
    """The config of a run that this command finds at its end: it makes no update, so it changes none of their options.

    step: updates so far. total: the updates that `config` asks for; if there are more, the length says how many.
    finished: whether the run had ended before; the options of updates are then those of `before`.
    """
    kept = config.copy_and_resolve_references()
    if finished and before is not None:
        changes = config_lib.differences(before.config, config)
        kept = before.config.copy_and_resolve_references()
        kept.update_from_flattened_dict(
            {path: now for path, (_, now) in changes.items() if workdir.changes_no_result(path, config)}
        )
    elif total < step:
        kept.train.length = f"{step} steps"
    return kept


def notes(before: StoredRun | None, config: ConfigDict, info: Info, step: int, opt_state: PyTree = None) -> list[str]:
    """Lines on what a resumed run changes: dataset, length, patience, schedule, evaluations that decide something.

    A last line says how the learning rate changes, if it does.

    before: None for a new run. info: today's facts of the dataset. step: updates so far. opt_state: the optimizer's,
    with the current factor of a plateau schedule.
    """
    if before is None:
        return []
    lines = [note] if (note := tolerable_changes(before.info, info)) else []
    deciding = () if workdir.changes_no_result("evaluate.every", config) else ("evaluate.every",)
    options = changed_options(before.config, config, ("train.length", "train.patience", "schedule.", *deciding))
    if not options:
        return lines
    lines += options
    schedules = (optimizers.make_optimizer(c, info.train_size)[1] for c in (before.config, config))
    old, new = (optimizers.learning_rate(schedule, opt_state, step + 1) for schedule in schedules)
    if old != new:
        lines.append(f"the learning rate of the next update is {new:.4g}; it would have been {old:.4g}")
    return lines


def changed_options(before: ConfigDict, config: ConfigDict, paths: tuple[str, ...]) -> list[str]:
    """A line on each option that a resumed run changes, of those whose path begins with one of `paths`."""
    return [
        f"config.{path} was {old!r}, and is {new!r} from here on"
        for path, (old, new) in config_lib.differences(before, config).items()
        if path.startswith(paths)
    ]


def forget(folder: pathlib.Path, before: StoredRun | None) -> None:
    """Removes the starts of a run that ended before it saved anything, for the new run that begins in its folder."""
    if before is None:
        with writing(folder / FILE):
            (folder / FILE).unlink(missing_ok=True)


def record(folder: pathlib.Path, step: int, before: StoredRun | None, config: ConfigDict) -> None:
    """Appends this start to the run's history; `before` is None for a new run."""
    entry = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "step": step,
        "changed": {}
        if before is None
        else {path: list(values) for path, values in config_lib.differences(before.config, config).items()},
        **provenance.facts(),
        "environment": workdir.environment(),
    }
    append_line(folder / FILE, json.dumps(entry, default=str))
