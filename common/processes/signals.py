"""Signals that ask a process to stop: SIGTERM from a scheduler, SIGHUP, and Ctrl-C's SIGINT."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def handled(numbers: Sequence[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[dict[int, Any]]:
    """Calls `handler` for these signals while the block runs; yields the handlers that they have otherwise.

    A signal that is ignored stays so, as nohup leaves SIGHUP. Only the main thread may do this.
    """
    usual = {number: signal.getsignal(number) for number in numbers}
    usual = {number: before for number, before in usual.items() if before != signal.SIG_IGN}
    for number in usual:
        signal.signal(number, handler)
    try:
        yield usual
    finally:
        for number, before in usual.items():
            signal.signal(number, before)


@contextlib.contextmanager
def noticed(numbers: Sequence[int] = REQUESTS, also: Callable[[], None] | None = None) -> Iterator[Callable[[], bool]]:
    """Yields a function that returns True after one of these signals, which then has its usual effect again.

    also: called when such a signal comes.
    """
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(number, usual[number])
        if also is not None:
            also()

    with handled(numbers, note) as usual:
        yield lambda: asked
