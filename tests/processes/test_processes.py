"""Tests that several processes train as one does, stop together, and name one that dies."""

import functools
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from benchmarks.survival.groups import finish_group, free_port, newest_step, send, slurm, start_group
from common import train
from common.command_line import unparsed
from common.errors import UserError
from common.processes import cluster, distributed, rendezvous
from common.processes.preemption import EXIT_PREEMPTED
from common.processes.watchdog import EXIT_HUNG
from common.run import metrics, trained
from tests import small_run
from tests.runs import ROOT, run

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes through /proc")


def options(steps):
    """The options of a run that logs and evaluates at its end."""
    end = f"{steps} steps"
    return {
        "mesh.devices": 0,
        "schedule.warmup": "5 steps",
        **{"train.length": end, "train.log_every": end, "evaluate.every": end, "checkpoint.every": "10 steps"},
        "evaluate.batch_size": 40,
    }


def flags(changes):
    return [f"--config.{option}={value}" for option, value in changes.items()]


STEPS = 120
RUN = ("--config=configs/lenet5_folder.py", "--config.data.source=digits", *flags(options(STEPS)))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


def parameters(folder):
    """Every parameter of the last checkpoint, as one vector."""
    last = trained.load(folder, str(STEPS))
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(last.variables)])


def wait_for_checkpoint(folder, group, after=0):
    """Waits for a checkpoint of a later step than `after`."""
    deadline = time.monotonic() + 200
    while newest_step(folder) <= after:
        assert all(process.poll() is None for process in group), finish_group(group)
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("two")
    for code, _, errors in finish_group(start_group(2, *RUN, f"--workdir={folder}", cache=cache, on_slurm=True)):
        assert code == 0, errors
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    code, _, errors = run(*RUN, f"--workdir={folder}")
    assert code == 0, errors
    return folder


def test_two_processes_learn_as_one_does_and_one_of_them_writes(cache, tmp_path):
    train.fit(small_run.get_config(**options(20)), tmp_path / "one")
    command = (small_run.CONFIG, *flags(options(20)), f"--workdir={tmp_path / 'two'}")
    group = start_group(2, *command, cache=cache, on_slurm=True)
    for code, _, errors in finish_group(group):
        assert code == 0, errors
    one, two = (metrics.read(tmp_path / name) for name in ("one", "two"))
    assert [(r["step"], r["split"]) for r in one] == [(r["step"], r["split"]) for r in two]
    for a, b in zip(one, two, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=2e-2)
        assert a["examples"] == b["examples"]


ASKING = """
import sys
from common.processes import distributed
number = int(sys.argv[1])
with distributed.process_group(sys.argv[2], 2, number, 60, 60):
    print([distributed.any_of("a name", flag, 60) for flag in (number == 1, False, number == 0)])
"""


def test_processes_agree_under_one_name_as_often_as_they_ask():
    # A run restores its checkpoints twice: at its start, and the best one at its end.
    address, environment = f"localhost:{free_port()}", {**os.environ, "JAX_PLATFORMS": "cpu"}
    pipes = {"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", ASKING]
    group = [subprocess.Popen([*command, str(number), address], **pipes) for number in range(2)]
    (code, output, errors), (other_code, _, other_errors) = finish_group(group, timeout=100)
    assert (code, other_code) == (0, 0), errors + other_errors
    assert output.split("\n")[0] == "[True, False, True]"


@pytest.mark.slow  # restores between numbers of devices and the stop of several processes are tested apart
def test_two_processes_asked_to_stop_go_on_as_one_with_more_devices(alone, cache, tmp_path):
    command = (*RUN, f"--workdir={tmp_path}")
    group = start_group(2, *command, cache=cache)
    wait_for_checkpoint(tmp_path, group)
    send(group[1], signal.SIGTERM)
    for code, _, errors in finish_group(group):
        assert code == EXIT_PREEMPTED, errors
    assert 0 < newest_step(tmp_path) < STEPS
    code, _, errors = run(*command, devices=4)
    assert code == 0, errors
    one, other = (metrics.read(folder, "test")[-1] for folder in (alone, tmp_path))
    assert other["loss"] == pytest.approx(one["loss"], rel=2e-2)


@pytest.mark.slow  # the test before this one, with more processes and a kill, which the test after it has too
def test_a_run_goes_on_with_fewer_processes_and_on_more_devices(alone, cache, tmp_path):
    command = (*RUN, f"--workdir={tmp_path}")
    group = start_group(4, *command, cache=cache)
    wait_for_checkpoint(tmp_path, group)
    send(group[3], signal.SIGTERM)
    for code, _, errors in finish_group(group):
        assert code == EXIT_PREEMPTED, errors
    saved = newest_step(tmp_path)
    group = start_group(2, *command, cache=cache)
    wait_for_checkpoint(tmp_path, group, after=saved)
    send(group[1])
    assert finish_group(group)[0][0] == distributed.EXIT_LOST
    assert saved < newest_step(tmp_path) < STEPS
    code, _, errors = run(*command, devices=8)
    assert code == 0, errors
    one, other = (metrics.read(folder, "test")[-1] for folder in (alone, tmp_path))
    assert other["loss"] == pytest.approx(one["loss"], rel=2e-2)


