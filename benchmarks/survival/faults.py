"""Runs that are killed on purpose: `python -m benchmarks.survival.faults [--each=20] [--kills=200] [--folder=DIR]`.

A small network learns digits, in one process or in a group, and evaluates and saves much more often than usual. When
the run's files show the wanted phase (start, restore, train, evaluate or save), a process is killed or, one time in
four, asked to stop. Then the same command is given again; nothing is repaired in between. Each run must finish with the
parameters of an undisturbed run, to the bit. The campaign goes on until every phase has had `--each` faults with every
number of processes, and there were `--kills` faults in all.

These are counted, and all counts should be zero: complete checkpoints from which the next start did not go on; hangs (a
process is still there a minute and a half after another has died); runs that did not finish; runs that ended with other
parameters. The time from a kill until all other processes have ended is measured.

With `--folder` the finished runs are in DIR/runs.jsonl, one JSON object a line, and the same command goes on after
them. Ctrl-C or SIGTERM stops it between two steps, and only the current run is lost. On two idle cores a fault takes
about 10 s with one process and 20 s with two: 200 faults take 50 minutes. Writes results/benchmark_faults.json after
each run.
"""

import collections
import contextlib
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from absl import flags

from benchmarks.measure import define_place, record, whole_numbers
from benchmarks.survival import groups
from benchmarks.survival.fault_counts import PHASES, Fault, Outcome, earlier, keep, missing, summarised
from common import launch
from common.files import json_lines

STEPS, FAULTS_PER_RUN, PATIENCE = 200, 10, 90.0
POLL_SECONDS = 0.002
LONGEST_DELAY = {"start": 4.0, "restore": 0.3, "train": 0.05, "evaluate": 0.05, "save": 0.03}  # seconds in a phase
RUN = (
    "--config=configs/lenet5_folder.py",
    "--config.data.source=digits",
    "--config.mesh.devices=0",
    "--config.mesh.heartbeat_timeout=12",
    "--config.mesh.start_timeout=30",
    f"--config.train.length={STEPS}steps",
    "--config.train.log_every=10steps",
    "--config.schedule.warmup=5steps",
    "--config.evaluate.every=10steps",
    "--config.checkpoint.every=10steps",
    "--config.evaluate.batch_size=20",
)


