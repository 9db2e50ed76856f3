"""Results of benchmarks, which say how they were made."""

import json
import sys

import pytest
from absl import flags

from benchmarks import measure
from common import train
from common.errors import UserError
from common.processes.preemption import Preempted
from common.run import workdir
from tests.runs import refused


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        (["--config=configs/lenet5_mnist.py", "--steps=20000"], "--config=configs/lenet5_mnist.py --steps=20000"),
        (["--config.data.directory=/home/me/data", "--rounds=3"], "--config.data.directory=DIR --rounds=3"),
        (["--config", "configs/a.py", "--out", "/home/me/results", "--train"], "--config configs/a.py --train"),
        (["--config.data.source=folder:/home/me/cifar", "--minutes=3"], "--config.data.source=folder:DIR"),
    ],
)
def test_a_result_has_the_command_that_made_it_and_no_folder_of_the_machine(given, recorded, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "-m", "benchmarks.loop", *given])
    measure.record(tmp_path / "loop.json", "loop", {"speed": measure.spread([1.0, 2.0])})
    result = json.loads((tmp_path / "loop.json").read_text())
    assert result["command"] == f"python -m benchmarks.loop {recorded}"
    assert {"commit", "uncommitted_changes", "environment", "date"} <= set(result)


@pytest.mark.parametrize(
    ("devices", "cpu", "name"),
    [
        ("1 x cpu", "Intel(R) Xeon(R) Processor @ 2.20GHz", "cpu_Intel_Xeon_Processor_2_20GHz"),
        ("8 x cpu", "AMD EPYC (AVX2)", "cpu_AMD_EPYC_AVX2"),
        ("1 x NVIDIA H200", "AMD EPYC", "NVIDIA_H200"),
    ],
)
def test_results_of_two_processors_have_two_files(devices, cpu, name, monkeypatch):
    monkeypatch.setattr(workdir, "environment", lambda: {"devices": devices, "cpu": cpu})
    assert measure.device_name() == name


@pytest.mark.parametrize("wrong", ["two", "0", "-1", "1.5", ""])
def test_a_flag_that_lists_numbers_takes_nothing_else(wrong):
    assert measure.whole_numbers("sizes", ["2", "16"]) == [2, 16]
    with pytest.raises(UserError, match=f"--sizes has '{wrong}'; expected whole numbers"):
        measure.whole_numbers("sizes", ["2", wrong])


@pytest.mark.parametrize(
    ("module", "mistake", "said"),
    [
        ("survival.faults", "--processes=1,two", "--processes has 'two'"),
        ("survival.processes", "--sizes=0", "--sizes has '0'"),
        ("survival.processes", "--sizes=", "--sizes is empty; expected whole numbers"),
        ("loop", "--steps=2", "--config is missing"),
        ("loop", "--config=configs/lenet5_digits.py --config.optimizer.name=adm", "unknown optimizer 'adm'"),
        ("ahead_of_time", "--config=configs/vgg_digits.py --config.schedule.name=cos", "unknown schedule 'cos'"),
        ("depth", "--out=/dev/null/depth.json", "cannot write /dev/null/depth.json: Not a directory"),
        ("depth", "--out=results", "cannot write results: it is a folder"),
        ("startup", "--out=README.md", "cannot write README.md/result.json: Not a directory"),
        ("survival.faults", "--folder=/dev/null/runs", "cannot write /dev/null/runs/result.json: Not a directory"),
        ("roofline", "--out=nowhere.md", "--out is 'nowhere.md', which has no line '<!-- roofline: -->'"),
        ("roofline", "--out=/dev/null/page.md", "cannot write /dev/null/page.md: Not a directory"),
        ("scaling", "--out=docs", "cannot write docs: it is a folder"),
        ("scaling", "--out=README.md", "--out is 'README.md', which has no line '<!-- scaling: -->'"),
        ("inputs", "--batch_size=300 --images=200 --peers=torch", "--batch_size=300 is more than --images=200"),
    ],
)
def test_a_mistake_is_refused_in_one_line_before_anything_runs(module, mistake, said):
    if "--peers=torch" in mistake:
        pytest.importorskip("torchvision")
    assert said in refused(*mistake.split(), module=f"benchmarks.{module}")


def test_a_place_for_results_may_begin_with_the_users_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    values = flags.FlagValues()
    measure.define_place("out", "results", "folder of the results", values)
    values(["benchmark", "--out=~/results"])
    assert values.out == f"{tmp_path}/results"
    with pytest.raises(flags.IllegalFlagValueError, match="cannot write"):
        values(["benchmark", "--out=/dev/null/results"])


def test_a_list_of_no_numbers_is_refused():
    with pytest.raises(UserError, match="--sizes is empty; expected whole numbers"):
        measure.whole_numbers("sizes", [])


def test_a_request_to_stop_a_run_stops_the_benchmark(monkeypatch, tmp_path):
    # `except Exception`, with which benchmarks count failures, must not take it for one.
    def asked_to_stop(config, folder):
        raise Preempted(3)

    monkeypatch.setattr(train, "fit", asked_to_stop)
    with pytest.raises(KeyboardInterrupt):
        measure.fit(None, tmp_path)
