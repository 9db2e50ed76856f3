"""Claims as data, their runs and their results."""

import dataclasses
import json
import pathlib
import types

import pytest
from PIL import Image

from common import reproduce
from common.claims import claim as claims
from common.claims import curves, evidence, results
from common.claims.verdicts import Close, Less, decreasing
from common.errors import UserError
from tests.runs import ROOT, refused


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


def test_a_claim_does_not_compare_a_run_with_itself():
    base = claims.Experiment("configs/lenet5_mnist.py")
    pair = {part: base.with_changes({f"{part}.batch_size": 64}) for part in ("train", "evaluate")}
    with pytest.raises(ValueError, match="sizes: two of its runs would be one folder"):
        claims.Claim(
            id="sizes",
            where="here",
            says="sizes",
            runs=pair,
            measure=claims.final_test_error,
            rules=(Less(0.0, "train"),),
        )


def test_unknown_claims_get_the_nearest():
    line = refused("--claims=lenet5-mnist-eror", module="common.reproduce")
    assert "did you mean 'lenet5-mnist-error'" in line


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("folder:PATH", "would replace cifar10, mnist; name the one that it is, such as --source=cifar10=folder:PATH"),
        ("cifar=folder:PATH", "unknown dataset 'cifar'; did you mean 'cifar10'?"),
        ("cifar10=folder:/nowhere", "/nowhere"),
        ("cifar10=", "--source=cifar10= is empty; expected a source, such as --source=folder:PATH"),
    ],
)
def test_a_source_stands_for_one_dataset(source, said):
    names = "--claims=alexnet-dropout,lenet5-pooling-max"
    assert said in refused(names, "--scale=quick", f"--source={source}", module="common.reproduce")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--claims=", "--claims is empty; expected ids, such as --claims=lenet5-parameters"),
        ("--results={file}", "cannot write {file}/claim.json: Not a directory"),
    ],
)
def test_mistakes_are_named_before_anything_is_computed(tmp_path, given, said):
    file = tmp_path / "file"
    file.touch()
    assert said.format(file=file) in refused(
        "--claims=lenet5-parameters", given.format(file=file), module="common.reproduce"
    )


def test_a_dataset_has_one_source():
    sources = ["--source=cifar10=folder:a", "--source=cifar10=folder:b"]
    line = refused("--claims=alexnet-dropout", "--scale=quick", *sources, module="common.reproduce")
    assert "--source=cifar10=folder:b and --source=cifar10=folder:a are for the same images" in line


def test_a_source_is_given_to_the_runs_of_its_dataset_only(monkeypatch, given_flags):
    given_flags(source=["cifar10=folder:a=b"], data_dir="DIR")
    monkeypatch.chdir(ROOT)
    known = claims.all_claims()
    coloured, grey = (next(iter(known[name].runs.values())) for name in ("alexnet-dropout", "lenet5-pooling-max"))
    assert "--config.data.source=folder:a=b" in reproduce.flags_of_run(coloured, 0)
    assert not any(flag.startswith("--config.data.source") for flag in reproduce.flags_of_run(grey, 0))


