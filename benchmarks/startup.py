"""How long a newcomer waits: `python -m benchmarks.startup`.

Times, in processes of their own, `common.main --help`, and training LeNet-5 on the bundled digits with the report
after it (what `make train` does once things are installed). Writes results/benchmark_startup.json.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

from absl import flags

from benchmarks.measure import record, spread
from common import launch
from common.errors import UserError

_ROUNDS = flags.DEFINE_integer("rounds", 3, "measurements of each", lower_bound=1)
_OUT = flags.DEFINE_string("out", "results/benchmark_startup.json", "where the result goes")


def main() -> None:
    """Measure and write the result."""
    helps = [_seconds("common.main", "--help") for _ in range(_ROUNDS.value)]
    trains, reports = [], []
    for _ in range(_ROUNDS.value):
        with tempfile.TemporaryDirectory() as folder:
            trains.append(_seconds("common.main", "--config=configs/lenet5_digits.py", f"--workdir={folder}"))
            reports.append(_seconds("common.report", f"--workdir={folder}"))
    measured = {
        "common.main --help, seconds": spread(helps),
        "LeNet-5 on digits, trained and evaluated, seconds": spread(trains),
        "its report, seconds": spread(reports),
    }
    record(pathlib.Path(_OUT.value), "startup", measured, "python -m benchmarks.startup")


def _seconds(module: str, *arguments: str) -> float:
    """Wall time of `python -m MODULE ARGUMENTS`."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True)
    if done.returncode not in ((0, 1) if "--help" in arguments else (0,)):  # absl leaves with 1 after its help
        raise UserError(f"python -m {module} has failed: {done.stderr.strip().splitlines()[-1]}")
    return time.perf_counter() - started


if __name__ == "__main__":
    launch.run(main)
