"""The paper's numbers: the layers of Table 1 and the totals of Table 2."""

import math
from typing import Any

# Table 1, column by column: kernel size and maps of each convolution, 'M' for a max pooling.
_A = "3-64 M 3-128 M 3-256 3-256 M 3-512 3-512 M 3-512 3-512 M"
_B = "3-64 3-64 M 3-128 3-128 M 3-256 3-256 M 3-512 3-512 M 3-512 3-512 M"
_C = "3-64 3-64 M 3-128 3-128 M 3-256 3-256 1-256 M 3-512 3-512 1-512 M 3-512 3-512 1-512 M"
_D = "3-64 3-64 M 3-128 3-128 M 3-256 3-256 3-256 M 3-512 3-512 3-512 M 3-512 3-512 3-512 M"
_E = "3-64 3-64 M 3-128 3-128 M 3-256 3-256 3-256 3-256 M 3-512 3-512 3-512 3-512 M 3-512 3-512 3-512 3-512 M"
TABLE_1 = {"vgg11": _A, "vgg11_lrn": _A, "vgg13": _B, "vgg16_c": _C, "vgg16": _D, "vgg19": _E}


def _layers(column: str) -> dict[str, dict[str, Any]]:
    """Map sizes, parameters and multiply-adds that follow from a column, for images of 224x224 pixels."""
    layers, channels, size = {}, 3, 224
    for stage, convolutions in enumerate(column.split("M")[:-1], start=1):
        for number, text in enumerate(convolutions.split(), start=1):
            kernel_size, maps = map(int, text.split("-"))
            weights = kernel_size**2 * channels * maps
            layers[f"conv{stage}_{number}"] = _layer((size, size, maps), weights)
            channels = maps
        size //= 2
    inputs = size * size * channels
    for name, units in (("fc6", 4096), ("fc7", 4096), ("fc8", 1000)):
        layers[name] = _layer((units,), inputs * units)
        inputs = units
    return layers


def _layer(output_shape: tuple[int, ...], weights: int) -> dict[str, Any]:
    return {
        "output_shape": output_shape,
        "parameters": weights + output_shape[-1],
        "multiply_adds": weights * math.prod(output_shape[:-1]),
    }


LAYERS: dict[str, dict[str, dict[str, Any]]] = {variant: _layers(column) for variant, column in TABLE_1.items()}
TOTALS: dict[str, dict[str, str]] = {  # Table 2
    "vgg11": {"parameters": "133M"},
    "vgg11_lrn": {"parameters": "133M"},
    "vgg13": {"parameters": "133M"},
    "vgg16_c": {"parameters": "134M"},
    "vgg16": {"parameters": "138M"},
    "vgg19": {"parameters": "144M"},
}
