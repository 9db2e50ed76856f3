"""Measures what the papers claim: `python -m common.reproduce --claims=ID,...`.

Every run is a command that anyone can repeat. Runs that claims share are made once, and finished runs are not made
again. Each claim's numbers and verdict go to `results/ID.json` and its picture, if it has one, to `results/ID.png`.
`python -m common.tables` writes the tables from these files.
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
from common.claims.claim import Claim, Experiment, Folders, Values, all_claims
from common.errors import UserError, unknown, whole_file
from common.run import summary, workdir

_CLAIMS = flags.DEFINE_list("claims", [], "ids of claims; default: all")
_LIST = flags.DEFINE_boolean("list", False, "list the claims and do nothing")
_SCALE = flags.DEFINE_enum("scale", "paper", ["quick", "paper"], "the paper's schedule, or a first look in minutes")
_SEEDS = flags.DEFINE_integer("seeds", 0, "runs of each experiment; default: the claim's own number", lower_bound=0)
_SOURCE = flags.DEFINE_string(
    "source", "", "source of the images, such as folder:PATH, instead of the configs' TFDS datasets"
)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "folder of prepared datasets", allow_override=True)
_JOBS = flags.DEFINE_integer("jobs", 1, "runs made at the same time", lower_bound=1)
_RUNS = flags.DEFINE_string("runs", "runs/reproduce", "folder of the runs")
_RESULTS = flags.DEFINE_string("results", "results", "folder of the results", allow_override=True)


def main() -> None:
    """Measures the claims that the flags name."""
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
                commands[_folder(experiment, claim, seed)] = [experiment.module, *_flags(experiment, claim, seed)]
    with futures.ThreadPoolExecutor(_JOBS.value) as pool:
        list(pool.map(_run, commands.items()))
    for claim in claims:
        print(_record(claim))


def _scaled(experiment: Experiment, claim: Claim) -> Experiment:
    return experiment.with_changes(claim.quick) if _SCALE.value == "quick" else experiment


def _folder(experiment: Experiment, claim: Claim, seed: int) -> pathlib.Path:
    return pathlib.Path(_RUNS.value) / _scaled(experiment, claim).name() / f"seed{seed}"


def _flags(experiment: Experiment, claim: Claim, seed: int) -> list[str]:
    given = {"source": _SOURCE.value, "directory": _DATA_DIR.value}
    where = [f"--config.data.{name}={value}" for name, value in given.items() if value]
    return [*_scaled(experiment, claim).flags(), f"--config.seed={seed}", *where]


def _run(job: tuple[pathlib.Path, list[str]]) -> None:
    """Makes one run in its own process, with its output in `log.txt`."""
    folder, (module, *options) = job
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    command = [sys.executable, "-m", module, f"--workdir={folder}", *options]
    print(f"running {' '.join(options)}", flush=True)
    with log.open("w") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise UserError(f"a run ended with code {code}: {log.read_text().strip().splitlines()[-1]} (see {log})")


def _record(claim: Claim) -> str:
    """Writes the claim's result and picture, and returns the result as a line of text."""
    seeds = range(_SEEDS.value or claim.seeds)
    folders = {name: [_folder(run, claim, seed) for seed in seeds] for name, run in claim.runs.items()}
    result = _result(claim, folders)
    path = pathlib.Path(_RESULTS.value)
    path.mkdir(parents=True, exist_ok=True)
    if claim.figure is not None:
        with whole_file(path / result["figure"]) as file:
            claim.figure(folders).savefig(file, format="png", dpi=110)
    workdir.write_json(path / f"{claim.id}{_suffix()}.json", result)
    return f"{claim.id}: {result['verdict']}: {result['values']}"


def _suffix() -> str:
    return "" if _SCALE.value == "paper" else f".{_SCALE.value}"


def _result(claim: Claim, folders: Folders) -> dict[str, Any]:
    """The result of a claim from its finished runs."""
    values = {name: [claim.measure(folder) for folder in found] for name, found in folders.items()}
    summaries = [summary.read(folder) for found in folders.values() for folder in found]
    first = next(iter(folders.values()))
    return {
        "claim": claim.id,
        "where": claim.where,
        "says": claim.says,
        "unit": claim.unit,
        "scale": _SCALE.value,
        "dataset": workdir.load_info(first[0]).name,
        "paper": dict(claim.paper),
        "ours": {
            name: {
                "mean": statistics.fmean(found),
                "std": statistics.stdev(found) if len(found) > 1 else None,
                "at_least": any(map(claim.bound, folders[name])),
            }
            for name, found in values.items()
        },
        "values": values,
        "verdict": verdict(claim, values, _SCALE.value),
        "figure": f"{claim.id}{_suffix()}.png" if claim.figure else None,
        "seeds": list(range(len(first))),
        "commands": {name: _command(run, claim) for name, run in claim.runs.items()},
        "images_per_second": statistics.median(found["images_per_second"] for found in summaries),
        "peak_memory_bytes": max(found["peak_memory_bytes"] for found in summaries),
        "environment": summaries[0]["environment"],
        "date": datetime.date.today().isoformat(),
    }


def verdict(claim: Claim, values: Values, scale: str) -> str:
    """The verdict on a claim: 'holds', 'does not hold', or 'undecided' where a quick run does not show it.

    A quick run is too short to be evidence against a claim.
    """
    if claim.holds(values):
        return "holds"
    return "does not hold" if scale == "paper" else "undecided"


def _command(experiment: Experiment, claim: Claim) -> str:
    """The command that repeats a run elsewhere, without this machine's folders."""
    options = [shlex.quote(option) for option in _scaled(experiment, claim).flags()]
    if _SOURCE.value:
        kind, _, name = _SOURCE.value.partition(":")
        options.append(f"--config.data.source={kind}:{'PATH' if kind == 'folder' else name}")
    return " ".join([f"python -m {experiment.module}", *options, "--config.seed=SEED"])


if __name__ == "__main__":
    launch.run(main)
