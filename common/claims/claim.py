"""A paper's claim as data: the runs to make, the number to read off them, and the condition for it to hold.

A package beside `common` lists its own in `claims.py` as `CLAIMS`; `python -m common.reproduce` runs any of them.
"""

import contextlib
import dataclasses
import importlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from common.errors import UserError
from common.run import metrics, summary

_ROOT = pathlib.Path(__file__).parents[2]

Values = Mapping[str, list[float]]  # run name -> one number for each seed
Folders = Mapping[str, list[pathlib.Path]]  # run name -> one finished run's folder for each seed


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config file and the options to change in it, by their path: {'train.length': '5 epochs'}.

    module: the command that makes the run.
    """

    config: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    module: str = "common.main"

    def with_changes(self, changes: Mapping[str, Any]) -> "Experiment":
        """The experiment with more options changed."""
        return dataclasses.replace(self, changes={**self.changes, **changes})

    def flags(self) -> list[str]:
        """The experiment as command-line flags of its command."""
        return [f"--config={self.config}", *(f"--config.{path}={value}" for path, value in self.changes.items())]

    def name(self) -> str:
        """A folder name that is different for each experiment."""
        path, _, argument = self.config.partition(":")
        changes = [f"{key.rpartition('.')[2]}={value}" for key, value in sorted(self.changes.items())]
        name = "_".join([pathlib.Path(path).stem, *filter(None, [argument]), *changes])
        return "".join(letter if letter.isalnum() or letter in "=._-" else "-" for letter in name)


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim of a paper.

    id: as in the paper's spec sheet; where: section, table or figure; says: the claim in a sentence.
    runs: the experiments that it compares, by name. paper: the paper's number for each run that has one.
    measure: a finished run's folder -> the number to compare; unit: how to print it ('%' for fractions).
    bound: a finished run's folder -> whether its number is only a lower bound, because the run ended too soon.
    holds: the numbers of all runs -> whether the claim holds here. seeds: the number of runs of each experiment.
    quick: options to change at `--scale=quick`, for a first look. figure: the runs' folders -> a picture of them.
    """

    id: str
    where: str
    says: str
    runs: Mapping[str, Experiment]
    measure: Callable[[pathlib.Path], float]
    holds: Callable[[Values], bool]
    paper: Mapping[str, float] = dataclasses.field(default_factory=dict)
    unit: str = "%"
    seeds: int = 3
    quick: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    figure: Callable[[Folders], Figure] | None = None
    bound: Callable[[pathlib.Path], bool] = lambda folder: False


def final_test_error(folder: pathlib.Path) -> float:
    """Test error at the end of the run, a fraction."""
    return summary.read(folder)["test"]["error"]


def final_train_error(folder: pathlib.Path) -> float:
    """Training error of the last epoch, measured while the network learns; a fraction."""
    return metrics.read(folder, "train")[-1]["error"]


def mean(values: list[float]) -> float:
    """The arithmetic mean over seeds."""
    return sum(values) / len(values)


def all_claims() -> dict[str, Claim]:
    """The claims of every package beside `common` that has some, by id.

    A package whose libraries are not installed says so with a UserError, and is left out.
    """
    found: dict[str, Claim] = {}
    for path in sorted(_ROOT.glob("*/claims.py")):
        with contextlib.suppress(UserError):
            module = importlib.import_module(f"{path.parent.name}.claims")
            found |= {claim.id: claim for claim in module.CLAIMS}
    return found
