"""The networks for CIFAR-10 by AlexNet's author; the paper measures rectifiers and normalisation on them.

The paper calls them "a particular four-layer convolutional network" (Figure 1) and "a four-layer CNN" (section
3.3) and refers to the author's released code. Here they are named after the test error that the code quotes. Shapes
in comments are for images of 32x32 pixels (the released recipes crop 24x24).
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from common import models
from common.nn.layers import ceil_max_pool, ceil_padding, identity, local_response_norm

Images = Float[Array, "batch height width channels"]

MINIMUM_SIZE = 8
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "tanh": jnp.tanh}


class ConvolutionalNet(nn.Module):
    """Three convolutional layers and a fully connected one: the network of Figure 1 or, with `lrn`, the 18% network."""

    num_classes: int = 10
    widths: tuple[int, int, int] = (32, 32, 64)
    activation: str = "relu"  # Figure 1 compares 'relu' and 'tanh'
    lrn: bool = False  # the 18% network: after pool1 and pool2, over 3x3 neighbours in the same map
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images: Images, train: bool = False) -> Float[Array, "batch classes"]:
        """Logits."""
        del train
        squash = ACTIVATIONS[self.activation]
        normalize = spatial_response_norm if self.lrn else identity
        x = images.astype(self.dtype)
        x = squash(ceil_max_pool(_convolution("conv1", self.widths[0], 1e-4, self.dtype)(x), 3, 2))  # 16x16x32
        x = squash(_convolution("conv2", self.widths[1], 0.01, self.dtype)(normalize(x)))  # 16x16x32
        x = normalize(_pool_average(x))  # 8x8x32
        x = squash(_convolution("conv3", self.widths[2], 0.01, self.dtype)(x))  # 8x8x64
        x = _pool_average(x)  # 4x4x64
        return _classes("fc10", self.num_classes, self.dtype)(x.reshape(x.shape[0], -1)).astype(jnp.float32)


class LocallyConnectedNet(nn.Module):
    """Two convolutional layers, two that do not share weights between positions, and a fully connected one.

    The 13% network has widths (64, 64, 32, 32) and no `lrn`; the 11% network has widths (64, 64, 64, 32) and `lrn`,
    so the normalised one is also wider.
    """

    num_classes: int = 10
    widths: tuple[int, int, int, int] = (64, 64, 32, 32)
    activation: str = "relu"
    lrn: bool = False  # after pool1, and between conv2 and pool2
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images: Images, train: bool = False) -> Float[Array, "batch classes"]:
        """Logits."""
        del train
        squash = ACTIVATIONS[self.activation]
        normalize = _across_maps if self.lrn else identity
        x = images.astype(self.dtype)
        x = ceil_max_pool(squash(_convolution("conv1", self.widths[0], 1e-4, self.dtype)(x)), 3, 2)  # 16x16x64
        x = squash(_convolution("conv2", self.widths[1], 0.01, self.dtype)(normalize(x)))  # 16x16x64
        x = ceil_max_pool(normalize(x), 3, 2)  # 8x8x64
        x = squash(_local("local3", self.widths[2], self.dtype)(x))  # 8x8x32
        x = squash(_local("local4", self.widths[3], self.dtype)(x))  # 8x8x32
        return _classes("fc10", self.num_classes, self.dtype)(x.reshape(x.shape[0], -1)).astype(jnp.float32)


def spatial_response_norm(
    images: Images, *, size: int = 3, scale: float = 5e-5, power: float = 0.75
) -> Float[Array, "batch height width channels"]:
    """Divides each x by (1 + scale * m)^power, where m is the mean of x^2 over size x size neighbours in the same map.

    The author's code divides `scale` by the number of neighbours, which makes their sum a mean; zeros surround the map.
    """
    half = (size // 2, size // 2)
    squares = nn.avg_pool(jnp.square(images.astype(jnp.float32)), (size, size), padding=(half, half))
    return (images * (1 + scale * squares) ** -power).astype(images.dtype)


def _across_maps(images: Images) -> Images:
    """The 11% network's normalisation: n = 9, scale = 0.001 / n as in the author's code, power = 0.75, k = 1."""
    return local_response_norm(images, size=9, alpha=1e-3, beta=0.75, k=1.0, divide_by_size=True)


def _convolution(name: str, features: int, deviation: float, dtype: str) -> nn.Conv:
    init = nn.initializers.normal(deviation)
    return nn.Conv(features, (5, 5), padding=((2, 2), (2, 2)), kernel_init=init, dtype=dtype, name=name)


def _local(name: str, features: int, dtype: str) -> nn.ConvLocal:
    init = nn.initializers.normal(0.04)
    return nn.ConvLocal(features, (3, 3), padding=((1, 1), (1, 1)), kernel_init=init, dtype=dtype, name=name)


def _classes(name: str, features: int, dtype: str) -> nn.Dense:
    return nn.Dense(features, kernel_init=nn.initializers.normal(0.01), dtype=dtype, name=name)


def _pool_average(images: Array) -> Array:
    """The mean of 3x3 windows two pixels apart, over the pixels that lie inside the image: 32 -> 16, 24 -> 12."""
    padding = tuple(ceil_padding(length, 3, 2) for length in images.shape[1:3])
    return nn.avg_pool(images, (3, 3), (2, 2), padding, count_include_pad=False)


NETWORKS = {
    "fig1_cifar10": ConvolutionalNet,
    "cifar10_18": ConvolutionalNet,
    "cifar10_13": LocallyConnectedNet,
    "cifar10_11": LocallyConnectedNet,
}

VARIANTS: dict[str, dict[str, Any]] = {
    **models.variants(ConvolutionalNet, {"fig1_cifar10": {}, "cifar10_18": {"lrn": True}}),  # 89,578 parameters
    **models.variants(LocallyConnectedNet, {"cifar10_13": {}, "cifar10_11": {"widths": (64, 64, 64, 32), "lrn": True}}),
}
