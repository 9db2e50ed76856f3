"""Writes the tables of results into the documents: `python -m common.tables`.

A Markdown file gets a table between the lines `<!-- results: PREFIX ... -->` and `<!-- /results -->`: every result in
`results/` whose claim's id begins with one of the prefixes (every result, without a prefix). Between `<!-- benchmarks
-->` and `<!-- /benchmarks -->` it gets a section for the measurements of each of `benchmarks/`.
"""

import json
import pathlib
import re
from typing import Any

from absl import flags

from common import launch
from common.claims.results import as_text
from common.errors import whole_file

_RESULTS = flags.DEFINE_string("results", "results", "folder of the results", allow_override=True)

_BLOCK = re.compile(r"(<!-- results:(?P<prefixes>[^>]*?)-->\n).*?(<!-- /results -->)", re.DOTALL)
_SPEEDS = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)
_HEADER = "| claim, data | what | paper | ours (mean ± sd over seeds) | verdict |\n|---|---|---|---|---|\n"


def main() -> None:
    """Rewrites the tables of RESULTS.md and of every README."""
    folder = pathlib.Path(_RESULTS.value)
    results, benchmarks = load(folder, "claim"), load(folder, "benchmark")
    for path in sorted([*pathlib.Path().glob("*.md"), *pathlib.Path().glob("*/README.md")]):
        before = path.read_text()
        after = fill_speeds(fill(before, results, path_from(path, folder)), benchmarks)
        if after != before:
            with whole_file(path) as file:
                file.write_text(after)
            print(f"wrote {path}")


def path_from(document: pathlib.Path, folder: pathlib.Path) -> str:
    """The path to `folder` as written in `document`; both are relative to the root of the repository."""
    return pathlib.Path(*[".."] * len(document.parent.parts), folder).as_posix()


def load(folder: pathlib.Path, kind: str) -> list[dict[str, Any]]:
    """The recorded results of a kind, 'claim' or 'benchmark', in the order of their file names.

    A preliminary result, of fewer seeds than its claim asks for, is left out where there is a full one.
    """
    paths = sorted(folder.glob("*.json"))
    full = [path for path in paths if not path.stem.endswith(".preliminary")]
    shown = [
        path for path in paths if path in full or path.with_stem(path.stem.removesuffix(".preliminary")) not in full
    ]
    found = [json.loads(path.read_text()) for path in shown]
    return [result for result in found if kind in result]


def fill(document: str, results: list[dict[str, Any]], folder: str = "results") -> str:
    """The document with the table between each pair of markers rewritten.

    folder: the path from the document to the results' pictures.
    """

    def table(match: re.Match) -> str:
        prefixes = tuple(match["prefixes"].split()) or ("",)
        shown = [result for result in results if result["claim"].startswith(prefixes)]
        rows = [line for result in shown for line in _rows(result)]
        pictures = "".join(_picture(result, folder) for result in shown if result.get("figure"))
        return match[1] + "\n" + _HEADER + "".join(rows) + "\n" + pictures + _machines(shown) + "\n" + match[3]

    return _BLOCK.sub(table, document)


def fill_speeds(document: str, benchmarks: list[dict[str, Any]]) -> str:
    """The document with the sections of benchmarks between its markers rewritten."""
    sections = "\n".join(_speeds(result) for result in benchmarks)
    return _SPEEDS.sub(lambda match: f"{match[1]}\n{sections}\n{match[2]}", document)


def _speeds(result: dict[str, Any]) -> str:
    """A section with a benchmark's command, its machine and its measurements."""
    rows = [f"| {name} | {found['median']:.4g} | {_range(found)} |\n" for name, found in result["measured"].items()]
    heading = result["benchmark"][0].upper() + result["benchmark"][1:]
    made = f"`{result['command']}` on {_machine(result['environment'])}, {result['date']}"
    return f"### {heading}\n{made}\n\n| what | median | lowest to highest |\n|---|---|---|\n{''.join(rows)}"


def _range(found: dict[str, float]) -> str:
    return f"{found['low']:.4g} to {found['high']:.4g}" if found["low"] < found["high"] else ""


def _rows(result: dict[str, Any]) -> list[str]:
    """One table row for each run of a claim; the first has the verdict."""
    lines = []
    rules = [as_text(rule, result["unit"]) for rule in result["rules"]]
    notes = "; ".join(
        filter(None, ["preliminary" if result["preliminary"] else "", result["short"], result["setting"]])
    )
    verdict = "<br>".join([f"**{result['verdict']}**" + (f" ({notes})" if notes else ""), *rules])
    for number, (name, ours) in enumerate(result["ours"].items()):
        paper = _number(result["paper"].get(name), result["unit"])
        spread = "" if ours["std"] is None else f" ± {_number(ours['std'], result['unit'])}"
        seeds = f"{len(result['seeds'])} seed{'s' if len(result['seeds']) > 1 else ''}"
        bound = "at least " if ours.get("at_least") else ""
        text = f"{bound}{_number(ours['mean'], result['unit'])}{spread} ({seeds})"
        claim = f"`{result['claim']}`, {result['dataset']}" if number == 0 else ""
        lines.append(f"| {claim} | {name} | {paper} | {text} | {verdict if number == 0 else ''} |\n")
    return lines


def _picture(result: dict[str, Any], folder: str) -> str:
    return f"![{result['claim']}: {result['says']}]({folder}/{result['figure']})\n\n"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.2f}%" if unit == "%" else f"{value:.4g} {unit}".strip()


def _machines(results: list[dict[str, Any]]) -> str:
    """A sentence with the machines and versions that the numbers come from, each with its dates."""
    dates: dict[str, set[str]] = {}
    for result in results:
        dates.setdefault(_machine(result["environment"]), set()).add(result["date"])
    if not dates:
        return ""
    made = "; ".join(f"{machine} ({', '.join(sorted(found))})" for machine, found in sorted(dates.items()))
    return f"Measured on {made}; commands and all numbers are in `results/`.\n"


def _machine(environment: dict[str, Any]) -> str:
    cores = f"{environment['cpu_cores']} cores"
    if "cpu" in environment:  # results from before 26 November 2026 do not name it
        cores = f"{environment['cpu']}, {cores}"
    return f"{environment['devices']} ({cores}), jax {environment['jax']}, flax {environment['flax']}"


if __name__ == "__main__":
    launch.run(main)
