"""Tests that the real tools answer a user's mistake with one line and exit code 2."""

import json
import math
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from common import config_checks, train
from common.errors import UserError
from common.launch import EXIT_INTERRUPTED, EXIT_UNREAD
from common.run.checkpoints import Checkpoints
from common.training.state import TrainState
from configs import googlenet_digits, lenet5_digits, resnet_digits, vgg_digits, vit_digits
from tests import small_run
from tests.runs import DIGITS, ROOT, environment, refusal, refused, run, start
from tests.slow import rest_slow

SHORT = ("--config.train.length=60steps", "--config.checkpoint.every=20steps", "--config.train.log_every=20steps")


CONFIG_FILES = {
    "def get_config(:": "config.py, line 1: invalid syntax",
    "def get_config():\n    return 1 / 0": "config.py, line 2: ZeroDivisionError: division by zero",
    "def get_config():\n    return int('x')": "config.py, line 2: ValueError: invalid literal",
    "import nothing_there": "config.py, line 1: ModuleNotFoundError: No module named 'nothing_there'",
    "": "no function get_config()",
    "def get_config():\n    pass": "get_config() does not return a ConfigDict",
    "from configs.lenet5_digits import get_config as start\ndef get_config():\n    start().train.lenght = ''": (
        "config.py, line 3: unknown option 'lenght'; did you mean 'length'?"
    ),
    "from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({'seed': 1})": (
        "a config file starts from common.config.base()"
    ),
}


@pytest.mark.parametrize("text", CONFIG_FILES)
def test_a_config_file_that_does_not_work_is_refused(text, tmp_path):
    (tmp_path / "config.py").write_text(text)
    assert CONFIG_FILES[text] in refused(f"--config={tmp_path / 'config.py'}")


TOOLS = {
    "main": "--config is missing; for example --config=configs/lenet5_digits.py",
    "predict": "--workdir is missing; for example --workdir=runs/lenet5_digits",
    "prepare": "expected --dataset=NAME --data_dir=DIR [--manual_dir=DIR]",
    "statistics": "--config is missing; for example --config=configs/resnet_imagenet.py",
    "weights": "expected: import FILE [--workdir=DIR], or: export FILE --workdir=DIR",
    "inspect": "--config is missing; for example --config=configs/lenet5_digits.py",
    "report": "--workdir is missing; for example --workdir=runs/lenet5_digits",
    "compare": "expected two or more folders of runs: python -m common.compare RUN RUN ...",
    "reproduce --no_such": "unknown option '--no_such'; --help lists the options",
    "tables --no_such": "unknown option '--no_such'; --help lists the options",
}


