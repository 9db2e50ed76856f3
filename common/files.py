"""Paths that a user gives, and files that are written whole or not at all."""

import contextlib
import json
import os
import pathlib
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from common.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]  # the folder of the code, a checkout or where it is installed


def user_path(name: str | os.PathLike[str]) -> pathlib.Path:
    """A path that a user has given, with ~ as their home; `~name` of a user who does not exist stays as it is."""
    return pathlib.Path(os.path.expanduser(name))


def as_text(name: str) -> str:
    """The name of a file or folder as text to show; bytes that are not UTF-8 become \\xNN."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def quoted(path: pathlib.Path) -> str:
    """The path as a word of a shell command."""
    return shlex.quote(str(path))


@contextlib.contextmanager
def writing(path: object) -> Iterator[None]:
    """Turns an OSError inside into a `UserError`: no permission, no room, a file in the place of a folder."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def check_writable(path: pathlib.Path) -> None:
    """Raises UserError if no file can be written at `path`, before anything is computed for it. Leaves nothing."""
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    with writing(path):
        existing = next(folder for folder in path.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass


def check_new(path: pathlib.Path, name: str) -> None:
    """Raises UserError if there is something at `path` already. name: of the argument that chose the path."""
    if path.exists():
        raise UserError(f"'{path}' exists; choose another {name}, or remove it")


def append_line(path: pathlib.Path, line: str) -> None:
    """Appends a line to a file. If a kill cut the last line short, the new one begins after it."""
    with writing(path), path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")


def json_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The JSON objects in a file that has one in each line; none without the file.

    Lines that hold anything else, such as one that a kill cut short, are left out. Raises UserError for a file that
    cannot be read.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return [content for line in lines if isinstance(content := _parsed(line), dict)]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


@contextlib.contextmanager
def whole_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path for a new file or folder, which takes the place of `path` when the block ends.

    If the block fails, what it wrote is removed and `path` stays as it was. Raises UserError where writing fails,
    and for a folder where `path` is a folder that is not empty.
    """
    # Beside the file, so that renaming it is atomic; with its suffix last, because NumPy appends one otherwise.
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp{path.suffix}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield fresh
            fresh.replace(path)
        finally:
            if fresh.is_dir():
                shutil.rmtree(fresh)
            else:
                fresh.unlink(missing_ok=True)
