"""Verdicts as statements about intervals."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from common.claims import results
from common.claims.verdicts import Agrees, Close, Less, combine, decreasing, judge, p_value


def test_the_interval_of_a_comparison_is_students_of_the_paired_differences():
    better, worse = [0.10, 0.14, 0.12, 0.11], [0.15, 0.18, 0.17, 0.155]
    [found] = judge([Less("a", "b")], {"a": better, "b": worse}, {})
    paired = stats.ttest_rel(worse, better).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((paired.low, paired.high))
    assert found.difference == pytest.approx(np.mean(worse) - np.mean(better))
    assert (found.n, found.level, found.verdict) == (4, 0.95, "holds")


def test_pairs_cancel_what_seeds_share():
    hard, easy = [0.10, 0.30, 0.50], [0.11, 0.312, 0.511]  # far apart from seed to seed, close within a pair
    [found] = judge([Less("a", "b")], {"a": hard, "b": easy}, {})
    assert found.verdict == "holds"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0101, 0.0099, 0.01], "agrees"),
        ([0.02, 0.021, 0.022], "worse"),
        ([0.005, 0.0051, 0.0049], "better"),
        ([0.005, 0.015, 0.02], "undecided"),
        ([0.01], "undecided"),
    ],
)
def test_a_number_can_fail_in_both_directions(values, expected):
    [found] = judge([Agrees("a", 0.01, margin=0.002)], {"a": values}, {})
    assert found.verdict == expected


def test_the_papers_own_test_set_widens_the_interval_by_its_binomial_spread():
    rule = Agrees("a", 0.05, margin=0.01, examples=2007)
    [found] = judge([rule], {"a": [0.05, 0.05, 0.05]}, {})
    low, high = stats.norm.interval(0.95, 0, np.sqrt(0.05 * 0.95 / 2007))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_a_result_without_randomness_has_an_interval_without_width():
    [found] = judge([Less("a", "b")], {"a": [0.1], "b": [0.2]}, {}, random=False)
    assert (found.low, found.high, found.verdict) == (found.difference, found.difference, "holds")


@pytest.mark.parametrize(
    ("second", "expected"),
    [([0.1, 0.101, 0.102], "holds"), ([0.2, 0.201, 0.202], "does not hold"), ([0.05, 0.11, 0.14], "undecided")],
)
def test_equality_is_an_interval_inside_the_margin(second, expected):
    [found] = judge([Close("a", "b", 0.01)], {"a": [0.1, 0.1, 0.101], "b": second}, {})
    assert found.verdict == expected


@pytest.mark.parametrize(("more", "spread"), [("pixels", 0.0051 * 0.9949 + 0.016 * 0.984), (0.016, 0.0051 * 0.9949)])
def test_test_examples_alone_give_an_interval_where_nothing_is_random(more, spread):
    values = {"SIFT": [0.0051], "pixels": [0.016]}
    (found,) = judge([Less("SIFT", more, examples=10_000)], values, {}, random=False)
    half = stats.norm.ppf(0.975) * (spread / 10_000) ** 0.5
    assert (found.low, found.high) == pytest.approx((0.0109 - half, 0.0109 + half))
    (doubtful,) = judge([Less("SIFT", more, examples=100)], values, {}, random=False)
    assert doubtful.verdict == "undecided"


@pytest.mark.parametrize("error", [0.0, 1.0])
def test_a_test_set_without_errors_or_with_nothing_else_is_no_certainty(error):
    (found,) = judge([Less("a", 0.5, examples=100)], {"a": [error]}, {}, random=False)
    z = stats.norm.ppf(0.975)
    assert (found.low, found.high) == pytest.approx((0.5 - error - z**2 / 100, 0.5 - error + z**2 / 100))
    (open_,) = judge([Less("a", 0.01, examples=100)], {"a": [0.0]}, {}, random=False)
    assert open_.verdict == "undecided"  # with an error of 1%, one test set of 100 in three has no errors
    assert p_value([Less("a", 0.01, examples=100)], {"a": [0.0]}, {}, random=False) > 0.1


def test_a_lower_bound_is_evidence_on_its_own_side_only():
    values = {"ReLU": [6.0, 6.1, 6.2], "tanh": [40.0, 40.0, 40.0]}
    assert judge([Less("ReLU", "tanh", factor=3)], values, {"tanh": True})[0].verdict == "holds"
    assert judge([Less("ReLU", "tanh", factor=8)], values, {"tanh": True})[0].verdict == "undecided"
    assert judge([Less("ReLU", "tanh", factor=3)], values, {"ReLU": True})[0].verdict == "undecided"


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, "+22 [+21.3, +22.7] epochs"),
        ({"tanh": True}, "at least +21.3 epochs"),
        ({"ReLU": True}, "at most +22.7 epochs"),
        ({"ReLU": True, "tanh": True}, "+22 [+21.3, +22.7] epochs"),
    ],
)
def test_only_the_known_end_of_a_bound_is_printed(bounds, expected):
    values = {"ReLU": [5.9, 6.0, 6.1], "tanh": [40.0, 40.0, 40.0]}
    (found,) = judge([Less("ReLU", "tanh", factor=3)], values, bounds)
    assert results.interval(dataclasses.asdict(found), "epochs") == expected


def test_the_rules_of_a_claim_hold_together_at_95_per_cent():
    generator = np.random.default_rng(0)
    rules, wrong, trials = decreasing("a", "b", "c"), 0, 2000
    for _ in range(trials):
        values = {name: generator.normal(size=4).tolist() for name in "abc"}
        wrong += any(not found.low <= 0 <= found.high for found in judge(rules, values, {}))
    assert wrong / trials < 0.06  # 0.05, and two standard deviations of a share of 2,000 trials


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        (["agrees"], "agrees"),
        (["holds", "holds"], "holds"),
        (["holds", "better"], "holds"),
        (["holds", "undecided"], "undecided"),
        (["undecided", "does not hold"], "does not hold"),
        (["holds", "worse"], "does not hold"),
    ],
)
def test_a_claim_holds_if_all_its_rules_do(parts, whole):
    assert combine(parts) == whole


def test_a_margin_that_nothing_could_meet_is_refused():
    with pytest.raises(ValueError, match="never be met"):
        Agrees("a", 0.05, margin=0.005, examples=2007)


@pytest.mark.parametrize(
    ("rule", "unit", "text"),
    [
        (Agrees("net", 0.05, margin=0.015, examples=2007), "%", "net within 1.5 points of the paper's 5%, whose 2,007"),
        (Less("net", 0.75), "%", "net below 75%"),
        (Less(0.85, "plain"), "%", "plain above 85%"),
        (Less("ReLU", "tanh", factor=3), "epochs", "3 times ReLU below tanh"),
        (Close("first", "second", 0.01), "%", "first and second within 1 points"),
        (Close("first", "second", 0.01), "MSE", "first and second within 0.01"),
    ],
)
def test_a_rule_says_its_numbers_in_the_claims_unit(rule, unit, text):
    assert rule.text(unit).startswith(text)


def test_the_p_value_of_a_comparison_is_students():
    better, worse = [0.10, 0.14, 0.12, 0.11], [0.15, 0.18, 0.16, 0.155]
    expected = stats.ttest_rel(worse, better).pvalue
    assert p_value([Less("a", "b")], {"a": better, "b": worse}, {}) == pytest.approx(expected, rel=0.02)
    assert p_value([Less("b", "a")], {"a": better, "b": worse}, {}) == pytest.approx(expected, rel=0.02)


def test_the_p_value_of_several_rules_is_that_of_the_weakest_as_often_as_there_are_rules():
    values = {"a": [0.10, 0.14, 0.12], "b": [0.15, 0.18, 0.16], "c": [0.30, 0.32, 0.35]}
    expected = 2 * max(stats.ttest_rel(*map(values.get, pair)).pvalue for pair in ("ab", "bc"))
    assert p_value(decreasing("c", "b", "a"), values, {}) == pytest.approx(expected, rel=0.02)


def test_a_claim_that_no_level_decides_has_a_p_value_of_one_and_one_without_spread_the_smallest():
    assert p_value([Agrees("a", 0.01, margin=0.002)], {"a": [0.01]}, {}) == 1
    assert p_value([Less("a", "b")], {"a": [0.1], "b": [0.2]}, {}, random=False) == pytest.approx(1e-9)


@pytest.mark.parametrize(
    ("off", "expected"),
    [
        (0.0015, lambda t, off: stats.t.sf(t(0.002 - off), 4)),  # agrees: how rare such numbers are outside the margin
        (0.0045, lambda t, off: stats.t.sf(t(off), 4)),  # worse: how rare they are at the paper's number
    ],
)
def test_the_p_value_is_that_of_the_verdict_and_not_of_another_one(off, expected):
    values = [0.01 + off + step for step in (-2e-4, -1e-4, 0, 1e-4, 2e-4)]
    error = np.std(values, ddof=1) / np.sqrt(5)
    [found] = judge([rule := Agrees("a", 0.01, margin=0.002)], {"a": values}, {})
    assert found.verdict == ("agrees" if off < 0.002 else "worse")
    p = 2 * expected(lambda distance: distance / error, off)
    assert p_value([rule], {"a": values}, {}) == pytest.approx(p, rel=0.02)
