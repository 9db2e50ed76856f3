"""A mistake on the command line or in a config file, in words for people who do not write Python."""

import pathlib
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from absl import flags

from common.command_line import option_names, usage
from common.command_line.unparsed import flag_text
from common.errors import nearest, unknown

# Python's words for a value of the wrong type, and ours.
_WORDS = {
    r"invalid literal for int\(\).*": "expected a whole number",
    r"could not convert string to float.*": "expected a number",
    r"\('Non-boolean argument.*": "expected true or false",
}


def in_config_file(path: pathlib.Path, error: BaseException) -> str | None:
    """The mistake and its line, if the config file raised this error or its cause; else None."""
    if "get_config() takes 0 positional arguments" in str(error):
        return f"{path} takes no argument, got '{(flag_text(sys.argv, 'config') or '').partition(':')[2]}'"
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if pathlib.Path(frame.filename).absolute() == path.absolute()]
    if lines:
        return f"{path}, line {lines[-1]}: {_unknown_option(error) or f'{type(error).__name__}: {error}'}"
    cause = error.__cause__ or error.__context__
    return in_config_file(path, cause) if cause else None


def on_command_line(argv: Sequence[str], error: Exception) -> str:
    """The mistake in a flag, or in an option that is given as a flag."""
    text = str(error)
    if isinstance(error, flags.UnrecognizedFlagError):
        return _unknown_flag(error.flagname)
    if not isinstance(error, AttributeError | KeyError):
        return _plain(text)
    if "get_config" in text:
        return "the config file has no function get_config()"
    found = re.search(r"lookup: ([\w.]+)", text) or re.search(r"(\w+)", text)
    name = found[1] if found else text
    flag = next((a.partition("=")[0] for a in argv if f".{name}" in a.partition("=")[0]), name)
    return _unknown_option(error, flag) or f"unknown option '{flag}'; {_known_instead(argv, flag)}"


def _known_instead(argv: Sequence[str], flag: str) -> str:
    """The options of the config that may be meant by an unknown one."""
    from flax import traverse_util

    config: Any = flags.FLAGS["config"].parser.parse(flag_text(argv, "config") or "")  # a flag of it needs a config
    known = traverse_util.flatten_dict(config.to_dict(), sep=".")
    return option_names.instead(flag.removeprefix("--config."), known, "--config.")


def _unknown_flag(name: str) -> str:
    """The message about a flag that the command does not have, with the nearest that it has."""
    known = [flag.name for flag in usage.options("__main__")]
    first, dot, rest = name.partition(".")
    if first == "config" and dot:
        return f"unknown option '--{name}'" + ("; give --config=FILE before it" if "config" in known else "")
    close = nearest(first, known, least=0.6)
    hint = f"did you mean '--{close}{dot}{rest}'?" if close else "--help lists the options"
    return f"unknown option '--{name}'; {hint}"


def _unknown_option(error: BaseException, name: str = "") -> str | None:
    """ml_collections' remark on a misspelt option, in our words; None for any other error."""
    names = re.search(r'Did you mean "(\w+)" instead of "(\w+)"', str(error))
    return names and f"unknown option '{name or names[2]}'; did you mean '{names[1]}'?"


def _plain(message: str) -> str:
    """The part of absl's message that names the mistake, in words for people who do not write Python."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    text = f"{lines[0]} {lines[-1]}" if "Traceback" in message else lines[0]
    if choice := re.fullmatch(r"flag (--\w+)=(.*): value should be one of <(.*)>", text):
        return str(unknown(choice[1], choice[2], choice[3].split("|")))
    for python, words in _WORDS.items():
        text = re.sub(python, words, text)
    return text
