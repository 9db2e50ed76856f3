"""The ResNet paper's claims about CIFAR-10, and how they are measured here."""

import functools

from common.claims import curves, protocol_errors
from common.claims.claim import Claim, Experiment, final_test_error, final_train_error
from common.claims.verdicts import Agrees, Less, decreasing
from resnet import measures

# ResNet-20 and its relatives at half the width, for comparisons that take minutes on one core. At the paper's rate of
# 0.1 a 56-layer ResNet spends its first epoch recovering from its first updates (in PyTorch too), so all networks train
# at a fifth of it.
_SMALL = {
    "model.width": 8,
    "data.limit": 10_000,
    "train.batch_size": 64,
    "train.length": "940 steps",
    "train.log_every": "47 steps",
    "evaluate.every": "940 steps",
    "checkpoint.every": "940 steps",
    "schedule.boundaries": ("705 steps",),
    "schedule.rates": (0.02, 0.002),
}
_SMALL_SHORT = "half the width, a fifth of the images, six epochs"
# Degradation shows only near convergence. Judging by the cost of a shorter schedule, three seeds of all networks take
# up to three hours on two cores. The rates fall where the paper's do, after a half and three quarters of the updates.
_THREE_HOURS = {
    **_SMALL,
    "data.limit": 5_000,
    "train.length": "60 epochs",
    "train.log_every": "2 epochs",
    "evaluate.every": "10 epochs",
    "checkpoint.every": "10 epochs",
    "schedule.boundaries": ("30 epochs", "45 epochs"),
    "schedule.rates": (0.02, 0.002, 0.0002),
}
_PAPER = {"20": 0.0875, "32": 0.0751, "44": 0.0717, "56": 0.0697, "110": 0.0661}
# A test set of 10,000 gives the paper's numbers a spread of half a point; ResNet-110 varies by 0.16 between runs.
_MARGIN = 0.01


def _experiment(variant: str, one_core: bool = False) -> Experiment:
    return Experiment(f"configs/resnet_cifar10.py:{variant}", {"evaluate.train_set": True}, one_core=one_core)


def _shortcut(option: str) -> Experiment:
    """ResNet-20 with a kind of shortcut, on one core, because claims on it compare many small runs."""
    if option == "none":
        return Experiment("configs/resnet_cifar10.py:plain20", one_core=True)
    return Experiment("configs/resnet_cifar10.py:resnet20", {"model.shortcut": option}, one_core=True)


def _test_error(depth: str, number: float) -> Claim:
    name = f"ResNet-{depth}"
    return Claim(
        id=f"resnet-cifar-{depth}",
        where="He 2016, Table 6",
        says=f"{name} has {100 * number:.2f}% test error on CIFAR-10",
        runs={name: _experiment(f"resnet{depth}")},
        measure=final_test_error,
        paper={name: number},
        data="cifar10",
        rules=(Agrees(name, number, _MARGIN, examples=10_000),),
        seeds=5 if depth == "110" else 3,
    )


CLAIMS = [
    Claim(
        id="resnet-plain56-worse-than-plain20",
        where="He 2016, section 4.2, Figures 1 and 6",
        says="more layers raise the training error of a plain network; shortcuts lower that of the deeper one",
        runs={
            "plain-20": _experiment("plain20", one_core=True),
            "plain-56": _experiment("plain56", one_core=True),
            "ResNet-20": _experiment("resnet20", one_core=True),
            "ResNet-56": _experiment("resnet56", one_core=True),
        },
        measure=final_train_error,
        rules=(Less("plain-20", "plain-56"), Less("ResNet-56", "plain-56")),
        quick=_THREE_HOURS,
        short="half the width, a tenth of the images, 60 epochs instead of 164; an earlier look, at twelve "
        "epochs of a fifth of the images, only showed how the networks start",
        figure=functools.partial(curves.error_curves, in_epochs=True),
        shows="Figure 6, left and middle: the deeper plain network has the higher training and test error, the deeper "
        "residual network the lower",
    ),
    Claim(
        id="resnet-plain110-fails",
        where="He 2016, section 4.2",
        says="a plain network of 110 layers has a test error above 60%",
        runs={"plain-110": _experiment("plain110")},
        measure=final_test_error,
        data="cifar10",
        rules=(Less(0.6, "plain-110"),),
    ),
    Claim(
        id="resnet-cifar-depth-helps",
        where="He 2016, section 4.2, Figure 6",
        says="the test error of residual networks falls from 20 to 110 layers",
        runs={f"ResNet-{depth}": _experiment(f"resnet{depth}", one_core=True) for depth in _PAPER},
        measure=final_test_error,
        paper={f"ResNet-{depth}": number for depth, number in _PAPER.items()},
        rules=decreasing(*(f"ResNet-{depth}" for depth in _PAPER)),
        quick=_SMALL,
        short=f"{_SMALL_SHORT}, which only show how the networks start",
        figure=curves.error_curves,
        shows="Figure 6, middle: training and test error fall with depth from 20 to 110 layers",
    ),
    Claim(
        id="resnet-shortcut-abc-order",
        where="He 2016, section 4.1, Table 3",
        says="all shortcuts are far better than a plain network; C is slightly better than B, and B than A",
        runs={"plain": _shortcut("none"), "A": _shortcut("A"), "B": _shortcut("B"), "C": _shortcut("C")},
        measure=final_test_error,
        paper={"plain": 0.2854, "A": 0.2503, "B": 0.2452, "C": 0.2419},
        rules=decreasing("plain", "A", "B", "C"),
        seeds=5,
        setting="20 layers on CIFAR-10; the paper's numbers are of 34 layers on ImageNet",
        quick=_SMALL,
        short=_SMALL_SHORT,
    ),
    Claim(
        id="resnet-layer-response-std",
        where="He 2016, section 4.2, Figure 7",
        says="the layers of a residual network respond less than those of a plain one",
        runs={"plain-20": _shortcut("none"), "ResNet-20": _shortcut("A")},
        measure=measures.mean_response,
        unit="sd",
        figure=measures.draw_responses,
        shows="Figure 7: the responses of a residual network's layers are smaller than those of a plain network's, and "
        "smaller still in deeper residual networks",
        rules=(Less("ResNet-20", "plain-20"),),
        seeds=5,
        quick=_SMALL,
        short=_SMALL_SHORT,
        keeps=True,
    ),
    Claim(
        id="resnet-ensemble-helps",
        where="He 2016, Table 5 (six networks on ImageNet: 3.57% top-5 error)",
        says="the mean probabilities of three networks have a lower error than one network",
        runs={"gain": _shortcut("A")},
        measure=protocol_errors.ensemble_gain,
        rules=(Less(0.0, "gain"),),
        members=3,
        setting="three networks of 20 layers on CIFAR-10",
        quick=_SMALL,
        short=_SMALL_SHORT,
        keeps=True,
    ),
    *(_test_error(depth, number) for depth, number in _PAPER.items()),
]
