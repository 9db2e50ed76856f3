"""Stopping when asked: SIGTERM (a scheduler's) and the first Ctrl-C let the step finish and the state be saved."""

import signal
import threading
from types import FrameType

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: the same command, given again, continues


class Preempted(Exception):  # noqa: N818
    """The run was asked to stop, and has saved its state."""

    def __init__(self, step: int):
        super().__init__(f"stopped as asked; saved at step {step}; the same command continues from there")
        self.step = step


class Watch:
    """Whether a request to stop has arrived since `__enter__`."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Watch":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, self._before[number])  # a second request stops at once
