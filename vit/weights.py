"""Published checkpoints <-> our parameters, and starting from a network of other classes or resolution.

A checkpoint is an .npz file of arrays under '/'-joined names. Two namings are in use, 'original' (the paper's files)
and 'linen' (later ones, and our parameter tree with `scan=False`); arrays may stand under a prefix, group-norm
parameters may have extra axes, and position embeddings may stand at the root, without an entry for the class token.
`read` gives all of them our names; `write` writes either naming.
"""

import math
import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

import jax
import ml_dtypes
import numpy as np
from absl import logging
from flax import traverse_util
from jaxtyping import PyTree

from common.errors import UserError, unknown
from vit.embeddings import Grid, interpolation, resize_positions

Arrays = dict[str, np.ndarray]  # by '/'-joined name
Shapes = dict[str, tuple[int, ...]]

_PREFIXES = ("opt/target/", "optimizer/target/", "target/", "params/")
_STACKED = "Transformer/encoderblock/"
_POSITIONS = "Transformer/posembed_input/pos_embedding"
_AXES = ("Transformer/posembed_input/x_embedding", "Transformer/posembed_input/y_embedding")
# Module names inside a block: original -> linen.
_ORIGINAL = {
    "LayerNorm_2": "LayerNorm_1",
    "MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0",
    "MlpBlock_3": "MlpBlock_0",
}
_HEAD, _PRE_LOGITS = "head/", "pre_logits/"


class Adapted(NamedTuple):
    """Parameters made to fit another network, and a sentence for each thing that was changed."""

    params: PyTree
    changes: list[str]


def load(
    path: str | pathlib.Path,
    like: PyTree,
    *,
    new_head: bool = False,
    old_grid: Grid | None = None,
    new_grid: Grid | None = None,
) -> PyTree:
    """The parameters in an .npz checkpoint, fitted to the tree `like` as in `adapt`; changes are logged as warnings."""
    adapted = adapt(to_tree(read(path)), like, new_head=new_head, old_grid=old_grid, new_grid=new_grid)
    for change in adapted.changes:
        logging.warning("%s: %s", path, change)
    return adapted.params


def read(path: str | pathlib.Path) -> Arrays:
    """The parameters in an .npz checkpoint, under our names (blocks apart: encoderblock_0, ...); float32.

    UserError when the file is missing, is no .npz, or holds no Vision Transformer.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except FileNotFoundError as error:
        raise UserError(f"no checkpoint '{path}'") from error
    except (OSError, ValueError, EOFError, AttributeError, TypeError) as error:
        raise UserError(f"'{path}' is not an .npz checkpoint: {error}") from error
    arrays = canonical(arrays)
    if "embedding/kernel" not in arrays:
        some = ", ".join(sorted(arrays)[:3]) or "nothing"
        raise UserError(f"'{path}' holds no Vision Transformer: no array 'embedding/kernel' (it has {some}, ...)")
    return arrays


def write(path: str | pathlib.Path, params: PyTree, naming: str = "original") -> None:
    """Save parameters as an .npz checkpoint; naming 'original' is the paper's files', 'linen' the later one."""
    if naming not in ("original", "linen"):
        raise unknown("naming of checkpoints", naming, ("original", "linen"))
    arrays = flatten(unstack_blocks(params))
    if naming == "original":
        arrays = {_rename(name, {new: old for old, new in _ORIGINAL.items()}): a for name, a in arrays.items()}
    np.savez(path, **arrays)


def canonical(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Published arrays under our names: prefix dropped, either naming, GroupNorm squeezed, positions in their place."""
    prefix = next((p for p in _PREFIXES if any(name.startswith(p) for name in arrays)), "")
    named = {name.removeprefix(prefix): _float32(a) for name, a in arrays.items() if name.startswith(prefix)}
    named = {_POSITIONS if name == "pos_embedding" else _rename(name, _ORIGINAL): a for name, a in named.items()}
    return {name: a.reshape(-1) if re.search(r"(^|/)gn", name) else a for name, a in named.items()}


def to_tree(arrays: Mapping[str, np.ndarray]) -> PyTree:
    """'/'-joined names to a nested dictionary."""
    return traverse_util.unflatten_dict(dict(arrays), sep="/")


def flatten(params: PyTree) -> Arrays:
    """A nested dictionary to '/'-joined names."""
    return {name: np.asarray(array) for name, array in traverse_util.flatten_dict(params, sep="/").items()}


