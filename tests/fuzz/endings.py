"""The rule of every fuzz test: an input is taken or refused in one line, in bounded time and memory.

LINEAGE_FUZZ=N tries N times as many inputs. With LINEAGE_FUZZ_RECORD=FILE the end of each input is a JSON line there,
and a bad end does not fail the test, so that `benchmarks.survival.fuzz` counts them.
"""

import collections
import contextlib
import json
import os
import pathlib
import resource
import signal
import threading

from hypothesis import HealthCheck, settings

from common.errors import UserError, one_line

TIMES = int(os.environ.get("LINEAGE_FUZZ", "1"))
RECORD = os.environ.get("LINEAGE_FUZZ_RECORD", "")
SECONDS, BYTES = 300, 2**31  # far beyond what any of these inputs takes, even on a busy machine
LONGEST_LINE = 1100


class Hung(BaseException):  # so that no `except Exception` takes it for a bad input
    """An input that takes forever."""


def tried(count):
    """The settings of a test that tries `count` inputs in the suite: the same ones each time."""
    return settings(
        max_examples=count * TIMES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def ends_well(kind, act, *arguments):
    """The result of `act`, None where it refuses its input in one line; anything else fails the test."""
    try:
        with _bounded():
            result = act(*arguments)
        _record(kind, "taken")
        return result
    except UserError as error:
        line = one_line(error)
        assert line
        assert len(line.splitlines()) == 1
        assert len(line) < LONGEST_LINE
        _record(kind, "refused in one line")
    except Hung:
        _record(kind, "hang")
        if not RECORD:
            raise AssertionError(f"no end after {SECONDS} s") from None
    except Exception as error:
        _record(kind, "traceback", f"{type(error).__name__}: {error}")
        if not RECORD:
            raise
    return None


def _record(kind, end, detail=""):
    if RECORD:
        with pathlib.Path(RECORD).open("a") as file:
            file.write(json.dumps({"kind": kind, "end": end, "detail": detail[:500]}) + "\n")


def counts(path):
    """The recorded ends, by kind of input and end, and the details of the bad ones."""
    entries = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    ends = collections.Counter((entry["kind"], entry["end"]) for entry in entries)
    return ends, [f"{entry['kind']}: {entry['detail']}" for entry in entries if entry["end"] in ("traceback", "hang")]


@contextlib.contextmanager
def _bounded():
    """Raises Hung after `SECONDS`; an allocation beyond `BYTES` more than now fails with MemoryError."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, _hung)
    timer = signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)  # pytest-timeout's
        signal.signal(signal.SIGALRM, handler)


def _hung(*_):
    raise Hung


def _address_space():
    pages = pathlib.Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()
