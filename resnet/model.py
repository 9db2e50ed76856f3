"""ResNets and their plain twins (He, Zhang, Ren and Sun 2016): the ImageNet and the CIFAR families as one module.

Layers have the paper's names: `conv1`, then `convk_i` for block i of stage k (`conv2_1` to `conv5_3` in ResNet-50),
then `fc`. All blocks of a stage but the first are identical. Where they are scanned (see `stacked`), one entry
`convk_x` holds their arrays, stacked along the first axis; `weights.unstack` gives each block its own name back.
"""

import functools
from typing import Any

import jax.numpy as jnp
from absl import logging
from flax import linen as nn
from jaxtyping import Array, Float, PyTree
from ml_collections import ConfigDict

from common import models
from common.devices import compilation, products
from common.errors import UserError
from common.models import Classifier
from common.nn.batch_norm import BatchNorm
from common.nn.layers import identity, max_pool
from common.nn.losses import cross_entropy
from resnet.layers import BasicBlock, Block, Bottleneck, Fan, Images, Maps, convolution

SCAN_FROM = 8  # `scan='auto'` scans stages with at least as many identical blocks; fewer compile fast enough

FC_INITS = {"he_normal": nn.initializers.he_normal(), "normal": nn.initializers.normal(0.01)}
BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNet(nn.Module):
    """A stem, stages of blocks and a classifier; every stage but the first halves the maps and doubles their width.

    Takes images of any size: the last stage is averaged over space, which is also the fully convolutional form of
    section 3.4.
    """

    num_classes: int = 1000
    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)  # Table 1: blocks in conv2_x, conv3_x, ...
    block: str = "bottleneck"  # or 'basic'
    width: int = 64  # of the stem and of conv2_x's 3x3 convolutions
    stem: str = "imagenet"  # 7x7/2 and 3x3/2 max pooling; 'cifar' (section 4.2): 3x3
    shortcut: str = "B"  # section 4.1: projections where shapes change; 'A': zeros; 'C': all; 'none': a plain net
    shortcut_pad: str = "both"  # option A's channels of zeros: on both sides; or all at the 'end'. Not in the paper
    stride_in: str = "1x1"  # the bottleneck's strided convolution; '3x3' is the common choice ("v1.5")
    zero_gamma: bool = False  # start each block as its shortcut (Goyal et al. 2017, section 5.1); not in the paper
    init_fan: Fan = "fan_out"  # of He's initial weights; He et al. 2015 derive both 'fan_in' and 'fan_out'
    fc_init: str = "he_normal"  # of the classifier, not in the paper; 'normal': N(0, 0.01^2) (Goyal, section 5.1)
    bn_momentum: float = 0.9  # not in the paper
    bn_epsilon: float = 1e-5  # not in the paper
    batch_groups: int = 0  # groups of a batch with their own statistics (the paper: one per GPU); 0: a single group
    ghost_batches: int = 1  # interleaved parts of a batch with their own statistics, as with train.accumulate
    remat: bool = False  # recompute each block in the backward pass instead of keeping its activations
    scan: str = "auto"  # compile a stage's identical blocks once: see `stacked`
    dtype: str = "float32"  # of the computation; parameters and batch statistics are float32

    @nn.compact
    def __call__(self, images: Images, train: bool = False) -> Float[Array, "batch classes"]:
        """Logits, in float32. In training, updates the collection `batch_stats`."""
        conv = functools.partial(convolution, init_fan=self.init_fan, dtype=self.dtype)
        groups = (self.batch_groups, self.ghost_batches)
        norm = functools.partial(BatchNorm, self.bn_momentum, self.bn_epsilon, *groups, dtype=self.dtype)
        kernel_size, strides = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = conv(self.width, kernel_size, strides, name="conv1")(images.astype(self.dtype))
        x = nn.relu(norm(name="bn1")(x, train))
        if self.stem == "imagenet":
            x = max_pool(x, window=3, stride=2, padding=((1, 1), (1, 1)))
        options: dict[str, Any] = {"stride_in": self.stride_in} if self.block == "bottleneck" else {}
        for i, size in enumerate(self.stage_sizes):
            block = functools.partial(
                BLOCKS[self.block],
                features=self.width * 2**i,
                shortcut=self.shortcut,
                shortcut_pad=self.shortcut_pad,
                zero_gamma=self.zero_gamma,
                conv=conv,
                norm=norm,
                **options,
            )
            x = _stage(self, block, f"conv{i + 2}", size, 1 if i == 0 else 2, x, train)
        x = jnp.mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axis=(1, 2))
        init = FC_INITS[self.fc_init]
        return nn.Dense(self.num_classes, kernel_init=init, dot_general=products.product, name="fc")(x)


