"""The time that runs of claims took, from recorded results, and the time that further runs will take."""

import pathlib
from collections.abc import Mapping
from typing import Any

from common.claims.claim import Claim
from common.errors import count_of
from common.run import workdir

SUFFIXES = {"paper": "", "quick": ".quick"}  # of a result's file, by scale
PRELIMINARY = ".preliminary"


def recorded_result(folder: pathlib.Path, claim: Claim, scale: str) -> dict[str, Any] | None:
    """The result of a claim at a scale: the full one, else a preliminary one, else None."""
    for kind in ("", PRELIMINARY):
        path = folder / f"{claim.id}{SUFFIXES[scale]}{kind}.json"
        if path.exists():
            return workdir.read_json(path)
    return None


def run_seconds(result: Mapping[str, Any]) -> float | None:
    """The seconds of a result's runs: core-seconds if they were counted, else by the clock; None if not recorded."""
    return result.get("run_core_seconds", result.get("run_seconds"))


def describe_cost(result: Mapping[str, Any]) -> str:
    """The time of a result's runs in words, '' if it is not recorded."""
    seconds = run_seconds(result)
    if seconds is None:
        return ""
    return f"{format_duration(seconds)} {'of one core' if 'run_core_seconds' in result else 'of runs'}"


def mean_run_seconds(folder: pathlib.Path, claim: Claim, scale: str) -> float | None:
    """The mean cost of one of a claim's runs, as `run_seconds`, from its recorded result; None if none is recorded."""
    result = recorded_result(folder, claim, scale)
    seconds = None if result is None else run_seconds(result)
    if result is None or seconds is None:
        return None
    return seconds / (claim.members * sum(map(len, result["values"].values())))


def describe_runs(runs: int, left: int, seconds: float, unknown: int) -> str:
    """A line on the runs of some claims.

    runs: the number of runs. left: how many of them are not finished. seconds: the time that these will take, as far as
    recorded. unknown: how many claims have no recorded cost.
    """
    said = f"{count_of(runs, 'run')}, {runs - left} finished"
    if not left:
        return said
    if not seconds:
        return f"{said}; no recorded result tells how long the {count_of(left, 'run')} left will take"
    without = f"; {count_of(unknown, 'claim')} without a recorded cost" if unknown else ""
    return f"{said}; one after the other, those left take about {format_duration(seconds)}{without}"


def format_duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
