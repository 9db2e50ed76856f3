"""Measure what the papers claim: `python -m common.reproduce --claims=ID,...`.

Every run is a command of `common.main` that anyone can repeat; runs that claims share are made once, and finished
ones are not made again. Each claim's numbers and verdict go to `results/ID.json`, from which `python -m
common.tables` writes the tables.
"""

import datetime
import pathlib
import shlex
import statistics
import subprocess
import sys
from concurrent import futures
from typing import Any

from absl import flags

from common import launch
from common.errors import UserError, unknown

_CLAIMS = flags.DEFINE_list("claims", [], "ids of claims; default: all")
_LIST = flags.DEFINE_boolean("list", False, "list the claims and do nothing")
_SCALE = flags.DEFINE_enum("scale", "paper", ["quick", "paper"], "the paper's schedule, or a first look in minutes")
_SEEDS = flags.DEFINE_integer("seeds", 0, "runs of each experiment; default: the claim's own number", lower_bound=0)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "folder of prepared datasets", allow_override=True)
_JOBS = flags.DEFINE_integer("jobs", 1, "runs made at the same time", lower_bound=1)
_RUNS = flags.DEFINE_string("runs", "runs/reproduce", "folder of the runs")
_RESULTS = flags.DEFINE_string("results", "results", "folder of the results", allow_override=True)


def main() -> None:
    """Run the claims that the flags name."""
    from common.claims import all_claims  # slow imports

    known = all_claims()
    for name in _CLAIMS.value:
        if name not in known:
            raise unknown("claim", name, known)
    claims = [known[name] for name in _CLAIMS.value or known]
    if _LIST.value:
        for claim in claims:
            print(f"{claim.id:32} {claim.where}: {claim.says}")
        return
    commands = {}
    for claim in claims:
        for experiment in claim.runs.values():
            for seed in range(_SEEDS.value or claim.seeds):
                commands[_folder(experiment, claim, seed)] = _flags(experiment, claim, seed)
    with futures.ThreadPoolExecutor(_JOBS.value) as pool:
        list(pool.map(_run, commands.items()))
    for claim in claims:
        print(_record(claim))


def _scaled(experiment: Any, claim: Any) -> Any:
    return experiment.with_changes(claim.quick) if _SCALE.value == "quick" else experiment


def _folder(experiment: Any, claim: Any, seed: int) -> pathlib.Path:
    return pathlib.Path(_RUNS.value) / _scaled(experiment, claim).name() / f"seed{seed}"


def _flags(experiment: Any, claim: Any, seed: int) -> list[str]:
    where = [f"--config.data.directory={_DATA_DIR.value}"] if _DATA_DIR.value else []
    return [*_scaled(experiment, claim).flags(), f"--config.seed={seed}", *where]


def _run(job: tuple[pathlib.Path, list[str]]) -> None:
    """Make one run in a process of its own, with its output in `log.txt`."""
    folder, options = job
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    command = [sys.executable, "-m", "common.main", f"--workdir={folder}", *options]
    print(f"running {' '.join(options)}", flush=True)
    with log.open("w") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise UserError(f"a run ended with code {code}: {log.read_text().strip().splitlines()[-1]} (see {log})")


def _record(claim: Any) -> str:
    """Write the claim's result; returns it as a line."""
    from common import summary, workdir

    seeds = range(_SEEDS.value or claim.seeds)
    folders = {name: [_folder(run, claim, seed) for seed in seeds] for name, run in claim.runs.items()}
    values = {name: [claim.measure(folder) for folder in found] for name, found in folders.items()}
    summaries = [summary.read(folder) for found in folders.values() for folder in found]
    holds = bool(claim.holds(values))
    result = {
        "claim": claim.id,
        "where": claim.where,
        "says": claim.says,
        "unit": claim.unit,
        "scale": _SCALE.value,
        "paper": dict(claim.paper),
        "ours": {
            name: {"mean": statistics.fmean(found), "std": statistics.stdev(found) if len(found) > 1 else None}
            for name, found in values.items()
        },
        "values": values,
        "verdict": "holds" if holds else "does not hold",
        "seeds": list(seeds),
        "commands": {
            name: f"python -m common.main {shlex.join(_scaled(run, claim).flags())} --config.seed=SEED"
            for name, run in claim.runs.items()
        },
        "images_per_second": statistics.median(found["images_per_second"] for found in summaries),
        "peak_memory_bytes": max(found["peak_memory_bytes"] for found in summaries),
        "environment": summaries[0]["environment"],
        "date": datetime.date.today().isoformat(),
    }
    path = pathlib.Path(_RESULTS.value)
    path.mkdir(parents=True, exist_ok=True)
    suffix = "" if _SCALE.value == "paper" else ".quick"
    workdir.write_json(path / f"{claim.id}{suffix}.json", result)
    return f"{claim.id}: {result['verdict']}: {values}"


if __name__ == "__main__":
    launch.run(main)
