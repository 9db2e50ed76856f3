"""A run that takes a second: a network of two layers learns digits of 8x8 pixels. Also a config file of commands."""

import functools
import pathlib
import tempfile

import pytest

from common import models, train
from common.config import base
from common.processes import preemption

CONFIG = "--config=tests/small_run.py"
_FOLDER = tempfile.TemporaryDirectory(prefix="small-run-")


def get_config(**changes):
    """The config of the run, with these options changed; an epoch has 26 updates."""
    config = base(models.section("lenet", "mlp", hidden=(8,), image_size=8, output="softmax"))
    config.model.loss.name = "cross_entropy"
    config.data.limit = 208
    config.train.batch_size = 8
    config.train.length = "2 epochs"
    config.mesh.devices = 1
    config.update_from_flattened_dict(changes)
    return config


@functools.cache
def small_run() -> pathlib.Path:
    """The run's folder; trained when it is first asked for. Not to be written to."""
    folder = pathlib.Path(_FOLDER.name)
    train.fit(get_config(**{"evaluate.train_set": True}), folder)
    return folder


def train_and_stop(config, folder, updates, monkeypatch):
    """Trains in a folder and stops the run, as a signal does, after this number of calls of one update each."""
    calls = iter(range(updates))
    with monkeypatch.context() as patched:
        patched.setattr(preemption.Watch, "stopping", lambda watch: next(calls) == updates - 1)
        with pytest.raises(preemption.Preempted):
            train.fit(config, folder)
