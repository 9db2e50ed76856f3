"""Converts VGG's variables from torchvision's and timm's names, and starts deeper nets from a trained shallow one."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import PyTree

from common.errors import UserError
from common.models import Classifier
from common.pretrained import torch_layout
from common.pretrained.identify import Candidate
from common.pretrained.torch_layout import Entry
from vgg.model import CONFIGURATIONS, STAGE_WIDTHS, VARIANTS, VGG

# Names of the last bias. `common.pretrained.initial` reads them, and calls `from_published`, `to_published`, `fitted`.
HEAD_BIAS = ("classifier.6.bias", "head.fc.bias")
_TIMM = {"pre_logits.fc1.": "classifier.0.", "pre_logits.fc2.": "classifier.3.", "head.fc.": "classifier.6."}
# Section 3.1: "the first four convolutional layers and the last three fully-connected layers" of net A. A's second to
# fourth convolutions do not have the shapes of the second to fourth in B to E, so layers are matched by name.
FROM_A = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")


def entries(module: VGG) -> list[Entry]:
    """An entry for each array of the network."""
    listed, index = [], 0
    for stage, kernel_sizes in enumerate(CONFIGURATIONS[module.configuration]):
        for layer in range(len(kernel_sizes)):
            name = f"{stage + 1}_{layer + 1}"
            listed += torch_layout.convolution(f"conv{name}", f"features.{index}")
            if module.batch_norm:
                listed += torch_layout.batch_norm(f"bn{name}", f"features.{index + 1}")
            index += 3 if module.batch_norm else 2  # convolution, normalisation, ReLU
        index += 1  # pooling
    channels = STAGE_WIDTHS[-1] * module.width
    return [
        *listed,
        *torch_layout.dense("fc6", "classifier.0", map_channels=channels),
        *torch_layout.dense("fc7", "classifier.3"),
        *torch_layout.dense("fc8", "classifier.6"),
    ]


def from_torchvision(state: Mapping[str, np.ndarray], module: VGG, like: PyTree) -> PyTree:
    """Variables for `module` from a state dictionary; `like` is its variables or their shapes.

    The published weights expect RGB from 0 to 1, minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225).
    Raises a UserError that names an array that is missing, left over or of the wrong shape.
    """
    return torch_layout.to_ours(state, entries(module), like)


def to_torchvision(variables: PyTree, module: VGG) -> dict[str, np.ndarray]:
    """The state dictionary of these variables."""
    return torch_layout.to_theirs(variables, entries(module))


def from_trained_a(layers: PyTree, trained_a: PyTree) -> PyTree:
    """The parameters of a deeper net with the layers in FROM_A taken from a trained net A (section 3.1).

    layers: freshly initialised layers by name, of configuration B, C, D or E. trained_a: those of configuration A. The
    layers that are not copied stay random, and the copied ones keep learning at the full rate. If both nets have batch
    normalisation, it is copied with its convolution; a second call copies its statistics. Raises a UserError that names
    a layer that does not fit.
    """
    taken = [name for name in layers if name in FROM_A or (_normalised(name) in FROM_A and name in trained_a)]
    for name in taken:
        for array, mine in layers[name].items():
            given = trained_a.get(name, {}).get(array)
            if given is None or given.shape != mine.shape:
                found = "none" if given is None else given.shape
                raise UserError(f"{name}/{array} of the trained net has shape {found}, expected {mine.shape}")
    return {**layers, **{name: trained_a[name] for name in taken}}


def _normalised(name: str) -> str:
    """The name of the convolution that a batch normalisation follows."""
    return name.replace("bn", "conv")


def from_published(state: Mapping[str, np.ndarray], module: VGG, like: PyTree) -> PyTree:
    """`from_torchvision`, which here reads timm's names too; timm's fc6 and fc7 are convolutions over the whole map."""
    return from_torchvision(_from_timm(state), module, like)


to_published = to_torchvision


def to_library(variables: PyTree, module: VGG, library: str) -> dict[str, np.ndarray]:
    """The arrays under timm's names, or under torchvision's for any other name."""
    arrays = to_torchvision(variables, module)
    if library != "timm":
        return arrays
    renamed = {}
    for name, array in arrays.items():
        theirs = next((new for new, old in _TIMM.items() if name.startswith(old)), None)
        renamed[name if theirs is None else theirs + name.removeprefix(_TIMM[theirs])] = array
    # timm's first two fully connected layers are convolutions, of the whole map (7x7 pixels) and of one pixel.
    side = math.isqrt(arrays["classifier.0.weight"].shape[1] // (STAGE_WIDTHS[-1] * module.width))
    for name, window in (("pre_logits.fc1.weight", side), ("pre_logits.fc2.weight", 1)):
        renamed[name] = renamed[name].reshape(len(renamed[name]), -1, window, window)
    return renamed


def sources(arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The sources whose names the arrays have."""
    if "head.fc.weight" in arrays:
        return ("timm",)
    return ("torchvision",) if "features.0.weight" in arrays else ()


def candidates(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> list[Candidate]:
    """The variants with as many convolutions, and normalisations or none; see `common.pretrained.identify`."""
    kernels = [array for name, array in arrays.items() if name.startswith("features.") and array.ndim == 4]
    if not kernels or kernels[0].shape[1:] != (3, 3, 3):
        return []
    normalised = any(name.startswith("features.") and name.endswith("running_mean") for name in arrays)
    return [
        Candidate(name, {"adaptive_pool": 7}, 224)
        for name, fields in VARIANTS.items()
        if sum(map(len, CONFIGURATIONS[fields["configuration"]])) == len(kernels)
        and fields["batch_norm"] == normalised
        and not fields["lrn"]
    ]


def mismatch(source: str, arrays: Mapping[str, np.ndarray], module: VGG, facts: Mapping[str, Any]) -> str:
    """The difference between the source's networks and `module` that no array shows, or ''."""
    if not module.lrn:
        return ""
    return f"{source}'s VGG has no local response normalisation: use vgg11, or set config.model.lrn=False"


def _from_timm(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    renamed = {}
    for name, array in state.items():
        theirs = next((old for old in _TIMM if name.startswith(old)), None)
        if theirs is None:
            renamed[name] = array
        else:
            flat = array.reshape(len(array), -1) if array.ndim == 4 and array.size else array
            renamed[_TIMM[theirs] + name.removeprefix(theirs)] = flat
    return renamed


def fitted(
    given: PyTree, like: PyTree, *, new_head: bool, network: Classifier, given_network: Classifier | None
) -> tuple[PyTree, list[str]]:
    """A deeper net's variables with the layers in FROM_A from a trained net A; other nets' variables are unchanged."""
    if given_network is None or given_network.module.configuration != "A" or network.module.configuration == "A":
        return given, []
    if new_head:
        given = {**given, "params": {**given["params"], "fc8": like["params"]["fc8"]}}
    variables = {name: from_trained_a(layers, given.get(name, {})) for name, layers in like.items()}
    anew = [name for name, layer in variables["params"].items() if layer is like["params"][name]]
    copied = [name for name in variables["params"] if name not in anew]
    return variables, [f"from net A: {', '.join(copied)}; untrained: {', '.join(anew)} (section 3.1)"]
