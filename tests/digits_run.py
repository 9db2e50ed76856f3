"""A run that several tests look at: today's LeNet-5 after a few seconds of training on the bundled digits."""

import functools
import pathlib
import tempfile

from common import train
from configs import lenet5_mnist_modern

_FOLDER = tempfile.TemporaryDirectory(prefix="digits-run-")


@functools.cache
def digits_run() -> pathlib.Path:
    """The run's folder; trained when it is first asked for. Not to be written to."""
    config = lenet5_mnist_modern.get_config()
    config.data.source = "digits"
    config.data.resize = 28
    config.data.limit = 300
    config.data.holdout = 0.1
    config.train.batch_size = 16
    config.train.length = "2 epochs"
    config.schedule.warmup = "0 steps"
    config.augment.probability = 0.0
    config.evaluate.train_set = True
    config.mesh.devices = 1
    folder = pathlib.Path(_FOLDER.name)
    train.fit(config, folder)
    return folder
