"""Finished stages of a run, kept in WORKDIR/stages under a hash of everything that they depend on.

A stage that is asked for again with the same dependencies is read, not computed. Arrays are kept in `.npz` files. The
features of images, a row each, are kept in `.npy` files that are mapped into memory. Neither holds Python objects. Rows
are appended batch by batch, so that a run that is killed goes on from its last whole row.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float

from common.errors import UserError, first_line
from common.files import whole_file, writing
from common.run import workdir

FOLDER = "stages"
_VERSION = 2  # of the stages: raise it when they compute something else, so that stored ones are not read
_UNFINISHED = ".part"
_AGAIN = "remove it, and the run makes it again"
# What NumPy and zipfile raise for damaged files; RuntimeError is for an unknown compression or an encryption.
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError)

Arrays = dict[str, np.ndarray]


def key(*depends: Any) -> str:
    """A hash of a stage's dependencies, which JSON can hold."""
    text = json.dumps([_VERSION, *depends], sort_keys=True)
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()


@dataclasses.dataclass
class Cost:
    """The images that a stage has gone through and the time that each part of its work took, over all its starts.

    seconds: by the clock. core_seconds: of all cores together, on which other programs on the machine have little
    effect; a part without them was made by an earlier version, which did not count them.
    """

    images: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    core_seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def counting(self, part: str) -> Iterator[None]:
        """Adds the time of the code inside, on all its threads, to that of a part."""
        since, worked = time.perf_counter(), time.process_time()
        yield
        for spent, passed in (
            (self.seconds, time.perf_counter() - since),
            (self.core_seconds, time.process_time() - worked),
        ):
            spent[part] = spent.get(part, 0.0) + passed

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.seconds.values())

    @property
    def core_total(self) -> float | None:
        """Core-seconds of all parts; None where some were not counted."""
        return sum(self.core_seconds.values()) if self.seconds.keys() == self.core_seconds.keys() else None

    @property
    def images_per_second(self) -> float:
        """The speed over all parts; 0 for a stage that goes through no images."""
        return self.images / (self.total or 1.0)

    def facts(self) -> dict[str, Any]:
        """The numbers as a summary lists them."""
        speed = {"images": self.images, "images_per_second": self.images_per_second} if self.images else {}
        parts = {"parts": self.seconds} if len(self.seconds) > 1 else {}
        facts = {"seconds": self.total, **speed, **parts}
        if self.core_total is not None:
            facts |= {"core_seconds": self.core_total}
            facts |= {"core_parts": self.core_seconds} if parts else {}
        return facts


