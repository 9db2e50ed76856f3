"""The numbers of a run, on the terminal, in `metrics.jsonl` and in TensorBoard event files.

`metrics.jsonl` has one JSON object a line: `step`, `split` ('train', 'validation' or 'test'), `epoch`, `elapsed` and
named values. `elapsed` is the time in seconds since the run began, without the time between its starts. Errors are
fractions. Summaries, reports and claims are made from it.
"""

import contextlib
import json
import math
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
from jaxtyping import PyTree
from tqdm import tqdm

from common.errors import UserError
from common.files import json_lines, whole_file, writing
from common.optim.plan import Plan
from common.processes.preemption import Preempted
from common.run.trackers import Tracker
from common.training.totals import NEVER, Totals, diverged, means

FILE = "metrics.jsonl"
RECORD_KEYS = ("step", "split", "epoch", "elapsed")  # what a record has besides its values
_NAMES = {"step", "split", "error"}  # what every record has
_PROGRESS = "{percentage:3.0f}% |{bar}| step {n:,} of {total:,}, {remaining} left{postfix}"


class Writer:
    """Writes numbers under their step and shows the progress line, both only in the `primary` process."""

    def __init__(
        self,
        workdir: pathlib.Path,
        first_step: int,
        plan: Plan,
        batch_size: int,
        num_classes: int,
        primary: bool = True,
        tracker: Tracker | None = None,
        earlier: Mapping[str, float] | None = None,
    ):
        """earlier: the times of `unrecorded`, as of the checkpoint that the run goes on from."""
        earlier = earlier or {}
        self._records = _Records(workdir, first_step) if primary else None
        self._tracker = tracker if primary else None
        self._batch_size, self._epoch_steps = batch_size, plan.epoch
        self._left_out = {"top5_error"} if num_classes <= 5 else set()  # it would always be 0
        fields = {"bar_format": _PROGRESS, "disable": not primary or None, "leave": False, "dynamic_ncols": True}
        self._bar = tqdm(total=plan.total, initial=first_step, **fields)
        self._step = self._logged_step = first_step
        self._since, self._worked = time.perf_counter(), time.process_time()
        elapsed = max(self._records.elapsed if self._records else 0.0, earlier.get("elapsed", 0.0))
        self._began = self._since - elapsed
        self._waited = 0.0
        self._trained = {"seconds": 0.0, "core_seconds": 0.0}  # since the last record of training, before an evaluation
        self._earlier = {clock: earlier.get(clock, 0.0) for clock in self._trained}  # the same, in earlier starts

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._bar.close()
        # An error that ends the run comes first: closing the files may fail for the same reason.
        with contextlib.suppress(UserError) if kind else contextlib.nullcontext():
            if self._records:
                self._records.close()
        if self._tracker:
            stopped = kind is not None and issubclass(kind, Preempted)
            self._tracker.close("finished" if kind is None else "stopped" if stopped else "failed")

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting for data."""
        asked = time.perf_counter()
        yield
        self._waited += time.perf_counter() - asked

    def progress(self, step: int) -> None:
        """Moves the progress line to `step`."""
        if not self._bar.disable:
            speed = self._speed(step)
            text = f"{speed['images_per_second']:,.0f} images/s, waiting for data {speed['data_wait']:.0%}"
            self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(step - self._step)
        self._step = step

    def train(self, step: int, sums: Totals, learning_rate: float) -> None:
        """Records the totals of the updates since the last call. Raises UserError if a loss among them was not finite.

        It waits for these updates. Otherwise the loop only waits when it evaluates or saves.
        """
        values = means(sums)
        if int(sums.bad_step) != NEVER:
            raise diverged(int(sums.bad_step))
        self._write(step, "train", {**values, "learning_rate": learning_rate, **self._speed(step)})
        self._trained, self._earlier = dict.fromkeys(self._trained, 0.0), dict.fromkeys(self._earlier, 0.0)
        self._waited, self._logged_step = 0.0, step
        self._restart_clock()

    def begin_evaluation(self, state: PyTree) -> None:
        """Counts the time since the last record as training, with that of the updates that still lead to `state`."""
        jax.block_until_ready(state)
        self._trained = self._in_training()
        self._restart_clock()

    def evaluated(self, step: int, split: str, values: dict[str, float]) -> None:
        """Records the errors on a split, 'test' or 'validation'; their time is left out of images per second."""
        self._write(step, split, {**values, **self._spent()})
        self._restart_clock()

    def unrecorded(self) -> dict[str, float]:
        """The time of training since its last record, over all starts, and the time since the run began."""
        return {**self._over_all_starts(self._in_training()), "elapsed": time.perf_counter() - self._began}

    def _speed(self, step: int) -> dict[str, float]:
        """Images per second, the share of time spent waiting for data, and seconds, since the last record of training.

        Evaluations in between are left out. The first two are those of this start.
        """
        spent = self._in_training()
        seconds, images = spent["seconds"], (step - self._logged_step) * self._batch_size
        speed = {"images_per_second": images / seconds, "data_wait": self._waited / seconds}
        return {**speed, **self._over_all_starts(spent)}

    def _over_all_starts(self, spent: Mapping[str, float]) -> dict[str, float]:
        """The time of training since its last record, of which this start has spent `spent`."""
        return {clock: self._earlier[clock] + seconds for clock, seconds in spent.items()}

    def _spent(self) -> dict[str, float]:
        """Seconds by the clock and core-seconds of this process, since a record was written or an evaluation began."""
        return {
            "seconds": time.perf_counter() - self._since,
            "core_seconds": time.process_time() - self._worked,
        }

    def _in_training(self) -> dict[str, float]:
        """The time of training since its last record."""
        return {clock: self._trained[clock] + spent for clock, spent in self._spent().items()}

    def _restart_clock(self) -> None:
        self._since, self._worked = time.perf_counter(), time.process_time()

    def print_line(self, text: str) -> None:
        """Prints a line above the progress line."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def _write(self, step: int, split: str, values: dict[str, Any]) -> None:
        values = {name: value for name, value in values.items() if name not in self._left_out}
        if self._records:
            course = {"epoch": step / self._epoch_steps, "elapsed": time.perf_counter() - self._began}
            self._records.write(step, split, values, course)
        if self._tracker:
            self._tracker.write(step, split, values)
        self.print_line(_line(step, step / self._epoch_steps, split, values))


