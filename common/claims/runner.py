"""Many runs on one machine: side by side if that is faster, each in its own process, and none made twice."""

import dataclasses
import datetime
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures

from common.errors import UserError
from common.files import writing
from common.processes import supervise
from common.run import checkpoints, lock, summary

FAILURES_TO_STOP = 3  # a campaign stops if this many runs have ended and all of them have failed
_POLL_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Job:
    """A run to make: its folder and its command.

    one_core: whether to pin it to one core, with others beside it. keeps: whether its checkpoints stay, because they
    are read later. after: the folder of the run that has to finish before it.
    """

    folder: pathlib.Path
    command: tuple[str, ...]
    one_core: bool
    keeps: bool
    after: pathlib.Path | None = None


def finished(job: Job) -> bool:
    """True for a run that need not be made again."""
    return summary.exists(job.folder) and (not job.keeps or bool(checkpoints.steps(job.folder)))


def platform_of_runs() -> str:
    """The platform that runs compute on: 'cpu', 'gpu' or 'tpu'. Raises UserError if JAX does not start.

    A separate process asks JAX, because JAX in this process would take the memory of a GPU, or all of a TPU.
    """
    command = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    asked = subprocess.run(command, capture_output=True, text=True)
    if asked.returncode:
        raise UserError(f"JAX does not start: {supervise.last_line(asked.stderr)}")
    return asked.stdout.split()[-1]


def run_all(jobs: Sequence[Job], slots: int = 0, done: Callable[[], None] = lambda: None) -> list[str]:
    """Makes the unfinished runs. Returns a line about each run that failed; a failure does not stop the other runs.

    If another command is making a run, it waits for that run.

    slots: how many runs at a time. 0: first the runs that are pinned to one core, one on each core; then the others,
    which use all cores, one after the other. done: called after each successful run. Raises UserError if the first runs
    all fail, because the reason is then probably the same for all.
    """
    left = [job for job in jobs if not finished(job)]
    for job in left:
        if summary.exists(job.folder):
            shutil.rmtree(job.folder)  # this claim needs the checkpoints; an earlier one did not keep them
    campaign = _Campaign(len(left), done)
    while ready := [job for job in left if job.after is None or summary.exists(job.after)]:
        _in_pools(ready, slots, campaign)
        left = [job for job in left if job not in ready]
    return [*campaign.failures, *(f"{job.folder} starts from a run that is not finished" for job in left)]


def _in_pools(jobs: Sequence[Job], slots: int, campaign: "_Campaign") -> None:
    """Makes runs that do not wait for each other."""
    if slots:
        _in_pool(jobs, [None] * slots, campaign)
        return
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    _in_pool([job for job in jobs if job.one_core], cores or [None], campaign)
    _in_pool([job for job in jobs if not job.one_core], [None], campaign)


def _in_pool(jobs: Sequence[Job], cores: Sequence[int | None], campaign: "_Campaign") -> None:
    """Makes runs side by side, each on one of `cores`; None stands for all cores."""
    free: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    for core in cores:
        free.put(core)

    def make(job: Job) -> str:
        core = free.get()
        try:
            return _make(job, core, len(cores), campaign)
        finally:
            free.put(core)

    with futures.ThreadPoolExecutor(len(cores)) as pool:
        made = {pool.submit(make, job): job for job in jobs}
        try:
            for future in futures.as_completed(made):
                campaign.ends(made[future], future.result())
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            campaign.stopped.set()
            if isinstance(error, KeyboardInterrupt):
                for process in set(campaign.running):
                    process.terminate()  # a run then saves and ends
            raise


def _make(job: Job, core: int | None, side_by_side: int, campaign: "_Campaign") -> str:
    """Makes one run in its own process; returns why it failed, '' if it did not."""
    campaign.starts(job, core)
    while not finished(job):  # another command may have made it by now
        if failure := _attempt(job, core, side_by_side, campaign):
            holder = _holder(job.folder)
            if not holder:
                return failure
            print(f"{holder}; waiting for it", flush=True)
            while _holder(job.folder):
                if campaign.stopped.wait(_POLL_SECONDS):
                    return failure
        else:
            if not job.keeps:
                shutil.rmtree(job.folder / checkpoints.FOLDER, ignore_errors=True)
            return ""
    return ""


def _attempt(job: Job, core: int | None, side_by_side: int, campaign: "_Campaign") -> str:
    """Starts a run, with its output at the end of `log.txt`, and waits for it; returns why it failed, '' if not."""
    log = job.folder / supervise.LOG
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("ab")
    with output:
        before = output.tell()
        process, pipe = supervise.start(job.command, side_by_side, stdout=output, stderr=subprocess.STDOUT)
        campaign.running.add(process)
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            code = process.wait()
        finally:
            campaign.running.discard(process)
            os.close(pipe)
    if not code:
        return ""
    said = supervise.last_line(log.read_bytes()[before:].decode(errors="replace"))
    return f"a run ended with code {code}: {said} (see {log})"


def _holder(folder: pathlib.Path) -> str:
    """A line on the process that is making this run, '' if none is."""
    try:
        with lock.held(folder, kind="run"):
            return ""
    except UserError as error:
        if not isinstance(error.__cause__, BlockingIOError):
            raise
        return str(error).partition(";")[0]


class _Campaign:
    """Counts the runs that have started, ended and failed, and prints how many are left and when they will be done."""

    def __init__(self, total: int, done: Callable[[], None]):
        self.running: set[subprocess.Popen] = set()
        self.failures: list[str] = []
        self.stopped = threading.Event()
        self._total, self._ended, self._started, self._done = total, 0, 0, done
        self._start, self._lock = time.monotonic(), threading.Lock()

    def starts(self, job: Job, core: int | None) -> None:
        """Notes and prints that a run starts."""
        with self._lock:
            self._started += 1
            where = "" if core is None else f" on core {core}"
            print(f"running {job.folder}{where}; {self._total - self._started} wait", flush=True)

    def ends(self, job: Job, failure: str) -> None:
        """Notes and prints that a run has ended. Raises UserError if all of the first ones failed."""
        self._ended += 1
        left = self._total - self._ended
        seconds = (time.monotonic() - self._start) / self._ended * left
        end = datetime.datetime.now() + datetime.timedelta(seconds=seconds)
        when = f"; at this pace done at {end:%H:%M on %d %b}" if left else ""
        with self._lock:
            print(failure or f"finished {job.folder}: {self._ended} of {self._total}{when}", flush=True)
        if not failure:
            self._done()
            return
        self.failures.append(failure)
        if len(self.failures) == self._ended == FAILURES_TO_STOP:
            raise UserError(failure)
