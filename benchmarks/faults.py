"""Runs that are killed at random moments: `python -m benchmarks.faults [--kills=100]`.

A small network learns digits, in one process or in a group, and evaluates and saves much more often than usual. At a
random moment between its start and the end of the run a process is killed outright or, one time in four, asked to stop.
Then the same command is given again, and nothing is repaired in between. Each run must finish with the parameters of an
undisturbed one, to the bit. Writes results/benchmark_faults.json after each run.

These are counted, and should all be zero: complete checkpoints that could not be read after a kill; hangs (a process
still there a minute and a half after another had died); runs that did not finish; runs that ended with other
parameters. The time from a kill until all other processes have ended is measured.
"""

import collections
import dataclasses
import pathlib
import random
import signal
import tempfile
import time

from absl import flags

from benchmarks import groups
from benchmarks.measure import Measured, record, spread
from common import launch

_KILLS = flags.DEFINE_integer("kills", 100, "number of faults", lower_bound=1)
_SIZES = flags.DEFINE_list("processes", ["1", "2"], "numbers of processes in a group, taken in turn")
_SEED = flags.DEFINE_integer("seed", 0, "seed of the random moments")
_OUT = flags.DEFINE_string("out", "results/benchmark_faults.json", "file of the result")

STEPS, FAULTS_PER_RUN, PATIENCE = 1000, 10, 90.0
START = 0.4  # the part of an undisturbed run before its first update, about
RUN = (
    "--config=configs/lenet5_folder.py",
    "--config.data.source=digits",
    "--config.mesh.devices=0",
    "--config.mesh.heartbeat_timeout=20",
    "--config.mesh.start_timeout=60",
    f"--config.train.length={STEPS}steps",
    "--config.train.log_every=50steps",
    "--config.schedule.warmup=5steps",
    "--config.evaluate.every=10steps",
    "--config.checkpoint.every=10steps",
    "--config.evaluate.batch_size=50",
)


@dataclasses.dataclass
class Fault:
    """One fault: the signal, the run's phase then, checkpointed steps before and after it, seconds until all ended."""

    signal: str
    phase: str
    processes: int
    saved_before: int
    restored: int
    noticed_seconds: float
    hang: bool


