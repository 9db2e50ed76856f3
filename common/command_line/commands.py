"""The commands of a package, `python -m PACKAGE.NAME`, and the answer to a name that is none."""

import difflib
import pathlib
import sys
from collections.abc import Sequence

from common.errors import UserError

_ROOT = pathlib.Path(__file__).parents[2]
_STARTS = 'if __name__ == "__main__":'
_TRAIN = "main --config=FILE"
_EVALUATE = "main --mode=evaluate --workdir=DIR"
# Names that people try because other programs, or modules of ours, have them.
_MEANT = {"train": _TRAIN, "fit": _TRAIN, "evaluate": _EVALUATE, "eval": _EVALUATE, "test": _EVALUATE}


def asked(arguments: Sequence[str]) -> str:
    """The module that `python -m MODULE` was asked for, from all arguments of the process (`sys.orig_argv`); or ''."""
    for argument, following in zip(arguments[1:], [*arguments[2:], ""], strict=True):
        if argument == "-m":
            return following
        if argument.startswith("-m"):
            return argument[2:]
    return ""


def check(module: str) -> None:
    """UserError if a module of ours is no command, with the command to type."""
    package, _, name = module.partition(".")
    if name and _is_command(_ROOT / package, name):
        return
    known = names(package)
    if not name:
        raise UserError(f"expected a command, python -m {package}.NAME, where NAME is one of {', '.join(known)}")
    if name in _MEANT:
        raise UserError(f"{module} is no command; type python -m {package}.{_MEANT[name]}")
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean python -m {package}.{close[0]}?" if close else ""
    raise UserError(f"{module} is no command{hint} (commands: {', '.join(known)})")


def check_start(package: str) -> None:
    """`check` of the module for which Python imports a package as it starts; does nothing at any other time.

    Python looks for the module of `python -m` before any code of the module could answer; it documents that
    `sys.argv[0]` is '-m' at that moment.
    """
    module = asked(sys.orig_argv)
    if sys.argv[:1] == ["-m"] and module.partition(".")[0] == package:
        check(module)


def names(package: str) -> list[str]:
    """The names of a package's commands."""
    folder = _ROOT / package
    found = [path.stem for path in folder.glob("*.py")] + [path.parent.name for path in folder.glob("*/__main__.py")]
    return sorted(name for name in found if _is_command(folder, name))


def _is_command(folder: pathlib.Path, name: str) -> bool:
    paths = (folder / f"{name}.py", folder / name / "__main__.py")
    return any(path.is_file() and _STARTS in path.read_text(encoding="utf-8").splitlines() for path in paths)
