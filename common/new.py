"""Starts a network of your own: `python -m common.new FAMILY`.

Writes FAMILY/ with a small convolutional network, configs/FAMILY_digits.py, which trains it on the bundled digits, and
tests/FAMILY/, whose tests pass. Change the network, its counts and its tests step by step; CONTRIBUTING.md says what
else a family may have.
"""

import contextlib
import functools
import importlib.util
import keyword
import pathlib
import re
import shutil
import tempfile
import tokenize

from common import launch
from common.errors import UserError
from common.files import ROOT, writing

_TEMPLATES = pathlib.Path(__file__).parent / "templates"  # laid out as the files of a checkout
_WORD = "skeleton"  # stands for the family's name in the templates, and `Skeleton` for its class


def main(family: str = "", *more: str) -> None:
    """Writes the files of the family that the command line names."""
    if not family or more:
        raise UserError("expected one name in lower case, as in: python -m common.new mynet")
    for path in begin(family, ROOT):
        print(f"wrote {path}")
    print(f"test it:  python -m pytest tests/{family}")
    print(f"train it: python -m common.main --config=configs/{family}_digits.py")


def begin(family: str, root: pathlib.Path) -> list[pathlib.Path]:
    """Writes a family's files into a checkout, all of them or none; returns their paths, relative to `root`.

    Raises UserError for a name that no package can have or that another module has, and for files that exist.
    """
    check_name(family)
    tops = [pathlib.Path(family), pathlib.Path("configs", f"{family}_digits.py"), pathlib.Path("tests", family)]
    for top in tops:
        if (root / top).exists():
            raise UserError(f"'{top}' exists; choose another name, or remove it")
    with (
        writing(root),
        tempfile.TemporaryDirectory(dir=root, prefix=".new_") as fresh,
        contextlib.ExitStack() as undo,
    ):
        written = _fill(family, pathlib.Path(fresh))
        for top in tops:
            (root / top).parent.mkdir(exist_ok=True)
            pathlib.Path(fresh, top).rename(root / top)
            undo.callback(_remove, root / top)
        undo.pop_all()
    return written


def check_name(family: str) -> None:
    """Raises UserError for a name that no package can have, and for one that would hide another module."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", family):
        raise UserError(f"'{family}' is not a valid name; expected a letter, then at most 39 of a-z, 0-9 and _")
    if keyword.iskeyword(family) or keyword.issoftkeyword(family):
        raise UserError(f"'{family}' is a Python keyword; choose another name")
    if importlib.util.find_spec(family) is not None:
        raise UserError(f"'{family}' is the name of another module or folder; choose another name")
    if family in _words_of_common():
        raise UserError(
            f"'{family}' is already a word in the code of common/, which may not name a family; choose another name"
        )


@functools.cache
def _words_of_common() -> frozenset[str]:
    """The words of all identifiers in common, and of strings that could be identifiers."""
    words: set[str] = set()
    for path in _TEMPLATES.parent.rglob("*.py"):
        if _TEMPLATES not in path.parents:
            with path.open(encoding="utf-8") as file:
                tokens = [token for token in tokenize.generate_tokens(file.readline) if " " not in token.string]
            named = [token.string.lower() for token in tokens if token.type in (tokenize.NAME, tokenize.STRING)]
            words.update(word for name in named for word in re.split(r"[\W\d_]+", name))
    return frozenset(words)


def _fill(family: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the templates into `folder` under the family's name; returns the paths in it."""
    names = {_WORD: family, _WORD.capitalize(): "".join(part.capitalize() for part in family.split("_"))}
    written = []
    for template in sorted(path for ending in ("py", "md") for path in _TEMPLATES.rglob(f"*.{ending}")):
        path = pathlib.Path(str(template.relative_to(_TEMPLATES)).replace(_WORD, family))
        text = template.read_text(encoding="utf-8")
        for word, name in names.items():
            text = text.replace(word, name)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


if __name__ == "__main__":
    launch.run(main)
