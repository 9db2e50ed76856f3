"""Verdicts on a claim's numbers. They depend only on intervals, and treat both outcomes of a claim alike.

A claim has a few rules. Each rule turns the numbers of several seeds into one difference with an interval, and the
place of the interval decides: 'undecided' means that it reaches to both sides. The intervals of one claim hold together
with a probability of 95% (Bonferroni), so more rules do not make a claim more likely to hold, or not to hold.
"""

import bisect
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from scipy import special

LEVEL = 0.95
_ERROR_RATES = np.geomspace(1e-9, 1, 1200)  # in steps of 2%

Values = Mapping[str, Sequence[float]]  # run name -> one number for each seed
Bounds = Mapping[str, bool]  # run name -> whether some of its numbers are only lower bounds


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A rule's verdict on the numbers of `n` seeds.

    difference: the estimate. low, high: its interval at `level`. With one seed the spread is unknown, and the interval
    is the whole line, unless nothing in the runs is random. bound: 'at least' or 'at most' if some runs ended too soon,
    so that the difference is only a bound; one end of the interval then means nothing.
    """

    difference: float
    low: float
    high: float
    level: float
    n: int
    verdict: str
    bound: str = ""


@runtime_checkable
class Rule(Protocol):
    """A condition on the numbers of a claim's runs."""

    def judge(self, values: Values, bounds: Bounds, level: float, random: bool) -> Judgement:
        """The rule's verdict. random: whether the runs depend on their seed."""
        ...

    def text(self, unit: str) -> str:
        """The rule in words, its numbers in the claim's unit."""
        ...


@dataclasses.dataclass(frozen=True)
class Agrees:
    """The mean of `run` is the paper's number, to within `margin`.

    'agrees' if the interval of the difference lies inside the margin; otherwise 'better' or 'worse' if it lies below or
    above zero, because lower numbers are better. The interval covers the spread of our seeds and, if the paper's number
    is an error over `examples` test examples, the binomial spread of that error.
    """

    run: str
    paper: float
    margin: float
    examples: int = 0

    def __post_init__(self):
        if self.margin <= (least := self._sampling(LEVEL)):
            raise ValueError(
                f"{self.run}: a margin of {self.margin} can never be met; the paper's spread is {least:.4f}"
            )

    def _sampling(self, level: float) -> float:
        """Half of the paper's interval."""
        return _sampling_half_width([(1.0, self.paper)], self.examples, level)

    def judge(self, values: Values, bounds: Bounds, level: float, random: bool) -> Judgement:
        """The rule's verdict: 'agrees', 'better', 'worse' or 'undecided'."""
        differences = [value - self.paper for value in values[self.run]]
        difference, ours = mean_and_half_width(differences, level, random)
        half = math.hypot(ours, self._sampling(level))
        low, high = difference - half, difference + half
        if -self.margin <= low and high <= self.margin:
            verdict = "agrees"
        elif high < 0:
            verdict = "better"
        elif low > 0:
            verdict = "worse"
        else:
            verdict = "undecided"
        if bounds.get(self.run):
            verdict = "worse" if low > 0 else "undecided"
        bound = "at least" if bounds.get(self.run) else ""
        return Judgement(difference, low, high, level, len(differences), verdict, bound)

    def text(self, unit: str) -> str:
        """The rule in words."""
        sampled = f", whose {self.examples:,} test examples count" if self.examples else ""
        return f"{self.run} within {_margin(self.margin, unit)} of the paper's {_number(self.paper, unit)}{sampled}"


@dataclasses.dataclass(frozen=True)
class Less:
    """The mean of `less`, times `factor`, lies below that of `more`; either may be a number instead of a run's name.

    Runs with the same seed are a pair, and the interval is that of the pairs' differences `more - factor * less`. If
    `examples`, the number of test examples, is given, it also covers the binomial spread of the errors. Fitted
    pipelines, in which nothing is random, have no other spread.
    """

    less: str | float
    more: str | float
    factor: float = 1.0
    examples: int = 0

    def judge(self, values: Values, bounds: Bounds, level: float, random: bool) -> Judgement:
        """The rule's verdict: 'holds', 'does not hold' or 'undecided'."""
        n = len(next(iter(values.values())))
        less, more = (values[side] if isinstance(side, str) else [side] * n for side in (self.less, self.more))
        differences = [high - self.factor * low for low, high in zip(less, more, strict=True)]
        difference, ours = mean_and_half_width(differences, level, random)
        sides = (self.factor, self.less), (1.0, self.more)
        measured = [(weight, float(np.mean(values[side]))) for weight, side in sides if isinstance(side, str)]
        half = math.hypot(ours, _sampling_half_width(measured, self.examples, level))
        low, high = difference - half, difference + half
        verdict = "holds" if low > 0 else "does not hold" if high < 0 else "undecided"
        short_less, short_more = (bounds.get(str(side), False) for side in (self.less, self.more))
        if verdict == "holds" and short_less or verdict != "holds" and short_more:
            verdict = "undecided"
        bound = "" if short_less == short_more else "at least" if short_more else "at most"
        return Judgement(difference, low, high, level, n, verdict, bound)

    def text(self, unit: str) -> str:
        """The rule in words."""
        times = "" if self.factor == 1 else f"{self.factor:g} times "
        less, more = (side if isinstance(side, str) else _number(side, unit) for side in (self.less, self.more))
        sampled = f", on {self.examples:,} test examples" if self.examples else ""
        if not isinstance(self.less, str):
            return f"{more} above {times}{less}{sampled}"
        return f"{times}{less} below {more}{sampled}"


