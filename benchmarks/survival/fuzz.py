"""Random inputs, counted: `python -m benchmarks.survival.fuzz [--times=4]`.

Runs the tests in `tests/fuzz`, which give the tools random options, command lines, files of weights, images, folders
and damaged workdirs. It counts how each input ended: taken, refused in one line, with a traceback, or not at all
('hang'). The last two should not occur. The inputs are the same each time. Writes results/benchmark_fuzz.json.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

from absl import flags

from benchmarks.measure import define_place, record, spread
from common import launch
from common.files import ROOT


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_integer("times", 4, "inputs of each test, as a multiple of those in `make test`", lower_bound=1)
    define_place("out", "results/benchmark_fuzz.json", "file of the result")


def main() -> None:
    """Counts the ends of all inputs."""
    from tests.fuzz import endings

    with tempfile.TemporaryDirectory() as folder:
        ends = pathlib.Path(folder, "ends.jsonl")
        environment = {**os.environ, "LINEAGE_FUZZ": str(flags.FLAGS.times), "LINEAGE_FUZZ_RECORD": str(ends)}
        command = [sys.executable, "-m", "pytest", "--timeout=0", "-p", "no:cacheprovider", "tests/fuzz"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        counts, bad = endings.counts(ends)
    kinds = sorted({kind for kind, _ in counts})
    found = {"inputs": sum(counts.values())}
    for kind in kinds:
        found |= {f"{kind}: {end}": counts[kind, end] for end in ("taken", "refused in one line", "traceback", "hang")}
    measured = {name: spread([count]) for name, count in found.items()}
    seed = "derived from each test's name"
    record(pathlib.Path(flags.FLAGS.out), "random inputs", measured, seed=seed, bad=bad)


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
