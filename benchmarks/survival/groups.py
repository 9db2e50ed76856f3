"""Several processes of `common.main` that train together on this machine, each with its supervisor.

Used by measurements and by tests.
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys
from typing import IO

from common.files import ROOT

Process = subprocess.Popen


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def slurm(number: int, count: int) -> dict[str, str]:
    """Slurm's variables for process `number` of `count` on this machine; JAX derives its port from the job's id."""
    return {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(count),
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
    }


def start_group(
    count: int, *arguments: str, cache: pathlib.Path, on_slurm: bool = False, log: IO | None = None
) -> list[Process]:
    """Starts `python -m common.main ARGUMENTS` as `count` processes; a single one has no supervisor.

    Compiled programs are kept in `cache`. The processes' output goes to `log`, line by line, or else to pipes.
    """
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache)}
    environment["PYTHONUNBUFFERED"] = "1"
    command = [sys.executable, "-m", "common.main", *arguments]
    line = f"--coordinator=localhost:{free_port()}"
    pipes = {"stdout": log or subprocess.PIPE, "stderr": subprocess.STDOUT if log else subprocess.PIPE, "text": True}
    group = []
    for number in range(count):
        told = slurm(number, count) if on_slurm else {}
        alone = on_slurm or count == 1
        flags = () if alone else (line, f"--processes={count}", f"--process_id={number}")
        group.append(Process([*command, *flags], cwd=ROOT, env=environment | told, **pipes))
    return group


def finish_group(group: list[Process], timeout: float = 240) -> list[tuple[int, str, str]]:
    """Waits for all processes. Returns the exit code, standard output and standard error of each."""
    ended = []
    for process in group:
        output, errors = process.communicate(timeout=timeout)
        ended.append((process.returncode, output, errors))
    return ended


def _worker(process: Process) -> int | None:
    """The id of the process that trains under the supervisor `process`; None without one."""
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found = children.read_text().split() if children.exists() else []
    return int(found[0]) if found else None


def send(process: Process, number: int = signal.SIGKILL) -> None:
    """Sends a signal to the process that trains, not to its supervisor."""
    if process.poll() is None:
        os.kill(_worker(process) or process.pid, number)


def newest_step(folder: pathlib.Path) -> int:
    """The step of the newest complete checkpoint; 0 if there is none."""
    return max((int(path.name) for path in (folder / "checkpoints").glob("[0-9]*") if path.name.isdigit()), default=0)