def dense_logits(module: ResNet, variables: PyTree, images: Images) -> Float[Array, "batch 1 1 classes"]:
    """The network's logits for images of any size, as a map of one position, for test protocols (section 3.4).

    They equal the mean of the logits at all positions, because averaging is linear.
    """
    logits: Any = module.apply(variables, images)
    return logits[:, None, None]


def stacked(scan: str, stage_size: int) -> bool:
    """True if blocks 2, 3, ... of a stage are scanned: compiled once, with their parameters stacked.

    'on' scans wherever there are two such blocks, 'off' nowhere, 'auto' in deep stages. The parameter tree depends only
    on the network, so a checkpoint fits every backend. On CPU, where convolutions are slow inside loops, 'auto' repeats
    the block in the program instead of looping.
    """
    identical = stage_size - 1
    return {"on": identical >= 2, "off": False, "auto": identical >= SCAN_FROM}[scan]


def _stage(
    network: ResNet, block: functools.partial, name: str, size: int, strides: int, x: Images, train: bool
) -> Maps:
    """The blocks of one stage, named `name`_1, `name`_2, ..."""
    loops = network.scan == "on" or not compilation.on_cpu()
    scanned = stacked(network.scan, size)
    # A loop keeps the recomputation apart from the forward pass; elsewhere XLA would merge the two and undo it.
    one = _remat(block, prevent_cse=not (scanned and loops)) if network.remat else block
    first = _remat(block, prevent_cse=True) if network.remat else block
    x = first(strides=strides, name=f"{name}_1")(x, train)
    if not scanned:
        for i in range(2, size + 1):
            x = one(strides=1, name=f"{name}_{i}")(x, train)
        return x
    repeat = nn.scan(
        functools.partial(_scanned_block, train=train),
        variable_axes={"params": 0, "batch_stats": 0, "intermediates": 0},
        split_rngs={"params": True},
        length=size - 1,
        unroll=1 if loops else size - 1,
    )
    x, _ = repeat(one(strides=1, name=f"{name}_x"), x)
    return x


def _remat(block: functools.partial, prevent_cse: bool) -> functools.partial:
    """The block with its activations recomputed in the backward pass."""
    kind = nn.remat(block.func, prevent_cse=prevent_cse, static_argnums=(2,))
    return functools.partial(kind, **block.keywords)


def _scanned_block(block: Block, x: Images, *, train: bool) -> tuple[Images, None]:
    return block(x, train), None


