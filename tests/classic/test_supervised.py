"""A classic run that another process started ends with it."""

import pathlib
import subprocess
import sys
import time

import pytest

from tests.runs import ROOT

_PARENT = """
import subprocess, sys
from common.processes import supervise
command = [sys.executable, "-m", "classic.main", *sys.argv[1:]]
process, _ = supervise.start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(process.pid, flush=True)
process.wait()
"""


@pytest.mark.slow
def test_a_run_ends_when_reproduce_is_killed(tmp_path):
    stages = tmp_path / "run" / "stages"
    options = ("--config=configs/classic_digits.py:scspm", f"--workdir={tmp_path / 'run'}")
    command = [sys.executable, "-c", _PARENT, *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        run = pathlib.Path("/proc", parent.stdout.readline().strip())
        while not stages.exists():
            assert parent.poll() is None
            time.sleep(0.05)
        parent.kill()
    while run.exists() and "classic.main" in (run / "cmdline").read_text():
        time.sleep(0.05)
    assert not (tmp_path / "run" / "summary.json").exists()
