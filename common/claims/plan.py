"""Checks before the runs of claims: whether their datasets are here, and how long the runs will take."""

import functools
import pathlib
import runpy
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from common.claims.claim import Claim, Experiment
from common.data import datasets
from common.errors import UserError
from common.run import workdir

SUFFIXES = {"paper": "", "quick": ".quick"}  # of a result's file, by scale
PRELIMINARY = ".preliminary"


def data_section(experiment: Experiment, given: Mapping[str, Any]) -> ConfigDict:
    """The `data` section of an experiment's config. given: options that replace the experiment's."""
    path, _, argument = experiment.config.partition(":")
    config = _get_config(path)(argument) if argument else _get_config(path)()
    config.update_from_flattened_dict(dict(experiment.changes))
    config.data.update(given)
    return config.data


def check_data(sections: Iterable[ConfigDict]) -> None:
    """Raises one UserError for all datasets that cannot be opened; each is opened once."""
    wrong: dict[tuple[str, str], str] = {}
    for section in {(section.source, section.directory): section for section in sections}.values():
        try:
            datasets.open_dataset(section)
        except UserError as error:
            wrong[section.source, section.directory] = str(error)
    if wrong:
        raise UserError("; ".join(wrong.values()))


def recorded(folder: pathlib.Path, claim: Claim, scale: str) -> dict[str, Any] | None:
    """The result of a claim at a scale: the full one, else a preliminary one, else None."""
    for kind in ("", PRELIMINARY):
        path = folder / f"{claim.id}{SUFFIXES[scale]}{kind}.json"
        if path.exists():
            return workdir.read_json(path)
    return None


def seconds_of_run(folder: pathlib.Path, claim: Claim, scale: str) -> float | None:
    """The mean cost of one of a claim's runs, from its recorded result; None if none is recorded."""
    result = recorded(folder, claim, scale)
    if result is None or "run_seconds" not in result:
        return None
    return result["run_seconds"] / (claim.members * sum(map(len, result["values"].values())))


def in_words(runs: int, left: int, seconds: float, unknown: int) -> str:
    """A line on the runs of some claims.

    runs, left: how many there are, and how many are left. seconds: the cost of the latter, as far as recorded; unknown:
    how many claims have no recorded cost.
    """
    said = f"{number(runs, 'run')}, {runs - left} finished"
    if not left:
        return said
    if not seconds:
        return f"{said}; no recorded result tells how long the {number(left, 'run')} left will take"
    without = f"; {number(unknown, 'claim')} without a recorded cost" if unknown else ""
    return f"{said}; one after the other, those left take about {duration(seconds)}{without}"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def number(count: int, name: str) -> str:
    """A count of things, '1 run' or '2 runs'."""
    return f"{count} {name}{'' if count == 1 else 's'}"


@functools.cache
def _get_config(path: str) -> Any:
    """The function `get_config` of a config file."""
    return runpy.run_path(path)["get_config"]
