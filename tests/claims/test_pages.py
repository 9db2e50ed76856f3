"""The pages made from results: verdicts, intervals, pictures, facts, counts."""

import json
import pathlib

import pytest

from common import tables
from common.claims import evidence, pages, results
from common.claims.claim import all_claims
from common.claims.evidence import Evidence
from common.errors import UserError
from tests.runs import ROOT

RULE = {"rule": "LeNet-5 within 0.2 points of the paper's 0.95%", "difference": 0.0001, "low": -0.0009, "high": 0.0011}
RESULT = {
    "claim": "lenet5-mnist-error",
    "where": "LeCun 1998, section III-B",
    "says": "LeNet-5 reaches 0.95%",
    "unit": "%",
    "scale": "paper",
    "dataset": "mnist",
    "paper": {"LeNet-5": 0.0095},
    "ours": {"LeNet-5": {"mean": 0.0096, "std": 0.0004}},
    "setting": "",
    "short": "",
    "preliminary": False,
    "rules": [{**RULE, "n": 3, "verdict": "agrees"}],
    "p_value": 0.001,
    "verdict": "agrees",
    "seeds": [0, 1, 2],
    "run_seconds": 600,
    "environment": {"devices": "1 x cpu", "cpu": "AMD EPYC", "cpu_cores": 2, "jax": "0.10.2", "flax": "0.12.8"},
    "date": "2026-01-01",
}
ZIP = {
    **RESULT,
    "claim": "zip89-test-error",
    "verdict": "worse",
    "seeds": list(range(25)),
    "rules": [{**RULE, "n": 25, "verdict": "worse"}],
}
SHORT = {
    **RESULT,
    "claim": "resnet-depth",
    "where": "He 2016, section 4.2",
    "scale": "quick",
    "short": "a tenth",
    "setting": "small maps",
    "verdict": "same direction at a short schedule",
    "figure": "resnet-depth.quick.png",
}
FACT = {
    "fact": "lenet5-parameters",
    "where": "LeCun 1998, section II-B",
    "says": "LeNet-5 has 60,000 parameters",
    "note": "",
    "unit": "parameters",
    "tolerance": 0.0,
    "numbers": {
        "C1": {"expected": 156, "computed": 156, "agrees": True},
        "total": {"expected": 60_000, "computed": 60_000, "agrees": True},
    },
    "verdict": "agrees",
}
WRONG = {
    **FACT,
    "fact": "resnet-budget",
    "note": "it cuts digits off",
    "unit": "",
    "numbers": {
        "50": {"expected": "3.8B", "computed": 3_857_973_248, "agrees": False},
        "152": {"expected": "11.3B", "computed": 11_282_415_616, "agrees": True},
        "over VGG": {"expected": [None, 0.99], "computed": 0.7293, "agrees": True},
        "gain": {"expected": [0.05, None], "computed": 0.3, "agrees": True},
        "more": {"expected": "81%", "computed": 0.814815, "agrees": True},
    },
    "verdict": "does not agree",
}
PACKAGES = {
    **{"lenet5-mnist-error": "lenet", "zip89-test-error": "lenet", "lenet5-parameters": "lenet"},
    **{"resnet-depth": "resnet", "resnet-budget": "resnet", "bn-faster": "resnet", "vit-shape": "vit"},
}
SHOWS = {
    **{"lenet5-mnist-error": "", "zip89-test-error": "", "resnet-depth": "the deeper, the lower"},
    **{"bn-faster": "", "vit-shape": ""},
}
FOLDER = pathlib.PurePath("results")


def filled(line, measured=(), facts=(), place="RESULTS.md"):
    kind = line.partition(":")[0].split()[-1 if ":" in line else 1]
    document = f"before\n{line}\nstale text\n<!-- /{kind} -->\nafter\n"
    found = Evidence(measured, facts, PACKAGES, SHOWS)
    text = pages.fill(document, found, pathlib.PurePath(place), FOLDER)
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "stale" not in text
    assert pages.fill(text, found, pathlib.PurePath(place), FOLDER) == text
    return text