def write(workdir: pathlib.Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes the numbers of a run that has all of them only at its end, replacing those in the folder."""
    files = _Records(workdir, 0)
    for record in records:
        values = {name: value for name, value in record.items() if name not in RECORD_KEYS}
        course = {name: record[name] for name in ("epoch", "elapsed") if name in record}
        files.write(record["step"], record["split"], values, course)
    files.close()


class _Records:
    """The files of a run's numbers, flushed at each record so that a kill loses none."""

    def __init__(self, workdir: pathlib.Path, first_step: int):
        self._folder = workdir
        with writing(workdir):
            self._file, kept = _reopened(workdir / FILE, first_step)
            before = sum(record.get("seconds", 0.0) for record in kept)  # of an earlier version's run
            self.elapsed = max((record["elapsed"] for record in kept if "elapsed" in record), default=before)
            # tensorboardX's SummaryWriter would write every two minutes, from a thread.
            self._board = _event_file(workdir / "events")
            self._board.write_event(_purge_from(first_step + 1))
            self._board.flush()

    def write(self, step: int, split: str, values: dict[str, Any], course: dict[str, float]) -> None:
        with writing(self._folder):
            self._file.write(json.dumps({"step": step, "split": split, **course, **values}) + "\n")
            self._file.flush()
            self._board.write_event(_scalars(step, split, values))
            self._board.flush()

    def close(self) -> None:
        with writing(self._folder):
            self._file.close()
            self._board.close()


def _event_file(prefix: pathlib.Path) -> Any:
    """A new TensorBoard event file, opened without PyTorch, which tensorboardX would load if it is installed."""
    unused: dict[str, Any] = dict.fromkeys({"torch"} - sys.modules.keys())
    sys.modules.update(unused)
    try:
        from tensorboardX.event_file_writer import EventsWriter
    finally:
        for name in unused:
            del sys.modules[name]
    return EventsWriter(str(prefix))


def _scalars(step: int, split: str, values: dict[str, Any]) -> Any:
    """TensorBoard's record of named numbers."""
    from tensorboardX.proto import event_pb2, summary_pb2

    scalars = [summary_pb2.Summary.Value(tag=f"{split}/{name}", simple_value=value) for name, value in values.items()]
    return event_pb2.Event(wall_time=time.time(), step=step, summary=summary_pb2.Summary(value=scalars))


def _purge_from(step: int) -> Any:
    """The event that makes TensorBoard drop the records from `step` on, since these steps are run again."""
    from tensorboardX.proto import event_pb2

    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    return event_pb2.Event(wall_time=time.time(), step=step, session_log=start)


def _line(step: int, epoch: float, split: str, values: dict[str, float]) -> str:
    text = f"step {step:>8,}  epoch {epoch:7.2f}  {split:<5}  loss {values['loss']:8.4f}  error {values['error']:7.2%}"
    if "images_per_second" in values:
        text += f"  {values['images_per_second']:>9,.0f} images/s  waiting for data {values['data_wait']:.0%}"
    return text


def read(workdir: pathlib.Path, split: str | None = None) -> list[dict[str, Any]]:
    """The records of a run, oldest first. Lines that are not records, such as one cut short by a kill, are ignored."""
    records = filter(_is_record, json_lines(workdir / FILE))
    return [record for record in records if split in (None, record["split"])]


def is_recorded(workdir: pathlib.Path, split: str, step: int) -> bool:
    """True if the numbers of a split at this step are recorded."""
    return any(record["step"] == step for record in read(workdir, split))


class EarlyStopping:
    """The `lowest` error of a run on the split that it watches, and the number of evaluations since."""

    def __init__(self, workdir: pathlib.Path, split: str, step: int, patience: int):
        """Continues from the records up to `step`; `patience` is `config.train.patience`."""
        self.lowest, self._since, self._patience = math.inf, 0, patience
        records = [record for record in read(workdir) if record["step"] <= step]
        for record in records:
            if record["split"] == split:
                self.add(record["error"])
        # A run that stopped early has recorded both splits at this step. A run that was given less patience has not
        # and goes on to its next evaluation.
        self._may_stop = {record["split"] for record in records if record["step"] == step} >= {split, "train"}

    def add(self, error: float) -> bool:
        """Adds an error, a fraction; True if it is below all earlier ones."""
        improved = error < self.lowest
        self.lowest, self._since = min(error, self.lowest), 0 if improved else self._since + 1
        self._may_stop = True
        return improved

    @property
    def should_stop(self) -> bool:
        """True if `patience` evaluations in a row have brought no improvement; never with a patience of 0."""
        return self._may_stop and 0 < self._patience <= self._since


def _is_record(content: dict[str, Any]) -> bool:
    """False for the object in a line that is no record."""
    numbers = all(isinstance(value, int | float) for name, value in content.items() if name != "split")
    return content.keys() >= _NAMES and numbers and isinstance(content["step"], int)


def _reopened(path: pathlib.Path, first_step: int) -> tuple[Any, list[dict[str, Any]]]:
    """The file, opened for appending, without the records of steps that will be run again; and the records it keeps."""
    kept = [record for record in read(path.parent) if record["step"] <= first_step]
    with whole_file(path) as fresh:
        fresh.write_text("".join(json.dumps(record) + "\n" for record in kept))
    return path.open("a"), kept
