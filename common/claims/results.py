"""A claim's result: its numbers, the rules with their intervals, and the verdict in words that name the scale."""

import dataclasses
import datetime
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from common.claims import verdicts
from common.claims.claim import Claim, Folders
from common.claims.verdicts import Judgement
from common.run import summary, workdir

_SHORT = "at a short schedule"
UNDECIDABLE = "not decidable on this data"


def of_runs(claim: Claim, folders: Folders, scale: str) -> dict[str, Any]:
    """The result of a claim from its finished runs. scale: 'paper', or 'quick' for the claim's short schedule."""
    values = {name: _numbers(claim, found, scale) for name, found in folders.items()}
    bounds = {name: any(map(claim.bound, found)) for name, found in folders.items()}
    read = {name: [summary.read(folder) for folder in found] for name, found in folders.items()}
    summaries = [found for several in read.values() for found in several]
    first = next(iter(folders.values()))
    return {
        **of_values(claim, values, bounds, workdir.load_info(first[0]).name, scale),
        **({"costs": {name: _costs(found) for name, found in read.items()}} if claim.costs else {}),
        "images_per_second": statistics.median(found["images_per_second"] for found in summaries),
        "peak_memory_bytes": max(found["peak_memory_bytes"] for found in summaries),
        "run_seconds": sum(sum(found["seconds"].values()) for found in summaries),
        **_run_core_seconds(summaries),
        "environment": summaries[0]["environment"],
        "date": datetime.date.today().isoformat(),
    }


def _costs(summaries: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The parameters and the mean training time, by each clock, of one experiment, from its runs' summaries."""

    def mean(clock: str) -> float:
        return statistics.fmean(summary.training_seconds(found, clock) for found in summaries)

    costs = {"parameters": summaries[0]["parameters"], "train_seconds": mean("seconds")}
    return {**costs, "train_core_seconds": mean("core_seconds")} if _counted_on_cpu(summaries) else costs


def _run_core_seconds(summaries: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The core-seconds of all runs, if they were counted; other work on the machine hardly changes them."""
    if not _counted_on_cpu(summaries):
        return {}
    return {"run_core_seconds": sum(sum(found["core_seconds"].values()) for found in summaries)}


def _counted_on_cpu(summaries: Sequence[dict[str, Any]]) -> bool:
    """True if these runs did their work on a CPU and counted its core-seconds."""
    return all("core_seconds" in found and "cpu" in found["environment"].get("devices", "") for found in summaries)


def _numbers(claim: Claim, folders: Sequence[pathlib.Path], scale: str) -> list[float]:
    """A claim's numbers from the finished runs of one of its experiments."""
    measure = (claim.quick_measure if scale == "quick" else None) or claim.measure
    if claim.members == 1:
        return [measure(folder) for folder in folders]
    starts = range(0, len(folders), claim.members)
    return [measure(list(folders[start : start + claim.members])) for start in starts]


def of_values(
    claim: Claim, values: Mapping[str, Sequence[float]], bounds: Mapping[str, bool], dataset: str, scale: str
) -> dict[str, Any]:
    """The part of a result that follows from the numbers of its runs."""
    judged = verdicts.judge(claim.rules, values, bounds, claim.random)
    decidable = claim.data in ("", dataset)
    plain = verdicts.combine([found.verdict for found in judged]) if decidable else UNDECIDABLE
    seeds = min(map(len, values.values()))
    return {
        "claim": claim.id,
        "where": claim.where,
        "says": claim.says,
        "unit": claim.unit,
        "scale": scale,
        "setting": claim.setting,
        "dataset": dataset,
        "paper": dict(claim.paper),
        "ours": {
            name: {
                "mean": statistics.fmean(found),
                "std": statistics.stdev(found) if len(found) > 1 else None,
                "at_least": bounds.get(name, False),
            }
            for name, found in values.items()
        },
        "values": {name: list(found) for name, found in values.items()},
        "rules": [
            {"rule": rule.text(claim.unit), **_as_json(found)} for rule, found in zip(claim.rules, judged, strict=True)
        ],
        "p_value": verdicts.p_value(claim.rules, values, bounds, claim.random),
        "verdict": (
            plain if scale == "paper" or not decidable else _at_short_schedule(plain, claim, values, bounds, judged)
        ),
        "short": "" if scale == "paper" else claim.short,
        "seeds": list(range(seeds)),
        "preliminary": seeds < claim.seeds,
    }


def _at_short_schedule(
    plain: str,
    claim: Claim,
    values: Mapping[str, Sequence[float]],
    bounds: Mapping[str, bool],
    judged: Sequence[Judgement],
) -> str:
    """The words for a short schedule.

    Only a rule on which number is lower has a direction; a bound, a factor or a margin may be missed without one.
    """
    directions = [verdicts.direction(rule) for rule in claim.rules]
    if plain == "holds" and any(directions):
        return f"same direction {_SHORT}"
    opposite = [
        rule is not None and rule.judge(values, bounds, found.level, claim.random).verdict == "does not hold"
        for rule, found in zip(directions, judged, strict=True)
    ]
    if plain != "does not hold" or not any(opposite):
        return f"{plain} {_SHORT}"
    return f"opposite direction {_SHORT}" if all(opposite) else f"opposite direction in part {_SHORT}"


def rule_lines(result: Mapping[str, Any]) -> list[str]:
    """Each rule of a result with its interval and, if the data can decide the claim, its verdict."""
    decidable = result["verdict"] != UNDECIDABLE
    return [
        f"{rule['rule']}: {interval(rule, result['unit'])}, n = {rule['n']}"
        + (f": {rule['verdict']}" if decidable else "")
        for rule in result["rules"]
    ]


def interval(rule: Mapping[str, Any], unit: str) -> str:
    """The difference of a rule with its interval; if the difference is only a bound, the known end of the interval."""

    def number(value: float | None) -> str:
        if value is None:
            return "?"
        return f"{100 * value:+.2f}" if unit == "%" else f"{value:+.3g}"

    points = " points" if unit == "%" else f" {unit}"
    if bound := rule.get("bound"):
        return f"{bound} {number(rule['low' if bound == 'at least' else 'high'])}{points}"
    return f"{number(rule['difference'])} [{number(rule['low'])}, {number(rule['high'])}]{points}"


def _as_json(found: Judgement) -> dict[str, Any]:
    """The judgement for JSON, which has no infinite numbers: the ends of an unknown interval become None."""
    pairs = dataclasses.asdict(found).items()
    return {key: None if isinstance(value, float) and math.isinf(value) else value for key, value in pairs}