def test_a_claim_in_full_has_its_verdict_rules_numbers_command_and_cost():
    text = filled("<!-- claims: lenet -->", [RESULT, SHORT], [FACT, WRONG])
    assert "### `lenet5-mnist-error`\nLeNet-5 reaches 0.95% (LeCun 1998, section III-B)\n\n**agrees**\n" in text
    assert "- LeNet-5 within 0.2 points of the paper's 0.95%: +0.01 [-0.09, +0.11] points, n = 3: agrees\n" in text
    assert "| mnist | paper | ours |\n|---|---|---|\n| LeNet-5 | 0.95% | 0.96% ± 0.04% (3 seeds) |\n" in text
    assert "`python -m common.reproduce --claims=lenet5-mnist-error`: 10 minutes of runs, 1 x cpu (AMD EPYC, 2" in text
    assert "resnet" not in text
    one = {**RESULT, "environment": {**RESULT["environment"], "cpu_cores": 1}}
    assert "1 x cpu (AMD EPYC, 1 core), jax" in filled("<!-- claims: lenet -->", [one])


def test_a_picture_stands_beside_what_the_paper_shows_and_a_short_schedule_is_named():
    text = filled("<!-- claims: resnet -->", [RESULT, SHORT], place="docs/page.md")
    assert "**same direction at a short schedule** (a tenth; small maps)" in text
    assert "![LeNet-5 reaches 0.95%](../results/resnet-depth.quick.png)\n\nThe paper's figure: the deeper, the" in text
    assert "--claims=resnet-depth --scale=quick`" in text
    named = Evidence([SHORT], [], PACKAGES, {**SHOWS, "resnet-depth": "Figure 6: the deeper, the lower"})
    document = "<!-- claims: resnet -->\n<!-- /claims -->\n"
    text = pages.fill(document, named, pathlib.PurePath("RESULTS.md"), FOLDER)
    assert "\nThe paper's Figure 6: the deeper, the lower\n" in text


def test_a_result_says_what_its_claim_has_asked_for_since(tmp_path):
    claim = all_claims()["lenet5-pooling-max"]
    quick = {**SHORT, "claim": claim.id, "seeds": list(range(claim.seeds - 1)), "short": "an older one"}
    for name, result in (("quick", quick), ("full", {**RESULT, "seeds": list(range(30))})):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    found = evidence.read_evidence(tmp_path)
    assert list(found.changes) == [(claim.id, "quick")]
    said = found.changes[claim.id, "quick"]
    assert said.startswith(
        f"These are {claim.seeds - 1} of the {claim.seeds} seeds that the claim asks for now. The claim now has an"
    )
    assert said.endswith(f"{claim.short}.")
    text = pages.fill("<!-- claims: lenet -->\n<!-- /claims -->\n", found, pathlib.PurePath("RESULTS.md"), FOLDER)
    assert text.count(f"\n{said}\n") == 1


def test_facts_are_one_table_and_name_the_numbers_that_do_not_agree():
    text = filled("<!-- claims: lenet resnet -->", [], [FACT, WRONG])
    assert "| C1: 156; total: 60,000 parameters | = | **agrees** |\n" in text
    assert "| 50: 3.8B; 152: 11.3B; over VGG: at most 0.99; gain: at least 0.05; more: 81% |" in text
    assert "| 50: 3,857,973,248; 152: 11,282,415,616; over VGG: 0.7293; gain: 0.3; more: 81.48% |" in text
    assert "| **does not agree** (50)<br>it cuts digits off |\n" in text


def test_a_family_has_a_table_without_rules():
    text = filled("<!-- results: resnet -->", [RESULT, SHORT], [FACT, WRONG], "resnet/README.md")
    assert "| `resnet-depth`, mnist | LeNet-5 | 0.95% | 0.96% ± 0.04% (3 seeds) | **same direction at a sho" in text
    assert "points" not in text
    assert "Exact facts: agree: 0, do not agree: 1 (`resnet-budget`). [RESULTS.md](../RESULTS.md)" in text
    assert "lenet5" not in text


