"""The list of claims, and the checks before their runs."""

import json
import signal
from contextlib import nullcontext

import pytest

from common import reproduce
from common.claims import preflight, run_costs
from common.claims.claim import Experiment, all_claims
from common.claims.fact import all_facts
from common.errors import UserError
from tests.runs import run, start


@pytest.fixture
def results(tmp_path, given_flags):
    """A folder of results with a full one at the short schedule, a preliminary one at the paper's, and a fact."""
    values = {"plain-20": [0.1, 0.2, 0.3], "plain-56": [0.1, 0.2, 0.3]}
    for name, seeds, verdict in (
        ("resnet-plain56-worse-than-plain20.quick", [0, 1, 2], "same direction at a short schedule"),
        ("resnet-plain56-worse-than-plain20.preliminary", [0], "undecided"),
    ):
        preliminary = name.endswith("preliminary")
        result = {"verdict": verdict, "seeds": seeds, "preliminary": preliminary, "run_seconds": 600, "values": values}
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "zip89-parameters.json").write_text(json.dumps({"verdict": "agrees"}))
    given_flags(results=str(tmp_path))
    return tmp_path


def test_the_list_shows_seeds_data_costs_and_what_is_preliminary(results, monkeypatch, capsys, given_flags):
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # this process keeps its own way
    given_flags(list=True, claims=["resnet-plain56-worse-than-plain20", "zip89-parameters", "mnist-svm"])
    reproduce.main()
    fact, measured, svm = capsys.readouterr().out.splitlines()
    assert fact.split()[:2] == ["zip89-parameters", "exact"]
    assert fact.endswith("[agrees]")
    assert measured.split()[:4] == ["resnet-plain56-worse-than-plain20", "3", "seeds", "cifar10"]
    assert measured.endswith(
        "[preliminary (1 seed): undecided, 10 minutes of runs; same direction at a short schedule, 10 minutes of runs]"
    )
    assert svm.split()[1:4] == ["not", "random", "mnist"]
    assert svm.endswith("[not recorded]")


@pytest.mark.slow  # a process for the end of a pipe
def test_the_list_ends_silently_when_its_reader_closes_the_pipe():
    process = start("--list", module="common.reproduce")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == -signal.SIGPIPE


def test_the_cost_of_a_run_is_that_of_recorded_ones(results):
    claim = all_claims()["resnet-plain56-worse-than-plain20"]
    assert run_costs.mean_run_seconds(results, claim, "quick") == 100
    assert run_costs.mean_run_seconds(results, all_claims()["mnist-svm"], "quick") is None


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        ((12, 0, 0, 0), "12 runs, 12 finished"),
        ((1, 0, 0, 0), "1 run, 1 finished"),
        ((12, 9, 5400, 0), "12 runs, 3 finished; one after the other, those left take about 1.5 hours"),
        (
            (12, 9, 60, 2),
            "12 runs, 3 finished; one after the other, those left take about 60 seconds; 2 claims without a recorded "
            "cost",
        ),
        ((12, 12, 0, 3), "12 runs, 0 finished; no recorded result tells how long the 12 runs left will take"),
    ],
)
def test_the_line_before_the_runs(numbers, line):
    assert run_costs.describe_runs(*numbers) == line


def test_a_dataset_that_is_not_prepared_is_noticed_before_anything_runs(tmp_path):
    claims = "lenet5-parameters,lenet5-mnist-error,zip89-test-error,lenet5-trainset-size"
    folders = f"--data_dir={tmp_path}", f"--runs={tmp_path}/runs", f"--results={tmp_path}/results"
    code, output, errors = run(f"--claims={claims}", *folders, module="common.reproduce")
    assert code == 2
    assert output == ""
    [line] = errors.strip().splitlines()
    for name in ("mnist", "usps"):
        assert line.count(f"run `python -m common.prepare --dataset={name} --data_dir={tmp_path}`") == 1
    assert not list(tmp_path.iterdir())


