"""Checks what the papers claim: `python -m common.reproduce --claims=ID,...`.

An exact claim is computed in seconds, and its numbers and verdict go to `results/facts/ID.json`. A measured claim takes
training runs, each a command that anyone can repeat. Claims share runs where they can, and finished runs are not
repeated, so after an interruption the same command goes on. Each claim's numbers, intervals and verdict go to
`results/ID.json` and its picture, if it has one, to `results/ID.png`; with fewer seeds than the claim asks for, to
`results/ID.preliminary.json`. `python -m common.tables` writes the pages from these files.

A seed does not give the same bits on every kind of processor; the interval over seeds is what can be repeated.
"""

import pathlib
import shlex
import shutil
import signal
import sys
import textwrap
from typing import Any

import jax
from absl import flags

from common import launch
from common.claims import charts, fact, preflight, results, run_costs, runner
from common.claims.claim import Claim, Experiment, all_claims
from common.claims.fact import Fact, all_facts
from common.claims.runner import Job
from common.errors import UserError, count_of, unknown
from common.files import check_writable, user_path, whole_file
from common.run import workdir

_CLAIMS = flags.DEFINE_list("claims", [], "ids of claims, measured or exact; default: all")
_LIST = flags.DEFINE_boolean("list", False, "list the claims and do nothing")
_SCALE = flags.DEFINE_enum("scale", "paper", ["quick", "paper"], "the paper's schedule, or a first look in minutes")
_SEEDS = flags.DEFINE_integer(
    "seeds", 0, "runs of each experiment; default: the claim's own number, and fewer are preliminary", 0, 1000
)
_SOURCE = flags.DEFINE_multi_string(
    "source",
    [],
    "source of the images instead of the configs' TFDS dataset, such as folder:PATH; for claims on several datasets, "
    "one for each, such as cifar10=folder:PATH",
)
_DATA_DIR = flags.DEFINE_string("data_dir", "", "folder of prepared datasets", allow_override=True)
_JOBS = flags.DEFINE_string(
    "jobs",
    "auto",
    "runs at a time; auto: on a CPU first those for a single core, one on each core, then the others one by one; on an "
    "accelerator one by one",
)
_RUNS = flags.DEFINE_string("runs", "runs/reproduce", "folder of the runs")
_RESULTS = flags.DEFINE_string("results", "results", "folder of the results", allow_override=True)
_PATHS = ("folder", "parquet", "webdataset")  # kinds of sources whose names are places on this machine


def main() -> None:
    """Checks the claims that the flags name."""
    jax.config.update("jax_platforms", "cpu")  # accelerators are for the runs
    claims, facts = all_claims(), all_facts()
    for name in _CLAIMS.value:
        if name not in claims and name not in facts:
            raise unknown("claim", name, [*claims, *facts])
    if flags.FLAGS["claims"].present and not _CLAIMS.value:
        raise UserError("--claims is empty; expected ids, such as --claims=lenet5-parameters, or no --claims for all")
    wanted = list(dict.fromkeys(_CLAIMS.value)) or [*facts, *claims]
    measured = [claims[name] for name in wanted if name in claims]
    exact = [facts[name] for name in wanted if name in facts]
    if _LIST.value:
        launch.end_with_pipe()
        print("\n".join([*map(_listed_fact, exact), *map(_listed, measured)]))
        return
    if _SCALE.value == "quick":
        if _CLAIMS.value and (long := [claim.id for claim in measured if claim.quick is None]):
            raise UserError(f"no short run can show {', '.join(long)}; --scale=paper measures it")
        measured = [claim for claim in measured if claim.quick is not None]
    _check_sources(measured)
    runs, slots = _jobs(measured), _slots()
    _check_data(measured, runs)
    _check_runs(measured)
    check_writable(user_path(_RESULTS.value) / "claim.json")
    for one in exact:
        print(_record_fact(one), flush=True)
    if measured:
        print(_cost(measured, list(runs.values())), flush=True)
    waiting, unmeasured = list(measured), list[str]()

    def record_measured() -> None:
        """Records the claims whose runs have all finished; one that cannot be measured does not stop the others."""
        for claim in list(waiting):
            if all(runner.finished(runs[folder]) for folder in _folders(claim)):
                waiting.remove(claim)
                try:
                    print(_record(claim), flush=True)
                except UserError as error:
                    unmeasured.append(f"{claim.id}: {error}")
                    print(unmeasured[-1], flush=True)

    record_measured()
    if waiting and not slots and runner.platform_of_runs() != "cpu":
        slots = 1
    failures = runner.run_all(list(runs.values()), slots, record_measured)
    if waiting and failures:
        ids = ", ".join(claim.id for claim in waiting)
        failed = f"{len(failures)} of {count_of(len(runs), 'run')} failed"
        raise UserError(f"{failed}, so there is no result for {ids}: {failures[0]}")
    if unmeasured:
        raise UserError(f"{count_of(len(unmeasured), 'claim')} could not be measured: {unmeasured[0]}")


