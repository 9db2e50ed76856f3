"""Parts that all benchmarks share: flags, runs, spreads of measurements, and the record of a result."""

import datetime
import pathlib
import re
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from common.errors import UserError
from common.files import check_writable, user_path

if TYPE_CHECKING:
    from ml_collections import ConfigDict

# Flags that say where a benchmark reads and writes, and how long it may take.
_NOT_RECORDED = ("folder", "minutes", "out", "traces")

Measured = dict[str, dict[str, float]]  # name of a quantity -> its median, lowest and highest value

flags.disclaim_key_flags()  # `define_place` defines a flag of its caller


class _Place(flags.ArgumentParser):
    """Reads a path, with ~ as the user's home."""

    def parse(self, argument: str) -> str:
        return str(user_path(argument)) if argument else argument


def define_place(name: str, default: str, text: str, values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag for a place to write to: a file if the default has an ending, else a folder.

    A place that cannot be written to is refused with the command line, before anything is measured.
    """
    flags.DEFINE(_Place(), name, default, text, values, flags.ArgumentSerializer())

    def check(place: str) -> bool:
        path = pathlib.Path(place)
        try:
            check_writable(path if pathlib.PurePath(default).suffix else path / "result.json")
        except UserError as error:
            raise flags.ValidationError(str(error)) from error
        return True

    flags.register_validator(name, lambda place: not place or check(place), flag_values=values)


def page_text(path: pathlib.Path, begin: str) -> str:
    """The text of a page whose table is to be rewritten. Raises UserError unless it has the line `begin`."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if begin not in text:
        raise UserError(f"--out is '{path}', which has no line '{begin}'; expected the page with that table")
    return text


def whole_numbers(flag: str, texts: Sequence[str]) -> list[int]:
    """The numbers of a flag that lists whole numbers of at least 1. Raises UserError for anything else."""
    if not texts:
        raise UserError(f"--{flag} is empty; expected whole numbers of at least 1, such as --{flag}=1,2")
    for text in texts:
        if not text.isdecimal() or int(text) < 1:
            raise UserError(f"--{flag} has '{text}'; expected whole numbers of at least 1, such as --{flag}=1,2")
    return [int(text) for text in texts]


def spread(values: list[float]) -> dict[str, float]:
    """The median, lowest and highest of repeated measurements."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def fit(config: "ConfigDict", folder: pathlib.Path) -> None:
    """Makes a run in this process. A request to stop it, such as Ctrl-C, stops the benchmark as well."""
    from common import train  # slow imports
    from common.processes.preemption import Preempted

    try:
        train.fit(config, folder)
    except Preempted as stopped:
        raise KeyboardInterrupt from stopped


def record_after_compilation(config: "ConfigDict", updates: int) -> dict[str, Any]:
    """The training record of `updates` updates of a run, after as many that include compilation.

    The schedule has no warm-up, which could be longer than the run.
    """
    from common.run import metrics  # slow imports

    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.train.length = f"{2 * updates} steps"
        config.train.log_every = f"{updates} steps"
        config.evaluate.every = config.checkpoint.every = config.train.length
        config.schedule.warmup = "0 steps"
    with tempfile.TemporaryDirectory() as folder:
        fit(config, pathlib.Path(folder))
        return metrics.read(pathlib.Path(folder), "train")[-1]


def device_name() -> str:
    """The kind of this machine's devices, for a file's name; for CPUs also the processor."""
    from common.run import workdir  # slow imports

    environment = workdir.environment()
    devices = environment["devices"].rpartition(" x ")[2]
    return file_name(f"cpu {environment['cpu']}" if devices == "cpu" else devices)


def file_name(text: str) -> str:
    """The text as part of a file's name: without trade marks, and with '_' for all but letters and digits."""
    return re.sub(r"\W+", "_", re.sub(r"\((R|TM)\)", "", text, flags=re.IGNORECASE)).strip("_")


def command() -> str:
    """The command line of this process for the record of a result: without this machine's folders."""
    words, kept = sys.orig_argv[1:], ["python"]
    for word, before in zip(words, ["", *words], strict=False):
        if not (_is_not_recorded(word.partition("=")[0]) or _is_not_recorded(before)):
            kept.append(re.sub("(^|[=:])/[^:]*", r"\1DIR", word))
    return shlex.join(kept)


def _is_not_recorded(flag: str) -> bool:
    return flag.startswith("-") and flag.lstrip("-") in _NOT_RECORDED


def record(path: pathlib.Path, benchmark: str, measured: Measured, made_by: str = "", **facts: Any) -> None:
    """Prints a result and writes it to `path`, where `python -m common.tables` finds it.

    made_by: the command that measures it; default: this process's.
    """
    from common.run import provenance, workdir  # slow imports

    made = provenance.facts() | {"command": made_by or command()}
    result = {
        "benchmark": benchmark,
        **facts,
        "measured": measured,
        **made,
        "environment": workdir.environment(),
        "date": datetime.date.today().isoformat(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    workdir.write_json(path, result)
    print(benchmark)
    for name, found in measured.items():
        print(f"  {name:70} median {found['median']:10.4g}   {found['low']:10.4g} to {found['high']:.4g}")
