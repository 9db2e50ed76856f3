"""A supervisor process that restarts the training process after a fault and reports how it ended.

The supervisor only waits, and imports nothing large. It runs if `--restarts` is given, and beside each of several
processes. JAX's runtime aborts a process that has lost another one; the supervisor explains this and exits with 76.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from common import errors
from common.command_line import unparsed
from common.errors import EXIT_USER_ERROR
from common.processes import signals
from common.processes.cluster import in_cluster
from common.processes.distributed import EXIT_LOST

LOG = "log.txt"  # the file, in a run's folder, with the output of a run that another process has started
_PIPE = "LINEAGE_SUPERVISOR"  # the file descriptor that closes when the supervisor is gone
_PAUSE_SECONDS = 8.0  # time for the other processes to notice a loss, too
_POLL_SECONDS = 0.1


def main(module: str, arguments: Sequence[str]) -> None:
    """Supervises `python -m MODULE ARGUMENTS` if needed, and exits as it does; returns in the supervised process."""
    if follow():
        return
    restarts, processes = (unparsed.flag_number(arguments, name) for name in ("restarts", "processes"))
    with errors.reporting_user_errors():
        told = in_cluster(os.environ) if processes is None else processes > 1
    several = told or unparsed.flag_text(arguments, "coordinator") == "auto"
    if restarts is not None or several:
        sys.exit(_Supervisor(module, arguments, several).run(restarts or 0))


def follow() -> bool:
    """Makes this process end with the process that started it by `start`; returns True if there is one."""
    if _PIPE not in os.environ:
        return False
    threading.Thread(target=_follow, args=(int(os.environ.pop(_PIPE)),), daemon=True, name="supervisor").start()
    return True


def start(command: Sequence[str], side_by_side: int = 1, **options: Any) -> tuple[subprocess.Popen, int]:
    """Starts a command that calls `follow`, so that it ends with this process, however this process ends.

    Returns the process, and the file descriptor that keeps it alive; close it when the process has ended. The process
    has its own group: otherwise Ctrl-C would reach it both from the terminal and from here. side_by_side: the number of
    such processes that run at a time and share a GPU's memory. options: as for Popen.
    """
    reading, writing = os.pipe()
    environment = {**memory_shares(side_by_side), **os.environ, _PIPE: str(reading)}
    process = subprocess.Popen(command, env=environment, pass_fds=[reading], process_group=0, **options)
    os.close(reading)
    return process, writing


def last_line(output: str) -> str:
    """The last line of a run's output, without the `error: ` of a mistake; 'no output' if there is none."""
    lines = output.strip().splitlines() or ["no output"]
    return lines[-1].removeprefix("error: ")[:500]


def memory_shares(processes: int) -> dict[str, str]:
    """Environment variables for each of several processes on one GPU; alone, JAX takes three quarters of its memory."""
    return {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / processes:.3f}"} if processes > 1 else {}


def _follow(pipe: int) -> None:
    """Ends this process when its supervisor is gone, which closes the other end of the pipe."""
    os.read(pipe, 1)
    os._exit(128 + signal.SIGKILL)


class _Supervisor:
    """Runs a command, restarts it if it fails, and passes on requests to stop."""

    def __init__(self, module: str, arguments: Sequence[str], several: bool):
        self._command = [sys.executable, "-m", module, *arguments]
        self._several = several
        self._child: subprocess.Popen | None = None
        # Not a threading.Event: a handler that sets one while its own thread enters `wait` never gets the lock.
        self._asked_to_stop = False

    def run(self, restarts: int) -> int:
        """Makes up to 1 + `restarts` runs and returns the exit code of the last."""
        with signals.handled(signals.REQUESTS, self._pass_on):
            for attempt in range(restarts + 1):
                code = self._explain(self._once())
                if code in (0, EXIT_USER_ERROR) or self._asked_to_stop or attempt == restarts:
                    break
                print(
                    f"stopped with exit code {code}; restart {attempt + 1} of {restarts}", file=sys.stderr, flush=True
                )
                if self._several:
                    self._pause()
                if self._asked_to_stop:
                    break
            return code

    def _pause(self) -> None:
        """Waits for the other processes to end as well, or for a request to stop."""
        ends = time.monotonic() + _PAUSE_SECONDS
        while not self._asked_to_stop and time.monotonic() < ends:
            time.sleep(_POLL_SECONDS)

    def _once(self) -> int:
        self._child, pipe = start(self._command)
        try:
            return self._child.wait()
        finally:
            os.close(pipe)

    def _pass_on(self, number: int, frame: object) -> None:
        self._asked_to_stop = True
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)

    def _explain(self, code: int) -> int:
        """The exit code for an ended process; if a signal ended it, prints that."""
        if code >= 0:
            return code
        if self._several and -code == signal.SIGABRT:
            print(
                "error: lost another process, as JAX's runtime says above; start the run again to continue from its "
                "last checkpoint",
                file=sys.stderr,
                flush=True,
            )
            return EXIT_LOST
        print(f"error: the training process was ended by {signal.Signals(-code).name}", file=sys.stderr, flush=True)
        return 128 - code
