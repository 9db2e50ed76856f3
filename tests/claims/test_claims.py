"""Claims as data, and the tables made of their results."""

import dataclasses
import json
import pathlib

import pytest
from absl import flags
from PIL import Image

from common import reproduce, tables
from common.claims import claim as claims
from common.claims import curves, results
from common.claims.verdicts import Less
from tests.runs import ROOT, refused

RESULT = {
    "claim": "lenet5-mnist-error",
    "unit": "%",
    "scale": "paper",
    "dataset": "mnist",
    "paper": {"LeNet-5": 0.0095},
    "ours": {"LeNet-5": {"mean": 0.0096, "std": 0.0004}},
    "setting": "",
    "short": "",
    "preliminary": False,
    "rules": [
        {
            **{"rule": "LeNet-5 within 0.002 of the paper's 0.0095", "difference": 0.0001, "low": -0.0009},
            **{"high": 0.0011, "n": 3, "verdict": "agrees"},
        }
    ],
    "verdict": "agrees",
    "seeds": [0, 1, 2],
    "environment": {"devices": "1 x cpu", "cpu": "AMD EPYC", "cpu_cores": 2, "jax": "0.10.2", "flax": "0.12.8"},
    "date": "2026-01-01",
}


def test_every_claim_names_a_config_that_exists_and_papers_numbers_of_its_own_runs():
    known = claims.all_claims()
    assert "lenet5-mnist-error" in known
    for claim in known.values():
        assert set(claim.paper) <= set(claim.runs)
        for experiment in claim.runs.values():
            assert (ROOT / experiment.config.partition(":")[0]).is_file(), claim.id


def test_experiments_that_differ_have_folders_of_their_own():
    base = claims.Experiment("configs/lenet5_mnist.py")
    names = {
        base.name(),
        base.with_changes({"data.limit": 15000}).name(),
        base.with_changes({"train.length": "2 epochs"}).name(),
        claims.Experiment("configs/lenet5_folder.py:pictures").name(),
    }
    assert len(names) == 4
    assert all("/" not in name and " " not in name for name in names)
    assert base.with_changes({"data.limit": 15000}).flags() == [
        "--config=configs/lenet5_mnist.py",
        "--config.data.limit=15000",
    ]


def test_a_table_has_the_papers_number_ours_and_the_verdict():
    document = "before\n<!-- results: lenet5 -->\nstale text\n<!-- /results -->\nafter\n"
    filled = tables.fill(document, [RESULT, {**RESULT, "claim": "zip89-test-error"}])
    assert "| `lenet5-mnist-error`, mnist | LeNet-5 | 0.95% | 0.96% ± 0.04% (3 seeds) | **agrees**<br>" in filled
    assert "paper's 0.0095: +0.01 [-0.09, +0.11] points, n = 3: agrees |" in filled
    assert "zip89" not in filled
    assert "stale text" not in filled
    assert "Measured on 1 x cpu (AMD EPYC, 2 cores), jax 0.10.2, flax 0.12.8 (2026-01-01);" in filled
    assert filled.startswith("before\n")
    assert filled.endswith("after\n")
    assert tables.fill(filled, [RESULT]) == tables.fill(tables.fill(filled, [RESULT]), [RESULT])


def test_a_number_that_was_not_reached_is_called_a_bound():
    result = {**RESULT, "ours": {"LeNet-5": {"mean": 0.0096, "std": None, "at_least": True}}}
    assert "| at least 0.96% (3 seeds) |" in tables.fill("<!-- results: -->\n<!-- /results -->", [result])


def test_the_documents_are_what_the_command_writes():
    results = tables.load(ROOT / "results", "claim")
    speeds = tables.load(ROOT / "results", "benchmark")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*/README.md")]:
        text = path.read_text()
        seen = tables.path_from(path.relative_to(ROOT), pathlib.Path("results"))
        assert tables.fill_speeds(tables.fill(text, results, seen), speeds) == text, (
            f"{path}: run python -m common.tables"
        )


def test_every_benchmark_says_its_command_and_its_machine():
    measured = {
        "ours over torch": {"median": 1.45, "low": 1.39, "high": 1.49},
        "faults": {"median": 101, "low": 101, "high": 101},
    }
    speed = {**RESULT, "benchmark": "a race", "command": "python -m race", "measured": measured}
    filled = tables.fill_speeds("<!-- benchmarks -->\nstale\n<!-- /benchmarks -->\n", [speed, speed])
    assert filled.count("### A race\n`python -m race` on 1 x cpu (AMD EPYC, 2 cores), jax 0.10.2") == 2
    assert "| ours over torch | 1.45 | 1.39 to 1.49 |\n| faults | 101 |  |\n" in filled
    assert "stale" not in filled


