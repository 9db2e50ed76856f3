"""What the AlexNet paper claims, and how it is measured here."""

import pathlib

from common.claims import curves
from common.claims.claim import Claim, Experiment, Values, mean
from common.run import metrics, workdir

_RELU = Experiment("configs/alexnet_fig1_cifar10.py:relu")
_TANH = Experiment("configs/alexnet_fig1_cifar10.py:tanh")
_TARGET = 0.25  # training error that Figure 1's dashed line crosses


def epochs_to_target(folder: pathlib.Path) -> float:
    """Passes over the training set until the training error, measured as the network learns, is 25% or less.

    The error is that of the updates since the record before (a quarter of an epoch in the config). A run that never
    gets there counts with its whole length, which is then a bound (`never_reached`).
    """
    config, info = workdir.load_config(folder), workdir.load_info(folder)
    steps = _target_step(folder) or metrics.read(folder, "train")[-1]["step"]
    return steps * config.train.batch_size / info.train_size


def never_reached(folder: pathlib.Path) -> bool:
    """Whether the run ended with its training error still above 25%."""
    return _target_step(folder) is None


def _target_step(folder: pathlib.Path) -> int | None:
    """The update at which the target was reached; None where it was not."""
    return next((record["step"] for record in metrics.read(folder, "train") if record["error"] <= _TARGET), None)


def _several_times_sooner(epochs: Values) -> bool:
    """Six times in one run of an unnamed network: at least three times here is taken for the same finding."""
    return mean(epochs["tanh"]) >= 3 * mean(epochs["ReLU"])


CLAIMS = [
    Claim(
        id="alexnet-relu-vs-tanh",
        where="Krizhevsky 2012, section 3.1 and Figure 1",
        says="a four-layer network on CIFAR-10 reaches 25% training error six times sooner with ReLU than with tanh",
        runs={"ReLU": _RELU, "tanh": _TANH},
        measure=epochs_to_target,
        paper={"ReLU": 6, "tanh": 36},  # read off the figure
        unit="epochs",
        holds=_several_times_sooner,
        figure=curves.error_curves,
        bound=never_reached,
        # A tenth of the training set, where 25% is reached in fewer updates by remembering it.
        quick={"data.limit": 5000, "train.length": "60 epochs", "train.log_every": "1 epoch"},
    ),
]
