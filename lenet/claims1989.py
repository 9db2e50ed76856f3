"""The claims on the zip-code network of 1989 and on its fully connected baseline, on USPS digits."""

import functools
import pathlib

from common.claims.claim import Claim, Experiment, final_test_error, final_train_error
from common.claims.rejection import rejection_rate
from common.claims.verdicts import Agrees, Less
from common.run import summary

_CHANGES = {"evaluate.train_set": True}
# These train on one image at a time, and such a step is too small for two cores.
_NETWORK = Experiment("configs/lenet1989_usps.py", _CHANGES, one_core=True)
_MLP = Experiment("configs/mlp1989_usps.py", _CHANGES, one_core=True)
# The 1989 network's error varies by a quarter of a point between seeds, so the claims on it take many.
_SEEDS = 25
_MLP_SEEDS = 10
# The paper gives neither; everything else is as in the paper.
_CHOSEN = "learning rate and mu chosen on a validation set"
_HALF = (
    "half the mean over the outputs; the paper does not say how it counts, and we chose this reading because it fits"
)
# 1% of the 1,760 digits that are kept is 18 errors, a number that varies by 4 from one test set to another. A twentieth
# to a tenth of the digits at the threshold are errors, so those 4 move the share by 2 to 4 points.
_REJECTED_MARGIN = 0.05


def half_test_mse(folder: pathlib.Path) -> float:
    """Half the mean squared error over the test set at the end of the run."""
    return summary.read(folder)["test"]["loss"] / 2


def half_train_mse(folder: pathlib.Path) -> float:
    """Half the mean squared error of the final network over the training set; needs `evaluate.train_set`."""
    return summary.read(folder)["train_set"]["loss"] / 2


_rejected = functools.partial(rejection_rate, error=0.01)
_claim = functools.partial(Claim, runs={"Zip-89": _NETWORK}, data="usps", seeds=_SEEDS, setting=_CHOSEN)
_baseline = functools.partial(Claim, runs={"256-40-10": _MLP}, data="usps", seeds=_MLP_SEEDS, setting=_CHOSEN)

CLAIMS = [
    _claim(
        id="zip89-test-error",
        where="LeCun 1989, section 5",
        says="the 1989 network makes 5.0% errors on the 2,007 USPS test digits after 23 passes",
        measure=final_test_error,
        paper={"Zip-89": 0.05},
        rules=(Agrees("Zip-89", 0.05, margin=0.015, examples=2007),),
    ),
    _claim(
        id="zip89-train-error",
        where="LeCun 1989, section 5",
        says="the 1989 network makes 0.14% errors on the 7,291 training digits",
        measure=final_train_error,
        paper={"Zip-89": 0.0014},
        rules=(Agrees("Zip-89", 0.0014, margin=0.001),),
    ),
    _claim(
        id="zip89-test-mse",
        where="LeCun 1989, section 5",
        says="the 1989 network's mean squared error on the test digits is 1.8e-2",
        measure=half_test_mse,
        paper={"Zip-89": 1.8e-2},
        unit="MSE",
        rules=(Agrees("Zip-89", 1.8e-2, margin=3e-3),),
        setting=f"{_HALF}; {_CHOSEN}",
    ),
    _claim(
        id="zip89-train-mse",
        where="LeCun 1989, section 5",
        says="the 1989 network's mean squared error on the training digits is 2.5e-3",
        measure=half_train_mse,
        paper={"Zip-89": 2.5e-3},
        unit="MSE",
        rules=(Agrees("Zip-89", 2.5e-3, margin=1e-3),),
        setting=f"{_HALF}; {_CHOSEN}",
    ),
    _claim(
        id="zip89-reject-1pct",
        where="LeCun 1989, section 5",
        says="the 1989 network has to reject 12.1% of the test digits for 1% errors among the rest",
        measure=_rejected,
        paper={"Zip-89": 0.121},
        rules=(Agrees("Zip-89", 0.121, margin=_REJECTED_MARGIN, examples=2007),),
        keeps=True,
    ),
    _baseline(
        id="zip89-fc-baseline",
        where="LeCun 1989, section 5",
        says="a fully connected network of 256-40-10 units makes 8.1% errors on the test digits",
        measure=final_test_error,
        paper={"256-40-10": 0.081},
        rules=(Agrees("256-40-10", 0.081, margin=0.02, examples=2007),),
    ),
    _baseline(
        id="zip89-fc-train-error",
        where="LeCun 1989, section 5",
        says="the fully connected network makes 1.6% errors on the training digits",
        measure=final_train_error,
        paper={"256-40-10": 0.016},
        rules=(Agrees("256-40-10", 0.016, margin=0.005),),
    ),
    _baseline(
        id="zip89-fc-reject-1pct",
        where="LeCun 1989, section 5",
        says="the fully connected network has to reject 19.4% of the test digits for 1% errors among the rest",
        measure=_rejected,
        paper={"256-40-10": 0.194},
        rules=(Agrees("256-40-10", 0.194, margin=_REJECTED_MARGIN, examples=2007),),
        keeps=True,
    ),
    Claim(
        id="zip89-beats-fc",
        where="LeCun 1989, section 5",
        says="the network with shared weights has a lower error than the fully connected one, which has more weights",
        runs={"Zip-89": _NETWORK, "256-40-10": _MLP},
        measure=final_test_error,
        paper={"Zip-89": 0.05, "256-40-10": 0.081},
        rules=(Less("Zip-89", "256-40-10"),),
        seeds=_MLP_SEEDS,
        setting=f"{_CHOSEN}, by 24 trials for the one network and 12 for the other",
    ),
]