def _jobs(claims: list[Claim]) -> dict[pathlib.Path, Job]:
    """The runs of the claims by folder; a shared run appears once."""
    runs: dict[pathlib.Path, Job] = {}
    for claim in claims:
        for experiment in claim.runs.values():
            for seed in _seeds(claim):
                _add(runs, _scaled(experiment, claim), seed, claim.keeps)
    return runs


def _add(runs: dict[pathlib.Path, Job], experiment: Experiment, seed: int, keeps: bool) -> None:
    """Adds a run, and the one that it starts from, to `runs`."""
    if experiment.start:
        _add(runs, experiment.start, seed, keeps=True)
    folder = _path(experiment, seed)
    runs[folder] = Job(
        folder,
        (sys.executable, "-m", experiment.module, f"--workdir={folder}", *flags_of_run(experiment, seed)),
        one_core=experiment.one_core,
        keeps=keeps or (folder in runs and runs[folder].keeps),
        after=_path(experiment.start, seed) if experiment.start else None,
    )


def _check_sources(claims: list[Claim]) -> None:
    """Raises UserError unless each --source is for one dataset of the claims, and each dataset has one at most."""
    datasets = sorted({_dataset(experiment) for claim in claims for experiment in claim.runs.values()})
    given: dict[str, str] = {}
    for value in _SOURCE.value:
        name, source = _split(value)
        if not source:
            raise UserError(f"--source={value} is empty; expected a source, such as --source=folder:PATH")
        if name in given:
            raise UserError(f"--source={value} and --source={given[name]} are for the same images; expected one")
        given[name] = value
        if name and name not in datasets:
            raise unknown("dataset", name, datasets)
        if not name and len(datasets) > 1:
            raise UserError(
                f"--source={value} would replace {', '.join(datasets)}; name the one that it is, such as "
                f"--source={datasets[0]}={value}"
            )


def _check_data(claims: list[Claim], runs: dict[pathlib.Path, Job]) -> None:
    """Raises UserError if an unfinished run needs a dataset that is not here."""
    preflight.check_data(
        preflight.make_config(_scaled(experiment, claim), _given(experiment)).data
        for claim in claims
        for experiment in claim.runs.values()
        if any(not runner.finished(runs[_folder(experiment, claim, seed)]) for seed in _seeds(claim))
    )


def _check_runs(claims: list[Claim]) -> None:
    """Raises UserError if a run of an earlier command has another config than its experiment asks for now."""
    for claim in claims:
        for experiment in claim.runs.values():
            scaled = _scaled(experiment, claim)
            for one in filter(None, (scaled, scaled.start)):
                config = preflight.make_config(one, _given(one))
                for seed in _seeds(claim):
                    preflight.check_run(_path(one, seed), config)


def _cost(claims: list[Claim], jobs: list[Job]) -> str:
    """A line on how many runs there are, how many are finished, and how long the others take."""
    left = {job.folder for job in jobs if not runner.finished(job)}
    seconds: dict[pathlib.Path, float] = {}
    needed: dict[str, set[pathlib.Path]] = {}
    for claim in claims:
        needed[claim.id] = _folders(claim) & left
        cost = run_costs.mean_run_seconds(user_path(_RESULTS.value), claim, _SCALE.value)
        if cost is not None:
            seconds |= dict.fromkeys(needed[claim.id] - seconds.keys(), cost)
    unknown_costs = sum(bool(folders - seconds.keys()) for folders in needed.values())
    return run_costs.describe_runs(len(jobs), len(left), sum(seconds.values()), unknown_costs)


def _slots() -> int:
    """The value of --jobs, 0 for auto."""
    if _JOBS.value == "auto":
        return 0
    if not _JOBS.value.isdecimal() or int(_JOBS.value) < 1:
        raise UserError(f"--jobs is {_JOBS.value!r}; expected 'auto' or a number of at least 1")
    return int(_JOBS.value)


def _folders(claim: Claim) -> set[pathlib.Path]:
    """The folders of all runs of a claim, and of those that they start from."""
    runs = [_scaled(run, claim) for run in claim.runs.values()]
    return {_path(one, seed) for run in runs for one in (run, run.start) if one for seed in _seeds(claim)}


def _seeds(claim: Claim) -> range:
    """The seeds of all runs of an experiment; runs that do not depend on them are made once, whatever --seeds says."""
    numbers = _SEEDS.value if _SEEDS.value and claim.random else claim.seeds
    return range(numbers * claim.members)


def _listed(claim: Claim) -> str:
    """A claim in the list: its seeds and data, what it says, and the recorded verdicts with their costs."""
    folder = user_path(_RESULTS.value)
    found = [result for scale in run_costs.SUFFIXES if (result := run_costs.recorded_result(folder, claim, scale))]
    said = "; ".join(map(_verdict, found)) or "not recorded"
    seeds = count_of(claim.seeds, "seed") if claim.random else "not random"
    data = {_source(experiment) or _dataset(experiment) for experiment in claim.runs.values()}
    return _entry(claim.id, seeds, ",".join(sorted(data)), f"{claim.where}: {claim.says} [{said}]")