def test_a_claim_selected_by_its_id_is_not_shown_again_with_its_package():
    batch = {**RESULT, "claim": "bn-faster"}
    found = Evidence([SHORT, batch], [], PACKAGES, SHOWS)
    document = "<!-- claims: bn- -->\n<!-- /claims -->\n|<!-- claims: resnet -->\n<!-- /claims -->\n"
    first, second = pages.fill(document, found, pathlib.PurePath("RESULTS.md"), FOLDER).split("|<!-- claims: resnet")
    assert "`bn-faster`" in first
    assert "`bn-faster`" not in second
    assert "`resnet-depth`" in second
    assert "`resnet-depth`" not in first


def test_a_summary_counts_everything_and_takes_turns_between_papers():
    text = filled("<!-- summary -->", [RESULT, ZIP, SHORT], [FACT, WRONG])
    assert (
        "5 claims (hold: 1, do not hold: 1, same direction at a short schedule: 1, without data or runs here: 2)"
        in text
    )
    assert "2 claims (agree: 1, do not agree: 1)" in text
    assert "- **same direction at a short schedule** (a tenth; small maps): LeNet-5 reaches 0.95%" in text
    shown = [line.split("`")[1] for line in text.splitlines() if line.startswith("- ")]
    assert shown == ["zip89-test-error", "resnet-depth", "lenet5-mnist-error"]
    assert len(text[text.index("-->\n") :].strip().splitlines()) < 14


@pytest.mark.parametrize(
    "change", [{"preliminary": True}, {"verdict": "undecided"}, {"verdict": "not decidable on this data"}]
)
def test_undecided_claims_are_not_among_the_strongest(change):
    found = Evidence([{**RESULT, **change}], [], PACKAGES, SHOWS)
    assert evidence.best_supported(found, 7) == []


def test_every_recorded_verdict_follows_from_its_numbers_and_the_rules_and_words_of_its_claim():
    for result in evidence.read_evidence(ROOT / "results").measured:
        bounds = {name: ours["at_least"] for name, ours in result["ours"].items()}
        again = results.of_values(
            all_claims()[result["claim"]], result["values"], bounds, result["dataset"], result["scale"]
        )
        assert (again["verdict"], again["p_value"]) == (result["verdict"], pytest.approx(result["p_value"], rel=0.03))
        assert [rule["rule"] for rule in again["rules"]] == [rule["rule"] for rule in result["rules"]]
        for name in ("where", "says", "setting", "unit", "paper"):
            assert again[name] == result[name], (result["claim"], name)


def test_one_weak_verdict_among_many_undecided_ones_does_not_stand():
    def result(name, p, verdict):
        return {**RESULT, "claim": name, "p_value": p, "verdict": verdict}

    weak, strong = result("weak", 0.03, "holds"), result("strong", 0.0001, "holds")
    others = [result(f"other{number}", 0.3, "undecided") for number in range(20)]
    assert evidence.doubtful_verdicts([weak, strong]) == frozenset()
    assert evidence.doubtful_verdicts([weak, strong, *others]) == {("weak", "paper")}
    assert evidence.doubtful_verdicts([{**weak, "preliminary": True}, strong, *others]) == frozenset()


def test_a_doubtful_verdict_says_so_and_is_not_among_the_strongest():
    found = Evidence([RESULT, ZIP], [], PACKAGES, SHOWS, doubtful={("zip89-test-error", "paper")})
    document = "<!-- claims: lenet -->\n<!-- /claims -->\n<!-- summary -->\n<!-- /summary -->\n"
    text = pages.fill(document, found, pathlib.PurePath("RESULTS.md"), FOLDER)
    first, second = text.split("### `zip89-test-error`")
    said = "Counted together with all other verdicts, this one does not stand.\n"
    assert said not in first
    assert said in second
    assert "Counted together, with at most 5% false ones expected, 1 of the 2 decided verdicts stand." in second
    assert evidence.best_supported(found, 7) == [RESULT]


def test_a_doubtful_verdict_says_so_wherever_it_stands_without_its_rules():
    found = Evidence([RESULT, ZIP], [], PACKAGES, SHOWS, doubtful={("zip89-test-error", "paper")})
    for kind, selection in (("results", "lenet"), ("verdicts", "lenet5-mnist-error zip89-test-error")):
        document = f"<!-- {kind}: {selection} -->\n<!-- /{kind} -->\n"
        text = pages.fill(document, found, pathlib.PurePath("lenet/README.md"), FOLDER)
        assert text.count("**worse** (does not stand if all verdicts are counted together)") == 1
        assert text.count("does not stand") == 1


