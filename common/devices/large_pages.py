"""Memory in large pages on Linux, without which a CPU spends up to a quarter of an update on page faults.

XLA takes the memory of an update from malloc and gives it back at its end, every time: hundreds of thousands of faults
an update. glibc's malloc asks for pages of 2 MB in place of 4 KB when a variable says so before a process starts
(https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html).
"""

import os
import pathlib
import sys
from collections.abc import Mapping

_TUNABLES, _WANTED = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
_POLICY = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
_SINCE = (2, 35)  # glibc


def use() -> None:
    """Start this process's command again with large pages, if it has to ask for them; call it before all else.

    The new program has this one's process number, files and arguments. `GLIBC_TUNABLES=glibc.malloc.hugetlb=0` in the
    environment prevents it.
    """
    if _WANTED in os.environ.get(_TUNABLES, "") or not _on_request():
        return
    os.environ[_TUNABLES] = tunables(os.environ)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def tunables(environment: Mapping[str, str]) -> str:
    """The value of GLIBC_TUNABLES that asks for large pages besides what an environment already asks for."""
    return ":".join(filter(None, [environment.get(_TUNABLES), f"{_WANTED}=1"]))


def _on_request() -> bool:
    """Whether this kernel gives large pages to those that ask, and this malloc can ask."""
    if sys.platform != "linux" or os.getuid() != os.geteuid():  # whose tunables the loader would drop
        return False
    try:
        _, version = os.confstr("CS_GNU_LIBC_VERSION").split()
        return "[madvise]" in _POLICY.read_text() and tuple(map(int, version.split("."))) >= _SINCE
    except (OSError, ValueError, AttributeError):  # another C library, or no such kernel
        return False
