"""Write the tables of results into the documents: `python -m common.tables`.

Between the lines `<!-- results: PREFIX ... -->` and `<!-- /results -->` of a Markdown file goes a table of every
result in `results/` whose claim's id begins with one of the prefixes (all, without a prefix).
"""

import json
import pathlib
import re
from typing import Any

from absl import flags

from common import launch

_RESULTS = flags.DEFINE_string("results", "results", "folder of the results")

_BLOCK = re.compile(r"(<!-- results:(?P<prefixes>[^>]*?)-->\n).*?(<!-- /results -->)", re.DOTALL)
_HEADER = "| claim | what | paper | ours (mean ± sd over seeds) | verdict |\n|---|---|---|---|---|\n"


def main() -> None:
    """Rewrite the tables of RESULTS.md and of every README."""
    results = load(pathlib.Path(_RESULTS.value))
    for path in sorted([*pathlib.Path().glob("*.md"), *pathlib.Path().glob("*/README.md")]):
        before = path.read_text()
        after = fill(before, results)
        if after != before:
            path.write_text(after)
            print(f"wrote {path}")


def load(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The recorded claims, by id."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [result for result in found if "claim" in result]


def fill(document: str, results: list[dict[str, Any]]) -> str:
    """The document with the table between each pair of markers written anew."""

    def table(match: re.Match) -> str:
        prefixes = tuple(match["prefixes"].split()) or ("",)
        rows = [line for result in results if result["claim"].startswith(prefixes) for line in _rows(result)]
        return match[1] + "\n" + _HEADER + "".join(rows) + "\n" + _footnote(results, prefixes) + "\n" + match[3]

    return _BLOCK.sub(table, document)


def _rows(result: dict[str, Any]) -> list[str]:
    """One line for each run of a claim; the verdict stands on the first."""
    lines = []
    verdict = result["verdict"] + ("" if result["scale"] == "paper" else f" ({result['scale']} scale)")
    for number, (name, ours) in enumerate(result["ours"].items()):
        paper = _number(result["paper"].get(name), result["unit"])
        spread = "" if ours["std"] is None else f" ± {_number(ours['std'], result['unit'])}"
        text = f"{_number(ours['mean'], result['unit'])}{spread} ({len(result['seeds'])} seeds)"
        claim = f"`{result['claim']}`" if number == 0 else ""
        lines.append(f"| {claim} | {name} | {paper} | {text} | {verdict if number == 0 else ''} |\n")
    return lines


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.2f}%" if unit == "%" else f"{value:.4g} {unit}".strip()


def _footnote(results: list[dict[str, Any]], prefixes: tuple[str, ...]) -> str:
    """Where the numbers come from: machines, versions and dates."""
    shown = [result for result in results if result["claim"].startswith(prefixes)]
    made = {
        f"{r['environment']['devices']} ({r['environment']['cpu_cores']} cores), jax {r['environment']['jax']}, "
        f"flax {r['environment']['flax']}, {r['date']}"
        for r in shown
    }
    if not made:
        return ""
    return f"Measured on {'; '.join(sorted(made))}; commands and every seed's number are in `results/`.\n"


if __name__ == "__main__":
    launch.run(main)
