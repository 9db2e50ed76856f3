"""Damages of a workdir: `python -m benchmarks.survival.damages [--every=1] [--folder=DIR]`.

A small network learns some digits. Then each file of its folder is damaged in each of five ways (emptied, cut in half,
one bit flipped, deleted, a folder in its place), in a fresh copy every time. The run is evaluated, and in another copy
trained on. Both must end in one line for the user or in a saved state, to the bit. Evaluation must have the parameters
that were saved at its step, and their error. Training must end with the parameters that an undamaged run reaches from
the same checkpoint. If an older state than the newest is used, there must be a warning.

Two other ends are counted, and should not occur: another exception, and 'silently another state', which is a state that
was not saved, or an older one without a warning. It takes a quarter of an hour on two idle cores. With `--folder` the
outcomes so far are in DIR/outcomes.jsonl, one JSON object a line, and the same command goes on after them. Writes
results/benchmark_damages.json.
"""

import collections
import contextlib
import dataclasses
import io
import json
import logging
import pathlib
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict
from tqdm import tqdm

from benchmarks import measure
from benchmarks.measure import define_place, record, spread
from common import launch
from common.errors import UserError
from common.files import append_line, json_lines

Damage = Callable[[pathlib.Path, np.random.Generator], None]
STEPS, LONGER = (2, 4), 6  # updates after which the run is saved; training on from a copy ends after LONGER
SAVED, ONE_LINE = "a state that was saved", "one line"
SILENT, EXCEPTION = "silently another state", "another exception"
BAD = (SILENT, EXCEPTION)
_test_images: dict[str, Any] = {}  # by the config's `data` section: decoded once


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


@dataclasses.dataclass(frozen=True)
class State:
    """Parameters as one vector, and the error on the test set."""

    parameters: np.ndarray
    error: float

    def same(self, other: "State") -> bool:
        """True if both are the same, to the bit."""
        return np.array_equal(self.parameters, other.parameters) and self.error == other.error


@dataclasses.dataclass(frozen=True)
class Undamaged:
    """A run, the state at each of its checkpoints, and the state that training reaches from each."""

    folder: pathlib.Path
    saved: dict[int, State]
    continued: dict[int, State]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The damage of a folder, its use, the kind of end, and what was said."""

    damage: str
    use: str
    end: str
    detail: str


def prepare(root: pathlib.Path) -> Undamaged:
    """Trains the run below `root`, unless it is there, and notes its states."""
    folder, copy = root / "original", root / "copy"
    if not (folder / "summary.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _train(folder, STEPS[-1])
    saved, continued = {}, {}
    for step in STEPS:
        saved[step] = _evaluated(folder, str(step))
        with _copied(folder, copy):
            for later in STEPS:
                if later > step:
                    shutil.rmtree(copy / "checkpoints" / str(later))
            _train(copy, LONGER)
            continued[step] = _evaluated(copy, "last")
    return Undamaged(folder, saved, continued)


def campaign(root: pathlib.Path, every: int = 1, seed: int = 0) -> list[Outcome]:
    """The outcomes of evaluation and training after each damage to a run below `root`, including earlier ones."""
    log = root / "outcomes.jsonl"
    outcomes = [Outcome(**content) for content in json_lines(log)]
    known = {(outcome.damage, outcome.use) for outcome in outcomes}
    original = prepare(root)
    files = sorted(path.relative_to(original.folder) for path in original.folder.rglob("*") if path.is_file())
    cases = [(file, damage) for file in files for damage in DAMAGES][::every]
    for file, damage in tqdm(cases, unit="damage", mininterval=5.0):
        for use, act in (("evaluated", _evaluate), ("trained on", _train_on)):
            name = f"{file} {damage.__name__}"
            if (name, use) in known:
                continue
            with _copied(original.folder, root / "copy") as copy:
                damage(copy / file, np.random.default_rng([seed, *name.encode()]))
                outcomes.append(Outcome(name, use, *_outcome(act, copy, original)))
            append_line(log, json.dumps(dataclasses.asdict(outcomes[-1])))
    return outcomes


@contextlib.contextmanager
def _copied(folder: pathlib.Path, copy: pathlib.Path) -> Iterator[pathlib.Path]:
    """A copy of a folder, removed after the block, and before it if an earlier campaign has left one."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    yield copy
    shutil.rmtree(copy, ignore_errors=True)