@pytest.mark.parametrize(
    ("verdicts", "shown"),
    [
        (("holds", "does not hold", "undecided"), "-0.20 [-0.30, -0.10] points and 2 more"),
        (("holds", "holds", "undecided"), "-0.30 [-0.40, -0.20] points and 2 more"),
        (("holds", "holds", "holds"), "-0.10 [-0.20, +0.00] points and 2 more"),
    ],
)
def test_a_line_shows_the_rule_that_its_verdict_rests_on(verdicts, shown):
    rules = [
        {**RULE, "difference": -0.001 * n, "low": -0.001 * (n + 1), "high": -0.001 * (n - 1), "n": 3, "verdict": one}
        for n, one in enumerate(verdicts, 1)
    ]
    text = filled("<!-- verdicts: resnet-depth -->", [{**SHORT, "rules": rules}])
    assert f"(`resnet-depth`: {shown}, n = 3)" in text.replace("-0.00]", "+0.00]")


def test_a_full_result_counts_before_a_short_or_preliminary_one():
    early = {**ZIP, "claim": "lenet5-mnist-error", "preliminary": True}
    quick = {**SHORT, "claim": "lenet5-mnist-error"}
    assert evidence.count_verdicts(Evidence([early, quick, RESULT], [], PACKAGES, SHOWS))["hold"] == 1
    assert evidence.count_verdicts(Evidence([early], [], PACKAGES, SHOWS)) == {evidence.WAITING: len(SHOWS)}


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (("one", "one.quick", "one.preliminary", "one.quick.preliminary"), {"one"}),
        (("one.quick", "one.quick.preliminary", "two.quick"), {"one.quick", "two.quick"}),
        (("one.preliminary", "one.quick"), {"one.preliminary", "one.quick"}),
        (("lenet1-reject-0.5pct", "lenet1-reject-0.5pct.quick"), {"lenet1-reject-0.5pct"}),
    ],
)
def test_a_full_result_replaces_a_short_or_preliminary_one_on_the_pages(tmp_path, names, kept):
    for name in names:
        (tmp_path / f"{name}.json").write_text(json.dumps({"claim": name}))
    assert {result["claim"] for result in evidence.read_results(tmp_path, "claim")} == kept


def test_a_number_that_was_not_reached_is_called_a_bound_and_fractions_are_percentages():
    result = {**RESULT, "ours": {"LeNet-5": {"mean": 1.0, "std": None, "at_least": True}}}
    assert "| at least 100.00% (3 seeds) |" in filled("<!-- claims: lenet -->", [result])


def test_parameters_and_training_time_stand_beside_the_numbers():
    result = {**RESULT, "costs": {"LeNet-5": {"parameters": 60_000, "train_seconds": 600.0}}}
    text = filled("<!-- claims: lenet -->", [result])
    assert "| mnist | paper | ours | parameters | training time |\n|---|---|---|---|---|\n| LeNet-5 | 0.95% |" in text
    assert "(3 seeds) | 60,000 | 10 minutes |\n" in text
    result["costs"]["LeNet-5"]["train_core_seconds"] = 1200.0
    assert "(3 seeds) | 60,000 | 20 minutes of one core |\n" in filled("<!-- claims: lenet -->", [result])


def test_core_seconds_are_the_cost_where_they_are_counted():
    counted = {**RESULT, "run_core_seconds": 1800}
    assert "`: 10 minutes of runs, 1 x cpu" in filled("<!-- claims: lenet -->", [RESULT])
    assert "`: 30 minutes of one core, 1 x cpu" in filled("<!-- claims: lenet -->", [counted])
    assert "- Full schedules: 2 claims recorded, 40 minutes of runs.\n" in filled("<!-- costs -->", [RESULT, counted])