def _listed_fact(one: Fact) -> str:
    path = fact.result_path(user_path(_RESULTS.value), one.id)
    said = workdir.read_json(path)["verdict"] if path.exists() else "not recorded"
    return _entry(one.id, "exact", "", f"{one.where}: {one.says} [{said}]")


def _entry(name: str, kind: str, data: str, text: str) -> str:
    """An entry of the list: in a file or pipe one line, for searching; on a terminal with the text below the head."""
    head = f"{name:38} {kind:10} {data:12}"
    if not sys.stdout.isatty():
        return f"{head} {text}"
    columns = shutil.get_terminal_size().columns
    return f"{head.rstrip()}\n{textwrap.fill(text, columns, initial_indent='    ', subsequent_indent='    ')}"


def _verdict(result: dict[str, Any]) -> str:
    few = f"preliminary ({count_of(len(result['seeds']), 'seed')}): " if result["preliminary"] else ""
    return f"{few}{result['verdict']}, {run_costs.describe_cost(result) or 'cost not recorded'}"


def _scaled(experiment: Experiment, claim: Claim) -> Experiment:
    return experiment.with_changes(claim.quick or {}) if _SCALE.value == "quick" else experiment


def _folder(experiment: Experiment, claim: Claim, seed: int) -> pathlib.Path:
    return _path(_scaled(experiment, claim), seed)


def _path(experiment: Experiment, seed: int) -> pathlib.Path:
    """The folder of a run of an experiment at its scale."""
    return user_path(_RUNS.value) / experiment.name() / f"seed{seed}"


def _dataset(experiment: Experiment) -> str:
    """The dataset that an experiment asks for, without the `tfds:` of its source."""
    return preflight.make_config(experiment, {}).data.source.removeprefix("tfds:")


def _split(source: str) -> tuple[str, str]:
    """A value of --source as a dataset, '' if it names none, and a source."""
    name, equals, rest = source.partition("=")
    return (name, rest) if equals and ":" not in name else ("", source)


def _source(experiment: Experiment) -> str:
    """The source that --source gives to an experiment's dataset, '' for none."""
    given = dict(map(_split, _SOURCE.value))
    return given.get(_dataset(experiment), given.get("", "")) if given else ""


def _given(experiment: Experiment) -> dict[str, str]:
    """The options of the `data` section that this command line gives to a run."""
    given = {"source": _source(experiment), "directory": _DATA_DIR.value}
    return {name: value for name, value in given.items() if value}


def flags_of_run(experiment: Experiment, seed: int) -> list[str]:
    """The flags of a run of an experiment, with those that this command line gives to it."""
    where = [f"--config.data.{name}={value}" for name, value in _given(experiment).items()]
    start = [f"--config.init.checkpoint={_path(experiment.start, seed)}"] if experiment.start else []
    return [*experiment.flags(), f"--config.seed={seed}", *where, *start]


def _record_fact(one: Fact) -> str:
    """Computes a fact, writes its result, and returns it as a line of text."""
    result = fact.evaluate(one)
    path = fact.result_path(user_path(_RESULTS.value), one.id)
    workdir.write_json(path, result)
    missed = [
        f"{name} {number['computed']} for {number['expected']}"
        for name, number in result["numbers"].items()
        if not number["agrees"]
    ]
    return f"{one.id}: {result['verdict']}{': ' if missed else ''}{', '.join(missed)}"


def _record(claim: Claim) -> str:
    """Writes the claim's result and picture, and returns the result as a line of text."""
    folders = {name: [_folder(run, claim, seed) for seed in _seeds(claim)] for name, run in claim.runs.items()}
    result = results.of_runs(claim, folders, _SCALE.value)
    result["commands"] = {name: repeating_command(_scaled(run, claim)) for name, run in claim.runs.items()}
    name = claim.id + run_costs.SUFFIXES[_SCALE.value] + (run_costs.PRELIMINARY if result["preliminary"] else "")
    result["figure"] = f"{name}.png" if claim.figure or claim.against else None
    path = user_path(_RESULTS.value)
    if claim.figure:
        with whole_file(path / result["figure"]) as file:
            claim.figure(folders).savefig(file, format="png", dpi=110)
    elif claim.against:
        charts.write(path / result["figure"], [result], charts.error_against(claim.against))
    workdir.write_json(path / f"{name}.json", result)
    few = f" (preliminary: {len(result['seeds'])} of {claim.seeds} seeds)" if result["preliminary"] else ""
    return f"{claim.id}: {result['verdict']}{few}: {'; '.join(results.rule_lines(result))}"


def repeating_command(experiment: Experiment) -> str:
    """The commands that repeat a run elsewhere, without this machine's folders."""
    options = [shlex.quote(option) for option in experiment.flags()]
    if source := _source(experiment):
        kind, _, name = source.partition(":")
        options.append(f"--config.data.source={kind}:{'PATH' if kind in _PATHS else name}")
    before = f"{repeating_command(experiment.start)} --workdir=START && " if experiment.start else ""
    start = ["--config.init.checkpoint=START"] if experiment.start else []
    return before + " ".join([f"python -m {experiment.module}", *options, "--config.seed=SEED", *start])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its runs then save, as after Ctrl-C
    launch.run(main)
