"""The values of flags on a command line that is not parsed yet."""

import itertools
import re
from collections.abc import Sequence


def flag_text(arguments: Sequence[str], name: str) -> str | None:
    """The text of `--NAME=TEXT` or `--NAME TEXT`; None without it."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        flag, equals, value = argument.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            return value if equals else following
    return None


def flag_number(arguments: Sequence[str], name: str) -> int | None:
    """The whole number N of `--NAME=N`; None without one."""
    text = flag_text(arguments, name) or ""
    return int(text) if re.fullmatch(r"\d{1,18}", text) else None
