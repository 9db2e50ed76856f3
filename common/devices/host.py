"""The processor cores and the memory that this process has."""

import os
import pathlib
import re
import resource
import sys


def cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def resident_memory() -> int:
    """Bytes of memory that this process holds now; on a system without /proc, the most that it has held."""
    return _status("VmRSS") or peak_resident_memory()


def peak_resident_memory() -> int:
    """The most bytes of memory that this process has held."""
    # Linux counts the memory of the parent in a new process's getrusage, but not in its VmHWM.
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int:
    """A number of bytes from Linux's /proc/self/status, 0 elsewhere."""
    path = pathlib.Path("/proc/self/status")
    found = re.search(rf"^{name}:\s*(\d+) kB$", path.read_text(), re.MULTILINE) if path.exists() else None
    return 1024 * int(found[1]) if found else 0
