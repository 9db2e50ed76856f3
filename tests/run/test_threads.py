"""A run whose updates are too small to share computes with one thread on a CPU; other runs have one for each core."""

import os
import pathlib
import subprocess
import sys
import types

import pytest

from common import models
from common.devices import host
from common.run import threads
from tests.slow import rest_slow

_RUN = """
import os, pathlib, sys
from common import train
from tests.small_run import get_config

train.fit(get_config(**{"train.batch_size": int(sys.argv[1]), "train.length": "2 steps"}), pathlib.Path(sys.argv[2]))
names = [path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
print(names.count("tf_XLAEigen"), os.environ.get("PJRT_NPROC"))
"""


def _threads_and_variable(tmp_path, batch_size, **environment):
    command = [sys.executable, "-c", _RUN, str(batch_size), str(tmp_path / "run")]
    ran = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)
    assert not ran.returncode, ran.stderr
    return ran.stdout.split()[-2:]


@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="only Linux lists a process's threads")
@pytest.mark.parametrize(
    ("batch_size", "environment", "expected"),
    rest_slow(
        [
            (1, {}, ["1", "None"]),
            (32, {}, [str(host.cores()), "None"]),
            (1, {"PJRT_NPROC": "3"}, ["3", "3"]),
        ]
    ),
)
def test_small_updates_are_computed_with_one_thread_unless_the_user_says_otherwise(
    tmp_path, batch_size, environment, expected
):
    assert _threads_and_variable(tmp_path, batch_size, **environment) == expected


@pytest.mark.parametrize(
    ("batch_size", "variant", "side", "small"),
    [(1, "lenet5", 32, True), (4, "lenet5", 32, True), (8, "lenet5", 32, False), (16, "lenet1989", 16, True)],
)
def test_the_multiply_adds_of_an_update_decide(batch_size, variant, side, small):
    info = types.SimpleNamespace(num_classes=10, image_shape=(side, side, 1))
    classifier = models.make_classifier(models.section("lenet", variant), info)
    assert threads.is_small(batch_size, classifier) is small