def test_the_time_of_all_recorded_runs_is_stated_for_each_scale():
    old = {name: value for name, value in RESULT.items() if name != "run_seconds"}
    text = filled("<!-- costs -->", [RESULT, old, {**SHORT, "run_seconds": 5400}])
    assert "- Short schedules (`--scale=quick`): 1 claim recorded, 1.5 hours of runs.\n" in text
    full = "2 claims recorded, 10 minutes of runs, without 1 claim whose cost was not recorded"
    assert f"- Full schedules: {full}.\n" in text


def test_a_result_that_no_package_declares_is_refused(tmp_path):
    (tmp_path / "gone.json").write_text('{"claim": "gone"}')
    with pytest.raises(UserError, match="no claim or fact is called 'gone'"):
        evidence.read_evidence(tmp_path)


def test_a_damaged_result_is_named(tmp_path):
    (tmp_path / "cut.json").write_text('{"claim": "mnist-svm", "val')
    with pytest.raises(UserError, match=f"{tmp_path}/cut.json is damaged"):
        evidence.read_evidence(tmp_path)


def test_the_documents_are_what_the_command_writes():
    for path, text in tables.render_documents(ROOT, pathlib.Path("results")).items():
        assert path.read_text() == text, f"{path}: run python -m common.tables"


def test_results_has_every_result_once():
    found, text = evidence.read_evidence(ROOT / "results"), (ROOT / "RESULTS.md").read_text()
    for result in found.measured:
        commands = [line for line in text.splitlines() if line.startswith("`python -m common.reproduce")]
        assert sum(
            f"--claims={result['claim']}`" in line or f"--claims={result['claim']} " in line for line in commands
        )
        assert text.count(f"### `{result['claim']}`\n") == sum(
            other["claim"] == result["claim"] for other in found.measured
        )
    for fact in found.facts:
        assert text.count(f"| `{fact['fact']}`: ") == 1


def test_every_benchmark_says_its_command_and_its_machine():
    measured = {
        "ours over torch": {"median": 1.45, "low": 1.39, "high": 1.49},
        "faults": {"median": 101, "low": 101, "high": 101},
        "images/s": {"median": 722_412.3, "low": 999.96, "high": 10_864.2},
    }
    speed = {**RESULT, "benchmark": "a race", "command": "python -m race", "measured": measured}
    text = tables.fill_benchmarks("<!-- benchmarks -->\nstale\n<!-- /benchmarks -->\n", [speed, speed], ROOT)
    assert text.count("### A race\n`python -m race` on 1 x cpu (AMD EPYC, 2 cores), jax 0.10.2") == 2
    assert "| ours over torch | 1.45 | 1.39 to 1.49 |\n| faults | 101 |  |\n" in text
    assert "| images/s | 722,400 | 1,000 to 10,860 |\n" in text
    assert "stale" not in text


def test_a_benchmark_of_two_processors_names_them_in_its_headings():
    measured = {"images/s": {"median": 10.0, "low": 9.0, "high": 11.0}}
    speed = {**RESULT, "benchmark": "a race", "command": "python -m race", "measured": measured}
    other = {**speed, "environment": {**RESULT["environment"], "cpu": "Xeon"}}
    alone = {**speed, "benchmark": "a loop"}
    text = tables.fill_benchmarks("<!-- benchmarks -->\n<!-- /benchmarks -->\n", [alone, speed, other], ROOT)
    headings = [line for line in text.splitlines() if line.startswith("###")]
    assert headings == ["### A loop", "### A race, AMD EPYC", "### A race, Xeon"]


def test_a_distance_stands_beside_its_limit():
    measured = {"vgg11: loss": {"median": 1.7e-5, "low": 1.7e-5, "high": 1.7e-5}}
    found = {**RESULT, "benchmark": "agreement", "command": "python -m agreement", "measured": measured}
    document = "<!-- benchmarks -->\n<!-- /benchmarks -->\n"
    text = tables.fill_benchmarks(document, [{**found, "limits": {"vgg11: loss": 0.01}}], ROOT)
    assert "| relative difference of | median | lowest to highest | limit |\n|---|---|---|---|\n" in text
    assert "| vgg11: loss | 1.7e-05 |  | 0.01 |\n" in text
