"""A watchdog that stops a stalled run and shows where it was stuck."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

EXIT_HUNG = 77  # the run made no progress; the same command continues from the last checkpoint


class Watchdog:
    """Ends the process after `timeout` seconds without a call of `beat`, from `__enter__` on; 0 means never.

    Before that it writes the stack of every thread to standard error.
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
        """Notes that the run is making progress."""
        self._last = time.monotonic()

    def beats(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, with a beat at each call."""

        def call(*args: Any) -> Any:
            self.beat()
            return function(*args)

        return call

    def _watch(self) -> None:
        while not self._over.wait(min(self._timeout / 4, 5.0)):
            silent = time.monotonic() - self._last
            if silent > self._timeout:
                print(f"error: no progress for {silent:.0f} s; the stack of every thread:", file=sys.stderr, flush=True)
                faulthandler.dump_traceback(sys.stderr)
                os._exit(EXIT_HUNG)
