"""The lecture's identities and exercises as facts."""

from collections.abc import Callable

from common.claims.fact import Fact
from lecture import exercises, identities

_ZERO = (0.0, 1e-5)  # float32 against float64
_FAR = (0.05, None)  # the formula with a common mistake


def _identity(
    name: str,
    where: str,
    says: str,
    compute: Callable[[], dict[str, float]],
    zero: tuple[str, ...],
    far: tuple[str, ...],
) -> Fact:
    """An identity. The differences named in `zero` must vanish; those in `far` come from a mistake and must not."""
    return Fact(
        id=f"lecture-{name}",
        where=where,
        says=says,
        compute=compute,
        expected={**dict.fromkeys(zero, _ZERO), **dict.fromkeys(far, _FAR)},
        unit="relative difference",
    )


FACTS = [
    Fact(
        id="lecture-eight-kernels",
        where="lecture, convolution",
        says="eight 3x3 kernels turn an image (1, 3, 7, 7) into maps (1, 8, 5, 5) with 216 weights and 8 biases",
        compute=exercises.eight_kernels,
        expected={"images": 1, "maps": 8, "rows": 5, "columns": 5, "weights": 216, "biases": 8},
    ),
    Fact(
        id="lecture-28-from-32",
        where="lecture, convolution",
        says="5x5 kernels without padding turn 32x32 pixels into 28x28",
        compute=lambda: {"side": exercises.side(32, 5)},
        expected={"side": 28},
        unit="pixels",
    ),
    Fact(
        id="lecture-55-from-227",
        where="lecture, AlexNet",
        says="11x11 kernels at stride 4 turn 227 pixels into 55, but 224 into 54: three more pixels are needed",
        compute=exercises.sides_of_conv1,
        expected={
            "227 pixels": 55,
            "224 pixels": 54,
            "224 pixels and 3 of zeros": 55,
            "our network, 224 pixels": 55,
        },
        note="(224 - 11) / 4 + 1 is 54.25; the author's code reads zeros beyond the last row and column",
    ),
    _identity(
        "cross-entropy-gradient",
        "lecture, cross-entropy",
        "the gradient of softmax cross-entropy is dL/dz = p - y",
        identities.cross_entropy_gradient,
        zero=("labels are classes", "labels are distributions"),
        far=("labels left out",),
    ),
    Fact(
        id="lecture-entropy",
        where="lecture, information",
        says="entropy is the mean information: 1.75 bits for 1/2, 1/4, 1/8, 1/8, and log 10 for ten equal classes",
        compute=identities.entropy,
        expected={"bits of 1/2, 1/4, 1/8, 1/8": 1.75, "nats of 10 equal classes": 1.0},
        note="the second in units of log 10",
        tolerance=1e-6,
    ),
    Fact(
        id="lecture-divergence",
        where="lecture, information",
        says="cross-entropy is entropy plus the Kullback-Leibler divergence, which is never negative",
        compute=identities.divergence,
        expected={
            **dict.fromkeys(("cross-entropy", "entropy", "KL divergence"), _ZERO),
            "KL divergence, arguments exchanged": _FAR,
            "least KL divergence": (0.0, None),
        },
        unit="relative difference; the last in nats",
    ),
    _identity(
        "softmax",
        "lecture, softmax",
        "softmax does not change if a constant is added to all logits; of two classes it is the sigmoid",
        identities.softmax,
        zero=("formula", "100 added", "two classes"),
        far=("logits doubled",),
    ),
    _identity(
        "convolution",
        "lecture, convolution",
        "convolution is correlation with a flipped kernel",
        identities.convolution,
        zero=("layer against correlation", "layer with flipped kernel"),
        far=("layer with kernel as it is",),
    ),
    _identity(
        "linear-layers",
        "lecture, activations",
        "two linear layers are one; with a ReLU between they are not",
        identities.linear_layers,
        zero=("two layers",),
        far=("with a ReLU",),
    ),
    _identity(
        "local-response-norm",
        "lecture, AlexNet; Krizhevsky 2012, section 3.3",
        "local response normalisation divides by a power of the squares of five neighbouring maps",
        identities.local_response_norm,
        zero=("layer",),
        far=("alpha over n",),
    ),
    _identity(
        "normalisation-axes",
        "lecture, normalisation",
        "batch normalisation averages over batch and positions, layer normalisation over one position's channels",
        identities.normalisation_axes,
        zero=("batch, over (0, 1, 2)", "layer, over (3,)", "layer, in another batch"),
        far=("batch, over (3,)", "batch, in another batch"),
    ),
    _identity(
        "attention",
        "lecture, attention; Vaswani 2017, section 3.2",
        "attention is softmax(Q K^T / sqrt(d)) V",
        identities.attention_formula,
        zero=("our layer", "Flax's layer"),
        far=("without the root of d",),
    ),
    _identity(
        "momentum",
        "lecture, AlexNet; Krizhevsky 2012, section 5",
        "v <- 0.9 v - 0.0005 rate w - rate g, w <- w + v",
        identities.momentum,
        zero=("weights after six updates",),
        far=("rate outside the velocity",),
    ),
]
