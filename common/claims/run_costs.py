"""The time that runs of claims took, from recorded results, and that those to come will take."""

import pathlib
from typing import Any

from common.claims.claim import Claim
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


def mean_run_seconds(folder: pathlib.Path, claim: Claim, scale: str) -> float | None:
    """The mean cost of one of a claim's runs, from its recorded result; None if none is recorded."""
    result = recorded_result(folder, claim, scale)
    if result is None or "run_seconds" not in result:
        return None
    return result["run_seconds"] / (claim.members * sum(map(len, result["values"].values())))


def describe_runs(runs: int, left: int, seconds: float, unknown: int) -> str:
    """A line on the runs of some claims.

    runs, left: how many there are, and how many are left. seconds: the cost of the latter, as far as recorded; unknown:
    how many claims have no recorded cost.
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


def count_of(count: int, name: str) -> str:
    """A count of things, '1 run' or '2 runs'."""
    return f"{count} {name}{'' if count == 1 else 's'}"
