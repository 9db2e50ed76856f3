"""The ResNet paper's claims about CIFAR-10, and how they are measured here."""

from common.claims import curves
from common.claims.claim import Claim, Experiment, Values, final_test_error, final_train_error, mean

# A first look: four epochs, with one drop of the learning rate. At the paper's rate of 0.1 a 56-layer ResNet spends its
# first epoch recovering from its first updates (in PyTorch too), so all networks train at a fifth of it.
_QUICK = {
    "train.length": "1600 steps",
    "train.log_every": "20 steps",
    "evaluate.every": "400 steps",
    "checkpoint.every": "800 steps",
    "schedule.boundaries": ("1200 steps",),
    "schedule.rates": (0.02, 0.002),
}
_PAPER = {"20": 0.0875, "32": 0.0751, "44": 0.0717, "56": 0.0697, "110": 0.0661}
# ResNet-110 varies by 0.16 points between runs (Table 6); the paper reports one run of each other network.
_TOLERANCE = 0.004


def _experiment(variant: str) -> Experiment:
    return Experiment(f"configs/resnet_cifar10.py:{variant}")


def _depth_helps(errors: Values) -> bool:
    means = [mean(errors[f"ResNet-{depth}"]) for depth in _PAPER]
    return means == sorted(means, reverse=True)


def _test_error(depth: str, number: float) -> Claim:
    name = f"ResNet-{depth}"
    return Claim(
        id=f"resnet-cifar-{depth}",
        where="He 2016, Table 6",
        says=f"{name} has {100 * number:.2f}% test error on CIFAR-10",
        runs={name: _experiment(f"resnet{depth}")},
        measure=final_test_error,
        paper={name: number},
        holds=lambda errors: mean(errors[name]) <= number + _TOLERANCE,
        seeds=5 if depth == "110" else 3,
        quick=_QUICK,
    )


CLAIMS = [
    Claim(
        id="resnet-plain56-worse-than-plain20",
        where="He 2016, section 4.2, Figures 1 and 6",
        says="a plain network's training error rises with depth; with shortcuts the deep network's is the lower",
        runs={
            "plain-20": _experiment("plain20"),
            "plain-56": _experiment("plain56"),
            "ResNet-20": _experiment("resnet20"),
            "ResNet-56": _experiment("resnet56"),
        },
        measure=final_train_error,
        holds=lambda errors: (
            mean(errors["plain-56"]) > mean(errors["plain-20"]) and mean(errors["ResNet-56"]) < mean(errors["plain-56"])
        ),
        quick=_QUICK,
        figure=curves.error_curves,
    ),
    Claim(
        id="resnet-plain110-fails",
        where="He 2016, section 4.2",
        says="a plain network of 110 layers has a test error above 60%",
        runs={"plain-110": _experiment("plain110")},
        measure=final_test_error,
        holds=lambda errors: mean(errors["plain-110"]) > 0.6,
        quick=_QUICK,
    ),
    Claim(
        id="resnet-cifar-depth-helps",
        where="He 2016, section 4.2, Figure 6",
        says="the test error of residual networks falls from 20 to 110 layers",
        runs={f"ResNet-{depth}": _experiment(f"resnet{depth}") for depth in _PAPER},
        measure=final_test_error,
        paper={f"ResNet-{depth}": number for depth, number in _PAPER.items()},
        holds=_depth_helps,
        quick=_QUICK,
        figure=curves.error_curves,
    ),
    *(_test_error(depth, number) for depth, number in _PAPER.items()),
]
