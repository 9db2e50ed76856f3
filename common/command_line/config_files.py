"""The config file that a command line names, and the nearest one if it does not exist."""

import difflib
import os
import pathlib

from common.errors import UserError
from common.files import ROOT

_FOLDER = "configs"


def find(argument: str) -> pathlib.Path:
    """The path of the file in `FILE[:ARGUMENT]`, in the current folder or, if it is not there, in Lineage's.

    Raises a UserError that names the nearest config if the file does not exist, and for the `config.json` of a run.
    """
    path = pathlib.Path(argument.partition(":")[0])
    if path.suffix == ".json":
        raise UserError(
            f"config file '{path}' is not Python; expected one such as configs/lenet5_digits.py. The history.jsonl of "
            "a run has the command that made it"
        )
    for candidate in (path, ROOT / path):
        if os.path.isfile(candidate):
            return candidate
    raise UserError(f"no config file '{path}'" + _hint(path))


def _hint(path: pathlib.Path) -> str:
    known = {
        file.stem for folder in (pathlib.Path(), ROOT) for file in (folder / _FOLDER).glob("[!_]*.py") if file.is_file()
    }
    close = nearest_config(path.stem, known)
    return f"; did you mean '{_FOLDER}/{close}.py'?" if close else ""


def nearest_config(name: str, known: set[str]) -> str | None:
    """The config whose name is most like `name`; None if none is like it.

    The first word, the network, counts as much as the whole name: 'resnet_folder' is more like 'resnet_digits' than
    like 'lenet5_folder'.
    """

    def likeness(other: str) -> float:
        return _ratio(name, other) + _ratio(name.partition("_")[0], other.partition("_")[0])

    best = max(sorted(known), key=likeness, default="")
    return best if likeness(best) >= 1.2 else None


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one[:200], other).ratio()
