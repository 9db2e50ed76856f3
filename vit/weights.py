"""Converts published checkpoints to our parameters, and back.

Files for PyTorch (timm, torchvision, Hugging Face) are recognised by their names and converted by `torch_names.py`. The
paper's are .npz files of arrays under '/'-joined names. Two namings of these are in use, 'original' (the paper's files)
and 'linen' (later ones, and our parameter tree with `scan=False`); names may have a prefix, group-norm parameters may
have extra axes, and position embeddings may be at the root, without an entry for the class token. `read` gives all of
them our names; `write` writes either naming.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from absl import logging
from flax import linen as nn
from jaxtyping import PyTree

from common.errors import UserError, listed, unknown
from common.pretrained import hugging_face, weight_files
from common.pretrained import sources as sources_lib
from common.pretrained.identify import Candidate, grid_side
from common.pretrained.preprocessing import IMAGENET, SIGNED, Options, cropped, stretched
from vit import hybrid, torch_names
from vit.blocks import Arrays, flatten, to_tree, unstack_blocks
from vit.embeddings import Grid
from vit.model import VARIANTS
from vit.transfer import POSITIONS, adapt, fitted

__all__ = [
    "FILES",
    "HEAD_BIAS",
    "candidates",
    "canonical",
    "fitted",
    "from_published",
    "load",
    "mismatch",
    "preprocessing",
    "read",
    "sources",
    "to_library",
    "to_published",
    "write",
]

# See `common.pretrained.initial`.
HEAD_BIAS = (
    *("head/bias", "opt/target/head/bias", "params/head/bias"),
    *(f"{names.layers['head']}.bias" for names in torch_names.NAMES.values()),
)
_HEADS = {fields["hidden_size"]: fields["num_heads"] for name, fields in VARIANTS.items() if name != "nano4"}
_PREFIXES = ("opt/target/", "optimizer/target/", "target/", "params/")
# Module names inside a block: original -> linen.
_ORIGINAL = {
    "LayerNorm_2": "LayerNorm_1",
    "MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0",
    "MlpBlock_3": "MlpBlock_0",
}


def load(
    path: str | pathlib.Path,
    like: PyTree,
    *,
    new_head: bool = False,
    old_grid: Grid | None = None,
    new_grid: Grid | None = None,
) -> PyTree:
    """The parameters in an .npz checkpoint, fitted to the tree `like` by `adapt`; changes are logged as warnings."""
    adapted = adapt(to_tree(read(path)), like, new_head=new_head, old_grid=old_grid, new_grid=new_grid)
    for change in adapted.changes:
        logging.warning("%s: %s", path, change)
    return adapted.params


def read(path: str | pathlib.Path) -> Arrays:
    """The parameters in a checkpoint as float32 arrays, under our names for separate blocks (encoderblock_0, ...).

    Raises UserError when the file is missing, cannot be read, or holds no Vision Transformer.
    """
    arrays = canonical(weight_files.read(path))
    _check_family(arrays)
    return arrays


def write(path: str | pathlib.Path, params: PyTree, naming: str = "original") -> None:
    """Saves parameters as an .npz checkpoint; naming: 'original', as in the paper's files, or the later 'linen'."""
    if naming not in ("original", "linen"):
        raise unknown("naming of checkpoints", naming, ("original", "linen"))
    weight_files.write(path, _original(params) if naming == "original" else flatten(unstack_blocks(params)))


def to_published(variables: PyTree, module: nn.Module) -> Arrays:
    """The arrays under the names of the paper's files, for `common.pretrained.initial`."""
    return _original(variables["params"])


def to_library(variables: PyTree, module: nn.Module, library: str) -> Arrays:
    """The arrays under the names of a PyTorch library, or of the paper's files for any other library."""
    if library in torch_names.NAMES:
        return torch_names.to_theirs(variables["params"], library)
    return to_published(variables, module)


def _original(params: PyTree) -> Arrays:
    linen = flatten(unstack_blocks(params))
    return {_rename(name, {new: old for old, new in _ORIGINAL.items()}): array for name, array in linen.items()}


