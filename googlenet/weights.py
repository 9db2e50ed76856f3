"""Conversion of GoogLeNet's variables to the names of torchvision's `googlenet`, and back."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from common.errors import listed
from common.models import Classifier
from common.pretrained import sources as sources_lib
from common.pretrained import torch_layout
from common.pretrained.identify import Candidate
from common.pretrained.preprocessing import SIGNED, Options
from common.pretrained.torch_layout import Entry
from googlenet.model import AUXILIARY, MODULES, GoogLeNet

# Name of the last bias. `common.pretrained.initial` reads it, and calls `from_published`, `to_published`, `fitted`.
HEAD_BIAS = ("fc.bias",)
_STEM = {"conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3"}
_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}


def entries(module: GoogLeNet, like: PyTree) -> list[Entry]:
    """Every array of the network; the published weights fit variant 'googlenet_torchvision'.

    like: the network's variables or their shapes, which give the number of the auxiliary classifiers' maps.
    """
    units = {ours: theirs for ours, theirs in _STEM.items() if ours in like["params"]}
    for name in MODULES:
        for ours, theirs in _BRANCHES.items():
            units[f"inception_{name}/{ours}"] = f"inception{name}.{theirs}"
    heads = AUXILIARY.values() if module.auxiliary else ()
    units |= {f"{head}/conv": f"{head}.conv" for head in heads}
    listed = []
    for ours, theirs in units.items():
        listed += torch_layout.convolution(f"{ours}/conv", f"{theirs}.conv", bias=not module.batch_norm)
        if module.batch_norm:
            listed += torch_layout.batch_norm(f"{ours}/bn", f"{theirs}.bn")
    for head in heads:
        channels = like["params"][head]["conv"]["conv"]["kernel"].shape[-1]
        listed += torch_layout.dense(f"{head}/fc", f"{head}.fc1", map_channels=channels)
        listed += torch_layout.dense(f"{head}/linear", f"{head}.fc2")
    return [*listed, *torch_layout.dense("linear", "fc")]


def from_torchvision(state: Mapping[str, np.ndarray], module: GoogLeNet, like: PyTree) -> PyTree:
    """Variables for `module` from a state dictionary; `like` is its variables or their shapes.

    The published weights expect RGB from -1 to 1. A checkpoint's auxiliary classifiers are dropped if the network has
    none. If only the network has them, they start untrained: the variables then hold their shapes. Raises a UserError
    that names an array that is missing, left over or of the wrong shape.
    """
    unused = () if module.auxiliary else ("aux",)
    if not module.auxiliary or any(name.startswith("aux") for name in state):
        return torch_layout.to_ours(state, entries(module, like), like, unused)
    untrained = {head: like["params"][head] for head in AUXILIARY.values() if head in like["params"]}
    taken = torch_layout.to_ours(state, entries(module.clone(auxiliary=False), like), like)
    return {**taken, "params": {**taken["params"], **untrained}, **_statistics(taken, like)}


def _statistics(taken: PyTree, like: PyTree) -> PyTree:
    """The batch statistics taken from the file, with the shapes of the auxiliary classifiers' statistics."""
    heads = {name: layer for name, layer in like.get("batch_stats", {}).items() if name in AUXILIARY.values()}
    return {"batch_stats": {**taken["batch_stats"], **heads}} if "batch_stats" in taken else {}


def fitted(
    given: PyTree, like: PyTree, *, new_head: bool, network: Classifier, given_network: Classifier | None
) -> tuple[PyTree, list[str]]:
    """The given variables, and a sentence about auxiliary classifiers that start untrained."""
    untrained = [
        head
        for head in AUXILIARY.values()
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(given["params"].get(head, {})))
    ]
    return given, [f"the file has no auxiliary classifiers: {listed(untrained)} start untrained"] if untrained else []


def to_torchvision(variables: PyTree, module: GoogLeNet) -> dict[str, np.ndarray]:
    """The state dictionary of these variables."""
    return torch_layout.to_theirs(variables, entries(module, variables))


from_published, to_published = from_torchvision, to_torchvision


def sources(arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The publisher of such files, for `common.pretrained.sources`."""
    return ("torchvision",) if "inception3a.branch1.conv.weight" in arrays else ()


def mismatch(source: str, arrays: Mapping[str, np.ndarray], module: GoogLeNet, facts: Mapping[str, Any]) -> str:
    """The difference between the source's network and `module` that no array shows, or ''."""
    if module.stem == "small":  # whose arrays no other network has
        return ""
    theirs: dict[str, tuple[Any, str]] = {
        "lrn": (False, "no local response normalisation"),
        "last_pool": (2, "a last max pooling of 2x2 windows"),
    }
    if module.auxiliary and any(name.startswith("aux") for name in arrays):
        theirs["auxiliary_pool"] = ("adaptive", "auxiliary classifiers on an average of 4x4 pixels")
    return sources_lib.different(f"{source}'s GoogLeNet", module, theirs)


def candidates(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> list[Candidate]:
    """The network of torchvision, if the arrays have its modules' names; see `common.pretrained.identify`."""
    return [Candidate("googlenet_torchvision", {}, 224)] if sources(arrays) else []


def preprocessing(source: str, side: int, arrays: Mapping[str, np.ndarray], name: str) -> Options:
    """Pixels from -1 to 1: torchvision's network converts normalised pixels to these itself (`transform_input`)."""
    return dict(SIGNED)
