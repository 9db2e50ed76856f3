"""The lecture's exercises on the sizes of convolutional layers, answered by tracing a layer of our framework."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from common.anatomy import networks

Padding = tuple[int, int]  # pixels before and after, of rows and of columns


def side(image: int, kernel: int, stride: int = 1, padding: Padding = (0, 0)) -> int:
    """The side of the output for images of `image` x `image` pixels."""
    return _layer((1, image, image, 3), 1, kernel, stride, padding)[0][1]


def eight_kernels() -> dict[str, int]:
    """Eight 3x3 kernels on an image of three channels and 7x7 pixels: (1, 3, 7, 7) to (1, 8, 5, 5)."""
    (images, rows, columns, maps), weights, biases = _layer((1, 7, 7, 3), 8, 3, 1, (0, 0))
    return {"images": images, "maps": maps, "rows": rows, "columns": columns, "weights": weights, "biases": biases}


def sides_of_conv1() -> dict[str, int]:
    """The side of maps made by 11x11 kernels at stride 4, for several image sizes, and that of our AlexNet's conv1."""
    return {
        "227 pixels": side(227, 11, 4),
        "224 pixels": side(224, 11, 4),
        "224 pixels and 3 of zeros": side(224, 11, 4, (0, 3)),
        "our network, 224 pixels": networks.rows("alexnet", "two_column")["conv1"].output_shape[0],
    }


def _layer(
    images: tuple[int, ...], maps: int, kernel: int, stride: int, padding: Padding
) -> tuple[tuple[int, ...], int, int]:
    """The shape of a layer's output (NHWC), its weights and its biases."""
    layer = nn.Conv(maps, (kernel, kernel), stride, (padding, padding))
    inputs = jax.ShapeDtypeStruct(images, jnp.float32)
    output, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), inputs)
    shapes = variables["params"]
    return output.shape, math.prod(shapes["kernel"].shape), math.prod(shapes["bias"].shape)
