"""Writes recorded results into the documents: `python -m common.tables`.

Comments in a Markdown file mark the places of results; `common/claims/pages.py` lists those of claims. The text between
`<!-- benchmarks -->` and `<!-- /benchmarks -->` has a section for each benchmark, and that between `<!-- speeds -->`
and `<!-- /speeds -->` the tables of training speeds on CPUs.
"""

import collections
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from absl import flags

from common import launch
from common.claims import charts, evidence, pages, speeds
from common.claims.claim import all_claims
from common.errors import UserError
from common.files import user_path, whole_file

_RESULTS = flags.DEFINE_string("results", "results", "folder of the results", allow_override=True)

_BENCHMARKS = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)
_SPEEDS = re.compile(r"(<!-- speeds -->\n).*?(<!-- /speeds -->)", re.DOTALL)


def main() -> None:
    """Rewrites RESULTS.md, the lecture, the page on speed and every README, and draws their charts."""
    folder = pathlib.Path(os.path.relpath(user_path(_RESULTS.value)))  # documents name pictures from where they are
    if not any(folder.glob("*.json")):  # without results, every table would become empty
        raise UserError(f"no results in '{_RESULTS.value}' (--results); python -m common.reproduce records some")
    if missing := [path for path in _documents(pathlib.Path()) if not path.exists()]:
        raise UserError(f"no {missing[0]} in this folder; run the command in the folder of the repository")
    for path, text in render_documents(pathlib.Path(), folder).items():
        if text != path.read_text():
            with whole_file(path) as file:
                file.write_text(text)
            print(f"wrote {path}")
    for path, (results, draw) in all_charts(pathlib.Path(), folder).items():
        if not charts.is_current(path, results):
            charts.write(path, results, draw)
            print(f"drew {path}")


def render_documents(root: pathlib.Path, folder: pathlib.Path) -> dict[pathlib.Path, str]:
    """The new text of each document of a repository. folder: that of the results, relative to `root`."""
    found, benchmarks = evidence.read_evidence(root / folder), evidence.read_results(root / folder, "benchmark")
    return {
        path: fill_benchmarks(
            pages.fill(path.read_text(), found, path.relative_to(root), folder), benchmarks, root.resolve()
        )
        for path in _documents(root)
    }


def all_charts(root: pathlib.Path, folder: pathlib.Path) -> dict[pathlib.Path, tuple[Sequence[charts.Result], Any]]:
    """Each picture that is drawn from results alone: its results, and the function that draws them.

    folder: that of the results, relative to `root`. Raises UserError for a chart of a claim without a result.
    """
    measured, claims = evidence.read_evidence(root / folder).measured, all_claims()
    full = {result["claim"]: result for result in measured if result["scale"] == "paper"}
    found: dict[pathlib.Path, tuple[Sequence[charts.Result], Any]] = {}
    for result in measured:
        if quantity := claims[result["claim"]].against:
            found[root / folder / result["figure"]] = [result], charts.error_against(quantity)
    for path in _documents(root):
        for name, ids in pages.charts_in(path.read_text()).items():
            if missing := [one for one in ids if one not in full]:
                raise UserError(f"{path}: the chart '{name}' is of {missing[0]}, which has no result at full scale")
            found[root / folder / f"{name}.png"] = [full[one] for one in ids], charts.paper_and_ours
    return found


def _documents(root: pathlib.Path) -> list[pathlib.Path]:
    """The Markdown files that results are written into."""
    pages_of_docs = (root / "docs" / name for name in ("lecture.md", "performance.md"))
    return sorted([*root.glob("*.md"), *root.glob("*/README.md"), *pages_of_docs])


def fill_benchmarks(document: str, benchmarks: list[dict[str, Any]], root: pathlib.Path) -> str:
    """The document with the sections of benchmarks and the tables of speeds between their markers rewritten.

    root: of the repository, with whose code the table compares the results.
    """

    def sections(match: re.Match) -> str:
        processors: dict[str, set[str | None]] = collections.defaultdict(set)
        for result in benchmarks:
            processors[result["benchmark"]].add(result["environment"].get("cpu"))
        text = "\n".join(_section(result, len(processors[result["benchmark"]]) > 1) for result in benchmarks)
        return f"{match[1]}\n{text}\n{match[2]}"

    def table(match: re.Match) -> str:
        return f"{match[1]}\n{speeds.table(benchmarks, root)}\n{match[2]}"

    return _SPEEDS.sub(table, _BENCHMARKS.sub(sections, document))


def _section(result: dict[str, Any], names_processor: bool) -> str:
    """A section with a benchmark's command, its machine and its measurements, beside their limits if it has some.

    names_processor: the heading ends in the processor, since others have a section as well.
    """
    limits = {name: f" {_number(limit)} |" for name, limit in result.get("limits", {}).items()}
    columns = (
        "| relative difference of | median | lowest to highest | limit |\n|---|---|---|---|"
        if limits
        else "| what | median | lowest to highest |\n|---|---|---|"
    )
    rows = [
        f"| {name} | {_number(found['median'])} | {_range(found)} |{limits.get(name, '')}\n"
        for name, found in result["measured"].items()
    ]
    heading = result["benchmark"][0].upper() + result["benchmark"][1:]
    if names_processor:
        heading += f", {result['environment']['cpu']}"
    made = f"`{result['command']}` on {pages.describe_machine(result['environment'])}, {result['date']}"
    return f"### {heading}\n{made}\n\n{columns}\n{''.join(rows)}"


def _range(found: dict[str, float]) -> str:
    return f"{_number(found['low'])} to {_number(found['high'])}" if found["low"] < found["high"] else ""


def _number(value: float) -> str:
    """Four digits of a number; thousands are written out."""
    rounded = float(f"{value:.4g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:.4g}"


if __name__ == "__main__":
    launch.run(main)
