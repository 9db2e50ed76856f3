"""The commands of a package, `python -m PACKAGE.NAME`, and the error for a name that is not one."""

import pathlib
import sys
from collections.abc import Sequence

from common.errors import UserError, nearest
from common.files import ROOT

_STARTS = 'if __name__ == "__main__":'
_TRAIN = "main --config=FILE"
_EVALUATE = "main --mode=evaluate --workdir=DIR"
# Names that people try because other programs, or our modules, have them.
_MEANT = {"train": _TRAIN, "fit": _TRAIN, "evaluate": _EVALUATE, "eval": _EVALUATE, "test": _EVALUATE}


def requested_module(arguments: Sequence[str]) -> str:
    """The MODULE of `python -m MODULE` among all arguments of the process (`sys.orig_argv`), or ''."""
    for argument, following in zip(arguments[1:], [*arguments[2:], ""], strict=True):
        if argument == "-m":
            return following
        if argument.startswith("-m"):
            return argument[2:]
    return ""


def check(module: str) -> None:
    """Raises a UserError with the command to type if one of our modules is not a command."""
    package, _, name = module.partition(".")
    path = ROOT.joinpath(*module.split("."))
    if name and any(map(_is_command, (path.with_suffix(".py"), path / "__main__.py"))):
        return
    known = names(package)
    if not name:
        raise UserError(f"expected a command, python -m {package}.NAME, where NAME is one of {', '.join(known)}")
    if name in _MEANT and "main" in known:
        raise UserError(f"{module} is not a command; type python -m {package}.{_MEANT[name]}")
    known_by_ending = {one.rpartition(".")[2]: one for one in known}
    close = known_by_ending.get(nearest(name, known_by_ending) or "")
    hint = f"; did you mean python -m {package}.{close}?" if close else ""
    raise UserError(f"{module} is not a command{hint} (commands: {', '.join(known)})")


def check_start(package: str) -> None:
    """Checks the module of `python -m` while Python imports its package; does nothing at any other time.

    The module itself could not answer, since Python fails before running it if it does not exist. Python documents that
    `sys.argv[0]` is '-m' at this moment.
    """
    module = requested_module(sys.orig_argv)
    if sys.argv[:1] == ["-m"] and module.partition(".")[0] == package:
        check(module)


def names(package: str) -> list[str]:
    """The names of a package's commands; that of a module in a folder is FOLDER.MODULE."""
    folder = ROOT / package
    paths = (path.relative_to(folder) for path in folder.rglob("*.py") if _is_command(path))
    return sorted(".".join(path.with_suffix("").parts).removesuffix(".__main__") for path in paths)


def _is_command(path: pathlib.Path) -> bool:
    return path.is_file() and _STARTS in path.read_text(encoding="utf-8").splitlines()
