"""The Vision Transformer paper's counts, computed from our networks."""

import functools

from common.anatomy import networks
from common.claims.fact import Fact
from vit import paper

_IMAGES = 303e6  # of JFT, which Table 6's networks see in every epoch
_PASSES = 6  # operations for each multiply-add: two forwards, four backwards
# Table 6: exaFLOPs of pre-training, by network and epochs.
_EXAFLOPS = {
    ("b32", 7): 55,
    ("b16", 7): 224,
    ("l32", 7): 196,
    ("l16", 7): 783,
    ("l16", 14): 1567,
    ("h14", 14): 4262,
}
_COUNTING = (
    "Table 1 does not say how it counts: 86M is B/16 without its head, 307M is L/32 with a head of 1,000 classes"
)


def parameters(variant: str) -> dict[str, int]:
    """The parameters of a network with a head of 1,000 classes, for images of 224x224 pixels."""
    return {variant: networks.parameters("vit", variant)}


def exaflops(variant: str, epochs: int) -> float:
    """The operations of pre-training, in units of 10^18."""
    return _PASSES * networks.multiply_adds("vit", variant) * _IMAGES * epochs / 1e18


def tokens(variant: str, side: int) -> int:
    """The length of the sequence, class token included, for images of `side` x `side` pixels."""
    return networks.rows("vit", variant, side)["Transformer"].output_shape[0]


FACTS = [
    *(
        Fact(
            id=f"vit-t1-{name.lower()}",
            where="Dosovitskiy 2021, Table 1",
            says=f"ViT-{name} has {paper.TOTALS[variant]['parameters']} parameters",
            compute=functools.partial(parameters, variant),
            expected={variant: paper.TOTALS[variant]["parameters"]},
            unit="parameters",
            note="" if name == "Huge" else _COUNTING,
        )
        for name, variant in (("Base", "b16"), ("Large", "l16"), ("Huge", "h14"))
    ),
    Fact(
        id="vit-sequence-length",
        where="Dosovitskiy 2021, sections 3.1 and 3.2",
        says="an image of 224x224 pixels is 196 patches of 16x16 and a class token, more at a higher resolution",
        compute=lambda: {
            "B/16 at 224": tokens("b16", 224),
            "B/16 at 384": tokens("b16", 384),
            "B/32 at 224": tokens("b32", 224),
            "H/14 at 224": tokens("h14", 224),
        },
        expected={
            "B/16 at 224": (224 // 16) ** 2 + 1,
            "B/16 at 384": (384 // 16) ** 2 + 1,
            "B/32 at 224": (224 // 32) ** 2 + 1,
            "H/14 at 224": (224 // 14) ** 2 + 1,
        },
        unit="tokens",
    ),
    Fact(
        id="vit-t6-exaflops",
        where="Dosovitskiy 2021, Table 6",
        says="pre-training on JFT takes 55 (B/32, 7 epochs) to 4,262 exaFLOPs (H/14, 14 epochs)",
        compute=lambda: {f"{variant}, {epochs} epochs": exaflops(variant, epochs) for variant, epochs in _EXAFLOPS},
        expected={f"{variant}, {epochs} epochs": number for (variant, epochs), number in _EXAFLOPS.items()},
        unit="exaFLOPs",
        tolerance=0.03,
        note="six operations a multiply-add and image, 303 million images an epoch; B/32 is 2.02% above the paper",
    ),
]
