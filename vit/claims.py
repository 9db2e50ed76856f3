"""Claims of the Vision Transformer paper and its successors, measured on CIFAR-10.

The paper's numbers are for ImageNet and JFT-300M, so only comparisons are tested here.
"""

import functools

from common.claims import curves
from common.claims.claim import Claim, Experiment, final_test_error
from common.claims.verdicts import Close, Less
from vit import measures

# 36 patches of a fifth of the images: ten minutes for a network of whole width on one core.
_FEWER = {
    "data.limit": 10_000,
    "data.resize": 24,
    "augment.crop_pad": 3,
    "train.batch_size": 64,
    "train.length": "8 epochs",
    "evaluate.every": "8 epochs",
    "checkpoint.every": "8 epochs",
    "schedule.warmup": "0.5 epochs",
}
_FEWER_SHORT = "a fifth of the images in 24x24 pixels, eight epochs"
# Half the width: three minutes a run, for comparisons of many.
_SMALL = {**_FEWER, "model.hidden_size": 48, "model.mlp_dim": 192}
_SMALL_SHORT = f"half the width, {_FEWER_SHORT}"
_SETTING = "CIFAR-10, a small network and our own schedule"
_SECOND_LOOK = f"{_SETTING}; five seeds, since three had left it undecided"
_VIT = Experiment("configs/vit_cifar10.py")
# The ViT's cosine schedule: a short run would end before the rate of the ResNet's own schedule first drops.
_RESNET = Experiment(
    "configs/resnet_cifar10.py:resnet20",
    {
        "schedule.name": "cosine",
        "schedule.learning_rate": 0.1,
        "schedule.boundaries": (),
        "schedule.rates": (),
    },
)
# Errors that differ by less count as equal: twice the variation of small networks between seeds.
_EQUAL = 0.01

# A claim about final test errors, with the curves beside it.
_comparison = functools.partial(
    Claim, measure=final_test_error, quick=_SMALL, short=_SMALL_SHORT, figure=curves.error_curves, setting=_SETTING
)

CLAIMS = [
    _comparison(
        id="vit-small-data-convolution-wins",
        where="Dosovitskiy 2021, sections 1 and 4.3, Figures 3 and 4",
        says="on little data a ResNet of the same cost (multiply-adds and updates) beats a Vision Transformer",
        runs={"ViT": _VIT, "ResNet-20": _RESNET},
        rules=(Less("ResNet-20", "ViT"),),
        quick=_FEWER,
        short=_FEWER_SHORT,
        shows="Figures 3 and 4: pre-trained on the smaller sets, ResNets are ahead of Vision Transformers, which "
        "overtake them on more images",
    ),
    _comparison(
        id="vit-posemb-ablation",
        where="Dosovitskiy 2021, appendix D.4, Table 8",
        says="without position embeddings the error is higher; their kind makes no difference",
        runs={
            kind: _VIT.with_changes({"model.position": kind}) for kind in ("none", "learned", "learned_2d", "sincos2d")
        },
        rules=(
            *(Less(kind, "none") for kind in ("learned", "learned_2d", "sincos2d")),
            Close("learned", "learned_2d", _EQUAL),
            Close("learned", "sincos2d", _EQUAL),
        ),
        seeds=5,
        setting=_SECOND_LOOK,
    ),
    _comparison(
        id="vit-gap-vs-cls",
        where="Dosovitskiy 2021, appendix D.3, Figure 9",
        says="averaging all patches is as good as a class token",
        runs={"class token": _VIT.with_changes({"model.pooling": "token"}), "average": _VIT},
        rules=(Close("class token", "average", _EQUAL),),
        seeds=5,
        setting=_SECOND_LOOK,
    ),
    _comparison(
        id="vit-shape",
        where="Dosovitskiy 2021, appendix D.2, Figure 8",
        says="more depth and smaller patches lower the error",
        runs={
            "depth 2": _VIT.with_changes({"model.depth": 2}),
            "depth 5": _VIT,
            "patches of 8x8": _VIT.with_changes({"model.patch_size": 8}),
        },
        rules=(Less("depth 5", "depth 2"), Less("depth 5", "patches of 8x8")),
        seeds=5,
        setting=_SECOND_LOOK,
    ),
    _comparison(
        id="betterplain-no-aug",
        where="Beyer 2022, Table 1 (on ImageNet, 90 epochs: 26.4% without, 23.5% with)",
        says="RandAugment and mixup lower the error",
        runs={
            "without": _VIT,
            "with": _VIT.with_changes({"augment.randaugment_layers": 2, "augment.mixup": 0.2}),
        },
        rules=(Less("with", "without"),),
    ),
    Claim(
        id="vit-attention-distance",
        where="Dosovitskiy 2021, section 4.5, Figures 7 and 11",
        says="heads attend farther away in the last layer than in the first",
        runs={"ViT": _VIT},
        measure=measures.attention_distance_grows,
        unit="pixels",
        rules=(Less(0.0, "ViT"),),
        figure=measures.draw_attention_distances,
        shows="Figure 7, right, and Figure 11: in the first layers some heads attend near and others far, in the last "
        "ones nearly all attend far",
        seeds=5,
        setting=_SECOND_LOOK,
        quick=_SMALL,
        short=_SMALL_SHORT,
        keeps=True,
    ),
]
