"""The pages made from recorded results: a claim in full, a table for a family, a summary of everything.

Pairs of lines in a Markdown file mark the place of each. SELECTION is one or more packages, for all their claims and
facts, or beginnings of ids, which end with a hyphen. A package's claims are left out if another pair of lines in the
file selects them by the beginning of their ids.

    <!-- claims: SELECTION --> ... <!-- /claims -->       every claim with its rules, picture, command and cost; facts
    <!-- results: SELECTION --> ... <!-- /results -->     a table of the claims, and how many facts agree
    <!-- verdicts: ID ... --> ... <!-- /verdicts -->      a line for each recorded result of these claims and facts
    <!-- chart: NAME ID ... --> ... <!-- /chart -->       a picture of these claims' numbers beside the paper's
    <!-- summary --> ... <!-- /summary -->                counts over everything, and the strongest verdicts
    <!-- costs --> ... <!-- /costs -->                    the time that all recorded runs took
"""

import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.claims import evidence as evidence_lib
from common.claims import run_costs
from common.claims.evidence import Evidence, Result
from common.claims.results import interval, rule_lines
from common.errors import count_of, unknown

_BLOCK = re.compile(
    r"(<!-- (?P<kind>claims|results|verdicts|chart|summary|costs)(: (?P<selection>[^>]*?))? -->\n)"
    r".*?(<!-- /(?P=kind) -->)",
    re.DOTALL,
)
_STRONGEST = 7  # verdicts in a summary
_DOUBT = "Counted together with all other verdicts, this one does not stand.\n"
_DOUBT_IN_BRIEF = "does not stand if all verdicts are counted together"


def fill(document: str, evidence: Evidence, place: pathlib.PurePath, folder: pathlib.PurePath) -> str:
    """The document with everything between its pairs of lines rewritten.

    place: of the document. folder: of the results, both relative to the root of the repository.
    """
    up = pathlib.PurePosixPath(*[".."] * len(place.parent.parts))
    everywhere = " ".join(match["selection"] or "" for match in _BLOCK.finditer(document)).split()

    def block(match: re.Match) -> str:
        selection = (match["selection"] or "").split()
        shown = _selected(evidence, selection, everywhere)
        text = {
            "claims": lambda: _in_full(shown, (up / folder).as_posix()),
            "results": lambda: _table(shown, (up / "RESULTS.md").as_posix()),
            "verdicts": lambda: "".join(_verdicts(evidence, name) for name in selection),
            "chart": lambda: _chart(selection, (up / folder).as_posix()),
            "summary": lambda: _summary(evidence),
            "costs": lambda: _all_costs(evidence),
        }[match["kind"]]()
        return f"{match[1]}\n{text}\n{match[5]}"

    return _BLOCK.sub(block, document)


def charts_in(document: str) -> dict[str, list[str]]:
    """The ids of the claims in each chart of a document, by the chart's name."""
    found = [match["selection"].split() for match in _BLOCK.finditer(document) if match["kind"] == "chart"]
    return {name: claims for name, *claims in found}


def replace_between(document: str, begin: str, end: str, text: str) -> str:
    """The document with `text` (whole lines) in place of what is between the first line `begin` and the next `end`."""
    before, _, rest = document.partition(begin)
    return f"{before}{begin}\n{text}{end}{rest.partition(end)[2]}"


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, whose cells are text."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def describe_machine(environment: Mapping[str, Any]) -> str:
    """The machine and the versions of a result."""
    cores = count_of(environment["cpu_cores"], "core")
    if "cpu" in environment:  # results from before 26 November 2026 do not name it
        cores = f"{environment['cpu']}, {cores}"
    return f"{environment['devices']} ({cores}), jax {environment['jax']}, flax {environment['flax']}"


def _selected(evidence: Evidence, selection: Sequence[str], everywhere: Sequence[str]) -> Evidence:
    """The evidence on what a selection names."""
    beginnings = tuple(word for word in selection if word.endswith("-"))
    others = tuple(word for word in everywhere if word.endswith("-") and word not in beginnings)

    def chosen(name: str) -> bool:
        in_package = evidence.packages[name] in selection and not name.startswith(others)
        return in_package or name.startswith(beginnings)

    return Evidence(
        [result for result in evidence.measured if chosen(result["claim"])],
        [fact for fact in evidence.facts if chosen(fact["fact"])],
        evidence.packages,
        evidence.shows,
        evidence.changes,
        evidence.doubtful,
    )


def _verdicts(evidence: Evidence, name: str) -> str:
    """A line for each recorded result of a claim or fact, or one that says that there is none."""
    if name not in evidence.packages:
        raise unknown("claim or fact", name, evidence.packages)
    measured = [result for result in evidence.measured if result["claim"] == name]
    facts = [fact for fact in evidence.facts if fact["fact"] == name]
    lines = [
        *(_line(result, evidence) for result in measured),
        *(f"- **{fact['verdict']}**{_in_brackets(fact['note'])}: {fact['says']} (`{name}`)\n" for fact in facts),
    ]
    return "".join(lines) or f"- no runs are recorded yet: `{name}`\n"


