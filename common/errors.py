"""Mistakes that a user can fix, reported in one line.

Raise `UserError` for anything that the person at the terminal can fix: the tools print its message alone, without a
traceback, and exit with code 2.
"""

import contextlib
import difflib
import re
import sys
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


def count_of(count: int, name: str, plural: str = "") -> str:
    """A count of things in words: '1 run', '2,000 runs'. plural: of the name, if that is more than an s at its end."""
    return f"{count:,} {name if count == 1 else plural or f'{name}s'}"


def missing_and_extra(missing: Sequence[str], extra: Sequence[str]) -> str:
    """A phrase for missing and extra names: "lacks 'a' and also has 'b'"."""
    faults = [f"lacks {listed(missing)}"] * bool(missing) + [f"also has {listed(extra)}"] * bool(extra)
    return " and ".join(faults)


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
