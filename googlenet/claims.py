"""Claims of the GoogLeNet paper, and how they are measured here: on CIFAR-10, so that only comparisons are."""

from common.claims.claim import Claim, Experiment, final_test_error
from common.claims.verdicts import Close

_SMALL = Experiment("configs/googlenet_cifar10.py", one_core=True)

CLAIMS = [
    Claim(
        id="googlenet-aux-small-effect",
        where="Szegedy 2014, section 5 (about half a point, in the CVPR version)",
        says="the auxiliary classifiers change the test error by less than 2 points",
        runs={"with": _SMALL, "without": _SMALL.with_changes({"model.auxiliary": False})},
        measure=final_test_error,
        rules=(Close("with", "without", margin=0.02),),
        seeds=5,
        setting="CIFAR-10, a small network with batch normalisation",
        quick={
            "model.width": 0.125,
            "data.limit": 10_000,
            "data.resize": 16,
            "augment.crop_pad": 2,
            "train.batch_size": 64,
            "train.length": "4 epochs",
            "evaluate.every": "4 epochs",
            "checkpoint.every": "4 epochs",
            "schedule.learning_rate": 0.05,
            "schedule.warmup": "0 steps",
        },
        short="an eighth of the width, a fifth of the images in 16x16 pixels, four epochs",
    ),
]
