"""The AlexNet paper's claims, and how they are measured here."""

import functools

from common.claims import curves, targets
from common.claims.claim import Claim, Experiment
from common.claims.verdicts import Less

_RELU = Experiment("configs/alexnet_fig1_cifar10.py:relu")
_TANH = Experiment("configs/alexnet_fig1_cifar10.py:tanh")
_TARGET = 0.25  # training error that Figure 1's dashed line crosses


CLAIMS = [
    Claim(
        id="alexnet-relu-vs-tanh",
        where="Krizhevsky 2012, section 3.1 and Figure 1",
        says="a four-layer network on CIFAR-10 reaches 25% training error six times sooner with ReLU than with tanh",
        runs={"ReLU": _RELU, "tanh": _TANH},
        measure=functools.partial(targets.epochs_until, error=_TARGET),
        paper={"ReLU": 6, "tanh": 36},  # read off the figure
        unit="epochs",
        rules=(Less("ReLU", "tanh", factor=3),),  # the paper's six times is one run of an unnamed network
        figure=curves.error_curves,
        bound=functools.partial(targets.never, error=_TARGET),
        # A tenth of the training set, which is memorised, so that 25% takes fewer updates.
        quick={"data.limit": 5000, "train.length": "60 epochs", "train.log_every": "1 epoch"},
        short="a tenth of the training set, 60 passes",
    ),
]