class Group:
    """The processes of one start of a run."""

    def __init__(self, folder: pathlib.Path, size: int, cache: pathlib.Path):
        self._log = folder.with_suffix(".log").open("ab")
        self._log.write(b"=== start\n")
        self._log.flush()
        self.began = time.time()
        self.processes = groups.start_group(size, *RUN, f"--workdir={folder}", cache=cache, log=self._log)

    def wait(self, seconds: float) -> bool:
        """Waits until all have ended, at most this long; returns whether they have."""
        deadline = time.monotonic() + seconds
        while (running := self.running()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return not running

    def running(self) -> bool:
        """True while a process runs."""
        return any(process.poll() is None for process in self.processes)

    def end(self) -> None:
        """Ends the processes that are left."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._log.close()


@contextlib.contextmanager
def started(folder: pathlib.Path, size: int, cache: pathlib.Path) -> Iterator[Group]:
    """A start of a run, whose processes end with the block."""
    group = Group(folder, size, cache)
    try:
        yield group
    finally:
        group.end()


def phase(folder: pathlib.Path, began: float) -> str:
    """The phase of a run that was started at the time `began`, as its files show it: one of `PHASES`.

    A run takes the lock before it looks for a checkpoint, and prints its opening lines after it has restored one. A run
    without a checkpoint has nothing to restore, and is at its start until these lines.
    """
    lock = folder / "lock"
    if not lock.exists() or lock.stat().st_mtime < began:
        return "start"
    text = folder.with_suffix(".log").read_text(errors="replace").rpartition("=== start\n")[2]
    if "activations that" not in text:
        return "restore" if groups.newest_step(folder) else "start"
    if any("tmp" in path.name for path in (folder / "checkpoints").glob("*")):
        return "save"
    records = [line for line in text.splitlines() if line.startswith("step ")]
    return "evaluate" if records and "  train  " in records[-1] else "train"


def undisturbed(folder: pathlib.Path, size: int, cache: pathlib.Path) -> None:
    """Makes the run without faults, unless it is there."""
    if (folder / "summary.json").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    with started(folder, size, cache) as group:
        if not group.wait(600) or any(process.returncode for process in group.processes):
            raise RuntimeError(f"the undisturbed run failed; see {folder.with_suffix('.log')}")


def disturbed(
    folder: pathlib.Path, size: int, cache: pathlib.Path, wanted: Sequence[str], rng: random.Random
) -> tuple[list[Fault], int]:
    """Makes a run with a fault in each of the phases `wanted`, then lets it finish.

    Returns the faults, and the number of starts that did not go on from the newest checkpoint. If the run ends before
    it shows a phase, there are no more faults.
    """
    faults: list[Fault] = []
    lost, over = 0, False
    for aim in (*wanted, None):
        before, starts = groups.newest_step(folder), _starts(folder)
        if aim == "restore" and not before:
            aim = "train"  # there is nothing to restore yet
        with started(folder, size, cache) as group:
            if aim is None:
                group.wait(600)
            elif _shows(aim, group, folder, rng):
                faults.append(_one_fault(group, folder, size, rng))
            else:
                over = True
        resumed = _starts(folder)[len(starts) :]
        lost += any(step < before for step in resumed)
        if over:
            break
    return faults, lost


def _starts(folder: pathlib.Path) -> list[int]:
    """The step of each start that reached its first update."""
    return [start["step"] for start in json_lines(folder / "history.jsonl")]


def _shows(aim: str, group: Group, folder: pathlib.Path, rng: random.Random) -> bool:
    """Waits until a run shows a phase, and a moment more. Returns False if the run ends before that."""
    intervals = rng.randrange(4) if aim in ("train", "evaluate", "save") else 0  # the first is not always hit
    after = groups.newest_step(folder) + 10 * intervals
    while phase(folder, group.began) != aim or groups.newest_step(folder) < after:
        if not group.running():
            return False
        time.sleep(POLL_SECONDS)
    group.wait(rng.uniform(0, LONGEST_DELAY[aim]))
    return group.running()


def _one_fault(group: Group, folder: pathlib.Path, size: int, rng: random.Random) -> Fault:
    number = signal.SIGTERM if rng.random() < 0.25 else signal.SIGKILL
    before, now = groups.newest_step(folder), phase(folder, group.began)
    hit = time.monotonic()
    groups.send(group.processes[rng.randrange(size)], number)
    ended = group.wait(PATIENCE)
    seconds = time.monotonic() - hit
    return Fault(number.name, now, size, before, groups.newest_step(folder), seconds, hang=not ended)


def parameters(folder: pathlib.Path) -> list:
    """The parameters after the last step."""
    import jax
    import numpy as np

    from common.run import trained

    return [np.asarray(leaf) for leaf in jax.tree.leaves(trained.load(folder, str(STEPS)).variables)]


def same(one: pathlib.Path, other: pathlib.Path) -> bool:
    """True if two finished runs have the same parameters, to the bit."""
    import numpy as np

    return all(np.array_equal(a, b) for a, b in zip(parameters(one), parameters(other), strict=True))


def one_run(root: pathlib.Path, number: int, size: int, short: collections.Counter[str], seed: int) -> Outcome:
    """Makes a run whose faults aim at the phases that are `short` of faults; its folder stays if it went wrong."""
    rng = random.Random(f"{seed} {number}")
    folder, calm = root / f"run{number}", root / f"calm{size}"
    shutil.rmtree(folder, ignore_errors=True)  # of a campaign that was stopped
    folder.with_suffix(".log").unlink(missing_ok=True)
    names = [name for name, count in short.items() if count > 0] or list(PHASES)
    wanted = [names[place % len(names)] for place in range(FAULTS_PER_RUN)]
    rng.shuffle(wanted)
    faults, lost = disturbed(folder, size, root / "compiled", wanted, rng)
    finished = (folder / "summary.json").exists()
    different, damaged = finished and not same(folder, calm), (folder / "damaged").exists()
    if finished and not (different or damaged or lost):
        shutil.rmtree(folder)
    return Outcome(number, size, tuple(faults), lost, finished, different, damaged)


def campaign(root: pathlib.Path, sizes: Sequence[int], out: pathlib.Path) -> None:
    """Disturbs runs until there were enough faults, and writes the outcome after each."""
    root.mkdir(parents=True, exist_ok=True)
    outcomes = earlier(root / "runs.jsonl")
    for size in sizes:
        undisturbed(root / f"calm{size}", size, root / "compiled")
    while True:
        short = missing(outcomes, sizes, flags.FLAGS.each)
        # The number of processes that lacks most faults comes first; if none lacks any, they take turns.
        size = max(sizes, key=lambda size: (sum(max(0, n) for n in short[size].values()), -_runs(outcomes, size)))
        enough = sum(len(run.faults) for run in outcomes) >= flags.FLAGS.kills
        if enough and all(count <= 0 for counts in short.values() for count in counts.values()):
            break
        found = one_run(root, len(outcomes), size, short[size], flags.FLAGS.seed)
        outcomes.append(found)
        keep(root / "runs.jsonl", found)
        record(out, "faults", summarised(outcomes))
        sys.stdout.flush()


def _runs(outcomes: Sequence[Outcome], size: int) -> int:
    return sum(run.processes == size for run in outcomes)


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_integer("kills", 200, "least number of faults", lower_bound=1)
    flags.DEFINE_integer("each", 20, "least number of faults in each phase, with each number of processes")
    flags.DEFINE_list("processes", ["1", "2"], "numbers of processes in a group, taken in turn")
    flags.DEFINE_integer("seed", 0, "seed of the phases, moments and signals")
    define_place("folder", "", "folder for the runs, kept so that the campaign can go on; '' is a new one")
    define_place("out", "results/benchmark_faults.json", "file of the result")


def main() -> None:
    """Runs the campaign in its folder."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sizes = whole_numbers("processes", flags.FLAGS.processes)
    with tempfile.TemporaryDirectory(prefix="faults-") as fresh:
        campaign(pathlib.Path(flags.FLAGS.folder or fresh).absolute(), sizes, pathlib.Path(flags.FLAGS.out))


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
