"""A study: trials in an SQLite file, so that a later command can continue it, however the earlier one ended.

Optuna keeps the trials and proposes the next one. A trial's number, from 1 on, is its user attribute `NUMBER` and the
name of its folder. When an interrupted trial is queued again, Optuna makes a new trial, but the number stays the same.
"""

import dataclasses
import json
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from common.claims.claim import Experiment
from common.errors import UserError, first_line
from common.run import workdir
from common.tuning import search
from common.tuning.search import Space

FILE, TRIALS = "study.db", "trials"
NUMBER, ERRORS, SECONDS, FAILURE = "number", "errors", "seconds", "failure"  # attributes of a trial
_IDENTITY = "identity"  # attribute of a study
# Options that change no update, and may differ when a study goes on.
_MAY_CHANGE = ("data.directory", "data.memory", "data.workers", "mesh", "profile", "checkpoint.keep")
_WARM_UP = 1  # evaluations before a trial may be pruned


@dataclasses.dataclass(frozen=True)
class StudySpec:
    """A study as the command line asks for it.

    config: the config file. changes: the options that the user changes in it. of_trials: the options that every trial
    changes. options: the whole config of a trial, by path. space: the searched options and their values. texts: the
    space as the user wrote it. trials: their total number. seeds: a trial's error is the mean over these seeds.
    sampler: 'tpe', 'random' or 'grid'.
    """

    config: str
    changes: Mapping[str, Any]
    of_trials: Mapping[str, Any]
    options: Mapping[str, Any]
    space: Space
    texts: tuple[str, ...]
    trials: int
    seeds: tuple[int, ...]
    sampler: str = "tpe"
    prune: bool = False
    jobs: int = 1

    def flags(self, point: search.Point, seed: int) -> list[str]:
        """The flags of a run of `common.main` with the options of a point."""
        return Experiment(self.config, {**self.changes, **self.of_trials, **point, "seed": seed}).flags()


def open_study(folder: pathlib.Path, spec: StudySpec) -> optuna.Study:
    """The study in a folder, which is new or from an earlier command. The caller must hold the folder's lock.

    Interrupted trials are put back into the queue. Raises UserError for another study, and for a damaged file.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder / FILE
    if (folder / workdir.CONFIG).exists() and not path.exists():
        raise UserError(f"study {folder} holds a run; choose another --study")
    if (folder / TRIALS).exists() and not path.exists():
        raise UserError(
            f"{folder / TRIALS} holds the trials of a study whose {FILE} is gone; choose another --study, or remove it"
        )
    try:
        # The URL of a path that may have any characters; Optuna fills in braces, and SQLAlchemy reads %20 as a space.
        url = sqlalchemy.URL.create("sqlite", database=str(path.absolute())).render_as_string(hide_password=False)
        storage = optuna.storages.RDBStorage(url)
        study = optuna.create_study(
            storage=storage,
            study_name="study",
            load_if_exists=True,
            pruner=MedianPruner(n_warmup_steps=_WARM_UP),
        )
        known = study.user_attrs.get(_IDENTITY)
    except Exception as error:  # SQLite's and Optuna's own
        raise UserError(f"cannot open {path}: {first_line(error)}") from error
    identity = json.loads(json.dumps(_identity(spec)))
    if known is None:
        study.set_user_attr(_IDENTITY, identity)
    elif changed := [name for name in sorted({**known, **identity}) if known.get(name) != identity.get(name)]:
        before, now = known.get(changed[0]), identity.get(changed[0])
        raise UserError(
            f"study {folder} holds another search: {changed[0]} is {before!r} there and {now!r} here; choose another "
            "--study, or remove that one"
        )
    _queue_interrupted(study)
    return study


def _identity(spec: StudySpec) -> dict[str, Any]:
    """The facts that all commands of a study must share, by their names in an error message."""
    return {
        **{f"config.{path}": value for path, value in spec.options.items() if not path.startswith(_MAY_CHANGE)},
        **{f"--search of {path}": values for path, values in search.as_written(spec.texts).items()},
        "--seeds": len(spec.seeds),
    }


def _queue_interrupted(study: optuna.Study) -> None:
    """Puts trials that an earlier command left unfinished back into the queue, with their numbers."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if NUMBER in trial.user_attrs:  # it had all of its options
            point = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            study.enqueue_trial(point, user_attrs={NUMBER: trial.user_attrs[NUMBER]})


def next_trial(study: optuna.Study, spec: StudySpec) -> optuna.Trial:
    """The next trial: one from the queue, or one that the sampler proposes.

    The sampler has a separate seed for each trial, so a study that was stopped proposes the same trials as one that was
    not.
    """
    before = study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED))
    queued = bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
    study.sampler = _sampler(spec, len(before))
    if spec.sampler == "grid" and not queued:
        tried = [trial.params for trial in before]
        points = search.grid(spec.space, spec.seeds[0])
        study.enqueue_trial(next(point for point in points if point not in tried))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's own; `search` has checked the space
        trial = study.ask(fixed_distributions=dict(spec.space))
    if NUMBER not in trial.user_attrs:
        numbers = [known.user_attrs.get(NUMBER, 0) for known in study.get_trials(deepcopy=False)]
        trial.set_user_attr(NUMBER, max(numbers, default=0) + 1)
    return trial


def _sampler(spec: StudySpec, trials: int) -> BaseSampler:
    seed = int(np.random.SeedSequence((spec.seeds[0], trials)).generate_state(1)[0])
    if spec.sampler == "tpe":
        return TPESampler(seed=seed)
    return RandomSampler(seed=seed)  # also for a grid, which leaves nothing to draw


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that are finished, pruned or failed, in the order of their numbers."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return sorted(trials, key=lambda trial: trial.user_attrs[NUMBER])


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """The trials with a validation error, lowest first; among equal errors the earlier trial comes first."""
    complete = [trial for trial in finished(study) if trial.state == TrialState.COMPLETE]
    return sorted(complete, key=lambda trial: trial.values[0])
