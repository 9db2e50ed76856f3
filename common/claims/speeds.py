"""The table of our training speeds beside another library's, made from the results of a race.

A result names its processor and the code that it depends on. Each processor has its own table, and results that are
older than the code are marked.
"""

import ast
import functools
import hashlib
import io
import pathlib
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.claims import pages
from common.errors import count_of

Result = Mapping[str, Any]

_OURS = "ours"
_HEADINGS = ("network", "batch, pixels", "images/s")
_ENDINGS = ("share of the matrix products' rate", "peak memory, GB", "first update, s", "note")


def code_digest(root: pathlib.Path, paths: Iterable[str]) -> str:
    """SHA-256 of the Python code in files and folders, named from `root`, without comments and docstrings.

    A missing file counts as an empty one, so the digest differs from that of the file's code.
    """
    digest = hashlib.sha256()
    for name in sorted(paths):
        path = root / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            text = _code(file.read_text(encoding="utf-8")) if file.exists() else ""
            digest.update(f"{file.relative_to(root).as_posix()}\n{text}\n".encode())
    return digest.hexdigest()


@functools.cache  # the same files belong to many results
def _code(text: str) -> str:
    """The lines of a module that do something: without comments, statements that are strings, and blank lines."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            last = node.end_lineno or node.lineno
            lines[node.lineno - 1 : last] = [""] * (last - node.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def is_outdated(result: Result, root: pathlib.Path) -> bool:
    """True if the code that a result depends on has changed since, or if it does not say which code that is."""
    code = result.get("code")
    return code is None or code_digest(root, code["paths"]) != code["digest"]


def table(benchmarks: Iterable[Result], root: pathlib.Path) -> str:
    """A table for each processor, the newest first, with a row for each network that was raced on it in float32.

    The machines are listed below each table. Without any race the text is one line. root: of the repository, whose code
    is compared with that of the results.
    """
    processors: dict[str, list[Result]] = {}
    for result in benchmarks:
        if _is_shown(result):
            processors.setdefault(result["environment"]["cpu"], []).append(result)

    def newness(results: Sequence[Result]) -> tuple[str, int]:
        """The last day, and, to order those of one day, the number of rows that are not outdated."""
        return max(one["date"] for one in results), sum(not is_outdated(one, root) for one in results)

    newest_first = sorted(processors.values(), key=newness, reverse=True)
    return "\n".join(_table(results, root) for results in newest_first) or "No race is recorded yet.\n"


def _table(results: Sequence[Result], root: pathlib.Path) -> str:
    """The processor that these results share, their table and the machines."""
    results = sorted(results, key=lambda result: list(result["race"].values())[:2])
    peers = list(dict.fromkeys(peer for result in results for peer in _peers(result)))
    headings = [*_HEADINGS, *(f"over {peer}" for peer in peers), *_ENDINGS]
    text = pages.markdown_table(headings, [_row(result, peers, _marks(result, root)) for result in results])
    return f"**{results[0]['environment']['cpu']}**\n\n{text}\n{_below(results, peers)}"


def _is_shown(result: Result) -> bool:
    raced = result.get("race", {})
    on_cpu = result["environment"]["devices"].endswith(" x cpu")
    return bool(raced) and on_cpu and raced["dtype"] == "float32" and raced["scale"] == "full"


def _peers(result: Result) -> list[str]:
    start = f"{_OURS} over "
    return [name.removeprefix(start) for name in result["measured"] if name.startswith(start)]


def _row(result: Result, peers: Sequence[str], marks: Sequence[str]) -> list[str]:
    raced, found = result["race"], result["measured"]
    sides = [_OURS, *(peer for peer in peers if peer in _peers(result))]
    return [
        f"{raced['family']} {raced['variant']}",
        f"{raced['batch_size']} at {raced['image_size']}",
        _number(found[f"{_OURS}, images/s"]["median"]),
        *(_ratio(found.get(f"{_OURS} over {peer}")) for peer in peers),
        f"{found[f'{_OURS}, share of the rate of matrix products']['median']:.0%}",
        " / ".join(f"{found[f'{side}, peak memory, GB']['median']:.2f}" for side in sides),
        " / ".join(f"{found[f'{side}, first update with compilation, s']['median']:.1f}" for side in sides),
        "; ".join(marks),
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"**{found['median']:.2f}** ({found['low']:.2f} to {found['high']:.2f})"


def _marks(result: Result, root: pathlib.Path) -> list[str]:
    """The reasons why a row may not hold for this code."""
    marks = ["older than the code"] if is_outdated(result, root) else []
    if result.get("uncommitted_changes"):
        marks.append("code not committed")
    return marks


def _below(results: Sequence[Result], peers: Sequence[str]) -> str:
    """The order of numbers in a cell, and a line for each machine with its memory, versions, dates and commits."""
    lines = [f"Memory and first updates: {' / '.join([_OURS, *peers])}. Ratios: median (lowest to highest).\n"]
    machines: dict[str, list[Result]] = {}
    for result in results:
        versions = "".join(f", {name} {version}" for name, version in result["peers"].items())
        memory = f"{result['machine']['memory_gb']} GB of memory, {count_of(result['machine']['threads'], 'thread')}"
        machines.setdefault(f"{pages.describe_machine(result['environment'])}{versions}; {memory}", []).append(result)
    for machine, found in machines.items():
        rates = [1e3 * one["measured"]["matrix products, TFLOP/s"]["median"] for one in found]
        dates, commits = ({one[key] for one in found} for key in ("date", "commit"))
        code = ", ".join(sorted(commit[:10] for commit in commits if commit)) or "unknown"
        lines.append(
            f"- {machine}; matrix products {min(rates):.0f} to {max(rates):.0f} GFLOP/s; commit {code}; "
            f"{', '.join(sorted(dates))}\n"
        )
    return "\n".join([lines[0], "".join(lines[1:])])
