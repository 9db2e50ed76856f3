"""Measures what the papers claim: `python -m common.reproduce --claims=ID,...`.

Every run is a command that anyone can repeat. Runs that claims share are made once, and finished runs are not made
again, so the same command given after an interruption goes on. Each claim's numbers, intervals and verdict go to
`results/ID.json` and its picture, if it has one, to `results/ID.png`; with fewer seeds than the claim asks for, to
`results/ID.preliminary.json`. `python -m common.tables` writes the tables from these files.

Seeds do not reproduce bit for bit between kinds of processors; the interval over seeds is what can be repeated.
"""

import pathlib
import shlex
import sys

from absl import flags

from common import launch
from common.claims import results, runner
from common.claims.claim import Claim, Experiment, all_claims
from common.claims.runner import Job
from common.errors import UserError, unknown, whole_file
from common.run import workdir

_CLAIMS = flags.DEFINE_list("claims", [], "ids of claims; default: all")
_LIST = flags.DEFINE_boolean("list", False, "list the claims and do nothing")
_SCALE = flags.DEFINE_enum("scale", "paper", ["quick", "paper"], "the paper's schedule, or a first look in minutes")
_SEEDS = flags.DEFINE_integer(
    "seeds", 0, "runs of each experiment; default: the claim's own number, and fewer are preliminary", lower_bound=0
)
_SOURCE = flags.DEFINE_string(
    "source", "", "source of the images, such as folder:PATH, instead of the configs' TFDS datasets"
)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "folder of prepared datasets", allow_override=True)
_JOBS = flags.DEFINE_string(
    "jobs", "auto", "runs made at the same time; auto: one on each core of those that cannot share cores, then the rest"
)
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
            print(_listed(claim))
        return
    if _SCALE.value == "quick":
        if _CLAIMS.value and (long := [claim.id for claim in claims if claim.quick is None]):
            raise UserError(f"no short run can show {', '.join(long)}; --scale=paper measures it")
        claims = [claim for claim in claims if claim.quick is not None]
    runs: dict[pathlib.Path, Job] = {}
    for claim in claims:
        for experiment in claim.runs.values():
            for seed in _seeds(claim):
                folder = _folder(experiment, claim, seed)
                before = runs.get(folder)
                command = [sys.executable, "-m", experiment.module, f"--workdir={folder}"]
                runs[folder] = Job(
                    folder,
                    (*command, *_flags(experiment, claim, seed)),
                    one_core=experiment.one_core,
                    keeps=claim.keeps or (before is not None and before.keeps),
                )
    runner.run_all(list(runs.values()), _slots())
    for claim in claims:
        print(_record(claim))


def _slots() -> int:
    """The value of --jobs; 0 is auto."""
    if _JOBS.value == "auto":
        return 0
    if not _JOBS.value.isdecimal() or int(_JOBS.value) < 1:
        raise UserError(f"--jobs is {_JOBS.value!r}; expected 'auto' or a number of at least 1")
    return int(_JOBS.value)


def _seeds(claim: Claim) -> range:
    return range(_SEEDS.value or claim.seeds)


def _listed(claim: Claim) -> str:
    """A claim's line in the list: what it says, its seeds, and the recorded verdict with its cost."""
    found = [pathlib.Path(_RESULTS.value) / f"{claim.id}{suffix}.json" for suffix in ("", ".quick")]
    results = [workdir.read_json(path) for path in found if path.exists()]
    said = [f"{result['verdict']}, {_minutes(result.get('run_seconds'))}" for result in results]
    seeds = f"{claim.seeds} seeds" if claim.random else "not random"
    return f"{claim.id:34} {seeds:10} {claim.where}: {claim.says} [{'; '.join(said) or 'not recorded'}]"


def _minutes(seconds: float | None) -> str:
    return "cost not recorded" if seconds is None else f"{seconds / 60:,.0f} minutes of runs"


def _scaled(experiment: Experiment, claim: Claim) -> Experiment:
    return experiment.with_changes(claim.quick or {}) if _SCALE.value == "quick" else experiment


def _folder(experiment: Experiment, claim: Claim, seed: int) -> pathlib.Path:
    return pathlib.Path(_RUNS.value) / _scaled(experiment, claim).name() / f"seed{seed}"


def _flags(experiment: Experiment, claim: Claim, seed: int) -> list[str]:
    given = {"source": _SOURCE.value, "directory": _DATA_DIR.value}
    where = [f"--config.data.{name}={value}" for name, value in given.items() if value]
    return [*_scaled(experiment, claim).flags(), f"--config.seed={seed}", *where]


def _record(claim: Claim) -> str:
    """Writes the claim's result and picture, and returns the result as a line of text."""
    folders = {name: [_folder(run, claim, seed) for seed in _seeds(claim)] for name, run in claim.runs.items()}
    result = results.of_runs(claim, folders, _SCALE.value)
    result["commands"] = {name: _command(run, claim) for name, run in claim.runs.items()}
    name = claim.id + ("" if _SCALE.value == "paper" else ".quick") + (".preliminary" if result["preliminary"] else "")
    result["figure"] = f"{name}.png" if claim.figure else None
    path = pathlib.Path(_RESULTS.value)
    path.mkdir(parents=True, exist_ok=True)
    if claim.figure is not None:
        with whole_file(path / result["figure"]) as file:
            claim.figure(folders).savefig(file, format="png", dpi=110)
    workdir.write_json(path / f"{name}.json", result)
    few = f" (preliminary: {len(result['seeds'])} of {claim.seeds} seeds)" if result["preliminary"] else ""
    said = "; ".join(results.as_text(found, claim.unit) for found in result["rules"])
    return f"{claim.id}: {result['verdict']}{few}: {said}"


def _command(experiment: Experiment, claim: Claim) -> str:
    """The command that repeats a run elsewhere, without this machine's folders."""
    options = [shlex.quote(option) for option in _scaled(experiment, claim).flags()]
    if _SOURCE.value:
        kind, _, name = _SOURCE.value.partition(":")
        options.append(f"--config.data.source={kind}:{'PATH' if kind == 'folder' else name}")
    return " ".join([f"python -m {experiment.module}", *options, "--config.seed=SEED"])


if __name__ == "__main__":
    launch.run(main)