class _Warnings(logging.Handler):
    """The warnings inside a block."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, entry: logging.LogRecord) -> None:
        self.lines.append(entry.getMessage())

    def __enter__(self) -> "_Warnings":
        logging.getLogger("absl").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("absl").removeHandler(self)


def _outcome(
    act: Callable[[pathlib.Path, Undamaged], tuple[int, bool]], folder: pathlib.Path, original: Undamaged
) -> tuple[str, str]:
    """The kind of end of a use of a damaged folder, and what was said."""
    try:
        with _Warnings() as warnings:
            step, right = act(folder, original)
    except UserError as error:
        return ONE_LINE if len(str(error).splitlines()) == 1 else EXCEPTION, str(error)
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return EXCEPTION, f"{type(error).__name__}: {error}"
    said = "; ".join(warnings.lines)
    if not right or (step != STEPS[-1] and "using another one" not in said):
        return SILENT, f"from step {step}, {'right' if right else 'other'} numbers. {said}"
    return SAVED, f"from step {step}. {said}"


def _evaluate(folder: pathlib.Path, original: Undamaged) -> tuple[int, bool]:
    """The step that is evaluated, and True if its state is the one that was saved."""
    from common.run import trained

    run = trained.load(folder)
    return run.step, run.step in original.saved and _state(run).same(original.saved[run.step])


def _train_on(folder: pathlib.Path, original: Undamaged) -> tuple[int, bool]:
    """The step that training goes on from, and True if it ends as it does from this step's undamaged checkpoint."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        _train(folder, LONGER)
    found = re.search(r"going on from step (\d+)", printed.getvalue())
    step = int(found[1]) if found else 0
    return step, step in original.continued and _evaluated(folder, "last").same(original.continued[step])


def _evaluated(folder: pathlib.Path, checkpoint: str) -> State:
    from common.run import trained

    return _state(trained.load(folder, checkpoint))


def _state(run) -> State:
    import jax

    from common.data import datasets
    from common.run import trained

    leaves = [np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves(run.variables)]
    text = run.config.data.to_json()
    if text not in _test_images:
        _test_images[text] = datasets.load(run.config.data).test
    return State(np.concatenate(leaves), trained.predictions(run, _test_images[text]).error)


def _config(steps: int) -> ConfigDict:
    from configs import lenet5_mnist_modern

    config = lenet5_mnist_modern.get_config()
    config.update_from_flattened_dict(
        {
            "data.source": "digits",
            "data.resize": 28,
            "data.limit": 64,
            "train.batch_size": 16,
            "train.length": f"{steps} steps",
            "train.log_every": "1 steps",
            "evaluate.every": "2 steps",
            "checkpoint.every": "2 steps",
            "checkpoint.keep": 4,
            "schedule.name": "constant",
            "schedule.warmup": "0 steps",
            "mesh.devices": 1,
        }
    )
    return config


def _train(folder: pathlib.Path, steps: int) -> None:
    measure.fit(_config(steps), folder)


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_integer("every", 1, "try every N-th damage only", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "seed of the bits that flip")
    define_place("folder", "", "folder for the runs, kept so that the campaign can go on")
    define_place("out", "results/benchmark_damages.json", "file of the result")


def main() -> None:
    """Counts how evaluation and training end after each damage."""
    import jax

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="damages-") as fresh:
        root = pathlib.Path(flags.FLAGS.folder or fresh).absolute()
        root.mkdir(parents=True, exist_ok=True)
        # Every start of training traces its programs again, but none is compiled twice.
        jax.config.update("jax_compilation_cache_dir", str(root / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        outcomes = campaign(root, flags.FLAGS.every, flags.FLAGS.seed)
    bad = [f"{one.damage}, {one.use}: {one.end}: {one.detail}" for one in outcomes if one.end in BAD]
    print("\n".join(bad))
    counts = collections.Counter(f"{one.use}: {one.end}" for one in outcomes)
    counts |= {"damages": len({one.damage for one in outcomes})}
    measured = {name: spread([float(count)]) for name, count in sorted(counts.items())}
    for name in (f"{use}: {end}" for use in ("evaluated", "trained on") for end in BAD):
        measured.setdefault(name, spread([0.0]))
    record(pathlib.Path(flags.FLAGS.out), "damages of a workdir", measured, bad=bad)


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
