"""Searches for options on a validation set: `python -m common.tune --config=FILE --search=OPTION=VALUES --trials=N`.

Each trial is a run of `common.main` with other values of the searched options. Its error is the lowest validation error
of its checkpoints, and no trial reads the test set. The same command given again continues the study. See
docs/tuning.md.
"""

import importlib.util
import os
import pathlib
import sys
from typing import TYPE_CHECKING, Any

from absl import flags

from common import launch
from common.command_line import unparsed
from common.errors import UserError, count_of
from common.files import check_writable, user_path

if TYPE_CHECKING:
    from common.tuning.study import StudySpec

_CONFIG = launch.define_config()
_SEARCH = flags.DEFINE_multi_string(
    "search",
    [],
    "an option and its values: 'optimizer.momentum=0..0.99', 'schedule.learning_rate=1e-4..1e-1 log' or "
    "'train.batch_size=32|64|128'; once for each option",
)
_TRIALS = flags.DEFINE_integer(
    "trials", 20, "total number of trials; default: 20 or, for a grid, all its combinations", lower_bound=1
)
_STUDY = flags.DEFINE_string("study", "", "folder of the study; default runs/tune_<config name>")
_SAMPLER = flags.DEFINE_enum(
    "sampler",
    "tpe",
    ["tpe", "random", "grid"],
    "tree-structured Parzen estimator (Bergstra 2011), random values, or all combinations of choices and whole numbers",
)
_PRUNE = flags.DEFINE_boolean(
    "prune", False, "end a trial whose validation error is above the median of other trials at the same step"
)
_JOBS = flags.DEFINE_integer("jobs", 1, "trials side by side", 1, 1000, allow_override=True)
_SEEDS = flags.DEFINE_integer(
    "seeds", 1, "runs of each trial, with different seeds; its error is their mean", 1, 1000, allow_override=True
)
_RECORD = flags.DEFINE_string("record", "", "name under which results/tune_NAME.json keeps the result")
_RESULTS = flags.DEFINE_string("results", "results", "folder of the results", allow_override=True)


def main() -> None:
    """Runs the remaining trials of a study, then writes and prints its results."""
    if _CONFIG.value is None:
        raise UserError("--config is missing; for example --config=configs/lenet5_digits.py")
    if not _SEARCH.value:
        raise UserError("--search is missing; for example --search='optimizer.momentum=0..0.99'")
    if importlib.util.find_spec("optuna") is None:
        raise UserError("the search needs Optuna: pip install -e '.[tune]'")
    from common.run import lock  # slow imports, after the flags are known to be right
    from common.tuning import results

    if _RECORD.value:
        results.check_name(_RECORD.value)
        check_writable(results.recorded(_RECORD.value, user_path(_RESULTS.value)))
    spec = _study_spec()
    folder = user_path(_STUDY.value or f"runs/tune_{launch.config_name()}")
    with lock.held(folder, kind="study"):
        content = _search(spec, folder)
    if _RECORD.value and content:
        print(f"wrote {results.record(_RECORD.value, content, user_path(_RESULTS.value))}")


def _study_spec() -> "StudySpec":
    """The study that the flags ask for. Raises UserError if it is impossible, before anything is written or run."""
    from common import config as config_lib
    from common import config_checks
    from common.data import datasets
    from common.tuning import search
    from common.tuning.study import StudySpec

    config: Any = _CONFIG.value
    config_checks.validate(config)
    space, changes = search.parse(_SEARCH.value, config), launch.given_options()
    config_checks.check_given(config, [*changes, *space])
    of_trials = search.trial_changes(config)
    config = search.with_point(config, of_trials)
    search.check(space, config, changes)
    seeds = range(config.seed, config.seed + _SEEDS.value)
    config_checks.validate(search.with_point(config, {"seed": seeds[-1]}))
    trials = _TRIALS.value
    if _SAMPLER.value == "grid":
        size = len(search.grid(space, config.seed))
        trials = min(trials, size) if flags.FLAGS["trials"].present else size
    config_checks.check_holdout(config.data, datasets.open_dataset(config.data))
    return StudySpec(
        config=unparsed.flag_text(sys.argv, "config") or "",
        changes=changes,
        of_trials=of_trials,
        options=config_lib.flat(config),
        space=space,
        texts=tuple(_SEARCH.value),
        trials=trials,
        seeds=tuple(seeds),
        sampler=_SAMPLER.value,
        prune=_PRUNE.value,
        jobs=_JOBS.value,
    )


def _search(spec: "StudySpec", folder: pathlib.Path) -> dict[str, Any] | None:
    """Runs the trials and prints the results; returns the content of `best.json`, or None if no trial has an error."""
    from common.devices import compilation
    from common.processes.preemption import EXIT_PREEMPTED
    from common.tuning import results, trials
    from common.tuning.study import finished, open_study

    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder.absolute() / compilation.FOLDER))  # all runs share it
    study = open_study(folder, spec)
    before, trials_in_all = len(finished(study)), count_of(spec.trials, "trial")
    print(f"study {folder}" + (f": {before} of {trials_in_all} finished" if before else ""), flush=True)

    def done(line: str) -> None:
        results.write(folder, study, spec)
        print(line, flush=True)

    try:
        trials.optimise(study, spec, folder, done)
    except trials.Stopped:
        number = len(finished(study))
        print(f"stopped as asked; {number} of {trials_in_all} finished; the same command goes on")
        sys.exit(EXIT_PREEMPTED)
    content = results.write(folder, study, spec)
    if content is None:
        print("no trial has finished, so there is no best one")
        return None
    print(results.table(study, spec))
    print(results.draw_importance(folder, study))
    print(f"wrote {folder / results.BEST} and {folder / results.TABLE}; train with the best options:")
    print(results.train_command(study, spec, here=True))
    return content


if __name__ == "__main__":
    launch.run(main)
