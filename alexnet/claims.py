"""The AlexNet paper's claims, and how they are measured here."""

import pathlib

from common.claims import curves
from common.claims.claim import Claim, Experiment
from common.claims.verdicts import Less
from common.run import metrics, workdir

_RELU = Experiment("configs/alexnet_fig1_cifar10.py:relu")
_TANH = Experiment("configs/alexnet_fig1_cifar10.py:tanh")
_TARGET = 0.25  # training error that Figure 1's dashed line crosses


def epochs_to_target(folder: pathlib.Path) -> float:
    """Epochs until the training error, measured as the network learns, is 25% or less.

    Each error is the mean since the previous record (a quarter of an epoch in the config). A run that never gets
    there counts with its whole length, which is then a lower bound (`never_reached`).
    """
    config, info = workdir.load_config(folder), workdir.load_info(folder)
    steps = _target_step(folder) or metrics.read(folder, "train")[-1]["step"]
    return steps * config.train.batch_size / info.train_size


def never_reached(folder: pathlib.Path) -> bool:
    """True for a run that ended with its training error still above 25%."""
    return _target_step(folder) is None


def _target_step(folder: pathlib.Path) -> int | None:
    """The update at which the target was reached; None if it never was."""
    return next((record["step"] for record in metrics.read(folder, "train") if record["error"] <= _TARGET), None)


CLAIMS = [
    Claim(
        id="alexnet-relu-vs-tanh",
        where="Krizhevsky 2012, section 3.1 and Figure 1",
        says="a four-layer network on CIFAR-10 reaches 25% training error six times sooner with ReLU than with tanh",
        runs={"ReLU": _RELU, "tanh": _TANH},
        measure=epochs_to_target,
        paper={"ReLU": 6, "tanh": 36},  # read off the figure
        unit="epochs",
        rules=(Less("ReLU", "tanh", factor=3),),  # the paper's six times is one run of an unnamed network
        figure=curves.error_curves,
        bound=never_reached,
        # A tenth of the training set, which is memorised, so that 25% takes fewer updates.
        quick={"data.limit": 5000, "train.length": "60 epochs", "train.log_every": "1 epoch"},
        short="a tenth of the training set, 60 passes",
    ),
]