def _chart(selection: Sequence[str], folder: str) -> str:
    name, *claims = selection
    return f"![The paper's numbers and ours: {', '.join(claims)}]({folder}/{name}.png)\n"


def _line(result: Result, evidence: Evidence) -> str:
    """The verdict of a measured claim in a line."""
    return f"- {_verdict(result, evidence)}: {result['says']} (`{result['claim']}`: {_intervals(result)})\n"


def _verdict(result: Result, evidence: Evidence) -> str:
    """A verdict with its notes, the first of which says if it does not stand."""
    doubt = _DOUBT_IN_BRIEF if evidence_lib.key(result) in evidence.doubtful else ""
    return f"**{result['verdict']}**{_in_brackets('; '.join(filter(None, [doubt, _notes(result)])))}"


def _summary(evidence: Evidence) -> str:
    """Counts and a list of verdicts; at most ten lines."""
    counted = evidence_lib.count_verdicts(evidence)
    said = ", ".join(f"{words}: {number}" for words, number in counted.items())
    lines = [_line(result, evidence) for result in evidence_lib.best_supported(evidence, _STRONGEST)]
    decided = len(evidence_lib.decided_results(evidence))
    standing = decided - len(evidence.doubtful)
    return (
        f"**Measured** by runs: {sum(counted.values())} claims ({said})."
        f" Counted together, with at most 5% false ones expected, {standing} of the {decided} decided verdicts stand.\n"
        f"**Exact**: {len(evidence.facts)} claims ({_facts(evidence.facts)})."
        " These are the decided claims with the most seeds, one from each paper:\n\n" + "".join(lines)
    )


def _all_costs(evidence: Evidence) -> str:
    """A line for each scale: its recorded claims and the time of their runs."""
    lines = []
    for scale, words in (("quick", "Short schedules (`--scale=quick`)"), ("paper", "Full schedules")):
        seconds = [run_costs.run_seconds(result) for result in evidence.measured if result["scale"] == scale]
        known = [cost for cost in seconds if cost is not None]
        took = run_costs.format_duration(sum(known))
        said = f"- {words}: {count_of(len(seconds), 'claim')} recorded, {took} of runs"
        unknown = len(seconds) - len(known)
        left_out = f", without {count_of(unknown, 'claim')} whose cost was not recorded"
        lines.append(said + (f"{left_out}.\n" if unknown else ".\n"))
    shared = "A run that several claims share is counted for each of them, although one command makes it only once."
    return "".join(lines) + f"\n{shared} Times are those of one core if counted, otherwise those of the clock.\n"


def _intervals(result: Result) -> str:
    """The interval of the rule that the verdict rests on: one that does not hold, else one that is open, else any."""
    against, open_ = ("does not hold", "worse"), ("undecided",)
    rules = sorted(result["rules"], key=lambda rule: (rule["verdict"] not in against, rule["verdict"] not in open_))
    more = f" and {len(rules) - 1} more" if len(rules) > 1 else ""
    return f"{interval(rules[0], result['unit'])}{more}, n = {rules[0]['n']}"


def _table(shown: Evidence, page: str) -> str:
    """A row for each run of each claim, and a line on the facts."""
    rows = [line for result in shown.measured for line in _rows(result, shown)]
    header = "| claim, data | what | paper | ours (mean ± sd over seeds) | verdict |\n|---|---|---|---|---|\n"
    table = f"{header}{''.join(rows)}\n" if rows else ""
    wrong = ", ".join(f"`{fact['fact']}`" for fact in _wrong(shown.facts))
    exact = f"Exact facts: {_facts(shown.facts)}{_in_brackets(wrong)}. " if shown.facts else ""
    return f"{table}{exact}[RESULTS.md]({page}) has rules, intervals and commands.\n"


def _facts(facts: Sequence[Result]) -> str:
    """The numbers of facts that agree and that do not, in words."""
    wrong = len(_wrong(facts))
    return f"agree: {len(facts) - wrong}" + (f", do not agree: {wrong}" if wrong else "")


def _wrong(facts: Sequence[Result]) -> list[Result]:
    return [fact for fact in facts if fact["verdict"].startswith("does not")]


def _rows(result: Result, evidence: Evidence) -> list[str]:
    """One table row for each run of a claim; the first has the verdict."""
    verdict, lines = _verdict(result, evidence), []
    for number, name in enumerate(result["ours"]):
        claim = f"`{result['claim']}`, {result['dataset']}" if number == 0 else ""
        lines.append(f"| {claim} | {name} | {_values(result, name)} | {verdict if number == 0 else ''} |\n")
    return lines


def _in_full(shown: Evidence, folder: str) -> str:
    """The claims one after the other, then a table of the facts."""
    claims = [_claim(result, shown, folder) for result in shown.measured]
    facts = "".join(map(_fact, shown.facts))
    table = f"| exact | paper or formula | ours | verdict |\n|---|---|---|---|\n{facts}" if facts else ""
    return "\n".join([*claims, table]) if table else "\n".join(claims)


