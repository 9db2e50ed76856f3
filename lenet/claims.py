"""The LeNet papers' claims, and how they are measured here."""

from common.claims.claim import Claim, Experiment, final_test_error, final_train_error
from common.claims.verdicts import Agrees, Less, falling
from lenet import claims1989

# One image at a time: a step is too small for two cores.
_TRAIN_SET = {"evaluate.train_set": True}
_MNIST = Experiment("configs/lenet5_mnist.py", _TRAIN_SET, one_core=True)
_DISTORTED = Experiment("configs/lenet5_mnist_distortions.py", _TRAIN_SET, one_core=True)
_QUICK = {"train.length": "2 epochs"}
_SHORT = "a tenth of it; the rates that settle the last tenths of a point come later"
_RANGES = "the ranges of the distortions are ours"


CLAIMS = [
    Claim(
        id="lenet5-mnist-error",
        where="LeCun 1998, section III-B",
        says="LeNet-5 reaches 0.95% test error on MNIST without distortions",
        runs={"LeNet-5": _MNIST},
        measure=final_test_error,
        paper={"LeNet-5": 0.0095},
        data="mnist",
        rules=(Agrees("LeNet-5", 0.0095, margin=0.002),),  # the paper gives its own number as 0.95 +- 0.1
    ),
    Claim(
        id="lenet5-mnist-train-error",
        where="LeCun 1998, section III-B",
        says="its training error after 19 passes is 0.35%",
        runs={"LeNet-5": _MNIST},
        measure=final_train_error,
        paper={"LeNet-5": 0.0035},
        data="mnist",
        rules=(Agrees("LeNet-5", 0.0035, margin=0.001),),
    ),
    Claim(
        id="lenet5-mnist-distort",
        where="LeCun 1998, section III-A",
        says="distorted copies of the training digits lower the test error",
        runs={"LeNet-5": _MNIST, "LeNet-5, distortions": _DISTORTED},
        measure=final_test_error,
        paper={"LeNet-5": 0.0095, "LeNet-5, distortions": 0.008},
        rules=(Less("LeNet-5, distortions", "LeNet-5"),),
        setting=_RANGES,
        quick=_QUICK,
        short=_SHORT,
    ),
    Claim(
        id="lenet5-mnist-distort-error",
        where="LeCun 1998, section III-A",
        says="with distorted copies LeNet-5 reaches 0.8% test error",
        runs={"LeNet-5, distortions": _DISTORTED},
        measure=final_test_error,
        paper={"LeNet-5, distortions": 0.008},
        data="mnist",
        rules=(Agrees("LeNet-5, distortions", 0.008, margin=0.002),),
        setting=_RANGES,
    ),
    Claim(
        id="lenet5-trainset-size",
        where="LeCun 1998, Figure 6",
        says="the test error falls from 15,000 to 30,000 to 60,000 training digits",
        runs={
            "15,000": _MNIST.with_changes({"data.limit": 15_000}),
            "30,000": _MNIST.with_changes({"data.limit": 30_000}),
            "60,000": _MNIST,
        },
        measure=final_test_error,
        rules=falling("15,000", "30,000", "60,000"),
        quick=_QUICK,
        short=_SHORT,
    ),
    *claims1989.CLAIMS,
]
