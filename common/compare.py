"""Compares runs on one page: `python -m common.compare RUN RUN ... [--out=FILE] [--pictures=DIR]`.

RUN is the folder of a run, finished or not, of a network or a classic pipeline. The page has the results with
parameters and time, the learning curves together, and the options that differ between the runs. Runs whose configs
differ only in the seed form a group, shown by its mean with a 95% interval. By default the page goes into the closest
folder that contains all the runs.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from common import launch
from common.files import check_writable, user_path, whole_file

if TYPE_CHECKING:
    from common.report.assembly import PictureFolder

_FILE = "comparison.html"

_OUT = flags.DEFINE_string(
    "out", None, f"file to write; default {_FILE} in the folder that the runs share", allow_override=True
)
launch.define_pictures()


def main(*names: str) -> None:
    """Writes the comparison of the runs that the command line names."""
    from common.report import assembly  # slow, once the flags are known to be right

    print("\n".join(write(names, user_path(_OUT.value) if _OUT.value else None, assembly.folder_from_flags())))


def write(names: Sequence[str], out: pathlib.Path | None = None, pictures: "PictureFolder | None" = None) -> list[str]:
    """Writes the comparison of the runs in some folders, and returns lines for the terminal.

    out: the file; None is the default. pictures: where each picture is also written. Raises UserError for a folder that
    is not a run.
    """
    from common.comparison import page, runs

    compared = runs.open_runs(names)
    out = out or _shared(names) / _FILE
    check_writable(out)
    content = page.comparison_html(compared, pictures)
    with whole_file(out) as file:
        file.write_text(content, encoding="utf-8")
    groups = runs.group_runs(compared)
    return [*runs.notes(groups), *page.summary_lines(groups), str(out)]


def _shared(names: Sequence[str]) -> pathlib.Path:
    """The closest folder that contains all the runs, relative to the current one if inside it."""
    parents = [str(user_path(name).absolute().parent) for name in names]
    shared = pathlib.Path(os.path.commonpath(parents))
    return shared.relative_to(pathlib.Path.cwd()) if shared.is_relative_to(pathlib.Path.cwd()) else shared


if __name__ == "__main__":
    launch.run(main)
