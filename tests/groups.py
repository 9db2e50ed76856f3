"""Several real processes that train together on this machine, each with its supervisor."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

from tests.runs import ROOT


def free_port():
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def slurm(number, count):
    """What Slurm tells process `number` of `count` on this machine; JAX takes its port from the job's number."""
    return {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(count),
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
    }


def start_group(count, *arguments, cache, on_slurm=False):
    """`python -m common.main ARGUMENTS` as `count` processes; compiled programs are kept in `cache`."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "common.main", *arguments]
    line = f"--coordinator=localhost:{free_port()}"
    group = []
    for number in range(count):
        told = slurm(number, count) if on_slurm else {}
        flags = () if on_slurm else (line, f"--processes={count}", f"--process_id={number}")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        group.append(subprocess.Popen([*command, *flags], cwd=ROOT, env=environment | told, **pipes))
    return group


def finish_group(group, timeout=240):
    """Exit code, standard output and standard error of each process."""
    ended = []
    for process in group:
        output, errors = process.communicate(timeout=timeout)
        ended.append((process.returncode, output, errors))
    return ended


def worker(process):
    """The process id of the one that trains, which the supervisor `process` stands by; None when there is none now."""
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found = children.read_text().split() if children.exists() else []
    return int(found[0]) if found else None


def newest_step(folder):
    """The step of the newest complete checkpoint; 0 when there is none."""
    return max((int(path.name) for path in (folder / "checkpoints").glob("[0-9]*") if path.name.isdigit()), default=0)


def wait_for_checkpoint(folder, group, after=0, timeout=200):
    """Return when there is a checkpoint of a later step than `after`."""
    deadline = time.monotonic() + timeout
    while newest_step(folder) <= after:
        assert all(process.poll() is None for process in group), finish_group(group)
        assert time.monotonic() < deadline
        time.sleep(0.1)


def send(process, number=signal.SIGKILL):
    """Send a signal to the process that trains, not to its supervisor."""
    os.kill(worker(process), number)