def test_a_claim_is_measured_recorded_and_not_run_twice(tmp_path, monkeypatch, capsys, given_flags):
    experiment = claims.Experiment("tests/small_run.py", {"train.length": "20 steps"})
    claim = claims.Claim(
        figure=curves.error_curves,
        id="digits-are-learnt",
        where="here",
        says="a few steps beat guessing",
        runs={"two layers": experiment},
        measure=claims.final_test_error,
        rules=(Less("two layers", 0.8),),
        seeds=2,
        costs=True,
    )
    monkeypatch.setattr(reproduce, "all_claims", lambda: {claim.id: claim})
    monkeypatch.setattr(reproduce, "all_facts", dict)
    # One run after the other: the second finds what the first has compiled.
    given_flags(runs=str(tmp_path / "runs"), results=str(tmp_path / "results"), jobs="1")
    monkeypatch.chdir(ROOT)
    reproduce.main()
    result = json.loads((tmp_path / "results" / "digits-are-learnt.json").read_text())
    assert len(result["values"]["two layers"]) == len(result["seeds"]) == 2
    assert result["verdict"] == result["rules"][0]["verdict"]
    assert not result["preliminary"]
    assert result["ours"]["two layers"]["at_least"] is False
    assert result["dataset"] == "digits"
    costs = result["costs"]["two layers"]
    assert costs["parameters"] == 610
    assert 0 < costs["train_seconds"] < result["run_seconds"]
    assert 0 < costs["train_core_seconds"] < result["run_core_seconds"]
    width, height = Image.open(tmp_path / "results" / result["figure"]).size
    assert min(width, height) > 400
    [axes] = curves.error_curves({"two layers": list((tmp_path / "runs").glob("*/seed*"))}).axes
    [tested] = [line for line in axes.lines if line.get_label() == "two layers"]
    assert (len(tested.get_xdata()), tested.get_marker()) == (1, "o")  # tested once, and seen
    found = {"two layers": list((tmp_path / "runs").glob("*/seed*"))}
    [aimed] = curves.error_curves(found, in_epochs=True, target=0.25).axes
    assert aimed.get_xlabel() == "epochs"
    assert [25, 25] in [list(line.get_ydata()) for line in aimed.lines if line.get_label() == "25%"]
    assert "--config.seed=SEED" in result["commands"]["two layers"]
    (folder,) = pathlib.Path(tmp_path / "runs").glob("*/seed0")
    assert not (folder / "checkpoints").exists()  # no measure reads them
    before = (folder / "summary.json").stat().st_mtime_ns
    given_flags(seeds=1)
    assert "2 runs, 0 finished; no recorded result tells how long the 2 runs left" in capsys.readouterr().out
    reproduce.main()
    assert capsys.readouterr().out.startswith("1 run, 1 finished\n")
    assert (folder / "summary.json").stat().st_mtime_ns == before
    early = json.loads((tmp_path / "results" / "digits-are-learnt.preliminary.json").read_text())
    assert early["preliminary"]
    assert early["verdict"] == "undecided"  # one seed tells nothing of the spread
    assert json.loads((tmp_path / "results" / "digits-are-learnt.json").read_text()) == result
    assert evidence.read_results(tmp_path / "results", "claim") == [result]
    short = dataclasses.replace(claim, quick={}, short="a tenth", quick_measure=lambda folder: 0.25)
    folders = {"two layers": sorted((tmp_path / "runs").glob("*/seed*"))}
    assert results.of_runs(short, folders, "quick")["values"] == {"two layers": [0.25, 0.25]}
    assert results.of_runs(short, folders, "paper")["values"] == result["values"]

    def unreadable(folder):
        raise UserError(f"{folder} has no such number")

    broken = dataclasses.replace(claim, id="broken", measure=unreadable)
    monkeypatch.setattr(reproduce, "all_claims", lambda: {broken.id: broken, claim.id: claim})
    (tmp_path / "results" / "digits-are-learnt.preliminary.json").unlink()
    with pytest.raises(UserError, match=f"1 claim could not be measured: broken: {folder} has no such number"):
        reproduce.main()
    assert (tmp_path / "results" / "digits-are-learnt.preliminary.json").exists()
    stored = folder / "config.json"
    stored.write_text(stored.read_text().replace('"batch_size": 8', '"batch_size": 16', 1))
    with pytest.raises(UserError, match=r"config.train.batch_size is 16 there and 8 now"):
        reproduce.main()