def unstack_blocks(params: PyTree) -> PyTree:
    """Parameters of a network with `scan=True` as those of one with `scan=False`; others are returned as they are."""
    transformer = dict(params["Transformer"])
    if "encoderblock" not in transformer:
        return params
    stacked = transformer.pop("encoderblock")
    for number in range(len(jax.tree.leaves(stacked)[0])):
        transformer[f"encoderblock_{number}"] = jax.tree.map(lambda array, n=number: array[n], stacked)
    return {**params, "Transformer": transformer}


def stack_blocks(params: PyTree) -> PyTree:
    """The reverse of `unstack_blocks`."""
    transformer = dict(params["Transformer"])
    names = sorted((name for name in transformer if _block_number(name) is not None), key=_block_number)
    if not names:
        return params
    blocks = [transformer.pop(name) for name in names]
    transformer["encoderblock"] = jax.tree.map(lambda *arrays: np.stack(arrays), *blocks)
    return {**params, "Transformer": transformer}


def adapt(
    params: PyTree, like: PyTree, *, new_head: bool = False, old_grid: Grid | None = None, new_grid: Grid | None = None
) -> Adapted:
    """Parameters of one network as those of another, which may have more patches, other classes, or another `scan`.

    like: the other network's parameters, or their shapes. new_head: drop the head, and with it a pre-logits layer
        that the other network has not, and start from a head of zeros (section 3.2).
    old_grid, new_grid: rows and columns of patches, needed where they are not square.
    UserError for anything else that differs.
    """
    arrays, changes = flatten(unstack_blocks(params)), []
    wanted = _block_shapes(like)
    if new_head:
        changes += _replace_head(arrays, wanted)
    _check_sizes(arrays, wanted)
    _check_names(arrays, wanted)
    changes += _fit_positions(arrays, wanted, old_grid, new_grid)
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            raise UserError(f"the checkpoint's '{name}' is {arrays[name].shape} and the network's {shape}")
    tree = to_tree({name: arrays[name] for name in wanted})
    return Adapted(stack_blocks(tree) if "encoderblock" in like["Transformer"] else tree, changes)


def _fit_positions(arrays: Arrays, wanted: Shapes, old_grid: Grid | None, new_grid: Grid | None) -> list[str]:
    """Interpolate position embeddings to the shapes that are wanted, in place; says what it did."""
    changes = []
    for name in _AXES:
        if name in wanted and len(arrays[name]) != wanted[name][0]:
            changes.append(f"'{name}' interpolated from {len(arrays[name])} to {wanted[name][0]}")
            arrays[name] = (interpolation(len(arrays[name]), wanted[name][0]) @ arrays[name]).astype(np.float32)
    if _POSITIONS not in wanted:
        return changes
    table, tokens = arrays[_POSITIONS], wanted[_POSITIONS][1]
    prefix = int("cls" in wanted)
    if prefix and not _has_prefix(table.shape[1], tokens, old_grid):
        # The class token's vector already holds what its position would add.
        table = np.pad(table, ((0, 0), (1, 0), (0, 0)))
    if table.shape[1] != tokens or old_grid != new_grid:
        old_grid = old_grid or _square(table.shape[1] - prefix, "old_grid")
        new_grid = new_grid or _square(tokens - prefix, "new_grid")
        changes.append("position embeddings interpolated from {}x{} to {}x{} patches".format(*old_grid, *new_grid))
        table = resize_positions(table, old_grid, new_grid, prefix)
    arrays[_POSITIONS] = table
    return changes


def _has_prefix(count: int, wanted: int, grid: Grid | None) -> bool:
    """Whether a table of `count` entries has one for the class token besides those of the grid (square, if None)."""
    if grid is not None:
        return count == math.prod(grid) + 1
    return count == wanted or math.isqrt(count) ** 2 != count


def _square(patches: int, argument: str) -> Grid:
    side = math.isqrt(patches)
    if side**2 != patches:
        raise UserError(f"{patches} patches are not a square grid: give {argument}, its rows and columns")
    return side, side


def _replace_head(arrays: Arrays, wanted: Shapes) -> list[str]:
    """Put zeros in place of the head, and drop pre-logits that are not wanted; says so."""
    classes = arrays["head/bias"].shape[0] if "head/bias" in arrays else 0
    dropped = [name for name in arrays if name.startswith(_PRE_LOGITS) and name not in wanted]
    for name in [*dropped, *(name for name in arrays if name.startswith(_HEAD))]:
        del arrays[name]
    arrays |= {name: np.zeros(shape, np.float32) for name, shape in wanted.items() if name.startswith(_HEAD)}
    layers = "head and pre-logits layer" if dropped else "head"
    return [f"{layers} for {classes:,} classes dropped; new head of zeros for {wanted['head/bias'][0]:,} classes"]