@pytest.mark.parametrize("command", rest_slow(TOOLS))
def test_every_tool_starts_by_itself(command):
    # Unlike other tests, these start a new Python, as a user does.
    tool, *arguments = command.split()
    process = start(*arguments, module=f"common.{tool}")
    output, errors = process.communicate(timeout=120)
    assert TOOLS[command] in refusal(process.returncode, output, errors)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--config is missing"),
        (["--config="], "no config file"),
        ([*DIGITS, "--workdir="], "--workdir is empty; expected the folder of a run"),
        (["--config=" + "x" * 4000], "no config file"),
        (["--mode=evaluate", "--workdir=" + "x" * 4000], "is too long"),
        ([*DIGITS, "--config", "configs/vit_digits.py"], "--config is given more than once"),
        (["--config=configs/lenet5_digit.py"], "did you mean 'configs/lenet5_digits.py'"),
        ([*DIGITS, "--mode=evaluat"], "unknown --mode 'evaluat'; did you mean 'evaluate'? (known: evaluate, train)"),
        ([*DIGITS, "--confg.seed=1"], "unknown option '--confg.seed'; did you mean '--config.seed'?"),
        ([*DIGITS, "--config.train.lenght=3epochs"], "--config.train.lenght'; did you mean 'length'"),
        ([*DIGITS, "--config.optimizer.learning_rate=1"], "did you mean '--config.schedule.learning_rate'?"),
        ([*DIGITS, "--config.train.epochs=3"], "--config.train.epochs'; --config.train has accumulate, batch_size,"),
        ([*DIGITS, "--config.epochs=3"], "unknown option '--config.epochs'; --config has augment, checkpoint, data,"),
        ([*DIGITS, "--config.train.batch_size=many"], "--config.train.batch_size=many: expected a whole number"),
        ([*DIGITS, "--config.schedule.rates=(1,'a')"], "config.schedule.rates holds 'a'; expected numbers"),
        ([*DIGITS, "--config.schedule.boundaries=1"], "holds 1; expected durations such as '2 epochs'"),
        ([*DIGITS, "--config.seed=-1"], "config.seed is -1; expected at least 0"),
        (
            ["--config=configs/vgg_digits.py", "--config.model.adaptive_pool=60000"],
            "GB of memory here; make config.model",
        ),
        ([*DIGITS, "--config.optimizer.momentum=0.5"], "does not read it"),
        ([*DIGITS, "--config.data.source=folder:/nowhere"], "/nowhere"),
        ([*DIGITS, "--config.data.source=tfds:mnits"], "'mnist'"),
        ([*DIGITS, "--config.mesh.devices=3"], "there are only 1 (cpu)"),
        ([*DIGITS, "--mode=evaluate", "--workdir=/tmp/no-such-run"], "no run in /tmp/no-such-run"),
        (["stray", *DIGITS], "unexpected argument 'stray'"),
    ],
)
def test_a_mistake_is_answered_in_one_line(arguments, expected, tmp_path):
    if arguments and not any("workdir" in argument for argument in arguments):
        arguments = [*arguments, f"--workdir={tmp_path / 'run'}"]
    assert expected in refused(*arguments)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("recipe", "changes", "expected"),
    [
        (lenet5_digits, {"seed": 4294967296}, "config.seed is 4294967296; expected at most 4294967295"),
        (vgg_digits, {"model.adaptive_pool": 1000000000}, "at least 0 and less than 65536"),
        (vit_digits, {"model.depth": 1000000}, "expected at least 1 and less than 1024"),
        (resnet_digits, {"model.stage_sizes": (1000, 1000)}, "stage_sizes has 2000 blocks; expected less than 1024"),
        (googlenet_digits, {"model.width": 1e6}, "expected at least 0.015625 and less than 64"),
        (lenet5_digits, {"augment.randaugment_layers": 1000000}, "layers is 1000000; expected at most 100"),
        (lenet5_digits, {"data.pad": 1000000}, "make images of 2,000,028 x 2,000,028 pixels; expected at most"),
        (lenet5_digits, {"data.workers": 100000}, "config.data.workers is 100000; expected at most 1000"),
        (lenet5_digits, {"schedule.learning_rate": math.nan}, "learning_rate is nan; expected a finite number"),
        (lenet5_digits, {"schedule.rates": (0.1, -0.1)}, "config.schedule.rates is (0.1, -0.1); expected numbers of"),
        (lenet5_digits, {"data.pixel_range": (0,)}, "config.data.pixel_range is (0,); expected two numbers"),
        (lenet5_digits, {"data.pixel_range": (1.0, 1.0)}, "config.data.pixel_range is (1.0, 1.0); expected two"),
        (lenet5_digits, {"optimizer.momentum": 1.0}, "momentum is 1.0; expected at least 0 and less than 1"),
        (lenet5_digits, {"schedule.factor": 0.0}, "factor is 0.0; expected a fraction between 0 and 1"),
        (lenet5_digits, {"schedule.patience": 0}, "config.schedule.patience is 0; expected at least 1"),
        (lenet5_digits, {"train.length": "soon"}, "config.train.length is 'soon'; expected a duration"),
        (lenet5_digits, {"optimizer.name": "adm"}, "unknown optimizer 'adm'; did you mean 'adam'"),
        (lenet5_digits, {"schedule.name": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        (lenet5_digits, {"model.activation": "rleu"}, "did you mean 'relu'"),
        (lenet5_digits, {"model.output": "softmax"}, "loss.name=map does not go with output=softmax"),
        (lenet5_digits, {"train.label_smoothing": 0.1}, "takes class indices only"),
        (lenet5_digits, {"data.source": "digit"}, "'digit'"),
    ],
)
def test_an_option_that_cannot_work_is_refused_before_anything_is_written(recipe, changes, expected, tmp_path):
    config = recipe.get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError) as error:
        checked_and_trained(config, tmp_path / "run")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "checkpoints").exists()


def checked_and_trained(config, folder):
    """Does in this process what `common.main` does; the test before shows what a user sees of an error."""
    config_checks.validate(config)
    train.fit(config, folder)


def test_a_batch_that_does_not_split_over_the_devices_is_refused(tmp_path):
    settings = ("--config.mesh.devices=0", "--config.train.batch_size=12", f"--workdir={tmp_path}")
    line = refused(*DIGITS, *settings, devices=8)
    assert "batch_size 12 does not split over 8 devices; use a multiple of 8" in line


def test_a_diverging_run_stops_names_the_step_and_keeps_its_checkpoints(tmp_path):
    diverging = (small_run.CONFIG, "--config.train.length=60steps")
    often = ("--config.train.log_every=5steps", "--config.checkpoint.every=5steps")
    rate = ("--config.schedule.learning_rate=1e38", "--config.schedule.warmup=20steps")
    line = refused(*diverging, *often, *rate, f"--workdir={tmp_path}")
    assert "the loss is not finite at step" in line
    assert "learning_rate" in line
    records = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(record["loss"] == record["loss"] for record in records)


def test_an_unwritable_workdir_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert "cannot write workdir" in refused(*DIGITS, *SHORT, f"--workdir={file / 'run'}")


def test_a_checkpoint_without_room_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2_000_000))
    nothing = np.zeros((), np.int32)
    state = TrainState(nothing, np.zeros(1_000_000, np.float32), {}, (), None, nothing)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match=r"no room for a checkpoint in .*: 2\.0 MB are free and 5\.0 needed"):
            checkpoints.save(1, state, None)
        assert not list(checkpoints.folder.iterdir())


