"""Mistakes that a user can mend, reported in one line, and files that are written whole or not at all.

Raise `UserError` for anything that the person at the terminal can mend: the tools print its message
alone, without a traceback, and exit with code 2.
"""

import contextlib
import difflib
import os
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence

EXIT_USER_ERROR = 2
_LONGEST = 1000  # characters of a message


class UserError(Exception):
    """A mistake in a config, a dataset, an image or a work directory, with what was expected instead."""


_MOST_NAMES = 60  # in one line


def unknown(kind: str, name: object, known: Iterable[object]) -> UserError:
    """The error for an unknown name, with the nearest known one and, unless there are too many, all of them."""
    names = sorted(str(k) for k in known)
    hint = f"; did you mean '{close}'?" if (close := nearest(str(name), names)) else ""
    if len(names) > _MOST_NAMES:
        return UserError(f"unknown {kind} '{name}'{hint} ({len(names)} are known)")
    shown = ", ".join(each or "''" for each in names)  # an option may also be empty
    return UserError(f"unknown {kind} '{name}'{hint} (known: {shown or 'none'})")


def nearest(name: str, known: Iterable[str], least: float = 0.5) -> str | None:
    """The known name that is most like `name`; None if none is like it.

    least: the smallest likeness, from 0 to 1 for the same name. Of names that are equally like it, the one whose
    numbers are nearest: 'resnet50' for 'resnet51', not 'resnet56'.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=len(names) or 1, cutoff=least)
    numbers = _numbers(name)

    def rank(other: str) -> tuple[float, int]:
        likeness = difflib.SequenceMatcher(None, other, name).ratio()
        return -likeness, sum(abs(a - b) for a, b in zip(_numbers(other), numbers, strict=False))

    return min(close, key=rank, default=None)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first few of some names in quotes, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more


def missing_and_extra(missing: Sequence[str], extra: Sequence[str]) -> str:
    """A phrase for missing and extra names: "lacks 'a' and has 'b' besides"."""
    faults = [f"lacks {listed(missing)}"] * bool(missing) + [f"has {listed(extra)} besides"] * bool(extra)
    return " and ".join(faults)


def user_path(name: str | os.PathLike[str]) -> pathlib.Path:
    """A path that a user has given, with ~ as their home; `~name` of a user who does not exist stays as it is."""
    return pathlib.Path(os.path.expanduser(name))


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


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters of it; the error's type if there is no message."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def one_line(error: UserError) -> str:
    """The message of an error in one line, shortened in the middle if it quotes a very long value."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


@contextlib.contextmanager
def reporting_user_errors() -> Iterator[None]:
    """Prints a `UserError` as one line on standard error and exits with code 2."""
    try:
        yield
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
