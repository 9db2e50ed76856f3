"""A paper's claim as data: the runs to make, the number to read off them, and the condition for it to hold.

Each family lists its own in `FAMILY/claims.py` as `CLAIMS`; `python -m common.reproduce` runs any of them.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from common import models
from common.run import metrics, summary

Values = Mapping[str, list[float]]  # run name -> one number for each seed
Folders = Mapping[str, list[pathlib.Path]]  # run name -> one finished run's folder for each seed


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config file and the options to change in it, by their path: {'train.length': '5 epochs'}."""

    config: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def with_changes(self, changes: Mapping[str, Any]) -> "Experiment":
        """The experiment with more options changed."""
        return Experiment(self.config, {**self.changes, **changes})

    def flags(self) -> list[str]:
        """The experiment as command-line flags of `common.main`."""
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
    """The claims of every family, by id."""
    found: dict[str, Claim] = {}
    for family in models.families():
        module = models.optional_module(family, "claims")
        if module is not None:
            found |= {claim.id: claim for claim in module.CLAIMS}
    return found
