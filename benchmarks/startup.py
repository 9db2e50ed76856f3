"""How long one waits: `python -m benchmarks.startup`.

For a newcomer: `common.main --help`, and training LeNet-5 on the bundled digits with the report after it (what
`make train` does once things are installed). For a run that was killed: from the same command, given again, to its
first new update, with the compiled programs that the run keeps in its folder and without. All in processes of their
own. Writes results/benchmark_startup.json.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from absl import flags

from benchmarks.measure import record, spread
from common import launch
from common.errors import UserError

_ROUNDS = flags.DEFINE_integer("rounds", 3, "measurements of each", lower_bound=1)
_OUT = flags.DEFINE_string("out", "results/benchmark_startup.json", "where the result goes")

KILLED = "configs/vit_digits.py"  # it compiles longest among those that learn digits
PATIENCE = 600.0  # seconds until a run has to get on


def main() -> None:
    """Measure and write the result."""
    helps = [_seconds("common.main", "--help") for _ in range(_ROUNDS.value)]
    trains, reports, kept, anew = [], [], [], []
    for _ in range(_ROUNDS.value):
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
    record(pathlib.Path(_OUT.value), "startup", measured, "python -m benchmarks.startup")


def _seconds(module: str, *arguments: str) -> float:
    """Wall time of `python -m MODULE ARGUMENTS`."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True)
    if done.returncode not in ((0, 1) if "--help" in arguments else (0,)):  # absl leaves with 1 after its help
        raise UserError(f"python -m {module} has failed: {done.stderr.strip().splitlines()[-1]}")
    return time.perf_counter() - started


def _until_an_update(folder: pathlib.Path, programs: pathlib.Path) -> float:
    """Seconds from the command to the first new record of an update; the run is killed at its next checkpoint."""
    options = (f"--config={KILLED}", f"--workdir={folder}")
    often = ("--config.train.log_every=1steps", "--config.checkpoint.every=5steps", "--config.evaluate.every=1000steps")
    records, saved = _records(folder), _saved(folder)
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
        _wait(process, lambda: _saved(folder) > saved)
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


def _saved(folder: pathlib.Path) -> int:
    return max((int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()), default=0)


if __name__ == "__main__":
    launch.run(main)
