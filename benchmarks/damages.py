"""Damages of a workdir: `python -m benchmarks.damages [--every=1]`.

A small network learns digits. Then each file of its folder is damaged in each of five ways (emptied, cut in half, one
bit flipped, deleted, a folder in its place), in a fresh copy every time, and the run is opened for evaluation and
trained on. Each has to end in one line for the user, or in a state that was saved: the error on the test set is then
the one that was recorded with the checkpoint. Writes results/benchmark_damages.json.

These are counted, and should be zero: other exceptions; errors that belong to no checkpoint.
"""

import collections
import contextlib
import io
import pathlib
import shutil
import tempfile
from collections.abc import Callable

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from benchmarks.measure import record, spread
from common import launch
from common.errors import UserError

_EVERY = flags.DEFINE_integer("every", 1, "try every N-th damage only", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "seed of the bits that flip")
_OUT = flags.DEFINE_string("out", "results/benchmark_damages.json", "file of the result", allow_override=True)

Damage = Callable[[pathlib.Path, np.random.Generator], None]
LENGTH, LONGER = "3 epochs", "4 epochs"


def emptied(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Leaves a file of no bytes."""
    path.write_bytes(b"")


def halved(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Leaves the first half of the file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Flips one bit at a random place."""
    content = bytearray(path.read_bytes())
    if content:
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def deleted(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Removes the file."""
    path.unlink()


def replaced(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Puts a folder in the file's place."""
    path.unlink()
    path.mkdir()


DAMAGES: tuple[Damage, ...] = (emptied, halved, flipped, deleted, replaced)


def main() -> None:
    """Counts how opening and training end after each damage."""
    with tempfile.TemporaryDirectory() as root:
        original = pathlib.Path(root) / "original"
        _train(original, LENGTH)
        ends, bad = campaign(original, pathlib.Path(root) / "copy", _EVERY.value, _SEED.value)
    for line in bad:
        print(line)
    measured = {f"{use}: {end}": spread([float(count)]) for (use, end), count in sorted(ends.items())}
    command = f"python -m benchmarks.damages --every={_EVERY.value} --seed={_SEED.value}"
    record(pathlib.Path(_OUT.value), "damages of a workdir", measured, command, bad=bad)


def campaign(
    original: pathlib.Path, copy: pathlib.Path, every: int = 1, seed: int = 0
) -> tuple[collections.Counter[tuple[str, str]], list[str]]:
    """Counts of the ends of opening and training after each damage to the run in `original`, and the bad ends.

    copy: a folder that is made and removed for each damage.
    """
    rng = np.random.default_rng(seed)
    files = sorted(path.relative_to(original) for path in original.rglob("*") if path.is_file())
    ends: collections.Counter[tuple[str, str]] = collections.Counter()
    bad = []
    for number, (file, damage) in enumerate((file, damage) for file in files for damage in DAMAGES):
        if number % every:
            continue
        for use, act in (("evaluated", _evaluate), ("trained on", _train_on)):
            shutil.copytree(original, copy)
            damage(copy / file, rng)
            end, detail = _outcome(act, copy)
            ends[use, end] += 1
            if end in ("another exception", "an error of no checkpoint"):
                bad.append(f"{file} {damage.__name__}, {use}: {end}: {detail}")
            shutil.rmtree(copy)
    return ends, bad


def _outcome(act: Callable[[pathlib.Path], bool], folder: pathlib.Path) -> tuple[str, str]:
    """The kind of end of a use of a damaged folder, and what was said."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return ("a state that was saved", "") if act(folder) else ("an error of no checkpoint", "")
    except UserError as error:
        lines = str(error).splitlines()
        return ("one line" if len(lines) == 1 else "another exception"), str(error)
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return "another exception", f"{type(error).__name__}: {error}"


def _config(length: str) -> ConfigDict:
    from configs import lenet5_mnist_modern

    config = lenet5_mnist_modern.get_config()
    config.update_from_flattened_dict(
        {
            "data.source": "digits",
            "data.resize": 28,
            "train.batch_size": 64,
            "train.length": length,
            "schedule.name": "constant",
            "schedule.warmup": "0 steps",
            "mesh.devices": 1,
        }
    )
    return config


def _train(folder: pathlib.Path, length: str) -> None:
    from common import train

    train.fit(_config(length), folder)


def _train_on(folder: pathlib.Path) -> bool:
    """Trains for another epoch; True, since what it goes on from has been compared by the reader."""
    _train(folder, LONGER)
    return True


def _evaluate(folder: pathlib.Path) -> bool:
    """True if the error of the run that is opened is one that was saved with a checkpoint."""
    from common.data import datasets
    from common.run import checkpoints, trained

    run = trained.load(folder)
    error = trained.predictions(run, datasets.load(run.config.data).test).error
    saved = [checkpoints.saved_error(folder, step) for step in checkpoints.steps(folder)]
    return any(known is None or abs(error - known) < 1e-6 for known in saved)


if __name__ == "__main__":
    launch.run(main)
