"""Conversion of AlexNet's variables to the names of torchvision's `alexnet`, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import linen as nn
from jaxtyping import PyTree

from alexnet.model import AlexNet
from common.errors import UserError
from common.pretrained import sources as sources_lib
from common.pretrained import torch_layout
from common.pretrained.identify import Candidate
from common.pretrained.torch_layout import Entry

_CONVOLUTIONS = {"conv1": 0, "conv2": 3, "conv3": 6, "conv4": 8, "conv5": 10}
# Name of the last bias. `common.pretrained.initial` reads it, and calls `from_published` and `to_published`.
HEAD_BIAS = ("classifier.6.bias",)
_DENSE = {"fc6": 1, "fc7": 4, "fc8": 6}


def entries(module: AlexNet) -> list[Entry]:
    """Every array of the network; the published weights fit variant 'one_column'."""
    listed = []
    for ours, index in _CONVOLUTIONS.items():
        listed += torch_layout.convolution(ours, f"features.{index}")
    for ours, index in _DENSE.items():
        # fc6 reads a flattened map.
        listed += torch_layout.dense(ours, f"classifier.{index}", module.widths[-1] if ours == "fc6" else 0)
    return listed


def from_torchvision(state: Mapping[str, np.ndarray], module: AlexNet, like: PyTree) -> PyTree:
    """Variables for `module` from a state dictionary; `like` is its variables or their shapes.

    The published weights expect RGB from 0 to 1, minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225).
    Raises a UserError that names an array that is missing, left over or of the wrong shape.
    """
    return torch_layout.to_ours(state, entries(module), like)


def to_torchvision(variables: PyTree, module: AlexNet) -> dict[str, np.ndarray]:
    """The state dictionary of these variables."""
    return torch_layout.to_theirs(variables, entries(module))


def sources(arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The publisher of such files, for `common.pretrained.sources`."""
    return ("torchvision",) if "features.0.weight" in arrays else ()


def mismatch(source: str, arrays: Mapping[str, np.ndarray], module: nn.Module, facts: Mapping[str, Any]) -> str:
    """The difference between the source's network and `module` that no array shows, or ''."""
    if not isinstance(module, AlexNet):
        return ""
    theirs: dict[str, tuple[Any, str]] = {
        "lrn": (False, "no local response normalisation"),
        "activation": ("relu", "ReLUs"),
        "overlapping_pooling": (True, "overlapping pooling"),
    }
    if module.stem[0] == 11:  # the array shows another size
        theirs["stem"] = ((11, 4), "a first convolution of stride 4")
        theirs["stem_padding"] = ((2, 2), "its images padded by two pixels on both sides")
    if module.dropout:
        theirs["dropout_form"] = ("inverted", "dropout that scales units in training, not in testing")
    return sources_lib.different(f"{source}'s AlexNet", module, theirs)


def candidates(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> list[Candidate]:
    """The network of torchvision, if the first convolution is AlexNet's; see `common.pretrained.identify`."""
    first = arrays.get("features.0.weight")
    if first is None or first.shape[1:] != (3, 11, 11):
        return []
    return [Candidate("one_column", {"adaptive_pool": 6}, 224)]


def from_published(state: Mapping[str, np.ndarray], module: nn.Module, like: PyTree) -> PyTree:
    """Variables from torchvision's names.

    Raises UserError for the CIFAR-10 networks, whose weights nobody published.
    """
    if not isinstance(module, AlexNet):
        raise UserError("no published weights of AlexNet's CIFAR-10 networks are known; give the workdir of a run")
    return from_torchvision(state, module, like)


def to_published(variables: PyTree, module: nn.Module) -> dict[str, np.ndarray] | None:
    """The inverse of `from_published`; None for the CIFAR-10 networks."""
    return to_torchvision(variables, module) if isinstance(module, AlexNet) else None
