"""The 2012 paper's facts about each layer: map sizes, and counts that follow from the kernels that it prints."""

import math
from typing import Any


def _layer(output_shape: tuple[int, ...], kernel: tuple[int, ...]) -> dict[str, Any]:
    """A layer's facts. The last axis of its kernel is the number of maps or units, each with a bias."""
    weights = math.prod(kernel)
    return {
        "output_shape": output_shape,
        "parameters": weights + kernel[-1],
        "multiply_adds": weights * math.prod(output_shape[:-1]),
    }


# Section 3.5 and Figure 2: maps of both columns; kernels as printed (11x11x3, 5x5x48, 3x3x256, 3x3x192, 3x3x192), and
# their number. Figure 2 prints 253,440 neurons for conv1, which is 55x48x96; section 3's 650,000 takes 55x55x96.
LAYERS: dict[str, dict[str, dict[str, Any]]] = {
    "two_column": {
        "conv1": _layer((55, 55, 96), (11, 11, 3, 96)),
        "conv2": _layer((27, 27, 256), (5, 5, 48, 256)),
        "conv3": _layer((13, 13, 384), (3, 3, 256, 384)),
        "conv4": _layer((13, 13, 384), (3, 3, 192, 384)),
        "conv5": _layer((13, 13, 256), (3, 3, 192, 256)),
        "fc6": _layer((4096,), (6 * 6 * 256, 4096)),
        "fc7": _layer((4096,), (4096, 4096)),
        "fc8": _layer((1000,), (4096, 1000)),
    }
}
TOTALS: dict[str, dict[str, int]] = {
    variant: {column: sum(layer[column] for layer in layers.values()) for column in ("parameters", "multiply_adds")}
    for variant, layers in LAYERS.items()
}