@pytest.mark.slow  # benchmarks/survival/faults.py has recorded 200; tests/run/test_resume.py kills one process
def test_asked_to_stop_and_killed_the_restarted_run_ends_with_the_same_bits(undisturbed, cache, tmp_path):
    command = (*RUN, f"--workdir={tmp_path}")
    group = start_group(2, *command, "--restarts=1", cache=cache)
    wait_for_checkpoint(tmp_path, group)
    send(group[1], signal.SIGTERM)
    while "restart" not in (line := group[0].stderr.readline()):
        assert line, finish_group(group)
    assert "exit code 75" in line
    saved = newest_step(tmp_path)
    wait_for_checkpoint(tmp_path, group, after=saved)
    send(group[1])
    (code, _, errors), (killed, _, _) = finish_group(group)
    assert (code, killed) == (distributed.EXIT_LOST, 128 + signal.SIGKILL)
    assert errors.strip().splitlines()[-1].startswith("error: lost process 1 of 2")
    for code, _, errors in finish_group(start_group(2, *command, cache=cache)):
        assert code == 0, errors
    np.testing.assert_array_equal(parameters(tmp_path), parameters(undisturbed))


@pytest.mark.slow  # waits for heartbeats
def test_a_suspended_process_counts_as_lost(cache, tmp_path):
    group = start_group(2, *RUN, "--config.mesh.heartbeat_timeout=8", f"--workdir={tmp_path}", cache=cache)
    wait_for_checkpoint(tmp_path, group)
    send(group[1], signal.SIGSTOP)
    _, errors = group[0].communicate(timeout=90)
    send(group[1], signal.SIGKILL)
    ((killed, _, _),) = finish_group(group[1:])
    assert (group[0].returncode, killed) == (distributed.EXIT_LOST, 128 + signal.SIGKILL)
    assert errors.strip().splitlines()[-1].startswith("error: lost process 1 of 2")


@pytest.mark.slow  # as the test before this one, the other way round
def test_a_suspended_primary_counts_as_lost(cache, tmp_path):
    group = start_group(2, *RUN, "--config.mesh.heartbeat_timeout=8", f"--workdir={tmp_path}", cache=cache)
    wait_for_checkpoint(tmp_path, group)
    send(group[0], signal.SIGSTOP)
    _, errors = group[1].communicate(timeout=90)
    send(group[0], signal.SIGKILL)
    ((killed, _, _),) = finish_group(group[:1])
    assert (group[1].returncode, killed) == (distributed.EXIT_LOST, 128 + signal.SIGKILL)
    assert errors.strip().splitlines()[-1].startswith("error: lost process 0 of 2")


@pytest.mark.parametrize(
    ("last", "lost"), [("1,3", [1, 3]), (RuntimeError("UNAVAILABLE: failed to connect to all addresses"), [0])]
)
def test_weeks_without_an_announcement_do_not_count_as_a_loss(last, lost):
    answers = iter([RuntimeError("DEADLINE_EXCEEDED: GetKeyValue() timed out with key: lost")] * 2 + [last])

    class Client:
        def blocking_key_value_get(self, key, milliseconds):
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    assert distributed.announced_losses(Client()) == lost


def test_processes_that_do_not_arrive_are_named():
    line = f"--coordinator=localhost:{free_port()}"
    start = (*RUN, line, "--processes=3", "--process_id=0", "--config.mesh.start_timeout=1")
    code, _, errors = run(*start)
    assert code == distributed.EXIT_LOST
    assert errors.strip() == "error: lost processes 1, 2 of 3; start the run again to continue from its last checkpoint"


def test_a_number_of_processes_below_one_is_refused():
    code, _, errors = run(*RUN, "--processes=0", "--process_id=0", f"--coordinator=localhost:{free_port()}")
    assert (code, errors.strip()) == (2, "error: flag --processes=0: 0 is not a positive integer")


def test_a_cluster_is_asked_who_there_is(monkeypatch):
    for name, value in slurm(0, 3).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(distributed.Lost, match="processes 1, 2 of 3"):
        distributed.start(None, None, None, start_timeout=0.2, heartbeat_timeout=1)
    monkeypatch.undo()
    with pytest.raises(UserError, match="finds no cluster"):
        distributed.start("auto", None, None, start_timeout=0.2, heartbeat_timeout=1)