@dataclasses.dataclass(frozen=True)
class Close:
    """The means of two runs differ by less than `margin`; runs with the same seed are a pair."""

    first: str
    second: str
    margin: float

    def judge(self, values: Values, bounds: Bounds, level: float, random: bool) -> Judgement:
        """The rule's verdict: 'holds', 'does not hold' or 'undecided'."""
        differences = [b - a for a, b in zip(values[self.first], values[self.second], strict=True)]
        difference, half = mean_and_half_width(differences, level, random)
        low, high = difference - half, difference + half
        inside, outside = -self.margin < low and high < self.margin, low > self.margin or high < -self.margin
        verdict = "holds" if inside else "does not hold" if outside else "undecided"
        if bounds.get(self.first) or bounds.get(self.second):
            verdict = "undecided"
        return Judgement(difference, low, high, level, len(differences), verdict)

    def text(self, unit: str) -> str:
        """The rule in words."""
        return f"{self.first} and {self.second} within {_margin(self.margin, unit)}"


def direction(rule: Rule) -> Less | None:
    """The rule that only asks which number is lower, of two runs or a run and 0; None for other bounds and margins."""
    if not isinstance(rule, Less):
        return None
    compares = {type(rule.less), type(rule.more)} == {str} or 0 in (rule.less, rule.more)
    return dataclasses.replace(rule, factor=1.0) if compares else None


def decreasing(*runs: str) -> tuple[Less, ...]:
    """The rules that each run's number lies below that of the run before it."""
    return tuple(Less(after, before) for before, after in zip(runs, runs[1:], strict=False))


def judge(
    rules: Sequence[Rule], values: Values, bounds: Bounds, random: bool = True, level: float = LEVEL
) -> list[Judgement]:
    """The verdict of each rule, with intervals that hold together with probability `level`."""
    each = 1 - (1 - level) / len(rules)
    return [rule.judge(values, bounds, each, random) for rule in rules]


def p_value(rules: Sequence[Rule], values: Values, bounds: Bounds, random: bool = True) -> float:
    """The smallest error rate, 1 - level, at which the claim has the verdict that it has at `LEVEL`.

    For an undecided claim it is the smallest rate at which the rules decide it, and 1 if none does. It is found to
    within 2%, and is at least 1e-9.
    """

    def verdict(rate: float) -> str:
        return combine([found.verdict for found in judge(rules, values, bounds, random, level=1 - rate)])

    usual = 1 - LEVEL
    recorded = verdict(usual)
    if recorded == "undecided":
        rates = _ERROR_RATES
        place = bisect.bisect_left(rates, True, key=lambda rate: verdict(rate) != recorded)
    else:
        # In a wider interval a number that agrees without being equal may be better or worse, which is another verdict.
        rates = np.append(_ERROR_RATES[usual > _ERROR_RATES], usual)
        place = bisect.bisect_left(rates, True, key=lambda rate: verdict(rate) == recorded)
    return float(rates[min(place, len(rates) - 1)])


def combine(verdicts: Sequence[str]) -> str:
    """The verdict on a claim: that of its only rule or, with several, 'holds', 'does not hold' or 'undecided'.

    A claim holds if all its rules hold, and does not hold if one of them does not.
    """
    if len(verdicts) == 1:
        return verdicts[0]
    if {"does not hold", "worse"} & set(verdicts):
        return "does not hold"
    return "undecided" if "undecided" in verdicts else "holds"


def mean_and_half_width(values: Sequence[float], level: float, random: bool) -> tuple[float, float]:
    """The mean and half of Student's interval around it: 0 if nothing is random, infinite for one seed."""
    mean, n = float(np.mean(values)), len(values)
    if not random:
        return mean, 0.0
    if n < 2:
        return mean, math.inf
    quantile = float(special.stdtrit(n - 1, (1 + level) / 2))
    return mean, quantile * float(np.std(values, ddof=1)) / math.sqrt(n)


def _sampling_half_width(errors: Sequence[tuple[float, float]], examples: int, level: float) -> float:
    """Half of the binomial interval of a weighted sum of errors over `examples` each; 0 if `examples` is 0.

    No errors among 100 examples do not prove an error of 0. So half of the interval is at least z^2 / examples, much as
    Wilson's interval for no errors, which ends at z^2 / (examples + z^2).
    """
    if not examples:
        return 0.0
    z = float(special.ndtri((1 + level) / 2))
    least = z**2 / examples
    variance = sum(weight**2 * max(error * (1 - error), least) for weight, error in errors) / examples
    return z * math.sqrt(variance)


def _number(value: float, unit: str) -> str:
    return f"{100 * value:.4g}%" if unit == "%" else f"{value:.4g}"


def _margin(value: float, unit: str) -> str:
    return f"{100 * value:.4g} points" if unit == "%" else f"{value:.4g}"
