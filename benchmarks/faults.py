"""What becomes of runs that are killed at random moments: `python -m benchmarks.faults [--kills=100]`.

A small network learns digits, alone or in a group of processes, while it evaluates and saves much more often than
usual. In each round a process is killed outright at a random moment (from its start to the end of the run) or, one time
in four, asked to stop; then the same command is given again. In between nothing is mended. At the end, each run has to
be finished with the parameters of one that nothing happened to, to the bit. Writes results/benchmark_faults.json after
each run.

Counted: checkpoints that were complete before a kill and could not be read after it, groups of which a process was
still there a minute and a half after another had died (hangs), runs that did not finish and runs that ended with other
parameters; all of them should be zero. Timed: from a kill to the end of the last of the others.
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

_KILLS = flags.DEFINE_integer("kills", 100, "faults in all", lower_bound=1)
_SIZES = flags.DEFINE_list("processes", ["1", "2"], "sizes of groups, in turn")
_SEED = flags.DEFINE_integer("seed", 0, "of the moments")
_OUT = flags.DEFINE_string("out", "results/benchmark_faults.json", "where the result goes")

STEPS, FAULTS_PER_RUN, PATIENCE = 1000, 10, 90.0
START = 0.4  # about the part of an undisturbed run that goes by before its first update
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
    """One fault: signal, phase of the run it fell in, what was saved before and is there after, seconds of waiting."""

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
        """Wait until all have ended, at most this long; whether they have."""
        deadline = time.monotonic() + seconds
        while (running := self._running()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return not running

    def _running(self) -> bool:
        return any(process.poll() is None for process in self.processes)

    def end(self) -> None:
        """End what is left."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._log.close()


def phase(folder: pathlib.Path, log: pathlib.Path) -> str:
    """What a run is at, as its files tell: 'start', 'restore', 'save', 'evaluate' or 'train'."""
    text = log.read_text(errors="replace").rpartition("=== start\n")[2]
    if any("tmp" in path.name for path in (folder / "checkpoints").glob("*")):
        return "save"
    if " train " not in text and " test " not in text:
        return "restore" if "workdir" in text or groups.newest_step(folder) else "start"
    return "evaluate" if text.rstrip().rpartition("\n")[2].count(" train ") else "train"


def undisturbed(folder: pathlib.Path, size: int, cache: pathlib.Path) -> float:
    """Seconds that a run takes to which nothing happens."""
    started = time.monotonic()
    group = Group(folder, size, cache)
    if not group.wait(600) or any(process.returncode for process in group.processes):
        raise RuntimeError(f"the undisturbed run failed; see {folder.with_suffix('.log')}")
    group.end()
    return time.monotonic() - started


def disturbed(folder: pathlib.Path, size: int, cache: pathlib.Path, seconds: float, rng: random.Random) -> list[Fault]:
    """Run with faults until it has had its share of them, then let it finish."""
    faults = []
    while len(faults) < FAULTS_PER_RUN:
        group = Group(folder, size, cache)
        # Two moments in three lie after the start, where there is something to lose; a run that goes on is shorter.
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
    """Every parameter after the last step."""
    import jax
    import numpy as np

    from common.run import trained

    return [np.asarray(leaf) for leaf in jax.tree.leaves(trained.load(folder, step=STEPS).variables)]


def same(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether two finished runs have the same parameters, to the bit."""
    import numpy as np

    return all(np.array_equal(a, b) for a, b in zip(parameters(one), parameters(other), strict=True))


def summarised(faults: list[Fault], runs: collections.Counter) -> Measured:
    """What is written: counts, and seconds of noticing."""
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
    """Disturb runs until there were enough faults, and write what became of them."""
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
            if len(found) < FAULTS_PER_RUN:  # it ended before the moment that was drawn: it has become faster
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
