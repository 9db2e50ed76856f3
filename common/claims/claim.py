"""A paper's claim as data: the runs to make, the number to read from them, and the rules that decide.

A package beside `common` lists its claims as `CLAIMS` in `claims.py`; `python -m common.reproduce` measures them.
"""

import dataclasses
import pathlib
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from common.claims import statement
from common.claims.statement import Statement
from common.claims.verdicts import Agrees, Rule
from common.errors import UserError
from common.run import summary

if TYPE_CHECKING:
    import matplotlib.figure  # slow, and only some claims are drawn

_LONGEST = 255  # characters in a file's name

Folders = Mapping[str, list[pathlib.Path]]  # run name -> one finished run's folder for each seed


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config file and the options to change in it, by their path: {'train.length': '5 epochs'}.

    module: the command that makes the run. start: the experiment whose run with the same seed gives the initial
    weights. one_core: whether its steps are too small to share between cores, so that runs side by side, one on each
    core, finish sooner than one after the other.
    """

    config: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    module: str = "common.main"
    one_core: bool = False
    start: "Experiment | None" = None

    def with_changes(self, changes: Mapping[str, Any]) -> "Experiment":
        """The experiment with more options changed, also in the run that it starts from."""
        start = self.start and self.start.with_changes(changes)
        return dataclasses.replace(self, changes={**self.changes, **changes}, start=start)

    def flags(self) -> list[str]:
        """The experiment as command-line flags of its command."""
        return [f"--config={self.config}", *(f"--config.{path}={value}" for path, value in self.changes.items())]

    def name(self) -> str:
        """A folder name, not too long for a file system, with the last part of each option's path and its value.

        It differs from other experiments' unless two options end alike, such as train.batch_size and
        evaluate.batch_size; a claim refuses such a pair, and `preflight.check_run` a run of the other experiment.
        """
        path, _, argument = self.config.partition(":")
        changes = [f"{key.rpartition('.')[2]}={value}" for key, value in sorted(self.changes.items())]
        start = [f"start={zlib.crc32(self.start.name().encode()):08x}"] if self.start else []  # its name is too long
        name = "_".join([pathlib.Path(path).stem, *filter(None, [argument]), *changes, *start])
        name = "".join(letter if letter.isalnum() or letter in "=._-" else "-" for letter in name)
        return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}_{zlib.crc32(name.encode()):08x}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim(Statement):
    """A statement that training runs decide.

    runs: the experiments that it compares, by name. measure: a finished run's folder -> the number to compare. rules:
    everything that has to be true of the numbers, written before the runs.
    paper: the paper's number for each run that has one. data: the dataset of the paper's numbers, if a rule compares
    ours with them; on other data the claim is not decidable.
    seeds: how many numbers each experiment gives, each with its own seed. members: how many runs give one number
    together, as in an ensemble; `measure` then takes the list of their folders. random: False if the runs do not depend
    on their seed.
    setting: the data and the schedule, where they are not the paper's.
    quick: options to change at `--scale=quick`, None if no short run can show the claim. short: the share of the whole
    schedule that these runs have, and what they cannot show. quick_measure: replaces `measure` in these runs if it
    takes too long, else None.
    figure: the runs' folders -> a picture of them. against: set it instead of `figure` for a picture of the numbers; it
    is the quantity whose values are in the names of the runs. shows: what the paper's own figure shows, in words.
    bound: a finished run's folder -> whether its number is only a lower bound, because the run ended too soon.
    keeps: whether measure or figure read the run's checkpoints.
    costs: whether parameters and training time are recorded beside the numbers.
    """

    runs: Mapping[str, Experiment]
    measure: Callable[[Any], float]
    rules: tuple[Rule, ...]
    paper: Mapping[str, float] = dataclasses.field(default_factory=dict)
    data: str = ""
    unit: str = "%"
    seeds: int = 3
    members: int = 1
    random: bool = True
    setting: str = ""
    quick: Mapping[str, Any] | None = None
    short: str = ""
    quick_measure: Callable[[Any], float] | None = None
    figure: Callable[[Folders], "matplotlib.figure.Figure"] | None = None
    against: str = ""
    shows: str = ""
    bound: Callable[[pathlib.Path], bool] = lambda folder: False
    keeps: bool = False
    costs: bool = False

    def __post_init__(self):
        if (self.quick is None) != (not self.short):
            raise ValueError(f"{self.id}: quick and short belong together")
        if self.quick is None and self.quick_measure:
            raise ValueError(f"{self.id}: quick_measure without quick")
        if self.quick is not None and any(isinstance(rule, Agrees) for rule in self.rules):
            raise ValueError(f"{self.id}: a short schedule cannot show that our number is the paper's")
        if len({run.name() for run in self.runs.values()}) < len(self.runs):
            raise ValueError(f"{self.id}: two of its runs would be one folder; give one of them another option as well")
        if self.figure and self.against:
            raise ValueError(f"{self.id}: figure and against would be two pictures")
        if any(isinstance(rule, Agrees) for rule in self.rules) and not self.data:
            raise ValueError(f"{self.id}: a rule compares with the paper's number; `data` has to name the dataset")


def final_test_error(folder: pathlib.Path) -> float:
    """Test error at the end of the run, a fraction."""
    return summary.read(folder)["test"]["error"]


def final_train_error(folder: pathlib.Path) -> float:
    """Error of the final network over the whole training set without augmentation, a fraction.

    The run needs `evaluate.train_set`, since errors that are measured during training are those of earlier weights.
    """
    content = summary.read(folder)
    if "train_set" not in content:
        raise UserError(f"{folder} has no training error of its final network; set config.evaluate.train_set=True")
    return content["train_set"]["error"]


def all_claims() -> dict[str, Claim]:
    """The claims of every package that has some, by id."""
    return cast(dict[str, Claim], statement.by_id("claims"))