def _check_sizes(arrays: Arrays, wanted: Shapes) -> None:
    """UserError for another patch size, width, depth or number of classes, each with what to do about it."""
    (theirs, _, their_channels, their_hidden) = arrays["embedding/kernel"].shape
    (ours, _, our_channels, our_hidden) = wanted["embedding/kernel"]
    if theirs != ours:
        raise UserError(
            f"the checkpoint has patches of {theirs}x{theirs} and the network {ours}x{ours}: "
            f"set config.model.patch_size={theirs}, or take a checkpoint with patches of {ours}x{ours}"
        )
    if their_channels != our_channels:
        raise UserError(
            f"the checkpoint reads images of {their_channels} channels and the network of {our_channels}: "
            f"set config.data.channels={their_channels}"
        )
    their_depth, our_depth = (len({_block_of(name) for name in names} - {None}) for names in (arrays, wanted))
    if (their_hidden, their_depth) != (our_hidden, our_depth):
        raise UserError(
            f"the checkpoint has {their_depth} blocks of width {their_hidden} and the network {our_depth} of "
            f"{our_hidden}: choose the checkpoint's variant"
        )
    classes = arrays["head/bias"].size if "head/bias" in arrays else None
    if classes not in (None, wanted["head/bias"][0]):
        raise UserError(
            f"the checkpoint tells {classes:,} classes apart and the network {wanted['head/bias'][0]:,}: "
            "ask for a new head (new_head=True)"
        )


def _check_names(arrays: Arrays, wanted: Shapes) -> None:
    """UserError naming the arrays that are missing or not wanted."""
    missing, extra = sorted(set(wanted) - set(arrays)), sorted(set(arrays) - set(wanted))
    if not missing and not extra:
        return
    faults = [f"lacks {_listed(missing)}"] * bool(missing) + [f"has {_listed(extra)} besides"] * bool(extra)
    raise UserError(f"the checkpoint {' and '.join(faults)}: {_mend(missing, extra)}")


def _mend(missing: list[str], extra: list[str]) -> str:
    """What to change, from the first array that tells."""
    for names, advice in ((extra, _IF_EXTRA), (missing, _IF_MISSING)):
        for start, text in advice.items():
            if any(name.startswith(start) for name in names):
                return text
    return "choose the checkpoint's variant"


_IF_EXTRA = {
    "cls": "set config.model.pooling='token'",
    _PRE_LOGITS: "set config.model.representation_size to its units, or ask for a new head (new_head=True)",
    _POSITIONS: "set config.model.position='learned'",
    **dict.fromkeys(_AXES, "set config.model.position='learned_2d'"),
    "conv_root": "choose the hybrid variant",
}
_IF_MISSING = {
    "cls": "set config.model.pooling='average'",
    _PRE_LOGITS: "set config.model.representation_size=0",
    _HEAD: "ask for a new head (new_head=True)",
    _POSITIONS: "set config.model.position to the checkpoint's, 'sincos2d' or 'none'",
}


def _listed(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more


def _block_shapes(like: PyTree) -> Shapes:
    """Shapes by name, blocks apart."""
    shapes = {}
    for name, leaf in traverse_util.flatten_dict(like, sep="/").items():
        inside = name.removeprefix(_STACKED)
        if inside == name:
            shapes[name] = leaf.shape
        else:
            shapes |= {f"Transformer/encoderblock_{i}/{inside}": leaf.shape[1:] for i in range(leaf.shape[0])}
    return shapes


def _block_number(module: str) -> int | None:
    match = re.fullmatch(r"encoderblock_(\d+)", module)
    return int(match[1]) if match else None


def _block_of(name: str) -> int | None:
    """The number of the block that an array belongs to."""
    return next((n for n in map(_block_number, name.split("/")) if n is not None), None)


def _rename(name: str, modules: Mapping[str, str]) -> str:
    return "/".join(modules.get(part, part) for part in name.split("/"))


def _float32(array: np.ndarray) -> np.ndarray:
    """In float32; numpy stores bfloat16 as two bytes of no type."""
    if array.dtype == np.dtype("V2"):
        array = array.view(ml_dtypes.bfloat16)
    return array.astype(np.float32)
