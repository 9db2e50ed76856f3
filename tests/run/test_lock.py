"""Tests that two processes never train in one folder at the same time."""

import os
import signal
import subprocess
import sys

import pytest

from common.errors import UserError
from common.run import lock
from tests.runs import ROOT

HOLDER = """
import pathlib, sys, time
from common.run import lock
with lock.held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_in_one_line_that_names_the_first(tmp_path):
    process = holder(tmp_path)
    try:
        said = rf"is in use by process {process.pid} on .* since 20"
        with pytest.raises(UserError, match=said) as error, lock.held(tmp_path):
            pass
        assert "\n" not in str(error.value)
        with lock.held(tmp_path, primary=False):  # another process of the same run
            pass
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_ends_in_any_way_leaves_no_lock(tmp_path, number):
    process = holder(tmp_path)
    process.send_signal(number)
    process.wait()
    with lock.held(tmp_path):
        pass
    with lock.held(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write workdir"), lock.held(tmp_path / "file" / "run"):
        pass


def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_written(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(UserError, match=r"workdir '.*caf\\xe9' has a name that is not UTF-8"), lock.held(folder):
        pass
    assert not list(tmp_path.iterdir())
