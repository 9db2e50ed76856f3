"""Fits trained parameters to a network with other classes, another resolution or another `scan` (section 3.2)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import PyTree

from common.errors import UserError, missing_and_extra
from common.models import Classifier
from vit.blocks import Arrays, Shapes, block_of, block_shapes, flatten, stack_blocks, to_tree, unstack_blocks
from vit.embeddings import Grid, interpolation, resize_positions

POSITIONS = "Transformer/posembed_input/pos_embedding"
AXES = ("Transformer/posembed_input/x_embedding", "Transformer/posembed_input/y_embedding")
_HEAD, _PRE_LOGITS = "head/", "pre_logits/"


class Adapted(NamedTuple):
    """Parameters that fit another network, and a sentence for each change."""

    params: PyTree
    changes: list[str]


def fitted(
    given: PyTree,
    like: PyTree,
    *,
    new_head: bool,
    network: Classifier,
    given_network: Classifier | None,
    old_grid: Sequence[int] = (),
) -> tuple[PyTree, list[str]]:
    """`adapt` for `common.pretrained.initial`, with the grids of the two networks' images.

    old_grid: `config.init.old_grid`, the given network's rows and columns of patches, which a file does not state; ()
        if it is not set.
    """
    grid = (old_grid[0], old_grid[1]) if old_grid else None
    if grid is None and given_network is not None:
        grid = given_network.module.grid(given_network.input_shape)
    new_grid = network.module.grid(network.input_shape)
    adapted = adapt(given["params"], like["params"], new_head=new_head, old_grid=grid, new_grid=new_grid)
    return {"params": adapted.params}, adapted.changes


def adapt(
    params: PyTree, like: PyTree, *, new_head: bool = False, old_grid: Grid | None = None, new_grid: Grid | None = None
) -> Adapted:
    """Parameters of one network, fitted to another with more patches, other classes or another `scan`.

    like: the other network's parameters, or their shapes. new_head: start from a head of zeros (section 3.2), and drop
        a pre-logits layer that the other network does not have.
    old_grid, new_grid: rows and columns of patches, needed if they are not square.
    Raises UserError for anything else that differs.
    """
    arrays, changes = flatten(unstack_blocks(params)), []
    wanted = block_shapes(like)
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
    """Interpolates position embeddings in `arrays` to the wanted shapes; returns a sentence for each change."""
    changes = []
    for name in AXES:
        if name in wanted and len(arrays[name]) != wanted[name][0]:
            changes.append(f"'{name}' interpolated from {len(arrays[name])} to {wanted[name][0]}")
            arrays[name] = (interpolation(len(arrays[name]), wanted[name][0]) @ arrays[name]).astype(np.float32)
    if POSITIONS not in wanted:
        return changes
    table, tokens = arrays[POSITIONS], wanted[POSITIONS][1]
    prefix = int("cls" in wanted)
    if prefix and not _has_prefix(table.shape[1], tokens, old_grid):
        # The class token's vector already holds what its position would add.
        table = np.pad(table, ((0, 0), (1, 0), (0, 0)))
    old, new = table.shape[1] - prefix, tokens - prefix
    old_grid = old_grid or _likely_grid(old, new, new_grid)
    new_grid = new_grid or (old_grid if old == new else _square(new, "pass new_grid, its rows and columns"))
    if old_grid != new_grid:
        changes.append("position embeddings interpolated from {}x{} to {}x{} patches".format(*old_grid, *new_grid))
        table = resize_positions(table, old_grid, new_grid, prefix)
    arrays[POSITIONS] = table
    return changes


def _likely_grid(patches: int, new_patches: int, new_grid: Grid | None) -> Grid:
    """The likely grid of a checkpoint that does not state it: a square if possible, else the network's own."""
    if math.isqrt(patches) ** 2 == patches or patches != new_patches:
        return _square(patches, "set config.init.old_grid to its rows and columns")
    return new_grid or (1, patches)


def _has_prefix(count: int, wanted: int, grid: Grid | None) -> bool:
    """True if a table of `count` entries has one for the class token, in addition to the grid (None: a square)."""
    if grid is not None:
        return count == math.prod(grid) + 1
    return count == wanted or math.isqrt(count) ** 2 != count


def _square(patches: int, advice: str) -> Grid:
    side = math.isqrt(patches)
    if side**2 != patches:
        raise UserError(f"{patches} patches are not a square grid: {advice}")
    return side, side


def _replace_head(arrays: Arrays, wanted: Shapes) -> list[str]:
    """Replaces the head in `arrays` with zeros and drops an unwanted pre-logits layer; returns a sentence if it did."""
    dropped = [name for name in arrays if name.startswith(_PRE_LOGITS) and name not in wanted]
    units = [f"{arrays[name].shape[-1]:,}" for name in dropped]
    for name in [*dropped, *(name for name in arrays if name.startswith(_HEAD))]:
        del arrays[name]
    arrays |= {name: np.zeros(shape, np.float32) for name, shape in wanted.items() if name.startswith(_HEAD)}
    return [f"pre-logits layer of {units[0]} units dropped"] if dropped else []


def _check_sizes(arrays: Arrays, wanted: Shapes) -> None:
    """Raises UserError, with a remedy, for another patch size, width, depth or number of classes."""
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
    their_depth, our_depth = (len({block_of(name) for name in names} - {None}) for names in (arrays, wanted))
    if (their_hidden, their_depth) != (our_hidden, our_depth):
        raise UserError(
            f"the checkpoint has {their_depth} blocks of width {their_hidden} and the network {our_depth} of "
            f"{our_hidden}: choose the checkpoint's variant"
        )
    classes = arrays["head/bias"].size if "head/bias" in arrays else None
    if classes not in (None, wanted["head/bias"][0]):
        raise UserError(
            f"the checkpoint tells {classes:,} classes apart and the network {wanted['head/bias'][0]:,}: "
            "set config.init.new_head=True to start with a new head"
        )


def _check_names(arrays: Arrays, wanted: Shapes) -> None:
    """Raises UserError naming the arrays that are missing or not wanted."""
    missing, extra = sorted(set(wanted) - set(arrays)), sorted(set(arrays) - set(wanted))
    if not missing and not extra:
        return
    raise UserError(f"the checkpoint {missing_and_extra(missing, extra)}: {_remedy(missing, extra)}")


def _remedy(missing: list[str], extra: list[str]) -> str:
    """The advice for the first array that has one."""
    for names, advice in ((extra, _IF_EXTRA), (missing, _IF_MISSING)):
        for start, text in advice.items():
            if any(name.startswith(start) for name in names):
                return text
    return "choose the checkpoint's variant"


_IF_EXTRA = {
    "cls": "set config.model.pooling='token'",
    _PRE_LOGITS: "set config.model.representation_size to its units, or config.init.new_head=True for a new head",
    POSITIONS: "set config.model.position='learned'",
    **dict.fromkeys(AXES, "set config.model.position='learned_2d'"),
    "conv_root": "choose the hybrid variant",
}
_IF_MISSING = {
    "cls": "set config.model.pooling='average'",
    _PRE_LOGITS: "set config.model.representation_size=0",
    _HEAD: "set config.init.new_head=True to start with a new head",
    POSITIONS: "set config.model.position to the checkpoint's, 'sincos2d' or 'none'",
}