def _claim(result: Result, evidence: Evidence, folder: str) -> str:
    """A measured claim in full."""
    shows = evidence.shows.get(result["claim"], "")
    change = evidence.changes.get(evidence_lib.key(result), "")
    doubt = _DOUBT if evidence_lib.key(result) in evidence.doubtful else ""
    rules = "".join(f"- {line}\n" for line in rule_lines(result))
    costs = result.get("costs", {})
    values = "".join(f"| {name} | {_values(result, name)} |{_costs(costs, name)}\n" for name in result["ours"])
    columns = " parameters | training time |" if costs else ""
    picture = f"![{result['says']}]({folder}/{result['figure']})\n" if result.get("figure") else ""
    words = f"\nThe paper's {shows if shows[0].isupper() else f'figure: {shows}'}\n" if picture and shows else ""
    scale = "" if result["scale"] == "paper" else f" --scale={result['scale']}"
    made = ", ".join(filter(None, [run_costs.describe_cost(result), describe_machine(result["environment"])]))
    parts = [
        f"### `{result['claim']}`\n{_sentence(result['says'])} ({result['where']})\n",
        f"**{result['verdict']}**{_in_brackets(_notes(result))}\n\n{rules}",
        doubt,
        f"{change}\n" if change else "",
        f"| {result['dataset']} | paper | ours |{columns}\n|---|---|---|{'---|' * columns.count('|')}\n{values}",
        picture + words,
        f"`python -m common.reproduce --claims={result['claim']}{scale}`: {made}, {result['date']}\n",
    ]
    return "\n".join(filter(None, parts))


def _costs(costs: Mapping[str, Mapping[str, float]], name: str) -> str:
    """The parameters and the training time of a run, as two cells; '' if the claim does not record them.

    The time is that of one core only if all runs of the claim counted it.
    """
    if not costs:
        return ""
    counted = all("train_core_seconds" in spent for spent in costs.values())
    clock, unit = ("train_core_seconds", " of one core") if counted else ("train_seconds", "")
    return f" {costs[name]['parameters']:,} | {run_costs.format_duration(costs[name][clock])}{unit} |"


def _fact(fact: Result) -> str:
    """A table row."""
    wrong = [name for name, number in fact["numbers"].items() if not number["agrees"]]
    named = f" ({', '.join(wrong)})" if wrong and len(fact["numbers"]) > 1 else ""
    note = f"<br>{fact['note']}" if fact["note"] else ""
    unit = fact["unit"]
    theirs = {name: _expected(number["expected"], fact["tolerance"], unit) for name, number in fact["numbers"].items()}
    ours = {name: _computed(number, unit) for name, number in fact["numbers"].items()}
    cells = [
        f"`{fact['fact']}`: {fact['says']} ({fact['where']})",
        _named(theirs, unit),
        "=" if theirs == ours else _named(ours, unit),
        f"**{fact['verdict']}**{named}{note}",
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _named(numbers: Mapping[str, str], unit: str) -> str:
    """Numbers with their names, or a single number without its name; then their unit."""
    text = (
        "; ".join(f"{name}: {text}" for name, text in numbers.items()) if len(numbers) > 1 else [*numbers.values()][0]
    )
    return text if unit in ("", "%") else f"{text} {unit}"


def _expected(expected: Any, tolerance: float, unit: str) -> str:
    if isinstance(expected, str):
        return expected
    if isinstance(expected, list):
        low, high = ("" if end is None else _number(end, unit) for end in expected)
        if expected[0] in (None, 0) and high:
            return f"at most {high}"  # of differences, which are never negative
        return f"{low} to {high}" if high else f"at least {low}"
    return _number(expected, unit) + (f" ± {100 * tolerance:.4g}%" if tolerance else "")


def _computed(number: Mapping[str, Any], unit: str) -> str:
    """Our number, a percentage where the paper prints one."""
    return _number(number["computed"], "%" if str(number["expected"]).endswith("%") else unit)


def _values(result: Result, name: str) -> str:
    """The paper's number of a run and ours, as two cells."""
    ours, unit = result["ours"][name], result["unit"]
    paper = result["paper"].get(name)
    spread = "" if ours["std"] is None else f" ± {_measured(ours['std'], unit)}"
    seeds = count_of(len(result["seeds"]), "seed")
    bound = "at least " if ours.get("at_least") else ""
    theirs = "-" if paper is None else _measured(paper, unit)
    return f"{theirs} | {bound}{_measured(ours['mean'], unit)}{spread} ({seeds})"


def _notes(result: Result) -> str:
    return "; ".join(filter(None, ["preliminary" if result["preliminary"] else "", result["short"], result["setting"]]))


def _measured(value: float, unit: str) -> str:
    return f"{100 * value:.2f}%" if unit == "%" else f"{value:.4g} {unit}".strip()


def _number(value: float, unit: str) -> str:
    """An exact number; its unit is said once for all of a fact."""
    if unit == "%":
        return f"{100 * value:.4g}%"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
