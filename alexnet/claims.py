"""The AlexNet paper's claims, measured on CIFAR-10, so mostly as comparisons.

Each trick is measured alone: two runs of a small network differ in nothing else.
"""

import functools

from common.claims import curves, protocol_errors, targets
from common.claims.cifar10 import COLOURS
from common.claims.claim import Claim, Experiment, final_test_error
from common.claims.verdicts import Less

_RELU = Experiment("configs/alexnet_fig1_cifar10.py:relu")
_TANH = Experiment("configs/alexnet_fig1_cifar10.py:tanh")
_TARGET = 0.25  # training error that Figure 1's dashed line crosses

# 23 of 32 pixels (the author cut 24): the poolings then leave 11, 5 and 2 of them, with 2x2 as with 3x3 windows.
_CROP = {"data.crop": 23, "augment.crop_pad": 0, "data.train_crop": "centre"}
# A quarter of the width and a tenth of the images, which the network can learn by heart.
_QUICK = {
    "model.widths": (16, 32, 48, 48, 32),
    "model.fc_width": 256,
    "data.limit": 5000,
    "train.length": "30 epochs",
    "evaluate.every": "30 epochs",
    "checkpoint.every": "30 epochs",
    "schedule.warmup": "0 steps",
}
_SHORT = "a quarter of the width, a tenth of the images, 30 epochs"

# The small network, trained on the centres of images and their mirror images, which fit in memory.
_BASE = Experiment("configs/alexnet_cifar10.py", _CROP, one_core=True)
_CROPS = _BASE.with_changes({"data.train_crop": "random", **COLOURS})
_AUTHORS = Experiment("configs/alexnet_author_cifar10.py", one_core=True)

_trick = functools.partial(
    Claim,
    measure=final_test_error,
    seeds=5,
    setting="CIFAR-10 and a small network",
    quick=_QUICK,
    short=_SHORT,
)

CLAIMS = [
    _trick(
        id="alexnet-dropout",
        where="Krizhevsky 2012, section 4.2",
        says="dropout lowers the test error",
        runs={"without": _BASE.with_changes({"model.dropout": 0.0}), "with": _BASE},
        rules=(Less("with", "without"),),
    ),
    _trick(
        id="alexnet-crops",
        where="Krizhevsky 2012, section 4.1",
        says="random crops and mirror images lower the test error",
        runs={"without": _BASE.with_changes({"augment.mirror": False, **COLOURS}), "with": _CROPS},
        rules=(Less("with", "without"),),
    ),
    _trick(
        id="alexnet-2010-single-view",
        where="Krizhevsky 2012, section 6, Table 1 (39.0% with one view, 37.5% with ten)",
        says="ten views of a test image have a lower error than its centre",
        runs={"gain": _CROPS},
        measure=functools.partial(protocol_errors.gain, protocol="ten_crop"),
        rules=(Less(0.0, "gain"),),
        keeps=True,
    ),
    _trick(
        id="alexnet-overlap-pool",
        where="Krizhevsky 2012, section 3.4 (0.4 points)",
        says="overlapping pooling has a lower test error",
        runs={"2x2 windows": _BASE.with_changes({"model.overlapping_pooling": False}), "3x3 windows": _BASE},
        rules=(Less("3x3 windows", "2x2 windows"),),
    ),
    _trick(
        id="alexnet-pca-colour",
        where="Krizhevsky 2012, section 4.1 (over 1 point)",
        says="shifts of the colour lower the test error",
        runs={"without": _BASE, "with": _BASE.with_changes({"augment.pca_colour": 0.1})},
        rules=(Less("with", "without"),),
    ),
    Claim(
        id="alexnet-lrn-cifar10",
        where="Krizhevsky 2012, section 3.3",
        says="local response normalisation lowers the test error of a four-layer network on CIFAR-10",
        runs={
            "without": _AUTHORS.with_changes({"model.lrn": False}),
            "with": _AUTHORS.with_changes({"model.lrn": True}),
        },
        measure=final_test_error,
        paper={"without": 0.13, "with": 0.11},
        rules=(Less("with", "without"),),
        seeds=5,
        setting="both networks have the same width; the author's normalised network is wider",
        quick={
            "model.widths": (16, 16, 16, 16),
            "data.limit": 10_000,
            "train.length": "15 epochs",
            "evaluate.every": "15 epochs",
            "checkpoint.every": "15 epochs",
            "schedule.learning_rate": 3e-3,
        },
        short="a quarter to a half of the width, a fifth of the images, 15 epochs",
    ),
    Claim(
        id="alexnet-relu-vs-tanh",
        where="Krizhevsky 2012, section 3.1 and Figure 1",
        says="a four-layer network on CIFAR-10 reaches 25% training error at least three times sooner "
        "with ReLU than with tanh",
        runs={"ReLU": _RELU, "tanh": _TANH},
        measure=functools.partial(targets.epochs_until, error=_TARGET),
        paper={"ReLU": 6, "tanh": 36},  # read off the figure
        unit="epochs",
        rules=(Less("ReLU", "tanh", factor=3),),  # half of the paper's factor, which is that of one run
        setting="learning rates, the fastest of two for ReLU and of three for tanh, chosen on a tenth of the images; "
        "both are at an end of those tried",
        figure=functools.partial(curves.error_curves, in_epochs=True, target=_TARGET),
        shows="the ReLU network's training error falls below the dashed 25% line near epoch 6, "
        "the tanh network's near epoch 36",
        bound=functools.partial(targets.never_reached, error=_TARGET),
        # A tenth of the training set, which is memorised, so that 25% takes fewer updates.
        quick={"data.limit": 5000, "train.length": "60 epochs", "train.log_every": "1 epoch"},
        short="a tenth of the training set, 60 passes",
    ),
]