LATE = """
import asyncio
import tensorstore
from common import launch
from common.errors import UserError

async def writes(first, second):
    third = asyncio.ensure_future(fails())
    await asyncio.gather(first, second)

async def fails():
    raise UserError("no room")

def main():
    late, write = tensorstore.Promise.new()
    async def second():
        await write
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(writes(fails(), second()))
    finally:
        loop.close()
        late.set_result(None)

launch.run(main)
"""


def test_a_write_that_ends_after_another_has_failed_says_nothing():
    done = subprocess.run([sys.executable, "-c", LATE], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (2, "error: no room")


STUCK = """
import pathlib, sys
import numpy as np
from common import launch
from common.run.checkpoints import Checkpoints
from common.training.state import TrainState

def main():
    nothing = np.zeros((), np.int32)
    with Checkpoints(pathlib.Path.cwd()) as checkpoints:
        checkpoints.folder.rmdir()
        checkpoints.folder.write_text("")
        checkpoints.save(1, TrainState(nothing, {"w": np.zeros(3)}, {}, (), None, nothing), None)

launch.run(main)
"""


@pytest.mark.slow  # a checkpoint that cannot be written is tested above; this one leaves threads of Orbax waiting
def test_a_run_whose_checkpoints_folder_vanishes_ends(tmp_path):
    # Orbax's threads go on waiting for a folder that cannot be made.
    command = [sys.executable, "-c", STUCK]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120)
    assert "cannot write checkpoints to" in refusal(done.returncode, done.stdout, done.stderr)


def test_a_link_that_leads_nowhere_is_not_suggested(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "lost.py").symlink_to("nowhere")
    command = [sys.executable, "-m", "common.main", "--config=configs/lost.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert refusal(done.returncode, done.stdout, done.stderr) == "error: no config file 'configs/lost.py'"


@pytest.mark.parametrize("name", ["SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"])
def test_an_invalid_number_of_processes_of_a_cluster_is_named(name, monkeypatch):
    monkeypatch.setenv(name, "abc")
    assert f"environment variable {name} is 'abc'; expected a number of processes" in refused(*DIGITS)


def test_ctrl_c_during_the_start_is_answered_in_one_line(tmp_path):
    (tmp_path / "config.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
    assert run(f"--config={tmp_path / 'config.py'}") == (EXIT_INTERRUPTED, "", "stopped by Ctrl-C\n")


@pytest.mark.slow
def test_a_run_whose_reader_leaves_ends_quietly_and_resumes(tmp_path):
    saved = ("--config.checkpoint.every=5steps", "--config.train.log_every=5steps", f"--workdir={tmp_path}")
    process = start(small_run.CONFIG, *saved, "--config.train.length=2000epochs")
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (EXIT_UNREAD, "")
    code, output, _ = run(small_run.CONFIG, *saved, "--config.train.length=40steps")
    assert code == 0, output


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ("MemoryError()", "no room for an array"),
        ("RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\\nBuffers: ...')", "allocating 9 bytes"),
        ("__import__('numpy').arange(2**62)", "array is too big"),
        ("__import__('numpy').empty(2**63)", "Maximum allowed dimension exceeded"),
    ],
)
def test_a_lack_of_memory_is_one_line_that_says_what_needs_less(failure, said):
    code = f"from common import launch\ndef main():\n    raise {failure}\nlaunch.run(main)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert line.startswith("error: out of memory: ")
    assert said in line
    assert "config.train.batch_size" in line


def test_a_file_name_of_any_bytes_is_printed_unchanged():
    code = "import os\nfrom common import launch\ndef main():\n    print(os.fsdecode(b'\\xe9'))\nlaunch.run(main)"
    strict = {**environment(), "PYTHONIOENCODING": "utf-8:strict"}  # as in a terminal of en_US.UTF-8
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=strict, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\xe9\n", b"")


@pytest.mark.slow  # the test above of a checkpoint without room; this one fills a disk
def test_a_full_disk_keeps_the_earlier_checkpoints(tmp_path):
    small = (small_run.CONFIG, "--config.model.hidden=(500,)", *SHORT[1:])
    code, _, errors = run(*small, "--config.train.length=60steps", f"--workdir={tmp_path}")
    assert code == 0, errors
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    # To the writer, a limit on file size looks like a full disk.
    limited = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000));"
        "sys.argv = ['common.main', *sys.argv[1:]]; runpy.run_module('common.main', run_name='__main__')"
    )
    command = [sys.executable, "-c", limited, *small, "--config.train.length=120steps"]
    # Truncated programs must not get into the cache that all tests share, which this run only reads.
    own = {**environment(), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1000"}
    done = subprocess.run(
        [*command, f"--workdir={tmp_path}"], cwd=ROOT, env=own, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "cannot write" in line
    after = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert set(before) <= after
    code, output, errors = run(*small, "--config.train.length=120steps", f"--workdir={tmp_path}")
    assert code == 0, errors
    assert "going on from step 60" in output
