"""Faults of a campaign of kills (`survival.faults`) and the runs that they fell on, counted and kept in a file."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Sequence

from benchmarks.measure import Measured, spread
from common.files import append_line, json_lines

PHASES = ("start", "restore", "train", "evaluate", "save")


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault: its signal, the phase that it hit, saved steps before and after it, seconds until all had ended."""

    signal: str
    phase: str
    processes: int
    saved_before: int
    saved_after: int
    noticed_seconds: float
    hang: bool


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A run with its faults. lost: starts that did not go on from the newest complete checkpoint."""

    number: int
    processes: int
    faults: tuple[Fault, ...]
    lost: int
    finished: bool
    different: bool
    damaged: bool


def missing(outcomes: Sequence[Outcome], sizes: Sequence[int], each: int) -> dict[int, collections.Counter[str]]:
    """The faults that are still missing in each phase, by the number of processes."""
    counts = collections.Counter((fault.processes, fault.phase) for run in outcomes for fault in run.faults)
    return {size: collections.Counter({name: each - counts[size, name] for name in PHASES}) for size in sizes}


def summarised(outcomes: Sequence[Outcome]) -> Measured:
    """The recorded numbers: counts of faults and runs, and the seconds until all others had ended."""
    faults = [fault for run in outcomes for fault in run.faults]
    kinds = {
        "fell on a run at": (f"{fault.phase}, with {fault.processes} processes" for fault in faults),
        "were a": (fault.signal for fault in faults),
        "fell on groups of": (str(fault.processes) for fault in faults),
    }
    counts = {"faults": len(faults), "runs": len(outcomes)}
    for what, found in kinds.items():
        counts |= {f"faults that {what} {kind}": count for kind, count in sorted(collections.Counter(found).items())}
    counts |= {
        "complete checkpoints lost": sum(run.lost for run in outcomes)
        + sum(fault.saved_after < fault.saved_before for fault in faults),
        "hangs": sum(fault.hang for fault in faults),
        "runs that did not finish": sum(not run.finished for run in outcomes),
        "runs that ended with other parameters": sum(run.different for run in outcomes),
        "runs with a damaged checkpoint": sum(run.damaged for run in outcomes),
    }
    measured = {name: spread([count]) for name, count in counts.items()}
    waits = [fault.noticed_seconds for fault in faults if fault.processes > 1]
    return {**measured, "seconds until all others had ended": spread(waits)} if waits else measured


def earlier(path: pathlib.Path) -> list[Outcome]:
    """The runs of a campaign that goes on."""
    return [
        Outcome(**entry | {"faults": tuple(Fault(**fault) for fault in entry["faults"])}) for entry in json_lines(path)
    ]


def keep(path: pathlib.Path, run: Outcome) -> None:
    """Appends a run to the file of a campaign."""
    append_line(path, json.dumps(dataclasses.asdict(run)))
