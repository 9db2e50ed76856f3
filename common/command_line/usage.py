"""The text of a command's `--help`: what it does and its options, for a terminal of 80 columns."""

import inspect
import sys
import textwrap
from collections.abc import Sequence
from types import ModuleType

from absl import flags
from absl.flags import BooleanFlag, EnumFlag, Flag

HELP_FLAGS = ("--help", "-help", "-h", "--helpshort", "-helpshort", "-?")
_COLUMNS = 80
# absl's words for an option that may be given several times; our own text says when.
_REPEATED = "; repeat this option to specify a list of values"


def asks_for_help(argv: Sequence[str]) -> bool:
    """True if a command line asks for help."""
    options = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    return any(option in HELP_FLAGS for option in options)


def absl_module_name(module: str) -> str:
    """The name that absl keeps a module's flags under; for the running command it is the file's name."""
    return sys.argv[0] if module == "__main__" else module


def options(module: str) -> list[Flag]:
    """The options of a command, without those of the libraries that it imports."""
    own = flags.FLAGS.get_key_flags_for_module(absl_module_name(module))
    return sorted({flag.name: flag for flag in own}.values(), key=lambda flag: flag.name)


def text(module: ModuleType) -> str:
    """The help of a command: its module's docstring and its options."""
    paragraphs = inspect.cleandoc(module.__doc__ or "").split("\n\n")
    described = [_paragraph(paragraph) for paragraph in paragraphs]
    own = options(module.__name__)
    listed = ["\n".join(["Options:", *map(_option, own)])] if own else []
    return "\n\n".join([*described, *listed, "--helpfull lists the options of libraries as well."])


def _paragraph(words: str) -> str:
    """A paragraph, rewrapped; one that is indented or a table keeps its lines."""
    if words.startswith((" ", "|")):
        return "\n".join(map(_wrapped, words.splitlines()))
    return _wrapped(" ".join(words.split()))


def _option(flag: Flag) -> str:
    """An option, the values it takes and its meaning."""
    name, meaning = f"--{flag.name}", " ".join((flag.help or "").split()).removesuffix(_REPEATED)
    if isinstance(flag, BooleanFlag):
        name = f"--[no]{flag.name}"
    elif isinstance(flag, EnumFlag):
        values = "|".join(flag.parser.enum_values)
        name, meaning = f"{name}={values}", meaning.removeprefix(f"<{values}>: ")
    if flag.default not in (None, "", False, []) and "default" not in meaning:
        meaning += f" (default {flag.default})"
    return _wrapped(f"  {name}: {meaning}")


def _wrapped(line: str) -> str:
    """A line, wrapped at 80 columns; if it is indented, its continuation is indented further."""
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line.strip(),
        _COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent and f"{indent}    ",
        break_on_hyphens=False,
        break_long_words=False,
    )
