"""The papers' own counts, layer by layer, and the same counts computed from our networks."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
from ml_collections import ConfigDict

from lenet import model
from lenet.bitmaps import CENTRES

# What the papers print. A connection is one weight of one unit; each bias counts as one. LeNet-5: section II-B of
# 1998; zip-code network: section 3 of 1989. LeNet-1's counts per layer follow from its description.
LAYERS: dict[str, dict[str, dict[str, int]]] = {
    "lenet5": {
        "C1": {"parameters": 156, "connections": 122_304},
        "S2": {"parameters": 12, "connections": 5_880},
        "C3": {"parameters": 1_516, "connections": 151_600},
        "S4": {"parameters": 32, "connections": 2_000},
        "C5": {"parameters": 48_120, "connections": 48_120},
        "F6": {"parameters": 10_164, "connections": 10_164},
        "Output": {"parameters": 0, "connections": 840},
    },
    "lenet1989": {
        "H1": {"parameters": 1_068, "connections": 19_968},
        "H2": {"parameters": 2_592, "connections": 38_592},
        "H3": {"parameters": 5_790, "connections": 5_790},
        "Output": {"parameters": 310, "connections": 310},
    },
    "lenet1": {
        "H1": {"parameters": 104, "connections": 59_904},
        "H2": {"parameters": 8, "connections": 2_880},
        "H3": {"parameters": 512, "connections": 32_768},
        "H4": {"parameters": 24, "connections": 960},
        "Output": {"parameters": 1_930, "connections": 1_930},
    },
    "mlp1989": {
        "H1": {"parameters": 10_280, "connections": 10_280},
        "Output": {"parameters": 410, "connections": 410},
    },
}
TOTALS: dict[str, dict[str, int]] = {
    "lenet5": {"parameters": 60_000, "connections": 340_908},
    "lenet1989": {"parameters": 9_760, "connections": 64_660},
    "lenet1": {"parameters": 2_578, "connections": 98_442},
    "mlp1989": {"parameters": 10_690, "connections": 10_690},
}


def connections(section: ConfigDict, params: PyTree) -> dict[str, int]:
    """Connections of each layer, biases included, of the network of a `model` section.

    params: its parameter tree, or the tree of their shapes. Layers are in the order of the computation.
    """
    shapes = _output_shapes(section, params)
    return {layer: _connections(shape, params.get(layer, {})) for layer, shape in shapes.items()}


def _output_shapes(section: ConfigDict, params: PyTree) -> dict[str, tuple[int, ...]]:
    """The shape of each layer's output for one image, without the batch axis; first layer first."""
    num_classes = params["Output"]["bias"].shape[0] if "Output" in params else len(CENTRES)
    module = model.network(section, num_classes)
    kernel, side = params[min(params, key=_depth)]["kernel"], module.image_size
    channels = kernel.shape[2] if len(kernel.shape) > 2 else kernel.shape[0] // side**2  # of a dense layer
    images = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    apply = functools.partial(module.apply, capture_intermediates=True, mutable="intermediates")
    _, variables = jax.eval_shape(apply, {"params": params}, images)
    layers = [name for name in variables["intermediates"] if name != "__call__"]
    return {name: variables["intermediates"][name]["__call__"][0].shape[1:] for name in sorted(layers, key=_depth)}


def _depth(layer: str) -> float:
    """The number that the papers give a layer: C1, S2, C3, ...; the output comes last."""
    return math.inf if layer == "Output" else float(layer[1:])


def _connections(shape: tuple[int, ...], params: PyTree) -> int:
    """Connections of a layer with this output shape: each position of a map uses every weight of its kernel."""
    units = math.prod(shape)
    if "kernel" in params:
        return math.prod(shape[:-1]) * math.prod(params["kernel"].shape) + units
    if "coefficient" in params:
        return units * (4 + 1)
    return units * 4 if len(shape) == 3 else CENTRES.size  # pooling without parameters, or the RBF output
