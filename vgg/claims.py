"""Claims of the VGG paper, and of the one on batch normalisation, on small VGG networks and CIFAR-10.

The papers' numbers are for ImageNet, so only comparisons are tested here. `--scale=paper` has the full-width networks.
"""

import dataclasses
import functools

from common.claims import curves, protocol_errors, targets
from common.claims.cifar10 import COLOURS
from common.claims.claim import Claim, Experiment, final_test_error
from common.claims.verdicts import Close, Less, decreasing

# Networks an eighth as wide, which learn in minutes on one core. Their narrow fully connected layers learn nothing from
# weights of sd 0.01, and dropout is too much for them.
_SMALL = {
    "model.width": 8,
    "model.fc_width": 128,
    "model.dropout": 0.0,
    "model.weight_init": "glorot",
    "data.limit": 10_000,
    "train.batch_size": 64,
    "train.length": "10 epochs",
    "train.log_every": "0.5 epochs",
    "evaluate.every": "10 epochs",
    "checkpoint.every": "10 epochs",
    "schedule.warmup": "0 steps",
}
_SHORT = "an eighth of the width, a fifth of the images, ten epochs"
_SETTING = "CIFAR-10 instead of ImageNet"
_NORMALISED = f"{_SETTING}, with batch normalisation, so that networks of every depth learn"
_EQUAL = 0.015  # errors that differ by less count as equal: twice the variation of such networks between seeds
_TARGET = 0.6  # training error that the plain network reaches in the short schedule


def _vgg(variant: str) -> Experiment:
    return Experiment(f"configs/vgg_cifar10.py:{variant}", one_core=True)


def _glorot(variant: str) -> Experiment:
    """A network from Glorot's initial weights, which the short schedule has anyway, instead of the config's."""
    return _vgg(variant).with_changes({"model.weight_init": "glorot"})


def _constant(variant: str, rate: float, scale: float = 1.0) -> Experiment:
    """A network at a learning rate that never falls, from initial weights `scale` times the usual ones."""
    changes = {"schedule.learning_rate": rate, "model.init_scale": scale, "schedule.name": "constant"}
    return _vgg(variant).with_changes({**changes, "schedule.warmup": "0 steps", "train.log_every": "0.25 epochs"})


def _scales(smallest: int, largest: int = 0) -> Experiment:
    """D on crops of 32 pixels from images whose shorter side is drawn from `smallest` to `largest` (0: fixed)."""
    sizes = {"data.resize": smallest, "data.resize_max": largest, "data.crop": 32, "augment.crop_pad": 0}
    return _vgg("vgg16_bn").with_changes({"data.train_crop": "random", **sizes, **COLOURS})


# In the paper's proportions to the network's input of 224 pixels: 256, 384, and 256 to 512 pixels.
_JITTERED = _scales(36, 73)

_comparison = functools.partial(
    Claim,
    measure=final_test_error,
    seeds=5,
    quick={**_SMALL, "schedule.learning_rate": 0.02},
    short=_SHORT,
    setting=_NORMALISED,
)


def _over_dense(protocol: str, id: str, where: str, says: str) -> Claim:
    """A claim that a test protocol has a lower error than dense evaluation at the same scales."""
    gain = functools.partial(protocol_errors.gain, protocol=protocol, over="multi_scale")
    return _comparison(
        id=id,
        where=where,
        says=says,
        runs={"gain": _JITTERED},
        measure=gain,
        # 150 views of all 10,000 test images take longer than the short runs.
        quick_measure=functools.partial(gain, examples=2000),
        rules=(Less(0.0, "gain"),),
        short=f"{_SHORT}; judged on the first 2,000 test images",
        keeps=True,
    )


_normalisation = functools.partial(
    Claim,
    seeds=3,
    quick={name: value for name, value in _SMALL.items() if name != "train.log_every"},
    short=_SHORT,
    setting=f"configuration A on {_SETTING}",
)

