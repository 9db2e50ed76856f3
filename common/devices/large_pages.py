"""Large memory pages on Linux: without them a CPU spends up to a quarter of an update on page faults.

XLA takes the memory of each update from malloc and returns it at the end, which costs hundreds of thousands of page
faults per update. glibc's malloc asks for 2 MB pages instead of 4 KB ones if an environment variable says so when the
process starts (https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html).
"""

import os
import pathlib
import sys
from collections.abc import Mapping

_TUNABLES, _WANTED = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
_POLICY = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
_SINCE = (2, 35)  # glibc


def use() -> None:
    """Restarts this process's command with large pages, if they have to be asked for; call it before anything else.

    The new program keeps the process number, open files and arguments. `GLIBC_TUNABLES=glibc.malloc.hugetlb=0` in the
    environment prevents it.
    """
    if _WANTED in os.environ.get(_TUNABLES, "") or not are_opt_in():
        return
    os.environ[_TUNABLES] = tunables(os.environ)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def tunables(environment: Mapping[str, str]) -> str:
    """The value of GLIBC_TUNABLES that asks for large pages and keeps the environment's other tunables."""
    return ":".join(filter(None, [environment.get(_TUNABLES), f"{_WANTED}=1"]))


def are_opt_in() -> bool:
    """True if this kernel gives large pages to programs that ask for them, and this malloc can ask."""
    if sys.platform != "linux" or os.getuid() != os.geteuid():  # the loader drops the tunables of setuid programs
        return False
    try:
        _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        return "[madvise]" in _POLICY.read_text() and tuple(map(int, version.split("."))) >= _SINCE
    except (OSError, ValueError, AttributeError):  # another C library, or no such kernel
        return False