def test_facts_are_computed_with_the_claims_command(tmp_path, monkeypatch, capsys, given_flags):
    made = {name: all_facts()[name] for name in ("lenet5-parameters", "macs-per-digit")}
    monkeypatch.setattr(reproduce, "all_facts", lambda: made)
    monkeypatch.setattr(reproduce, "all_claims", dict)
    given_flags(results=str(tmp_path), scale="quick", claims=[])
    reproduce.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "lenet5-parameters: agrees",
        "macs-per-digit: does not agree: LeNet-1 94592 for 100K, LeNet-5 332824 for 401K",
    ]
    result = json.loads((tmp_path / "facts" / "lenet5-parameters.json").read_text())
    assert result["numbers"]["C3"] == {"expected": 1516, "computed": 1516, "agrees": True}


def test_a_tilde_is_the_users_home(tmp_path, monkeypatch, given_flags):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    given_flags(results="~/found", runs="~/made", scale="paper", claims=["lenet5-c3-table"])
    reproduce.main()
    assert (tmp_path / "found" / "facts" / "lenet5-c3-table.json").exists()
    started = next(run for claim in all_claims().values() for run in claim.runs.values() if run.start)
    [start] = [flag for flag in reproduce.flags_of_run(started, 0) if "init.checkpoint" in flag]
    assert start.startswith(f"--config.init.checkpoint={tmp_path}/made/")


@pytest.mark.parametrize("kind", ["folder", "parquet", "webdataset", "tfds"])
def test_a_results_command_names_no_place_on_this_machine(kind, given_flags):
    experiment = next(iter(all_claims()["resnet-layer-response-std"].runs.values()))
    given_flags(source=[f"{kind}:/home/me/images"])
    shown = "/home/me/images" if kind == "tfds" else "PATH"  # a name of TFDS is the same everywhere
    assert f"--config.data.source={kind}:{shown} " in reproduce.repeating_command(experiment)


@pytest.mark.parametrize(("platform", "jobs", "slots"), [("cpu", "auto", 0), ("gpu", "auto", 1), ("gpu", "3", 3)])
def test_an_accelerator_has_one_run_at_a_time_unless_jobs_says_more(
    platform, jobs, slots, tmp_path, monkeypatch, given_flags
):
    claim = all_claims()["resnet-layer-response-std"]  # whose runs take one core each on a CPU
    monkeypatch.setattr(reproduce, "all_claims", lambda: {claim.id: claim})
    monkeypatch.setattr(reproduce, "all_facts", dict)
    monkeypatch.setattr(reproduce.preflight, "check_data", list)
    monkeypatch.setattr(reproduce.runner, "platform_of_runs", lambda: platform)
    asked = []
    monkeypatch.setattr(reproduce.runner, "run_all", lambda jobs, slots, done: asked.append(slots))
    given_flags(results=str(tmp_path), runs=str(tmp_path), scale="quick", jobs=jobs)
    reproduce.main()
    assert asked == [slots]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("schedule.learning_rate", 0.5, "config.schedule.learning_rate is 0.5 there and 0.01 now"),
        ("train.log_every", "2 epochs", "config.train.log_every is '2 epochs' there and '1 epoch' now"),
        ("data.source", "folder:mine", "config.data.source is 'folder:mine' there and 'tfds:cifar10' now"),
        ("data.directory", "elsewhere", ""),
        ("mesh.devices", 7, ""),
    ],
)
def test_a_run_of_another_config_is_not_taken_for_a_claims(tmp_path, monkeypatch, option, value, said):
    monkeypatch.chdir(tmp_path)  # configs are found from any folder
    config = preflight.make_config(Experiment("configs/resnet_cifar10.py:resnet20"), {})
    found = config.copy_and_resolve_references()
    found.update_from_flattened_dict({option: value})
    (tmp_path / "config.json").write_text(found.to_json())
    preflight.check_run(tmp_path, config)  # not begun: it may become another run's
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(UserError, match=f"{tmp_path} holds another run: {said}") if said else nullcontext():
        preflight.check_run(tmp_path, config)


def test_a_run_of_an_earlier_version_is_taken_although_it_lacks_an_option(tmp_path):
    config = preflight.make_config(Experiment("configs/resnet_cifar10.py:resnet20"), {})
    found = json.loads(config.to_json())
    del found["train"]["class_weights"]
    (tmp_path / "config.json").write_text(json.dumps(found))
    (tmp_path / "summary.json").write_text("{}")
    preflight.check_run(tmp_path, config)
