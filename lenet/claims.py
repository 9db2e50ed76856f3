"""The LeNet papers' claims, and how they are measured here."""

from common.claims.claim import Claim, Experiment, Values, final_test_error, final_train_error, mean

_MNIST = Experiment("configs/lenet5_mnist.py")
_DISTORTED = Experiment("configs/lenet5_mnist_distortions.py")
_USPS = Experiment("configs/lenet1989_usps.py")
_QUICK = {"train.length": "2 epochs"}
# Runs of the 1989 network vary by a quarter of a point, more than they miss the paper's number by, so the claims on it
# take many seeds.
_USPS_SEEDS = 25


def _falls_with_more_data(errors: Values) -> bool:
    return mean(errors["15,000"]) > mean(errors["30,000"]) > mean(errors["60,000"])


CLAIMS = [
    Claim(
        id="lenet5-mnist-error",
        where="LeCun 1998, section III-B",
        says="LeNet-5 reaches 0.95% test error on MNIST without distortions",
        runs={"LeNet-5": _MNIST},
        measure=final_test_error,
        paper={"LeNet-5": 0.0095},
        holds=lambda errors: mean(errors["LeNet-5"]) <= 0.010,  # the paper's own uncertainty is 0.1 points
        quick=_QUICK,
    ),
    Claim(
        id="lenet5-mnist-train-error",
        where="LeCun 1998, section III-B",
        says="its training error after 19 passes is 0.35%",
        runs={"LeNet-5": _MNIST},
        measure=final_train_error,
        paper={"LeNet-5": 0.0035},
        holds=lambda errors: mean(errors["LeNet-5"]) <= 0.0045,
        quick=_QUICK,
    ),
    Claim(
        id="lenet5-mnist-distort",
        where="LeCun 1998, section III-A",
        says="distorted copies of the training digits lower the test error to 0.8%",
        runs={"LeNet-5": _MNIST, "LeNet-5, distortions": _DISTORTED},
        measure=final_test_error,
        paper={"LeNet-5": 0.0095, "LeNet-5, distortions": 0.008},
        holds=lambda errors: (
            mean(errors["LeNet-5, distortions"]) <= 0.0085
            and mean(errors["LeNet-5, distortions"]) < mean(errors["LeNet-5"])
        ),
        quick=_QUICK,
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
        holds=_falls_with_more_data,
        quick=_QUICK,
    ),
    Claim(
        id="zip89-test-error",
        where="LeCun 1989, section 5",
        says="the 1989 network makes 5.0% errors on the 2,007 USPS test digits after 23 passes",
        runs={"Zip-89": _USPS},
        measure=final_test_error,
        paper={"Zip-89": 0.05},
        holds=lambda errors: mean(errors["Zip-89"]) <= 0.05,
        seeds=_USPS_SEEDS,
        quick=_QUICK,
    ),
    Claim(
        id="zip89-train-error",
        where="LeCun 1989, section 5",
        says="and 0.14% on the 7,291 training digits",
        runs={"Zip-89": _USPS},
        measure=final_train_error,
        paper={"Zip-89": 0.0014},
        holds=lambda errors: mean(errors["Zip-89"]) <= 0.0030,
        seeds=_USPS_SEEDS,
        quick=_QUICK,
    ),
]
