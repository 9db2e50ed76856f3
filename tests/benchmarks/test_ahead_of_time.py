"""Updates compiled for TPUs on this machine: what they send and need, and the table that is made of them."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from benchmarks import ahead_of_time
from common.run import workdir
from tests.runs import ROOT, refused

PROGRAM = {
    "program": "resnet_imagenet_modern",
    "topology": "v5e:2x4",
    "chips": 8,
    "batch": 1024,
    "mesh": {"data": 1, "fsdp": 8},
    "memory": 5_060_000_000,
    "operations": 3.94e12,
    "sent": {"all-reduce": 2e6, "all-gather": 97e6, "collective-permute": 300},
    "expected_seconds": 0.1,
    "slowest": {"jit(updates)/conv1": 0.002},
    "compile_seconds": 153.4,
    "command": "python -m benchmarks.ahead_of_time --config=configs/resnet_imagenet_modern.py --topology=v5e:2x4 "
    "--config.train.batch_size=1024 --config.mesh.fsdp=8 --config.model.remat=True --candidate=sliced_pooling",
    "libtpu": "0.0.42",
    "date": "2026-11-28",
}
DIGITS = "--config=configs/lenet5_digits.py"
HAS_LIBTPU = importlib.util.find_spec("libtpu") is not None


def test_a_row_says_what_a_chip_needs_sends_and_is_expected_to_reach():
    row = dict(zip(ahead_of_time.HEADINGS, ahead_of_time.row(PROGRAM), strict=True))
    assert row["config"] == "resnet_imagenet_modern, remat=True, candidate=sliced_pooling"
    assert row["chips"] == "v5e:2x4, 8"
    assert row["mesh"] == "data 1 x fsdp 8"
    assert row["memory of a chip, GB"] == "5.06 of 16"
    assert row["a chip sends, MB"] == "all-gather 97, all-reduce 2"  # the largest first, none below half a megabyte
    assert row["of the peak"] == "20%"  # 39.4 of 197 TFLOP/s
    assert "2.00 ms  jit(updates)/conv1" in ahead_of_time.text(PROGRAM)


def test_the_table_of_the_page_is_that_of_the_recorded_programs():
    page = (ROOT / ahead_of_time.PAGE).read_text()
    _, _, rest = page.partition(f"{ahead_of_time.BEGIN}\n")
    assert rest.startswith(ahead_of_time.table(ROOT / ahead_of_time.RESULTS) + ahead_of_time.END)


def test_an_empty_folder_has_no_table(tmp_path):
    assert ahead_of_time.table(tmp_path) == "No program is recorded yet.\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([DIGITS, "--topology=v7:2x4"], "unknown TPU 'v7'"),
        ([DIGITS, "--candidate=windowed_poling"], "did you mean 'windowed_pooling'"),
        ([], "--config is missing"),
    ],
)
def test_mistakes_are_answered_in_one_line(flags, said):
    assert said in refused(*flags, module="benchmarks.ahead_of_time")


@pytest.mark.skipif(HAS_LIBTPU, reason="libtpu is installed")
def test_without_the_compiler_the_package_is_named():
    assert "pip install -e '.[tpu]'" in refused(DIGITS, module="benchmarks.ahead_of_time")


def compiled(folder, *flags):
    """The finished process that compiles the update of a small network on the digits."""
    model = ("--config=configs/resnet_digits.py", "--config.model.dtype=bfloat16", "--config.mesh.devices=0")
    command = [sys.executable, "-m", "benchmarks.ahead_of_time", *model, f"--out={folder}", *flags]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow  # a compiler of 700 MB that few have installed
@pytest.mark.skipif(not HAS_LIBTPU, reason="needs libtpu: pip install -e '.[tpu]'")
def test_four_chips_sum_gradients_in_the_type_of_the_computation(tmp_path):
    done = compiled(tmp_path, "--topology=v5e:2x2", "--config.train.batch_size=64")
    assert done.returncode == 0, done.stderr
    [program] = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert program["chips"] == 4
    assert workdir.version("libtpu") == program["libtpu"]
    parameters = program["state"] / 8  # SGD with momentum: two numbers of four bytes for each
    # A ring of four sends 2 x 3/4 of each array: two bytes for each gradient, and the statistics of the batch.
    assert 2 * 3 / 4 * 2 * parameters == pytest.approx(program["sent"]["all-reduce"], rel=0.15)
    assert program["memory"] > program["state"]
    assert 0 < program["expected_seconds"] < 1


@pytest.mark.slow
@pytest.mark.skipif(not HAS_LIBTPU, reason="needs libtpu: pip install -e '.[tpu]'")
def test_an_update_that_does_not_fit_is_refused(tmp_path):
    done = compiled(tmp_path, "--topology=v5e:2x2", f"--config.train.batch_size={2**18}")
    assert done.returncode == 2, done.stderr
    assert "the update does not fit: " in done.stderr
    assert "15.75G" in done.stderr  # of a chip's 16 GB
    assert not list(tmp_path.iterdir())