@pytest.mark.parametrize(
    ("scale", "errors", "expected"),
    [
        ("paper", [0.9, 0.89, 0.91], "holds"),
        ("paper", [0.1, 0.11, 0.12], "does not hold"),
        ("paper", [0.5, 0.6, 0.7], "undecided"),
        ("quick", [0.9, 0.89, 0.91], "holds at a short schedule"),
        ("quick", [0.1, 0.11, 0.12], "does not hold at a short schedule"),
        ("quick", [0.9], "undecided at a short schedule"),
    ],
)
def test_the_scale_is_part_of_the_verdict(scale, errors, expected):
    claim = dataclasses.replace(claims.all_claims()["resnet-plain110-fails"], quick={}, short="a tenth")
    result = results.of_values(claim, {"plain-110": errors}, {}, "cifar10", scale)
    assert result["verdict"] == expected
    assert result["preliminary"] == (len(errors) < claim.seeds)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ([0.9, 0.91, 0.92], "opposite direction at a short schedule"),
        ([0.3, 0.5, 0.7], "opposite direction in part at a short schedule"),
        ([0.1, 0.11, 0.12], "opposite direction in part at a short schedule"),
    ],
)
def test_a_claim_of_several_rules_may_point_the_other_way_in_part(last, expected):
    claim = dataclasses.replace(
        claims.all_claims()["resnet-plain110-fails"], quick={}, short="a tenth", rules=decreasing("c", "b", "a")
    )
    numbers = {"a": last, "b": [0.5, 0.51, 0.52], "c": [0.3, 0.31, 0.32]}
    assert results.of_values(claim, numbers, {}, "cifar10", "quick")["verdict"] == expected
    assert results.of_values(claim, numbers, {}, "cifar10", "paper")["verdict"] == "does not hold"


@pytest.mark.parametrize(
    ("rules", "second", "expected"),
    [
        ([Less("a", "b")], [0.3, 0.31, 0.32], "same direction"),
        ([Less("a", "b")], [0.1, 0.11, 0.12], "opposite direction"),
        ([Less("a", "b", factor=3)], [0.9, 0.91, 0.92], "same direction"),
        ([Less("a", "b", factor=3)], [0.3, 0.31, 0.32], "does not hold"),  # b is higher, but not three times as high
        ([Less("a", "b", factor=3)], [0.1, 0.11, 0.12], "opposite direction"),
        ([Less(0.0, "b")], [0.1, 0.11, 0.12], "same direction"),  # of a gain
        ([Less(0.0, "b")], [-0.1, -0.11, -0.12], "opposite direction"),
        ([Less("b", 0.75)], [0.8, 0.81, 0.82], "does not hold"),
        ([Less("b", 0.75)], [0.7, 0.71, 0.72], "holds"),
        ([Close("a", "b", 0.01)], [0.1, 0.11, 0.12], "does not hold"),
        ([Close("a", "b", 0.01)], [0.2, 0.21, 0.221], "holds"),
        ([Less("a", "b"), Close("a", "b", 0.01)], [0.3, 0.31, 0.32], "does not hold"),
        ([Less("a", "b"), Less("b", 0.05)], [0.1, 0.11, 0.12], "opposite direction in part"),
    ],
)
def test_only_a_rule_on_which_number_is_lower_has_a_direction(rules, second, expected):
    short = {"rules": tuple(rules), "quick": {}, "short": "a tenth"}
    claim = dataclasses.replace(claims.all_claims()["resnet-plain110-fails"], **short)
    result = results.of_values(claim, {"a": [0.2, 0.21, 0.22], "b": second}, {}, "cifar10", "quick")
    assert result["verdict"] == f"{expected} at a short schedule"
    assert evidence.count_verdicts(evidence.Evidence([result], [], {}, {claim.id: ""})).keys() != {evidence.WAITING}


def test_the_papers_number_needs_the_papers_schedule():
    claim = claims.all_claims()["lenet5-mnist-error"]
    with pytest.raises(ValueError, match="a short schedule cannot show that our number is the paper's"):
        dataclasses.replace(claim, quick={}, short="a tenth")


