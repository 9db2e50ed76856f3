"""Claims of the GoogLeNet paper, measured on CIFAR-10, so only as comparisons."""

import functools

from common.claims import protocol_errors
from common.claims.cifar10 import COLOURS
from common.claims.claim import Claim, Experiment, final_test_error
from common.claims.verdicts import Close, Less
from googlenet import measures

_SMALL = Experiment("configs/googlenet_cifar10.py", one_core=True)
# Images a little larger than the network's input, in the paper's proportion of 256 to 224 pixels.
_CROPPED = _SMALL.with_changes(
    {"data.resize": 36, "data.crop": 32, "data.train_crop": "random", "augment.crop_pad": 0, **COLOURS}
)
_QUICK = {
    "model.width": 0.125,
    "data.limit": 10_000,
    "train.batch_size": 64,
    "train.length": "4 epochs",
    "evaluate.every": "4 epochs",
    "checkpoint.every": "4 epochs",
    "schedule.learning_rate": 0.05,
    "schedule.warmup": "0 steps",
}

_SHORT = "an eighth of the width, a fifth of the images in 16x16 pixels, four epochs"

_claim = functools.partial(
    Claim,
    seeds=5,
    setting="CIFAR-10, a small network with batch normalisation",
    short=_SHORT,
)
_crops = functools.partial(
    _claim,
    runs={"gain": _CROPPED},
    rules=(Less(0.0, "gain"),),
    quick={**_QUICK, "data.resize": 18, "data.crop": 16},
    keeps=True,
)

CLAIMS = [
    _claim(
        id="googlenet-aux-small-effect",
        where="Szegedy 2014, section 5 (about half a point, in the CVPR version)",
        says="the auxiliary classifiers change the test error by less than 2 points",
        runs={"with": _SMALL, "without": _SMALL.with_changes({"model.auxiliary": False})},
        measure=final_test_error,
        rules=(Close("with", "without", margin=0.02),),
        quick={**_QUICK, "data.resize": 16, "augment.crop_pad": 2},
    ),
    _crops(
        id="googlenet-1m-10c",
        where="Szegedy 2014, Table 3 (10.07% and 9.15% top-5)",
        says="ten crops have a lower error than one",
        measure=functools.partial(protocol_errors.gain, protocol="ten_crop"),
    ),
    _crops(
        id="googlenet-1m-144c",
        where="Szegedy 2014, Table 3 (9.15% and 7.89% top-5)",
        says="144 crops have a lower error than ten",
        measure=measures.gain_of_144,
        quick_measure=functools.partial(measures.gain_of_144, examples=measures.FEWER),
        short=f"{_SHORT}; judged on the first {measures.FEWER:,} test images",
        figure=measures.draw_errors,
        shows="Table 3: the top-5 error falls from 10.07% with one crop to 9.15% with ten and 7.89% with 144",
    ),
]
