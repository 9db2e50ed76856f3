"""The processor of this machine, and the cores and the memory that this process has."""

import functools
import os
import pathlib
import platform
import re
import resource
import sys


def cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def processor_facts() -> str:
    """The text of Linux' /proc/cpuinfo; nothing on another system."""
    path = pathlib.Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def processor(facts: str) -> str:
    """The processor's model and widest vectors, or its architecture if the system does not name the model.

    A virtual machine may call several generations of processors the same; results differ with their vectors.

    Args:
      facts: see `processor_facts`.
    """
    if not (model := re.search(r"^model name\s*:\s*(.+)$", facts, re.MULTILINE)):
        return platform.processor() or platform.machine()
    widest = widest_vectors(facts)
    return f"{model[1]} ({widest})" if widest else model[1]


def widest_vectors(facts: str) -> str | None:
    """The widest vectors of an x86 processor, such as 'AVX-512'; None for another. facts: see `processor_facts`."""
    names = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}
    return next((name for flag, name in names.items() if re.search(rf"^flags\s*:.*\b{flag}\b", facts, re.M)), None)


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
