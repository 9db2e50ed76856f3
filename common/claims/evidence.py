"""All recorded results, the packages that declare their claims, and the counts and strongest verdicts among them."""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence, Set
from typing import Any

from common.claims import results, statement, verdicts
from common.claims.claim import Claim, all_claims
from common.claims.fact import all_facts, result_path
from common.errors import UserError
from common.run import workdir

Result = dict[str, Any]

# The words for each verdict in a summary, in the summary's order.
_SUMMARY = {
    "holds": "hold",
    "agrees": "hold",
    "better": "better than the paper's number",
    "does not hold": "do not hold",
    "worse": "do not hold",
    "same direction at a short schedule": "same direction at a short schedule",
    "holds at a short schedule": "hold at a short schedule",
    "does not hold at a short schedule": "do not hold at a short schedule",
    "opposite direction at a short schedule": "opposite direction at a short schedule",
    "opposite direction in part at a short schedule": "opposite direction in part at a short schedule",
    "undecided": "undecided",
    "undecided at a short schedule": "undecided",
    results.UNDECIDABLE: results.UNDECIDABLE,
}
_OPEN = ("undecided", "undecided at a short schedule", results.UNDECIDABLE)
WAITING = "without data or runs here"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The results of measured claims and of facts, in the order that packages declare them in.

    packages: the package of each claim and fact, recorded or not. shows: what the paper's figure shows, by claim,
    recorded or not. changes: by claim and scale, a sentence on what the claim asks for now and its result does not
    have. doubtful: the claims and scales of `doubtful_verdicts`.
    """

    measured: Sequence[Result]
    facts: Sequence[Result]
    packages: Mapping[str, str]
    shows: Mapping[str, str]
    changes: Mapping[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    doubtful: Set[tuple[str, str]] = frozenset()


def key(result: Result) -> tuple[str, str]:
    """The claim and the scale of a result, which no other result has."""
    return result["claim"], result["scale"]


def read_evidence(folder: pathlib.Path) -> Evidence:
    """The evidence in a folder of results.

    Raises UserError for a result that is damaged, or of a claim or fact that no package declares.
    """
    claims, facts = all_claims(), all_facts()
    places = {name: place for place, name in enumerate([*claims, *facts])}
    measured = read_results(folder, "claim")
    exact = read_results(result_path(folder, "").parent, "fact")
    packages = statement.packages_by_id()
    for name in [*(result["claim"] for result in measured), *(result["fact"] for result in exact)]:
        if name not in packages:
            raise UserError(
                f"no claim or fact is called '{name}': install the libraries of its package, or remove its result "
                "from `results`"
            )
    return Evidence(
        sorted(measured, key=lambda result: places[result["claim"]]),
        sorted(exact, key=lambda result: places[result["fact"]]),
        packages,
        {claim.id: claim.shows for claim in claims.values()},
        {key(one): change for one in measured if (change := _change(one, claims[one["claim"]]))},
        doubtful_verdicts(measured),
    )


def doubtful_verdicts(measured: Sequence[Result]) -> frozenset[tuple[str, str]]:
    """The claims and scales of decided verdicts that do not stand if all verdicts are counted together.

    An interval of 95% misses the truth once in twenty times, so among many verdicts some are false by chance. Benjamini
    and Hochberg's procedure (1995) keeps verdicts of which at most 5% are expected to be false. It takes the p-value of
    each claim that a summary counts, decided or not.
    """
    from scipy import stats  # slow, and few commands need it

    counted = [result for result in _counted(measured).values() if result["verdict"] != results.UNDECIDABLE]
    if not counted:
        return frozenset()
    adjusted = stats.false_discovery_control([result["p_value"] for result in counted])
    return frozenset(
        key(result)
        for result, p in zip(counted, adjusted, strict=True)
        if result["verdict"] not in _OPEN and p > 1 - verdicts.LEVEL
    )


def _change(result: Result, claim: Claim) -> str:
    """A sentence if the claim now asks for more seeds or another short schedule than its full result has; else ''."""
    said = ""
    if len(result["seeds"]) < claim.seeds and not result["preliminary"]:
        said = f"These are {len(result['seeds'])} of the {claim.seeds} seeds that the claim asks for now."
    if result["scale"] == "quick" and result["short"] != claim.short:
        said = f"{said} The claim now has another short schedule: {claim.short}.".lstrip()
    return said


def read_results(folder: pathlib.Path, kind: str) -> list[Result]:
    """The recorded results of a kind, 'claim', 'fact' or 'benchmark', in the order of their file names.

    A preliminary result, with fewer seeds than its claim asks for, is left out if there is one with all of them, and a
    result at a short schedule if there is one at the full schedule. Raises UserError for a damaged file.
    """
    paths = sorted(folder.glob("*.json"))
    names = {path.stem for path in paths}
    found = [workdir.read_json(path) for path in paths if not names & _replacements(path.stem)]
    return [result for result in found if kind in result]


def _replacements(name: str) -> set[str]:
    """The names of the results that a result of this name gives way to."""
    found = set()
    for suffix in (".preliminary", ".quick"):
        if name.endswith(suffix):
            name = name.removesuffix(suffix)
            found.add(name)
    return found


def count_verdicts(evidence: Evidence) -> dict[str, int]:
    """The numbers of measured claims that hold, do not hold, are undecided and so on, in the words of a summary.

    A claim whose only result is preliminary counts as one without runs.
    """
    full = _counted(evidence.measured)
    found = collections.Counter(_SUMMARY[full[name]["verdict"]] if name in full else WAITING for name in evidence.shows)
    return {words: found[words] for words in dict.fromkeys([*_SUMMARY.values(), WAITING]) if found[words]}


def best_supported(evidence: Evidence, most: int) -> list[Result]:
    """The decided results with the most seeds, full schedules first: one from each paper, then a second, ...

    Doubtful verdicts are not among them.
    """
    decided = [result for result in decided_results(evidence) if key(result) not in evidence.doubtful]
    taken: collections.Counter[str] = collections.Counter()
    rounds = []
    for result in sorted(decided, key=_strength, reverse=True):
        paper = result["where"].partition(",")[0]
        rounds.append((taken[paper], result))
        taken[paper] += 1
    return [result for _, result in sorted(rounds, key=lambda pair: pair[0])][:most]


def decided_results(evidence: Evidence) -> list[Result]:
    """The results that a summary counts and that decide their claim."""
    return [result for result in _counted(evidence.measured).values() if result["verdict"] not in _OPEN]


def _counted(measured: Sequence[Result]) -> dict[str, Result]:
    """The result of each claim that has all seeds; of two, the one at the full schedule."""
    counted: dict[str, Result] = {}
    for result in measured:
        if not result["preliminary"] and (result["scale"] == "paper" or result["claim"] not in counted):
            counted[result["claim"]] = result
    return counted


def _strength(result: Result) -> tuple[bool, int]:
    return result["scale"] == "paper", len(result["seeds"])