class Group:
    """The processes of one start of a run."""

    def __init__(self, folder: pathlib.Path, size: int, cache: pathlib.Path):
        self._log = folder.with_suffix(".log").open("ab")
        self._log.write(b"=== start\n")
        self._log.flush()
        self.processes = groups.start_group(size, *RUN, f"--workdir={folder}", cache=cache, log=self._log)

    def wait(self, seconds: float) -> bool:
        """Waits until all have ended, at most this long; returns whether they have."""
        deadline = time.monotonic() + seconds
        while (running := self._running()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return not running

    def _running(self) -> bool:
        return any(process.poll() is None for process in self.processes)

    def end(self) -> None:
        """Ends the processes that are left."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._log.close()


def phase(folder: pathlib.Path, log: pathlib.Path) -> str:
    """The phase of a run, read off its files: 'start', 'restore', 'save', 'evaluate' or 'train'."""
    text = log.read_text(errors="replace").rpartition("=== start\n")[2]
    if any("tmp" in path.name for path in (folder / "checkpoints").glob("*")):
        return "save"
    if " train " not in text and " test " not in text:
        return "restore" if "workdir" in text or groups.newest_step(folder) else "start"
    return "evaluate" if text.rstrip().rpartition("\n")[2].count(" train ") else "train"


def undisturbed(folder: pathlib.Path, size: int, cache: pathlib.Path) -> float:
    """Seconds that an undisturbed run takes."""
    started = time.monotonic()
    group = Group(folder, size, cache)
    if not group.wait(600) or any(process.returncode for process in group.processes):
        raise RuntimeError(f"the undisturbed run failed; see {folder.with_suffix('.log')}")
    group.end()
    return time.monotonic() - started


def disturbed(folder: pathlib.Path, size: int, cache: pathlib.Path, seconds: float, rng: random.Random) -> list[Fault]:
    """Makes a run with its share of faults, then lets it finish; returns the faults."""
    faults = []
    while len(faults) < FAULTS_PER_RUN:
        group = Group(folder, size, cache)
        # Two moments in three lie after the start, when there is something to lose. A resumed run is shorter.
        low = 0.0 if rng.random() < 1 / 3 else START
        high = START + (1 - START) * (1 - groups.newest_step(folder) / STEPS)
        if group.wait(seconds * rng.uniform(low, high)):
            group.end()
            break
        faults.append(_one_fault(group, folder, size, rng))
    group = Group(folder, size, cache)
    group.wait(600)
    group.end()
    return faults


def _one_fault(group: Group, folder: pathlib.Path, size: int, rng: random.Random) -> Fault:
    number = signal.SIGTERM if rng.random() < 0.25 else signal.SIGKILL
    before, now = groups.newest_step(folder), phase(folder, folder.with_suffix(".log"))
    hit = time.monotonic()
    groups.send(group.processes[rng.randrange(size)], number)
    ended = group.wait(PATIENCE)
    seconds = time.monotonic() - hit
    group.end()
    return Fault(number.name, now, size, before, groups.newest_step(folder), seconds, hang=not ended)


def parameters(folder: pathlib.Path) -> list:
    """The parameters after the last step."""
    import jax
    import numpy as np

    from common.run import trained

    return [np.asarray(leaf) for leaf in jax.tree.leaves(trained.load(folder, step=STEPS).variables)]


def same(one: pathlib.Path, other: pathlib.Path) -> bool:
    """True if two finished runs have the same parameters, to the bit."""
    import numpy as np

    return all(np.array_equal(a, b) for a, b in zip(parameters(one), parameters(other), strict=True))


def summarised(faults: list[Fault], runs: collections.Counter) -> Measured:
    """The recorded numbers: counts of faults and runs, and the seconds until all others had ended."""
    kinds = {
        "fell on a run at": (fault.phase for fault in faults),
        "were a": (fault.signal for fault in faults),
        "fell on groups of": (str(fault.processes) for fault in faults),
    }
    counts = {"faults": len(faults), "runs": runs["runs"]}
    for what, found in kinds.items():
        counts |= {f"faults that {what} {kind}": count for kind, count in sorted(collections.Counter(found).items())}
    counts |= {
        "complete checkpoints lost": sum(fault.restored < fault.saved_before for fault in faults),
        "hangs": sum(fault.hang for fault in faults),
        "runs that did not finish": runs["unfinished"],
        "runs that ended with other parameters": runs["different"],
        "runs with a damaged checkpoint": runs["damaged"],
    }
    measured = {name: spread([count]) for name, count in counts.items()}
    waits = [fault.noticed_seconds for fault in faults if fault.processes > 1]
    return {**measured, "seconds until all others had ended": spread(waits)} if waits else measured


def main() -> None:
    """Disturbs runs until there were enough faults, and writes the outcome."""
    rng = random.Random(_SEED.value)
    sizes = [int(size) for size in _SIZES.value]
    faults, runs, calm, seconds = [], collections.Counter(), {}, {}
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        root = pathlib.Path(name)
        for size in sizes:
            calm[size] = root / f"calm{size}"
            undisturbed(root / f"first{size}", size, root / "compiled")  # fills the cache
            seconds[size] = undisturbed(calm[size], size, root / "compiled")
        while len(faults) < _KILLS.value:
            size = sizes[runs["runs"] % len(sizes)]
            folder = root / f"run{runs['runs']}"
            found = disturbed(folder, size, root / "compiled", seconds[size], rng)
            if len(found) < FAULTS_PER_RUN:  # it ended before the moment drawn: runs have become faster
                seconds[size] *= 0.7
            faults += found
            runs["runs"] += 1
            finished = (folder / "summary.json").exists()
            runs["unfinished"] += not finished
            runs["different"] += finished and not same(folder, calm[size])
            runs["damaged"] += (folder / "damaged").exists()
            command = f"python -m benchmarks.faults --kills={_KILLS.value} --seed={_SEED.value}"
            record(pathlib.Path(_OUT.value), "faults", summarised(faults, runs), command)


if __name__ == "__main__":
    launch.run(main)
