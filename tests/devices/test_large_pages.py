"""Tests that large pages are requested once, beside the user's own tunables, and not if the user has refused them."""

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
on_request = pytest.mark.skipif(
    not large_pages.are_opt_in(), reason="this machine gives large pages to all programs or to none"
)


def start(**variables):
    """(process number, output) of a tool with these environment variables."""
    command = [sys.executable, "-c", SAYS, "--undefok=name", "--name=a b"]
    process = subprocess.Popen(command, cwd=ROOT, env=UNSET | variables, stdout=subprocess.PIPE, text=True)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    return process.pid, said.strip()


@on_request
def test_a_tool_starts_again_once_as_the_same_process_with_the_same_arguments():
    number, said = start()
    assert said == f"{number} glibc.malloc.hugetlb=1 --undefok=name --name=a b"


@on_request
def test_a_user_can_refuse_large_pages():
    number, said = start(GLIBC_TUNABLES="glibc.malloc.hugetlb=0")
    assert said == f"{number} glibc.malloc.hugetlb=0 --undefok=name --name=a b"


@on_request
def test_memory_is_in_large_pages():
    code = """
from common.devices import large_pages
large_pages.use()
held = b"x" * 2**26
print(sum(int(line.split()[1]) for line in open("/proc/self/smaps") if line.startswith("AnonHugePages")))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=UNSET, capture_output=True, text=True)
    assert int(done.stdout) > 50_000, done.stderr  # kB, of 64 MB


def test_other_tunables_are_kept():
    assert large_pages.tunables({}) == "glibc.malloc.hugetlb=1"
    found = large_pages.tunables({"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"})
    assert found == "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"
