"""A run's numbers in Weights & Biases or MLflow, through their own libraries, besides TensorBoard.

`config.tracker` chooses one. Its server, keys and project are the library's own settings, such as WANDB_MODE=offline or
MLFLOW_TRACKING_URI. The workdir keeps the identifier of the tracked run, so that a resumed run continues it.
"""

import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from ml_collections import ConfigDict

from common import config as config_lib
from common.errors import UserError, one_line
from common.run import workdir

FILE = "tracker.json"  # tracker's name -> identifier of the tracked run
_PROJECT = "lineage"
_PARAMETERS_AT_ONCE = 100  # the most that an MLflow server takes

Options = dict[str, Any]
Ending = Literal["finished", "stopped", "failed"]  # 'stopped': as asked, and the same command goes on


class TrackedRun(Protocol):
    """A tracked run in one library."""

    @property
    def identifier(self) -> str:
        """The library's name for the run."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes values by name."""

    def close(self, ending: Ending) -> None:
        """Ends the tracked run."""


class _WandB:
    """A run of Weights & Biases. Steps are an ordinary value, since a resumed run may write some of them again."""

    def __init__(self, folder: pathlib.Path, options: Options, identifier: str | None):
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=folder.absolute().name,
            id=identifier,
            resume="allow",
            dir=str(folder),
            config=options,
            allow_val_change=True,
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("*", step_metric="step")
        self.identifier = self._run.id

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def close(self, ending: Ending) -> None:
        if ending == "stopped":
            self._run.mark_preempting()  # together with an exit code that is not 0, it is shown as preempted
        self._run.finish(exit_code=int(ending != "finished"))


class _MLflow:
    """A run of MLflow, whose parameters are the options of its first start."""

    def __init__(self, folder: pathlib.Path, options: Options, identifier: str | None):
        import mlflow

        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT))
        run = mlflow.start_run(run_id=identifier, run_name=folder.absolute().name)
        self._mlflow, self.identifier = mlflow, run.info.run_id
        names = list(options) if identifier is None else []
        for first in range(0, len(names), _PARAMETERS_AT_ONCE):
            mlflow.log_params({name: options[name] for name in names[first : first + _PARAMETERS_AT_ONCE]})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self, ending: Ending) -> None:
        self._mlflow.end_run({"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}[ending])


# By the name of the library's module, which is that of its package.
_LIBRARIES: dict[str, Callable[[pathlib.Path, Options, str | None], TrackedRun]] = {"wandb": _WandB, "mlflow": _MLflow}


class Tracker:
    """Writes a run's numbers into its tracked run. If the library fails, it prints that once and the run goes on."""

    def __init__(self, name: str, folder: pathlib.Path, config: ConfigDict, resumed: bool):
        """Starts a tracked run or, for a resumed run, continues the workdir's. Raises UserError if the library cannot.

        A new run may find the tracked run of one that ended before its first checkpoint, perhaps with other options.
        """
        self._name, self._failed = name, False
        path = folder / FILE
        known = workdir.read_json(path) if resumed and path.exists() else {}
        try:
            self._library = _LIBRARIES[name](folder, config_lib.flat(config), known.get(name))
        except Exception as error:  # libraries have errors of many kinds: no key, no server, no such run
            raise UserError(f"config.tracker: {name} cannot start a run: {_said(error)}") from error
        workdir.write_json(path, {**known, name: self._library.identifier})

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Writes named values of a split."""
        self._try(lambda: self._library.write(step, {f"{split}/{name}": value for name, value in values.items()}))

    def close(self, ending: Ending) -> None:
        """Ends the tracked run."""
        self._try(lambda: self._library.close(ending))

    def _try(self, call: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            call()
        except Exception as error:  # noqa: BLE001  the run is worth more than a copy of its numbers
            self._failed = True
            print(f"warning: {self._name} gets no more numbers: {_said(error)}", file=sys.stderr)


def check(name: str) -> None:
    """Raises a UserError with the command that installs it if the library of `config.tracker` is missing."""
    if name and importlib.util.find_spec(name) is None:
        raise UserError(f"config.tracker is '{name}', but its library is not installed: pip install {name}")


def start(config: ConfigDict, folder: pathlib.Path, resumed: bool = True) -> Tracker | None:
    """The tracker of a config, started; None if it names none. resumed: whether the run has a checkpoint."""
    return Tracker(config.tracker, folder, config, resumed) if config.tracker else None


def _said(error: Exception) -> str:
    return one_line(UserError(str(error) or type(error).__name__))
