"""Large pages are asked for once, beside what the user asks of malloc, and not against a user's word."""

import os
import subprocess
import sys

import pytest

from common.devices import large_pages
from tests.runs import ROOT

SAYS = """
import os, sys
from common import launch
def main():
    print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), *sys.argv[1:])
launch.run(main)
"""
UNSET = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
asked = pytest.mark.skipif(not large_pages._on_request(), reason="this machine gives large pages to all or to none")


def start(**variables):
    """(process number, what a tool says) with these environment variables."""
    command = [sys.executable, "-c", SAYS, "--undefok=name", "--name=a b"]
    process = subprocess.Popen(command, cwd=ROOT, env=UNSET | variables, stdout=subprocess.PIPE, text=True)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    return process.pid, said.strip()


@asked
def test_a_tool_starts_again_once_as_the_same_process_with_the_same_arguments():
    number, said = start()
    assert said == f"{number} glibc.malloc.hugetlb=1 --undefok=name --name=a b"


@asked
def test_a_users_word_holds():
    number, said = start(GLIBC_TUNABLES="glibc.malloc.hugetlb=0")
    assert said == f"{number} glibc.malloc.hugetlb=0 --undefok=name --name=a b"


@asked
def test_memory_is_in_large_pages():
    code = """
from common.devices import large_pages
large_pages.use()
held = b"x" * 2**26
print(sum(int(line.split()[1]) for line in open("/proc/self/smaps") if line.startswith("AnonHugePages")))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=UNSET, capture_output=True, text=True)
    assert int(done.stdout) > 50_000, done.stderr  # kB, of 64 MB


def test_other_tunables_stay():
    assert large_pages.tunables({}) == "glibc.malloc.hugetlb=1"
    found = large_pages.tunables({"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"})
    assert found == "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"
