"""Waiting times: `python -m benchmarks.startup`.

A new user waits for `common.main --help`, for LeNet-5 to train on the bundled digits, and for its report (as in `make
train`, after the installation). Someone who resumes a killed run waits from the command to the first new update. This
is measured with and without the compiled programs that the run keeps. Each command runs in its own process. Writes
results/benchmark_startup_*.json.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from absl import flags

from benchmarks.measure import define_place, device_name, record, spread
from benchmarks.survival.groups import newest_step
from common import launch
from common.errors import UserError
from common.processes import supervise

KILLED = "configs/vit_digits.py"  # of the networks for digits, the one that compiles longest
PATIENCE = 600.0  # seconds within which a run must progress


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_integer("rounds", 3, "measurements of each command", lower_bound=1)
    define_place("out", "results", "folder of the result")


def main() -> None:
    """Measures and writes the result."""
    helps = [_seconds("common.main", "--help") for _ in range(flags.FLAGS.rounds)]
    trains, reports, kept, anew = [], [], [], []
    for _ in range(flags.FLAGS.rounds):
        with tempfile.TemporaryDirectory() as folder:
            trains.append(_seconds("common.main", "--config=configs/lenet5_digits.py", f"--workdir={folder}"))
            reports.append(_seconds("common.report", f"--workdir={folder}"))
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            _until_an_update(folder / "run", folder / "programs")
            kept.append(_until_an_update(folder / "run", folder / "programs"))
            anew.append(_until_an_update(folder / "run", folder / "nothing"))
    measured = {
        "common.main --help, seconds": spread(helps),
        "LeNet-5 on digits, trained and evaluated, seconds": spread(trains),
        "its report, seconds": spread(reports),
        "ViT on digits, killed and started again, seconds to the first update": spread(kept),
        "the same without the compiled programs, seconds": spread(anew),
    }
    record(pathlib.Path(flags.FLAGS.out) / f"benchmark_startup_{device_name()}.json", "startup", measured)


def _seconds(module: str, *arguments: str) -> float:
    """Wall time of `python -m MODULE ARGUMENTS`."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"python -m {module} has failed: {supervise.last_line(done.stderr)}")
    return time.perf_counter() - started


def _until_an_update(folder: pathlib.Path, programs: pathlib.Path) -> float:
    """The seconds from the command to the first new record of an update. The run is killed at its next checkpoint."""
    options = (f"--config={KILLED}", f"--workdir={folder}")
    often = ("--config.train.log_every=1steps", "--config.checkpoint.every=5steps", "--config.evaluate.every=1000steps")
    records, saved = _records(folder), newest_step(folder)
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "common.main", *options, *often],
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(programs)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(process, lambda: _records(folder) > records)
        seconds = time.perf_counter() - started
        _wait(process, lambda: newest_step(folder) > saved)
    finally:
        process.kill()
        process.wait()
    return seconds


def _wait(process: subprocess.Popen, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        if process.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"the run that was to be killed has ended by itself, with exit code {process.returncode}")
        time.sleep(0.02)


def _records(folder: pathlib.Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
