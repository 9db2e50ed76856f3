"""The results of a study: the best options, a table of all trials, and the importance of each option."""

import csv
import datetime
import pathlib
import shlex
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from common.claims.claim import Experiment
from common.errors import UserError, count_of
from common.files import whole_file
from common.run import workdir
from common.tuning import search, trials
from common.tuning.study import ERRORS, FAILURE, NUMBER, SECONDS, StudySpec, finished, ranked

BEST, TABLE, IMPORTANCE = "best.json", "trials.csv", "importance.png"
_FEWEST = 4  # trials with an error that importances need
_SHOWN = 5  # trials in the printed table
# An option that only holds on this machine; commands for other machines leave it out.
_OF_THIS_MACHINE = "data.directory"


def write(folder: pathlib.Path, study: optuna.Study, spec: StudySpec) -> dict[str, Any] | None:
    """Writes `trials.csv` and, once a trial has an error, `best.json`; returns the content of the latter."""
    columns = ["trial", "state", "validation_error", *spec.space, *(f"seed{seed}" for seed in spec.seeds)]
    with whole_file(folder / TABLE) as fresh, fresh.open("w", newline="") as file:
        table = csv.DictWriter(file, [*columns, "evaluations", "seconds", "failure"])
        table.writeheader()
        table.writerows(_row(trial, spec) for trial in finished(study))
    if not ranked(study):
        return None
    content = best(study, spec)
    workdir.write_json(folder / BEST, content, compact=("seeds", "errors"))
    return content


def _row(trial: FrozenTrial, spec: StudySpec) -> dict[str, Any]:
    errors = trial.user_attrs[ERRORS]
    return {
        "trial": trial.user_attrs[NUMBER],
        "state": _state(trial),
        "validation_error": trial.values[0] if trial.state == TrialState.COMPLETE else "",
        **trial.params,
        **{f"seed{seed}": error for seed, error in zip(spec.seeds, errors, strict=False)},
        "evaluations": len(trial.intermediate_values) or "",
        "seconds": round(trial.user_attrs[SECONDS], 1),
        "failure": trial.user_attrs.get(FAILURE, ""),
    }


def _state(trial: FrozenTrial) -> str:
    if trial.state == TrialState.COMPLETE:
        return "finished"
    return "failed" if FAILURE in trial.user_attrs else "pruned"


def best(study: optuna.Study, spec: StudySpec) -> dict[str, Any]:
    """The options with the lowest validation error, and everything needed to find them again; no test error."""
    winner, states = ranked(study)[0], [_state(trial) for trial in finished(study)]
    return {
        "options": winner.params,
        "validation_error": winner.values[0],
        "errors": winner.user_attrs[ERRORS],
        "seeds": list(spec.seeds),
        "trial": winner.user_attrs[NUMBER],
        "trials": {state: states.count(state) for state in ("finished", "pruned", "failed")},
        "search": search.as_written(spec.texts),
        "sampler": spec.sampler,
        "pruning": spec.prune,
        "config": spec.config,
        "validation": spec.options["data.validation"],
        "command": tune_command(spec),
        "train": train_command(study, spec),
        "environment": trials.environment(study),
        "date": datetime.date.today().isoformat(),
    }


def tune_command(spec: StudySpec) -> str:
    """The command of the study, without this machine's folders."""
    flags = [*Experiment(spec.config, _portable(spec.changes)).flags(), *(f"--search={text}" for text in spec.texts)]
    flags += [f"--trials={spec.trials}", f"--seeds={len(spec.seeds)}", f"--sampler={spec.sampler}"]
    return shlex.join(["python", "-m", "common.tune", *flags, *(["--prune"] if spec.prune else [])])


def train_command(study: optuna.Study, spec: StudySpec, here: bool = False) -> str:
    """The command that trains with the best options on all training images of the user's own config.

    here: with this machine's folders.
    """
    changes = {**spec.changes, **ranked(study)[0].params}
    changes = changes if here else _portable(changes)
    return shlex.join(["python", "-m", "common.main", *Experiment(spec.config, changes).flags()])


def _portable(changes: Any) -> dict[str, Any]:
    return {path: value for path, value in changes.items() if path != _OF_THIS_MACHINE}


def table(study: optuna.Study, spec: StudySpec) -> str:
    """The best five trials as lines of text."""
    rows = [["trial", "validation error", *spec.space]]
    for trial in ranked(study)[:_SHOWN]:
        values = [_short(trial.params[path]) for path in spec.space]
        rows.append([str(trial.user_attrs[NUMBER]), f"{trial.values[0]:.2%}", *values])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw_importance(folder: pathlib.Path, study: optuna.Study) -> str:
    """Draws each option's share of the variance of the validation error; returns a line about it.

    The shares are those of fANOVA (Hutter, Hoos, Leyton-Brown 2014), from the trials with an error.
    """
    complete = ranked(study)
    if len(complete) < _FEWEST:
        return f"importance of the options: needs {_FEWEST} finished trials, there are {len(complete)}"
    from matplotlib.figure import Figure
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # stands on scikit-learn

    try:
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    except RuntimeError:  # no variance
        return "importance of the options: unknown, as all finished trials have the same error"
    figure = Figure(figsize=(6, 1 + 0.4 * len(shares)), layout="constrained")
    axes = figure.subplots()
    names = list(shares)[::-1]
    bars = axes.barh(names, [shares[name] for name in names], color="#4477aa")
    axes.bar_label(bars, fmt=lambda share: f"{share:.0%}", padding=3)
    axes.set_xlim(0, 1.1)
    axes.set_xlabel(f"share of the variance of the validation error, {count_of(len(complete), 'trial')}")
    axes.spines[["top", "right"]].set_visible(False)
    with whole_file(folder / IMPORTANCE) as file:
        figure.savefig(file, format="png", dpi=110)
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return f"importance of the options: {told} ({folder / IMPORTANCE})"


def recorded(name: str, folder: pathlib.Path) -> pathlib.Path:
    """The file in a folder of results that keeps the content of `best.json` under a name."""
    return folder / f"tune_{name}.json"


def record(name: str, content: dict[str, Any], folder: pathlib.Path) -> pathlib.Path:
    """Writes the content of `best.json` to `tune_NAME.json` in the folder of results; returns the path."""
    path = recorded(name, folder)
    workdir.write_json(path, content, compact=("seeds", "errors"))
    return path


def check_name(name: str) -> None:
    """Raises UserError for a name that cannot be part of a file's name."""
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"--record is '{name}'; expected letters, digits, - and _, as in --record=lenet5_digits")