def test_unknown_claims_get_the_nearest():
    line = refused("--claims=lenet5-mnist-eror", module="common.reproduce")
    assert "did you mean 'lenet5-mnist-error'" in line


def test_a_claim_is_measured_recorded_and_not_run_twice(tmp_path, monkeypatch):
    experiment = claims.Experiment(
        "configs/lenet5_folder.py", {"data.source": "digits", "train.length": "40 steps", "schedule.warmup": "0 steps"}
    )
    claim = claims.Claim(
        figure=curves.error_curves,
        id="digits-are-learnt",
        where="here",
        says="a few steps beat guessing",
        runs={"LeNet-5": experiment},
        measure=claims.final_test_error,
        rules=(Less("LeNet-5", 0.8),),
        seeds=2,
    )
    monkeypatch.setattr(reproduce, "all_claims", lambda: {claim.id: claim})
    monkeypatch.setattr(reproduce, "all_facts", dict)
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    for name, value in (("runs", str(tmp_path / "runs")), ("results", str(tmp_path / "results"))):
        monkeypatch.setattr(flags.FLAGS[name], "value", value)
    monkeypatch.chdir(ROOT)
    reproduce.main()
    result = json.loads((tmp_path / "results" / "digits-are-learnt.json").read_text())
    assert len(result["values"]["LeNet-5"]) == len(result["seeds"]) == 2
    assert result["verdict"] == result["rules"][0]["verdict"]
    assert not result["preliminary"]
    assert result["ours"]["LeNet-5"]["at_least"] is False
    assert result["dataset"] == "digits"
    width, height = Image.open(tmp_path / "results" / result["figure"]).size
    assert min(width, height) > 400
    assert "--config.seed=SEED" in result["commands"]["LeNet-5"]
    (folder,) = pathlib.Path(tmp_path / "runs").glob("*/seed0")
    assert not (folder / "checkpoints").exists()  # no measure reads them
    before = (folder / "summary.json").stat().st_mtime_ns
    monkeypatch.setattr(flags.FLAGS["seeds"], "value", 1)
    reproduce.main()
    assert (folder / "summary.json").stat().st_mtime_ns == before
    early = json.loads((tmp_path / "results" / "digits-are-learnt.preliminary.json").read_text())
    assert early["preliminary"]
    assert early["verdict"] == "undecided"  # one seed tells nothing of the spread
    assert json.loads((tmp_path / "results" / "digits-are-learnt.json").read_text()) == result
    assert tables.load(tmp_path / "results", "claim") == [result]


@pytest.mark.parametrize(
    ("scale", "errors", "expected"),
    [
        ("paper", [0.9, 0.89, 0.91], "holds"),
        ("paper", [0.1, 0.11, 0.12], "does not hold"),
        ("paper", [0.5, 0.6, 0.7], "undecided"),
        ("quick", [0.9, 0.89, 0.91], "same direction at a short schedule"),
        ("quick", [0.1, 0.11, 0.12], "opposite direction at a short schedule"),
        ("quick", [0.9], "undecided at a short schedule"),
    ],
)
def test_the_scale_is_part_of_the_verdict(scale, errors, expected):
    claim = dataclasses.replace(claims.all_claims()["resnet-plain110-fails"], quick={}, short="a tenth")
    result = results.of_values(claim, {"plain-110": errors}, {}, "cifar10", scale)
    assert result["verdict"] == expected
    assert result["preliminary"] == (len(errors) < claim.seeds)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_papers_number_is_not_compared_with_errors_on_other_data():
    claim = claims.all_claims()["resnet-cifar-20"]
    errors = {"ResNet-20": [0.087, 0.088, 0.0875]}
    assert results.of_values(claim, errors, {}, "cifar10-jpeg", "paper")["verdict"] == results.UNDECIDABLE
    assert results.of_values(claim, errors, {}, "cifar10", "paper")["verdict"] == "agrees"


@pytest.mark.parametrize("value", [0.0095, 1.0])
def test_fractions_print_as_percentages(value):
    result = {**RESULT, "ours": {"LeNet-5": {"mean": value, "std": None}}}
    assert f"| {100 * value:.2f}% (3 seeds) |" in tables.fill("<!-- results: -->\n<!-- /results -->", [result])