def test_a_caller_learns_who_is_missing_or_that_nobody_listens():
    address = f"localhost:{free_port()}"
    assert rendezvous.meet(address, 2, 1, timeout=0.3) == [0]
    assert rendezvous.meet(address, 1, 0, timeout=0.3) == []


def test_a_port_in_use_is_named():
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on port {port} of --coordinator"):
            rendezvous.meet(f"localhost:{port}", 2, 0, timeout=0.1)


def test_a_cluster_whose_variables_make_no_sense_is_refused(monkeypatch):
    for name, value in (slurm(0, 3) | {"SLURM_PROCID": "first"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="cannot read the cluster's environment variables"):
        distributed.start(None, None, None, start_timeout=0.2, heartbeat_timeout=1)


def test_clusters_are_seen_by_their_variables():
    assert not cluster.in_cluster({})
    assert not cluster.in_cluster({"SLURM_NTASKS": "1"})
    assert cluster.in_cluster({"SLURM_NTASKS": "2"})
    assert cluster.in_cluster({"OMPI_COMM_WORLD_SIZE": "4"})
    assert cluster.in_cluster({"TPU_WORKER_HOSTNAMES": "a,b"})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("localhost:1", None, None), "need --processes"),
        ((None, 2, 0), "--coordinator"),
        (("localhost:1", 2, 2), "expected 0 to 1"),
        (("localhost", 2, 0), "HOST:PORT"),
        (("localhost:65536", 2, 0), "a port from 1 to 65535"),
        (("localhost:0", 2, 0), "a port from 1 to 65535"),
    ],
)
def test_flags_that_contradict_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        distributed.start(*flags, start_timeout=1, heartbeat_timeout=1)


HUNG = """
import time
from common.processes.preemption import EXIT_PREEMPTED
from common.processes.watchdog import Watchdog
def a_step_that_hangs():
    time.sleep(60)
with Watchdog(0.5) as watchdog:
    for _ in range(8):
        time.sleep(0.1)
        watchdog.beat()
    print("beating", flush=True)
    a_step_that_hangs()
"""


def test_a_hung_step_shows_its_stack_and_ends():
    done = subprocess.run([sys.executable, "-c", HUNG], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == EXIT_HUNG
    assert "beating" in done.stdout
    assert "no progress" in done.stderr
    assert "a_step_that_hangs" in done.stderr


def test_a_supervisor_starts_again_until_it_succeeds(tmp_path):
    marks = tmp_path / "marks"
    program = tmp_path / "flaky.py"
    program.write_text(
        "import os, pathlib, sys\n"
        "from common.processes import supervise\n"
        "supervise.main('flaky', sys.argv[1:])\n"
        f"marks = pathlib.Path({str(marks)!r})\n"
        "marks.write_text((marks.read_text() if marks.exists() else '') + 'x')\n"
        "sys.exit({1: 75, 2: 76}.get(len(marks.read_text()), 0))\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    command = [sys.executable, "-m", "flaky"]
    done = subprocess.run([*command, "--restarts=3"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert marks.read_text() == "xxx"
    assert "restart 2 of 3" in done.stderr
    marks.unlink()
    done = subprocess.run([*command, "--restarts=1"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 76
    assert marks.read_text() == "xx"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_stop_in_a_supervisors_pause_ends_it(tmp_path, number):
    program = tmp_path / "failing.py"
    program.write_text(
        "import pathlib, sys\n"
        "from common.processes import supervise\n"
        "supervise.main('failing', sys.argv[1:])\n"
        f"with open({str(tmp_path / 'marks')!r}, 'a') as marks:\n"
        "    marks.write('x')\n"
        "sys.exit(76)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    command = [sys.executable, "-m", "failing", "--restarts=3", "--processes=2"]
    # A test run under nohup has SIGHUP ignored, and its processes would leave it so.
    heard = functools.partial(signal.signal, number, signal.SIG_DFL)
    pipes = {"stderr": subprocess.PIPE, "text": True}
    supervisor = subprocess.Popen(command, env=environment, preexec_fn=heard, **pipes)
    assert "restart 1 of 3" in supervisor.stderr.readline()
    supervisor.send_signal(number)
    assert supervisor.wait(timeout=60) == 76
    assert (tmp_path / "marks").read_text() == "x"


def test_a_supervisor_does_not_load_jax():
    code = "import sys; from common.processes import supervise; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_numbers_are_read_before_flags_are_parsed():
    assert unparsed.flag_number(["--restarts", "4"], "restarts") == 4
    assert unparsed.flag_number(["-processes=2"], "processes") == 2
    assert unparsed.flag_number(["--restarts=many"], "restarts") is None
    assert unparsed.flag_number(["--restarts=²"], "restarts") is None
    assert unparsed.flag_number(["--restarts=" + "9" * 5000], "restarts") is None
    assert unparsed.flag_number([], "restarts") is None