class Stages:
    """The finished stages in a run's folder. costs: of the stages that were asked for so far, by name."""

    def __init__(self, workdir: pathlib.Path):
        self._folder = workdir / FOLDER
        self.costs: dict[str, Cost] = {}
        self.computed: list[str] = []  # names of the stages that were not found, at least not whole

    def arrays(self, name: str, depends: str, make: Callable[[Cost], Arrays]) -> Arrays:
        """The arrays of a stage, read from its file if there is one, else made and kept.

        depends: the hash of its dependencies. make: returns the arrays, and counts its images in the cost.
        """
        path = self._folder / f"{name}-{depends}.npz"
        if _finished(path):
            self.costs[name] = _cost(path)
            try:
                return read_arrays(path)
            except UserError as error:
                raise UserError(f"{error}; {_AGAIN}") from error
        self.computed.append(name)
        cost = Cost()
        with cost.counting("all"):
            arrays = make(cost)
        self.costs[name] = cost
        _write_cost(path, cost)
        write_arrays(path, arrays)
        return arrays

    def rows(
        self, name: str, depends: str, size: int, make: Callable[[int, Cost], Iterator[Float[np.ndarray, "_ _"]]]
    ) -> Float[np.ndarray, "_ _"]:
        """The rows of a stage, mapped into memory. Rows that are missing from its file are made and appended.

        make: yields the rows from the given one on, in batches of any size, and counts its work in the cost.
        """
        path = self._folder / f"{name}-{depends}.npy"
        if _finished(path):
            self.costs[name] = _cost(path)
        else:
            self.computed.append(name)
            self._append(name, path, size, make)
        return _mapped(path)

    def _append(self, name: str, path: pathlib.Path, size: int, make: Callable) -> None:
        unfinished = path.with_name(path.name + _UNFINISHED)
        with writing(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            done = _rows_in(unfinished)
            cost = _cost(path) if done else Cost()
            self.costs[name] = cost
            with unfinished.open("r+b" if done else "wb") as file:
                if done:
                    _cut(file, done)
                for rows in make(done, cost):
                    if not done:
                        _check_room(self._folder, size * rows[0].nbytes)
                        _write_header(file, size, rows)
                    file.write(np.ascontiguousarray(rows).data)
                    file.flush()
                    done += len(rows)
                    _write_cost(path, cost)
            if done != size:
                raise ValueError(f"{done} rows were made, and {size} expected")
            unfinished.replace(path)


def _finished(path: pathlib.Path) -> bool:
    """True if a stage's file is there with its cost, which is written first."""
    return path.exists() and path.with_suffix(".json").exists()


def _cost(path: pathlib.Path) -> Cost:
    """The cost of a stage so far; no cost if the run was killed between its first rows and their cost."""
    stored = path.with_suffix(".json")
    if not stored.exists():
        return Cost()
    try:
        return Cost(**workdir.read_json(stored))
    except (TypeError, UserError) as error:
        raise UserError(f"{stored} is damaged: it does not hold the cost of a stage; {_AGAIN}") from error


def _write_cost(path: pathlib.Path, cost: Cost) -> None:
    workdir.write_json(path.with_suffix(".json"), dataclasses.asdict(cost))


def begun(folder: pathlib.Path) -> bool:
    """True if the run in a folder has finished a stage, or a part of one."""
    return any((folder / FOLDER).glob("*.np[yz]*"))


def read_arrays(path: pathlib.Path) -> Arrays:
    """The arrays in an `.npz` file.

    Raises UserError for a damaged file, and for Python objects, which could run code.
    """
    try:
        with path.open("rb") as stored:
            if not zipfile.is_zipfile(stored):
                raise ValueError("it is not a zip file")
            stored.seek(0)
            with np.load(stored, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
    except _UNREADABLE as error:
        raise UserError(f"{path} is refused: not an .npz file of plain arrays ({first_line(error)})") from error


def write_arrays(path: pathlib.Path, arrays: Arrays) -> None:
    """Writes an `.npz` file, whole or not at all. Raises ValueError for an array of Python objects."""
    if held := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise ValueError(f"arrays of Python objects: {held}")
    with whole_file(path) as fresh:
        np.savez(fresh, **arrays)  # type: ignore[arg-type]  # NumPy's types take `allow_pickle` for an array


def _mapped(path: pathlib.Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged: {error}; {_AGAIN}") from error


def _write_header(file: BinaryIO, size: int, rows: np.ndarray) -> None:
    form = np.lib.format.dtype_to_descr(rows.dtype)
    description = {"descr": form, "fortran_order": False, "shape": (size, rows.shape[1])}
    np.lib.format.write_array_header_1_0(file, description)


def _header(file: BinaryIO) -> int:
    """Reads the header of an `.npy` file; returns the bytes of a row."""
    np.lib.format.read_magic(file)
    (_, width), _, dtype = np.lib.format.read_array_header_1_0(file)
    return width * dtype.itemsize


def _rows_in(path: pathlib.Path) -> int:
    """The number of whole rows in an unfinished file."""
    try:
        with path.open("rb") as file:
            row = _header(file)
            return (os.fstat(file.fileno()).st_size - file.tell()) // row
    except (OSError, ValueError, EOFError):
        return 0


def _cut(file: BinaryIO, done: int) -> None:
    """Removes what follows the whole rows of an unfinished file, and goes to its end."""
    row = _header(file)
    file.truncate(file.tell() + done * row)
    file.seek(0, os.SEEK_END)


def _check_room(folder: pathlib.Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"no room for features in {folder}: {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; "
            "fewer words, a config.pool.layout of fewer regions, or config.pool.dtype=float16 need less"
        )
