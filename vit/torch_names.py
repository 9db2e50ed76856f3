"""Conversion of Vision Transformers from the names of timm, torchvision and Hugging Face's transformers, and back.

PyTorch's dense layers are [outputs, inputs]; timm and torchvision keep queries, keys and values in one array, in this
order. Our projections have an axis of heads; these files do not show their number, so it comes from the network.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import PyTree

from common.errors import UserError, listed, missing_and_extra
from vit.blocks import Arrays, flatten, unstack_blocks
from vit.transfer import AXES, POSITIONS

_ATTENTION = "MultiHeadDotProductAttention_0"


class Names(NamedTuple):
    """A source's names: of single arrays, of layers outside blocks, of blocks, and of the layers within a block.

    `fused` are the weight and the bias of queries, keys and values in one array; empty where they are apart.
    """

    arrays: Mapping[str, str]
    layers: Mapping[str, str]
    block: str
    inside: Mapping[str, str]
    fused: tuple[str, ...] = ()


NAMES = {
    "timm": Names(
        {"cls": "cls_token", POSITIONS: "pos_embed"},
        {
            "embedding": "patch_embed.proj",
            "Transformer/encoder_norm": "norm",
            "pre_logits": "pre_logits.fc",
            "head": "head",
        },
        "blocks.",
        {
            "LayerNorm_0": "norm1",
            "LayerNorm_1": "norm2",
            f"{_ATTENTION}/out": "attn.proj",
            "MlpBlock_0/Dense_0": "mlp.fc1",
            "MlpBlock_0/Dense_1": "mlp.fc2",
        },
        ("attn.qkv.weight", "attn.qkv.bias"),
    ),
    "torchvision": Names(
        {"cls": "class_token", POSITIONS: "encoder.pos_embedding"},
        {
            "embedding": "conv_proj",
            "Transformer/encoder_norm": "encoder.ln",
            "pre_logits": "heads.pre_logits",
            "head": "heads.head",
        },
        "encoder.layers.encoder_layer_",
        {
            "LayerNorm_0": "ln_1",
            "LayerNorm_1": "ln_2",
            f"{_ATTENTION}/out": "self_attention.out_proj",
            "MlpBlock_0/Dense_0": "mlp.0",
            "MlpBlock_0/Dense_1": "mlp.3",
        },
        ("self_attention.in_proj_weight", "self_attention.in_proj_bias"),
    ),
    "huggingface": Names(
        {"cls": "vit.embeddings.cls_token", POSITIONS: "vit.embeddings.position_embeddings"},
        {
            "embedding": "vit.embeddings.patch_embeddings.projection",
            "Transformer/encoder_norm": "vit.layernorm",
            "pre_logits": "vit.pooler.dense",
            "head": "classifier",
        },
        "vit.encoder.layer.",
        {
            "LayerNorm_0": "layernorm_before",
            "LayerNorm_1": "layernorm_after",
            **{f"{_ATTENTION}/{name}": f"attention.attention.{name}" for name in ("query", "key", "value")},
            f"{_ATTENTION}/out": "attention.output.dense",
            "MlpBlock_0/Dense_0": "intermediate.dense",
            "MlpBlock_0/Dense_1": "output.dense",
        },
    ),
}
# Other names for the same layers: torchvision's before 0.13, and those of transformers 5 in memory.
_OTHERS = {
    ".mlp.linear_1.": ".mlp.0.",
    ".mlp.linear_2.": ".mlp.3.",
    "vit.layers.": "vit.encoder.layer.",
    ".attention.q_proj.": ".attention.attention.query.",
    ".attention.k_proj.": ".attention.attention.key.",
    ".attention.v_proj.": ".attention.attention.value.",
    ".attention.o_proj.": ".attention.output.dense.",
}
# The parts of our networks that no library's network has, by the beginnings of their arrays' names.
_UNKNOWN = {
    **dict.fromkeys(AXES, "tables of positions for rows and columns (config.model.position=learned_2d)"),
    **dict.fromkeys(("conv_root", "gn_root", "block"), "ResNet below the Transformer under these names (a hybrid)"),
}
_HUGGING_FACE = "embeddings.patch_embeddings.projection.weight"  # ViTModel alone, whose names have no prefix
_HUGGING_FACE_MLP = {".mlp.fc1.": ".intermediate.dense.", ".mlp.fc2.": ".output.dense."}  # timm has these names too


def source_of(arrays: Mapping[str, np.ndarray]) -> str:
    """The source that names its patch embedding as the arrays do; '' if none does."""
    if _HUGGING_FACE in arrays:
        return "huggingface"
    found = (name for name, names in NAMES.items() if f"{names.layers['embedding']}.weight" in arrays)
    return next(found, "")


def to_ours(arrays: Mapping[str, np.ndarray], source: str, num_heads: int) -> Arrays:
    """The arrays under our names for separate blocks.

    Raises UserError for arrays that are missing, left over or misshapen. A file may have no head. Hugging Face's pooler
    becomes the pre-logits layer only if the file has no head, because their classifier does not read the pooler.
    """
    prefix = "vit." if _HUGGING_FACE in arrays else ""
    names, arrays = NAMES[source], {_usual(prefix + name): array for name, array in arrays.items()}
    depth = len({found[1] for name in arrays if (found := re.match(re.escape(names.block) + r"(\d+)\.", name))})
    head = f"{names.layers['head']}.weight" in arrays
    pre_logits = f"{names.layers['pre_logits']}.weight" in arrays and not (head and source == "huggingface")
    optional = (*names.arrays.values(), *(f"{names.layers['head']}.{leaf}" for leaf in ("weight", "bias") if not head))
    ours: Arrays = {}
    used: set[str] = set()
    missing: list[str] = []
    for our_names, theirs, back, _ in _entries(names, depth, num_heads, pre_logits):
        if theirs in arrays:
            used.add(theirs)
            try:
                parts = np.split(arrays[theirs], len(our_names)) if len(our_names) > 1 else [arrays[theirs]]
                ours |= {name: back(part) for name, part in zip(our_names, parts, strict=True)}
            except (ValueError, IndexError) as error:
                raise UserError(
                    f"the checkpoint's '{theirs}' has shape {arrays[theirs].shape}, which does not fit a network of "
                    f"{num_heads} heads"
                ) from error
        elif theirs not in optional:  # `fitted` reports a missing token, positions or head, if they are needed
            missing.append(theirs)
    extra = sorted(arrays.keys() - used)
    if missing or extra:
        raise UserError(f"the checkpoint is not {source}'s ViT: it {missing_and_extra(sorted(missing), extra)}")
    return ours


def to_theirs(params: PyTree, source: str) -> dict[str, np.ndarray]:
    """The inverse of `to_ours`, of parameters with separate or stacked blocks.

    Raises UserError for arrays that the source's networks lack: a table of positions for each axis, a hybrid's ResNet,
    and Hugging Face's pre-logits layer, since its networks with a head have none.
    """
    ours, names = flatten(unstack_blocks(params)), NAMES[source]
    if source == "huggingface" and "pre_logits/kernel" in ours:
        raise UserError("Hugging Face's ViT classifiers have no pre-logits layer, but this network has one")
    depth = len({name.split("/")[1] for name in ours if name.startswith("Transformer/encoderblock_")})
    arrays, used = {}, set[str]()
    for our_names, theirs, _, there in _entries(names, depth, 1, "pre_logits/kernel" in ours):
        if our_names[0] in ours:
            used.update(our_names)
            arrays[theirs] = np.concatenate([there(ours[name]) for name in our_names])
    if lost := sorted(ours.keys() - used):
        reason = next((reason for start, reason in _UNKNOWN.items() if lost[0].startswith(start)), "these arrays")
        raise UserError(f"{source}'s Vision Transformers have no {reason}: no name for {listed(lost)}")
    return arrays


Convert = Callable[[np.ndarray], np.ndarray]


def _entries(
    names: Names, depth: int, num_heads: int, pre_logits: bool
) -> Iterator[tuple[tuple[str, ...], str, Convert, Convert]]:
    """For each array, our names (three for a fused one), their name, and the conversions from theirs and to theirs."""
    for ours, theirs in names.arrays.items():
        yield (ours,), theirs, _same, _same
    for ours, theirs in names.layers.items():
        if ours != "pre_logits" or pre_logits:  # few files have this layer
            yield from _layer(ours, theirs, num_heads)
    for number in range(depth):
        block = f"Transformer/encoderblock_{number}"
        for ours, theirs in names.inside.items():
            yield from _layer(f"{block}/{ours}", f"{names.block}{number}.{theirs}", num_heads)
        for leaf, theirs in zip(("kernel", "bias"), names.fused, strict=False):
            ours = tuple(f"{block}/{_ATTENTION}/{part}/{leaf}" for part in ("query", "key", "value"))
            yield ours, f"{names.block}{number}.{theirs}", *_projection(leaf, num_heads)


def _layer(ours: str, theirs: str, num_heads: int) -> Iterator[tuple[tuple[str, ...], str, Convert, Convert]]:
    last = ours.rpartition("/")[2]
    norm = "norm" in last.lower()
    for leaf, suffix in (("scale" if norm else "kernel", "weight"), ("bias", "bias")):
        back, there = _same, _same
        if last in ("query", "key", "value"):
            back, there = _projection(leaf, num_heads)
        elif last == "out" and leaf == "kernel":
            back, there = lambda a: _heads(a.T, num_heads, 0), lambda a: _contiguous(_joined(a, 0).T)
        elif last == "embedding" and leaf == "kernel":
            back, there = lambda a: a.transpose(2, 3, 1, 0), lambda a: _contiguous(a.transpose(3, 2, 0, 1))
        elif leaf == "kernel":
            back, there = lambda a: a.T, lambda a: _contiguous(a.T)
        yield (f"{ours}/{leaf}",), f"{theirs}.{suffix}", back, there


def _projection(leaf: str, num_heads: int) -> tuple[Convert, Convert]:
    """Conversions of a projection to heads: its kernel [hidden, heads, size], its bias [heads, size]."""
    if leaf == "bias":
        return lambda a: _heads(a, num_heads, 0), lambda a: _joined(a, 0)
    return lambda a: _heads(a.T, num_heads, 1), lambda a: _contiguous(_joined(a, 1).T)


def _heads(array: np.ndarray, num_heads: int, axis: int) -> np.ndarray:
    shape = (*array.shape[:axis], num_heads, -1, *array.shape[axis + 1 :])
    return array.reshape(shape)


def _joined(array: np.ndarray, axis: int) -> np.ndarray:
    return array.reshape(*array.shape[:axis], -1, *array.shape[axis + 2 :])


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _contiguous(array: np.ndarray) -> np.ndarray:
    """The array in C order, for a file. Arrays that are read stay views of the file's, which saves memory."""
    return np.ascontiguousarray(array)


def _usual(name: str) -> str:
    others = {**_OTHERS, **_HUGGING_FACE_MLP} if name.startswith("vit.") else _OTHERS
    for other, usual in others.items():
        name = name.replace(other, usual)
    return name