def canonical(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Published arrays of either naming under our names, without prefix and without GroupNorm's extra axes."""
    prefix = next((p for p in _PREFIXES if any(name.startswith(p) for name in arrays)), "")
    named = {name.removeprefix(prefix): _float32(a) for name, a in arrays.items() if name.startswith(prefix)}
    named = {POSITIONS if name == "pos_embedding" else _rename(name, _ORIGINAL): a for name, a in named.items()}
    return {name: a.reshape(-1) if re.search(r"(^|/)gn", name) else a for name, a in named.items()}


def from_published(arrays: Mapping[str, np.ndarray], module: nn.Module, like: PyTree) -> PyTree:
    """The variables of a published file, with separate blocks even if `module` scans over stacked ones."""
    if source := torch_names.source_of(arrays):
        named = torch_names.to_ours(arrays, source, module.num_heads)
        return {"params": to_tree({name: _float32(array) for name, array in named.items()})}
    arrays = canonical(arrays)
    _check_family(arrays)
    return {"params": to_tree(arrays)}


def sources(arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The sources whose names the arrays have: a PyTorch library, or 'google' for the paper's files."""
    if library := torch_names.source_of(arrays):
        return (library,)
    return ("google",) if any(name.endswith("embedding/kernel") for name in arrays) else ()


def mismatch(source: str, arrays: Mapping[str, np.ndarray], module: nn.Module, facts: Mapping[str, Any]) -> str:
    """The difference between the source's networks and `module` that no array shows, or ''."""
    theirs = _conventions(source, facts, module.hidden_size)
    if source in torch_names.NAMES:
        theirs |= {"pooling": "token", "position": "learned"}
    said = {
        "gelu": "GELU approximated by a tanh" if theirs["gelu"] == "tanh" else "the exact GELU",
        "ln_epsilon": f"layer norms of epsilon {theirs['ln_epsilon']:g}",
        "num_heads": f"{theirs.get('num_heads')} heads",
        "pooling": "a class token",
        "position": "learnt positions",
    }
    fields = {field: (value, said[field]) for field, value in theirs.items()}
    return sources_lib.different(f"{source}'s Vision Transformer", module, fields)


def _conventions(source: str, facts: Mapping[str, Any], hidden_size: int) -> dict[str, Any]:
    """The fields of a source's networks of this width that no array shows.

    The paper's code approximates GELU by a tanh; the three libraries compute it exactly, unless config.json says not.
    """
    if source == "google":  # whose arrays have an axis of heads
        return {"gelu": "tanh", "ln_epsilon": 1e-6}
    usual = {"num_heads": _HEADS[hidden_size]} if hidden_size in _HEADS else {}
    if source != "huggingface":
        return {"gelu": "exact", "ln_epsilon": 1e-6, **usual}
    gelu = {"gelu": "exact", **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), "tanh")}
    activation = str(facts.get("hidden_act", "gelu"))
    if activation not in gelu:
        raise UserError(f"config.json's hidden_act is '{activation}'; expected {listed(list(gelu))}")
    fields = {"gelu": gelu[activation], "ln_epsilon": hugging_face.number(facts, "layer_norm_eps", 1e-12)}
    heads = int(hugging_face.number(facts, "num_attention_heads", 0))
    return fields | ({"num_heads": heads} if heads else usual)


# torchvision's SWAG and ViT-L/16 weights, and DeiT's; see `common.pretrained.preprocessing`.
FILES: dict[str, Options] = {
    "852ce7e3": {"resize": 242},
    **{
        digits: {"resize": side, "crop": side, "interpolation": "bicubic"}
        for side, names in ((224, ("4e70ced5", "4d563306", "c1eb923e")), (384, ("9ac1b537",)), (512, ("4f3808c9",)))
        for digits in names
    },
    "80465313": {"resize": 518, "crop": 518, "interpolation": "bicubic"},
    **dict.fromkeys(("a1311bcf", "cd65a155", "b5f2ef4d", "8de9b5d1"), IMAGENET),
}


def preprocessing(source: str, side: int, arrays: Mapping[str, np.ndarray], name: str) -> Options:
    """The options that a source tests its networks with; timm's DeiTs are recognised by their names."""
    if source == "torchvision":
        return {}
    if source == "timm":
        share = 0.9 if side == 224 else 1.0
        return {**(IMAGENET if "deit" in name.lower() else SIGNED), **cropped(side, share), "interpolation": "bicubic"}
    return {**SIGNED, **stretched(side)}


def candidates(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> list[Candidate]:
    """The variants of the same size, with the publisher's conventions; see `common.pretrained.identify`."""
    source = torch_names.source_of(arrays) or "google"
    if source == "google":
        named = canonical(arrays)
    else:
        named = {name: np.asarray(array) for name, array in torch_names.to_ours(arrays, source, 1).items()}
    kernel, positions = named.get("embedding/kernel"), named.get(POSITIONS)
    if kernel is None or positions is None or (kernel.ndim, positions.ndim) != (4, 3):
        return []
    patch, hidden = kernel.shape[0], kernel.shape[-1]
    depth = len({name.split("/")[1] for name in named if name.startswith("Transformer/encoderblock_")})
    stages = _stages(named)
    side = grid_side(positions.shape[1], patch if stages is None else patch * hybrid.stride(stages))
    pre_logits = named.get("pre_logits/bias")
    fields = _conventions(source, facts, hidden) | (
        {} if pre_logits is None else {"representation_size": pre_logits.size}
    )
    return [
        Candidate(name, fields, side)
        for name, has in VARIANTS.items()
        if (has["hidden_size"], has["patch_size"], has["depth"], has.get("stages")) == (hidden, patch, depth, stages)
    ]


def _stages(named: Mapping[str, np.ndarray]) -> tuple[int, ...] | None:
    """The blocks in each stage of a hybrid's ResNet; None for a network without one."""
    if "conv_root/kernel" not in named:
        return None
    units = {tuple(name.split("/")[:2]) for name in named if re.match(r"block\d+/unit\d+/", name)}
    stages = sorted({stage for stage, _ in units})
    return tuple(sum(1 for stage, _ in units if stage == one) for one in stages)


def _check_family(arrays: Arrays) -> None:
    if "embedding/kernel" not in arrays:
        some = ", ".join(sorted(arrays)[:3]) or "nothing"
        raise UserError(f"the checkpoint is not a Vision Transformer's: it has no 'embedding/kernel' (but {some}, ...)")


def _rename(name: str, modules: Mapping[str, str]) -> str:
    return "/".join(modules.get(part, part) for part in name.split("/"))


def _float32(array: np.ndarray) -> np.ndarray:
    """The array in float32; numpy stores bfloat16 as two bytes without a type."""
    if array.dtype == np.dtype("V2"):
        array = array.view(ml_dtypes.bfloat16)
    return array.astype(np.float32, copy=False)
