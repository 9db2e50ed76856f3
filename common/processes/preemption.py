"""Stopping when asked: SIGTERM (a scheduler's) and the first Ctrl-C let the step finish and the state be saved.

Of several processes it is enough that one is asked. JAX's runtime takes the signal, and has all of them agree on an
update that none has passed yet: after it they stop, with the same state.
"""

import os
import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: the same command, given again, continues


class Preempted(Exception):  # noqa: N818
    """The run was asked to stop, and has saved its state."""

    def __init__(self, step: int):
        super().__init__(f"stopped as asked; saved at step {step}; the same command continues from there")
        self.step = step


class Watch:
    """Whether a request to stop has arrived since `__enter__`, in any of the processes."""

    def __init__(self) -> None:
        self._several = jax.process_count() > 1
        self._requested = False
        self._asked = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Watch":
        if threading.current_thread() is threading.main_thread():
            # With several processes SIGTERM stays with JAX's runtime, which tells the others.
            for number in (signal.SIGINT,) if self._several else (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stopping(self) -> bool:
        """Whether to save and stop now. To be called once after each call of updates, by all processes alike."""
        if self._several:
            # The number of calls, not of updates: the runtime agrees on a number and expects to be asked about each.
            self._asked += 1
            return multihost_utils.reached_preemption_sync_point(self._asked)
        return self._requested

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        signal.signal(number, self._before[number])  # a second request stops at once
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
