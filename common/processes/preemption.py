"""Stopping on request: on SIGTERM (from a scheduler), SIGHUP or the first Ctrl-C a run finishes its step and saves.

With several processes, a signal to one is enough. JAX's runtime handles it and makes all processes agree on an update
that none of them has passed yet. They stop after that update, with the same state.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable

import jax
from jax.experimental import multihost_utils

from common.processes import signals

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
        self._asked = 0
        self._requested: Callable[[], bool] = lambda: False
        self._noticing = contextlib.ExitStack()

    def __enter__(self) -> "Watch":
        if threading.current_thread() is threading.main_thread():
            # With several processes JAX's runtime handles SIGTERM and tells the others.
            noticed = (
                signals.noticed((signal.SIGINT, signal.SIGHUP), also=_terminate) if self._several else signals.noticed()
            )
            self._requested = self._noticing.enter_context(noticed)
        return self

    def __exit__(self, *_: object) -> None:
        self._noticing.close()

    def stopping(self) -> bool:
        """True if it is time to save and stop; every process calls it once after each call of updates."""
        if self._several:
            # We count calls, not updates: processes agree on a number, and the runtime expects calls for all numbers up
            # to it.
            self._asked += 1
            return multihost_utils.reached_preemption_sync_point(self._asked)
        return self._requested()


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
