"""Writes recorded results into the documents: `python -m common.tables`.

`common/claims/pages.py` says between which lines of a Markdown file claims go. Between `<!-- benchmarks -->` and `<!--
/benchmarks -->` go the measurements of each of `benchmarks/`, a section each.
"""

import pathlib
import re
from typing import Any

from absl import flags

from common import launch
from common.claims import evidence, pages
from common.errors import UserError, whole_file

_RESULTS = flags.DEFINE_string("results", "results", "folder of the results", allow_override=True)

_SPEEDS = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)


def main() -> None:
    """Rewrites RESULTS.md, the lecture and every README."""
    if not any(pathlib.Path(_RESULTS.value).glob("*.json")):  # without results, every table would become empty
        raise UserError(f"no results in '{_RESULTS.value}' (--results); python -m common.reproduce records some")
    for path, text in written(pathlib.Path(), pathlib.Path(_RESULTS.value)).items():
        if text != path.read_text():
            with whole_file(path) as file:
                file.write_text(text)
            print(f"wrote {path}")


def written(root: pathlib.Path, folder: pathlib.Path) -> dict[pathlib.Path, str]:
    """Each document of a repository, and its text made from the results. folder: of these, relative to `root`."""
    found, benchmarks = evidence.read(root / folder), evidence.load(root / folder, "benchmark")
    paths = sorted([*root.glob("*.md"), *root.glob("*/README.md"), root / "docs" / "lecture.md"])
    return {
        path: fill_speeds(pages.fill(path.read_text(), found, path.relative_to(root), folder), benchmarks)
        for path in paths
    }


def fill_speeds(document: str, benchmarks: list[dict[str, Any]]) -> str:
    """The document with the sections of benchmarks between its markers rewritten."""
    sections = "\n".join(_speeds(result) for result in benchmarks)
    return _SPEEDS.sub(lambda match: f"{match[1]}\n{sections}\n{match[2]}", document)


def _speeds(result: dict[str, Any]) -> str:
    """A section with a benchmark's command, its machine and its measurements."""
    rows = [f"| {name} | {found['median']:.4g} | {_range(found)} |\n" for name, found in result["measured"].items()]
    heading = result["benchmark"][0].upper() + result["benchmark"][1:]
    made = f"`{result['command']}` on {pages.machine(result['environment'])}, {result['date']}"
    return f"### {heading}\n{made}\n\n| what | median | lowest to highest |\n|---|---|---|\n{''.join(rows)}"


def _range(found: dict[str, float]) -> str:
    return f"{found['low']:.4g} to {found['high']:.4g}" if found["low"] < found["high"] else ""


if __name__ == "__main__":
    launch.run(main)