CLAIMS = [
    _comparison(
        id="vgg-stack-3x3-vs-7x7",
        where="Simonyan & Zisserman 2014, section 2.3",
        says="three 3x3 layers have a lower error than one 7x7 layer with the same receptive field",
        runs={"one 7x7": _vgg("vgg_single_7x7_bn"), "three 3x3": _vgg("vgg_stacked_3x3_bn")},
        rules=(Less("three 3x3", "one 7x7"),),
    ),
    _comparison(
        id="vgg-shallow-5x5",
        where="Simonyan & Zisserman 2014, section 4.1",
        says="B has a lower error than a network with one 5x5 layer in place of each pair of 3x3 layers",
        runs={"one 5x5": _vgg("vgg_shallow_5x5_bn"), "B": _vgg("vgg13_bn")},
        rules=(Less("B", "one 5x5"),),
    ),
    _comparison(
        id="vgg-depth",
        where="Simonyan & Zisserman 2014, Table 3",
        says="the error falls with depth, from A to B to D",
        runs={"A": _vgg("vgg11_bn"), "B": _vgg("vgg13_bn"), "D": _vgg("vgg16_bn")},
        paper={"A": 0.296, "B": 0.287, "D": 0.27},
        rules=decreasing("A", "B", "D"),
    ),
    _comparison(
        id="vgg-pretraining-from-a",
        where="Simonyan & Zisserman 2014, section 3.1, and its note on Glorot's initial weights",
        says="D is as good from Glorot's initial weights as from the layers of a trained A: pre-training is not needed",
        runs={
            "random": _glorot("vgg16_bn"),
            "from A": dataclasses.replace(_glorot("vgg16_bn"), start=_glorot("vgg11_bn")),
        },
        rules=(Close("random", "from A", _EQUAL),),
    ),
    _comparison(
        id="vgg-3x3-vs-1x1",
        where="Simonyan & Zisserman 2014, section 4.1 and Table 3",
        says="C, which adds a 1x1 layer to three stages, is better than B; D, with 3x3 layers there, is better than C",
        runs={"B": _vgg("vgg13_bn"), "C": _vgg("vgg16_c_bn"), "D": _vgg("vgg16_bn")},
        paper={"B": 0.287, "C": 0.281, "D": 0.27},
        rules=decreasing("B", "C", "D"),
    ),
    _comparison(
        id="vgg-jitter",
        where="Simonyan & Zisserman 2014, Table 3",
        says="trained on a range of scales, D has a lower error than trained on either of two scales",
        runs={"256": _scales(36), "384": _scales(55), "256 to 512": _JITTERED},
        measure=functools.partial(protocol_errors.error, protocol="dense"),
        paper={"256": 0.27, "384": 0.268, "256 to 512": 0.256},
        rules=(Less("256 to 512", "256"), Less("256 to 512", "384")),
        keeps=True,
    ),
    _over_dense(
        "multi_crop",
        id="vgg-multicrop",
        where="Simonyan & Zisserman 2014, Table 5 (24.8% dense, 24.6% crops)",
        says="150 crops have a lower error than dense evaluation at the same three scales",
    ),
    _over_dense(
        "combined",
        id="vgg-multicrop-and-dense",
        where="Simonyan & Zisserman 2014, Table 5 (24.8% dense, 24.4% both)",
        says="crops and dense evaluation together have a lower error than dense evaluation alone",
    ),
    _comparison(
        id="vgg-lrn-useless",
        where="Simonyan & Zisserman 2014, Table 3",
        says="local response normalisation makes no difference",
        # The input is grey levels minus their mean; with variance 1 the normalisation would be a constant factor.
        runs={
            name: _vgg(variant).with_changes({"data.std": (1.0,), "schedule.learning_rate": 3e-3})
            for name, variant in (("A", "vgg11"), ("A-LRN", "vgg11_lrn"))
        },
        paper={"A": 0.296, "A-LRN": 0.297},
        rules=(Close("A", "A-LRN", _EQUAL),),
        setting=_SETTING,
        quick=_SMALL,
    ),
    _normalisation(
        id="bn-faster",
        where="Ioffe & Szegedy 2015, section 4.2.2 (a factor of 2.3 at the same rate)",
        says="with batch normalisation, training reaches the same error in less than half the epochs",
        runs={"plain": _constant("vgg11", 0.03), "normalised": _constant("vgg11_bn", 0.03)},
        measure=functools.partial(targets.epochs_until, error=_TARGET),
        bound=functools.partial(targets.never_reached, error=_TARGET),
        unit="epochs",
        rules=(Less("normalised", "plain", factor=2),),
        figure=functools.partial(curves.error_curves, in_epochs=True, target=_TARGET),
    ),
    _normalisation(
        id="bn-higher-rates",
        where="Ioffe & Szegedy 2015, section 3.3",
        says="at ten times the learning rate the plain network fails and the normalised one learns",
        runs={"plain": _constant("vgg11", 0.3), "normalised": _constant("vgg11_bn", 0.3)},
        measure=final_test_error,
        rules=(Less(0.85, "plain"), Less("normalised", 0.75)),
    ),
    _normalisation(
        id="bn-initialisation",
        where="Ioffe & Szegedy 2015, section 3.3",
        says="with initial weights a quarter as large, the plain network fails and the normalised one loses nothing",
        runs={
            "plain": _constant("vgg11", 0.03),
            "plain, a quarter": _constant("vgg11", 0.03, 0.25),
            "normalised": _constant("vgg11_bn", 0.03),
            "normalised, a quarter": _constant("vgg11_bn", 0.03, 0.25),
        },
        measure=final_test_error,
        rules=(
            Less("plain", "plain, a quarter"),
            Less("normalised, a quarter", "plain, a quarter"),
            Close("normalised", "normalised, a quarter", 0.05),
        ),
        seeds=5,
        setting=f"configuration A on {_SETTING}; five seeds, since three had left it undecided",
    ),
]
