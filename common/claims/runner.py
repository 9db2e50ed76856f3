"""Many runs on one machine: side by side where that is sooner, each in its own process, none made twice."""

import dataclasses
import datetime
import os
import pathlib
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent import futures

from common.errors import UserError
from common.processes import supervise
from common.run import checkpoints, summary


@dataclasses.dataclass(frozen=True)
class Job:
    """A run to make: its folder and its command.

    one_core: whether it is to be pinned to one core, with others beside it. keeps: whether its checkpoints are read
    after it, and stay.
    """

    folder: pathlib.Path
    command: tuple[str, ...]
    one_core: bool
    keeps: bool


def finished(job: Job) -> bool:
    """True for a run that is not to be made again."""
    return summary.exists(job.folder) and (not job.keeps or bool(checkpoints.steps(job.folder)))


def run_all(jobs: Sequence[Job], slots: int = 0) -> None:
    """Makes the runs that are not finished.

    slots: how many at a time; 0 is one on each core of those pinned to one core, then the others, which use all cores,
    one after the other. Raises UserError for a run that fails, when those beside it have ended.
    """
    left = [job for job in jobs if not finished(job)]
    for job in left:
        if summary.exists(job.folder):
            shutil.rmtree(job.folder)  # an earlier claim had no use for the checkpoints, and this one has
    progress = _Progress(len(left))
    if slots:
        _in_pool(left, [None] * slots, progress)
        return
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    _in_pool([job for job in left if job.one_core], cores or [None], progress)
    _in_pool([job for job in left if not job.one_core], [None], progress)


def _in_pool(jobs: Sequence[Job], cores: Sequence[int | None], progress: "_Progress") -> None:
    """Makes runs side by side, each on one of `cores`, None being all of them."""
    free: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    for core in cores:
        free.put(core)

    def make(job: Job) -> None:
        core = free.get()
        try:
            _make(job, core, progress)
        finally:
            free.put(core)

    with futures.ThreadPoolExecutor(len(cores)) as pool:
        made = [pool.submit(make, job) for job in jobs]
        try:
            for future in made:
                future.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):
                for process in set(progress.running):
                    process.terminate()  # the runs save and end
            raise


def _make(job: Job, core: int | None, progress: "_Progress") -> None:
    """Makes one run in its own process, with its output in `log.txt`."""
    job.folder.mkdir(parents=True, exist_ok=True)
    log = job.folder / "log.txt"
    progress.starts(job, core)
    with log.open("w") as output:
        process, pipe = supervise.start(job.command, stdout=output, stderr=subprocess.STDOUT)
        progress.running.add(process)
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            code = process.wait()
        finally:
            progress.running.discard(process)
            os.close(pipe)
    if code:
        lines = log.read_text().strip().splitlines() or ["it printed nothing"]
        raise UserError(f"a run ended with code {code}: {lines[-1]} (see {log})")
    if not job.keeps:
        shutil.rmtree(job.folder / checkpoints.FOLDER, ignore_errors=True)
    progress.ends(job)


class _Progress:
    """The runs under way, and lines about what is left and when it will be done."""

    def __init__(self, total: int):
        self.running: set[subprocess.Popen] = set()
        self._total, self._done, self._started = total, 0, 0
        self._start, self._lock = time.monotonic(), threading.Lock()

    def starts(self, job: Job, core: int | None) -> None:
        """A run starts."""
        with self._lock:
            self._started += 1
            where = "" if core is None else f" on core {core}"
            print(f"running {job.folder}{where}; {self._total - self._started} wait", flush=True)

    def ends(self, job: Job) -> None:
        """A run has ended well."""
        with self._lock:
            self._done += 1
            left = self._total - self._done
            seconds = (time.monotonic() - self._start) / self._done * left
            end = datetime.datetime.now() + datetime.timedelta(seconds=seconds)
            when = f"; at this pace done at {end:%H:%M on %d %b}" if left else ""
            print(f"finished {job.folder}: {self._done} of {self._total}{when}", flush=True)