def test_a_number_of_an_ensemble_is_read_off_several_runs(monkeypatch):
    summaries = {"images_per_second": 1.0, "peak_memory_bytes": 1, "seconds": {"train": 2.0}, "environment": {}}
    monkeypatch.setattr(results.summary, "read", lambda folder: summaries)
    monkeypatch.setattr(results.workdir, "load_info", lambda folder: types.SimpleNamespace(name="digits"))

    def total(folders):
        return float(sum(int(folder.name) for folder in folders))

    claim = claims.Claim(
        id="sums", where="here", says="sums", runs={}, measure=total, rules=(Less(0.0, "sum"),), seeds=3, members=2
    )
    result = results.of_runs(claim, {"sum": [pathlib.Path(str(number)) for number in range(1, 7)]}, "paper")
    assert result["values"] == {"sum": [3, 7, 11]}
    assert result["seeds"] == [0, 1, 2]
    assert result["run_seconds"] == 12
    assert not result["preliminary"]


def test_a_papers_number_is_not_compared_with_errors_on_other_data():
    claim = claims.all_claims()["resnet-cifar-20"]
    errors = {"ResNet-20": [0.087, 0.088, 0.0875]}
    other = results.of_values(claim, errors, {}, "cifar10-jpeg", "paper")
    assert other["verdict"] == results.UNDECIDABLE
    [line] = results.rule_lines(other)
    assert line.endswith("points, n = 3")  # no rule says "worse" either
    same = results.of_values(claim, errors, {}, "cifar10", "paper")
    assert same["verdict"] == "agrees"
    assert results.rule_lines(same)[0].endswith("n = 3: agrees")
    named = dataclasses.replace(claims.all_claims()["resnet-plain110-fails"], data="cifar10")  # a bound of the paper's
    assert results.of_values(named, {"plain-110": [0.8, 0.81, 0.8]}, {}, "cifar10-jpeg", "paper")["verdict"] == (
        results.UNDECIDABLE
    )


@pytest.mark.slow
def test_runs_that_do_not_depend_on_their_seed_are_made_once(tmp_path, monkeypatch, given_flags):
    """--seeds counts no run twice that would give the same number again."""
    fitted = claims.Claim(
        id="fitted",
        where="here",
        says="counts its runs",
        runs={"A": claims.Experiment("configs/lenet5_digits.py")},
        measure=claims.final_test_error,
        rules=(Less("A", 0.8),),
        seeds=1,
    )
    again = dataclasses.replace(fitted, id="again", random=False)
    made: list[int] = []
    monkeypatch.setattr(reproduce, "all_facts", dict)
    monkeypatch.setattr(reproduce.runner, "run_all", lambda jobs, *_: made.append(len(jobs)) or [])
    given_flags(runs=str(tmp_path), results=str(tmp_path), seeds=3, scale="paper", source=[], claims=[])
    for claim in (fitted, again):
        monkeypatch.setattr(reproduce, "all_claims", lambda claim=claim: {claim.id: claim})
        reproduce.main()
    assert made == [3, 1]


def test_the_runs_that_others_start_from_are_in_the_time_left(tmp_path, monkeypatch, capsys, given_flags):
    first = claims.Experiment("configs/lenet5_digits.py", {"model.pooling": "max"})
    claim = claims.Claim(
        id="started",
        where="here",
        says="goes on",
        runs={"A": claims.Experiment("configs/lenet5_digits.py", start=first)},
        measure=claims.final_test_error,
        rules=(Less("A", 0.8),),
        seeds=2,
    )
    (tmp_path / "started.json").write_text(json.dumps({"values": {"A": [0.1]}, "run_seconds": 120}))
    monkeypatch.setattr(reproduce, "all_claims", lambda: {claim.id: claim})
    monkeypatch.setattr(reproduce, "all_facts", dict)
    monkeypatch.setattr(reproduce.runner, "run_all", lambda *_: [])
    given_flags(runs=str(tmp_path), results=str(tmp_path), jobs="1", scale="paper", source=[], claims=[])
    monkeypatch.chdir(ROOT)
    reproduce.main()
    assert "4 runs, 0 finished; one after the other, those left take about 8 minutes" in capsys.readouterr().out