def _cifar(depth: int, shortcut: str) -> dict[str, Any]:
    """The fields of a CIFAR-10 network, whose depth is 6n + 2 (section 4.2)."""
    return {"stage_sizes": 3 * ((depth - 2) // 6,), "width": 16, "stem": "cifar", "shortcut": shortcut}


_BASIC_SIZES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # Table 1
_BOTTLENECK_SIZES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_CIFAR_DEPTHS = (20, 32, 44, 56, 110)
_MODERN = {"shortcut": "B", "zero_gamma": True}

_BASIC: dict[str, dict[str, Any]] = {
    **{f"resnet{depth}": {"stage_sizes": sizes, "shortcut": "A"} for depth, sizes in _BASIC_SIZES.items()},
    **{f"plain{depth}": {"stage_sizes": sizes, "shortcut": "none"} for depth, sizes in _BASIC_SIZES.items()},
    **{f"resnet{depth}_modern": {"stage_sizes": sizes, **_MODERN} for depth, sizes in _BASIC_SIZES.items()},
    **{f"resnet{depth}": _cifar(depth, "A") for depth in (*_CIFAR_DEPTHS, 1202)},
    **{f"plain{depth}": _cifar(depth, "none") for depth in _CIFAR_DEPTHS},
}
_BOTTLENECK: dict[str, dict[str, Any]] = {
    **{f"resnet{depth}": {"stage_sizes": sizes} for depth, sizes in _BOTTLENECK_SIZES.items()},
    **{
        f"resnet{depth}_modern": {"stage_sizes": sizes, "stride_in": "3x3", **_MODERN}
        for depth, sizes in _BOTTLENECK_SIZES.items()
    },
}
# The paper's networks, and today's (`_modern`): with projections, strides on the 3x3 convolutions and zero gammas.
# Basic blocks have no `stride_in`, because they have no 1x1 convolution.
VARIANTS = {
    **models.variants(ResNet, {name: {"block": "basic", **changes} for name, changes in _BASIC.items()}, ["stride_in"]),
    **models.variants(ResNet, _BOTTLENECK),
}

CHOICES = {
    "block": tuple(BLOCKS),
    "stem": ("imagenet", "cifar"),
    "shortcut": ("A", "B", "C", "none"),
    "shortcut_pad": ("both", "end"),
    "stride_in": ("1x1", "3x3"),
    "init_fan": ("fan_in", "fan_out"),
    "fc_init": tuple(FC_INITS),
    "scan": ("auto", "on", "off"),
    "dtype": ("float32", "bfloat16"),
}

RANGES = {
    "stage_sizes": models.LAYERS,
    "width": models.COUNT,
    "batch_groups": models.SIZE,
    "ghost_batches": models.COUNT,
    "bn_momentum": models.SHARE,
    "bn_epsilon": models.SIZE,
}


def weighted_layers(stage_sizes: tuple[int, ...], block: str) -> int:
    """The number of convolutions and dense layers on the main path, which is the number in a network's name."""
    return 2 + sum(stage_sizes) * BLOCKS[block].convolutions


def network(section: ConfigDict, num_classes: int) -> ResNet:
    """The module that a `model` section describes. Raises UserError for unknown, impossible or contradictory values."""
    fields = models.hyper_parameters(section, VARIANTS, CHOICES, RANGES)
    if not fields["stage_sizes"]:
        raise UserError("config.model.stage_sizes is empty; expected the number of blocks in each stage")
    models.check_stages("stage_sizes", fields["stage_sizes"], fields["width"])
    if fields["zero_gamma"] and fields["shortcut"] == "none":
        raise UserError("config.model.zero_gamma stops every signal in a net without shortcuts; set it to False")
    needs = {"shortcut_pad": (section.shortcut == "A", "shortcut='A', whose zeros it places")}
    if "stride_in" in fields:
        needs["stride_in"] = (section.block == "bottleneck", "block='bottleneck'")
    models.check_effects(section, VARIANTS, needs)
    return ResNet(num_classes=num_classes, **fields)


def make_classifier(section: ConfigDict, info: models.Facts) -> Classifier:
    """The classifier of a `model` section (a variant's hyper-parameters) for a dataset with these facts.

    The loss is softmax cross-entropy with class indices or distributions. Warns if images are too small for the
    ImageNet stem. Raises UserError for unknown or contradictory hyper-parameters.
    """
    module = network(section, info.num_classes)
    side = min(info.image_shape[:2])
    if module.stem == "imagenet" and side < 64:
        depth = weighted_layers(module.stage_sizes, module.block)
        nearest = min(_CIFAR_DEPTHS, key=lambda cifar: abs(cifar - depth))
        kind = "plain" if module.shortcut == "none" else "resnet"
        logging.warning(
            "%s halves its images five times, and these have %d pixels a side: the CIFAR variant %s%d keeps more "
            "(--config=configs/resnet_cifar10.py:%s%d)",
            *(section.variant, side, kind, nearest, kind, nearest),
        )
    groups = max(module.batch_groups, 1) * module.ghost_batches
    parts = f"each of {groups} groups of a batch" if groups > 1 else "the whole batch"
    return Classifier(
        module=module,
        loss=cross_entropy,
        logits=identity,
        input_shape=info.image_shape,
        num_classes=info.num_classes,
        soft_labels=True,
        remark=f"batch normalisation: statistics of {parts}, across all devices",
    )
