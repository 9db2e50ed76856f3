"""The command and the commit that made a run."""

import functools
import pathlib
import shlex
import subprocess
import sys
from typing import Any

from common.files import ROOT

_PATIENCE = 10  # seconds for git
# Results and documents are not code. Otherwise a campaign's first result would mark its second as made by changed code.
_NOT_CODE = (":(exclude)results", ":(exclude)*.md")


def facts() -> dict[str, Any]:
    """The command line of this process, the commit of its code, and whether code differed from that commit.

    The commit and `uncommitted_changes` are None if the code is not a git checkout.
    """
    commit, changed = checkout()
    return {"command": command(), "commit": commit, "uncommitted_changes": changed}


def command() -> str:
    """The command line of this process, quoted for a shell, with `python` instead of the interpreter's path."""
    return shlex.join(["python", *sys.orig_argv[1:]])


@functools.cache
def checkout(folder: pathlib.Path = ROOT) -> tuple[str | None, bool | None]:
    """The commit of a folder when it was first asked for, and whether tracked files of code differed from it.

    None and None for a folder that is not a git checkout.
    """
    top, _, commit = (_git(folder, "rev-parse", "--show-toplevel", "HEAD") or "").partition("\n")
    if not commit or pathlib.Path(top) != folder.resolve():  # installed inside the checkout of something else
        return None, None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".", *_NOT_CODE)
    return commit, None if changes is None else bool(changes)


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
    """The output of a git command in a folder; None if it fails or git is missing."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
