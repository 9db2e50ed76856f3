"""A run that no longer gets on stops by itself, and shows where it stood."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

EXIT_HUNG = 77  # nothing had moved for too long; the same command, given again, continues from the last checkpoint


class Watchdog:
    """Ends the process when `beat` has not been called for `timeout` seconds since `__enter__`; 0 is never.

    Before that, the stack of every thread is written to standard error.
    """

    def __init__(self, timeout: float):
        self._timeout = timeout
        self._last = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")

    def __enter__(self) -> "Watchdog":
        self.beat()
        if self._timeout:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def beat(self) -> None:
        """Say that the run gets on."""
        self._last = time.monotonic()

    def beats(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, each call of which is a beat."""

        def call(*args: Any) -> Any:
            self.beat()
            return function(*args)

        return call

    def _watch(self) -> None:
        while not self._over.wait(min(self._timeout / 4, 5.0)):
            silent = time.monotonic() - self._last
            if silent > self._timeout:
                print(f"error: no progress for {silent:.0f} s; where each thread stands:", file=sys.stderr, flush=True)
                faulthandler.dump_traceback(sys.stderr)
                os._exit(EXIT_HUNG)
