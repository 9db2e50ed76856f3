"""Stopping on request: on SIGTERM (from a scheduler), SIGHUP or the first Ctrl-C a run finishes its step and saves.

With several processes, a signal to one is enough. JAX's runtime handles it and makes all processes agree on an update
that none of them has passed yet. They stop after that update, with the same state.
"""

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: the same command continues


class Preempted(Exception):  # noqa: N818
    """The end of a run that was asked to stop and has saved its state."""

    def __init__(self, step: int):
        super().__init__(f"stopped as asked; saved at step {step}; the same command continues from there")
        self.step = step


class Watch:
    """Watches for requests to stop, in any of the processes, from `__enter__` to `__exit__`."""

    def __init__(self) -> None:
        self._several = jax.process_count() > 1
        self._requested = False
        self._asked = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Watch":
        if threading.current_thread() is threading.main_thread():
            # With several processes JAX's runtime handles SIGTERM and tells the others.
            watched = (
                (signal.SIGINT, signal.SIGHUP) if self._several else (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
            )
            for number in watched:
                if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves SIGHUP
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stopping(self) -> bool:
        """True if it is time to save and stop; every process calls it once after each call of updates."""
        if self._several:
            # We count calls, not updates: processes agree on a number, and the runtime expects calls for all numbers up
            # to it.
            self._asked += 1
            return multihost_utils.reached_preemption_sync_point(self._asked)
        return self._requested

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        signal.signal(number, self._before[number])  # a second request stops at once
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
