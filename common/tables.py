"""Writes recorded results into the documents: `python -m common.tables`.

`common/claims/pages.py` says between which lines of a Markdown file claims go. Between `<!-- benchmarks -->` and `<!--
/benchmarks -->` go the measurements of each of `benchmarks/`, a section each, and between `<!-- speeds -->` and `<!--
/speeds -->` the table of training speeds on a CPU.
"""

import pathlib
import re
from typing import Any

from absl import flags

from common import launch
from common.claims import evidence, pages, speeds
from common.errors import UserError, whole_file

_RESULTS = flags.DEFINE_string("results", "results", "folder of the results", allow_override=True)

_BENCHMARKS = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)
_SPEEDS = re.compile(r"(<!-- speeds -->\n).*?(<!-- /speeds -->)", re.DOTALL)


def main() -> None:
    """Rewrites RESULTS.md, the lecture, the page on speed and every README."""
    if not any(pathlib.Path(_RESULTS.value).glob("*.json")):  # without results, every table would become empty
        raise UserError(f"no results in '{_RESULTS.value}' (--results); python -m common.reproduce records some")
    for path, text in render_documents(pathlib.Path(), pathlib.Path(_RESULTS.value)).items():
        if text != path.read_text():
            with whole_file(path) as file:
                file.write_text(text)
            print(f"wrote {path}")


def render_documents(root: pathlib.Path, folder: pathlib.Path) -> dict[pathlib.Path, str]:
    """Each document of a repository, and its text made from the results. folder: of these, relative to `root`."""
    found, benchmarks = evidence.read_evidence(root / folder), evidence.read_results(root / folder, "benchmark")
    pages_of_docs = (root / "docs" / name for name in ("lecture.md", "performance.md"))
    paths = sorted([*root.glob("*.md"), *root.glob("*/README.md"), *pages_of_docs])
    return {
        path: fill_benchmarks(
            pages.fill(path.read_text(), found, path.relative_to(root), folder), benchmarks, root.resolve()
        )
        for path in paths
    }


def fill_benchmarks(document: str, benchmarks: list[dict[str, Any]], root: pathlib.Path) -> str:
    """The document with the sections of benchmarks and the table of speeds between their markers rewritten.

    root: of the repository, with whose code the table compares the results.
    """

    def sections(match: re.Match) -> str:
        text = "\n".join(_section(result) for result in benchmarks)
        return f"{match[1]}\n{text}\n{match[2]}"

    def table(match: re.Match) -> str:
        return f"{match[1]}\n{speeds.table(benchmarks, root)}\n{match[2]}"

    return _SPEEDS.sub(table, _BENCHMARKS.sub(sections, document))


def _section(result: dict[str, Any]) -> str:
    """A section with a benchmark's command, its machine and its measurements."""
    rows = [f"| {name} | {found['median']:.4g} | {_range(found)} |\n" for name, found in result["measured"].items()]
    heading = result["benchmark"][0].upper() + result["benchmark"][1:]
    made = f"`{result['command']}` on {pages.describe_machine(result['environment'])}, {result['date']}"
    return f"### {heading}\n{made}\n\n| what | median | lowest to highest |\n|---|---|---|\n{''.join(rows)}"


def _range(found: dict[str, float]) -> str:
    return f"{found['low']:.4g} to {found['high']:.4g}" if found["low"] < found["high"] else ""


if __name__ == "__main__":
    launch.run(main)
