"""The parts of a ResNet: convolutions with He's initial weights, shortcuts and blocks."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from common.devices.convolutions import fastest

Images = Float[Array, "batch height width channels"]
Maps = Float[Array, "batch out_height out_width features"]  # a layer's output
Fan = Literal["fan_in", "fan_out"]


def convolution(
    features: int, kernel_size: int, strides: int = 1, *, init_fan: Fan, dtype: str, name: str | None = None
) -> nn.Conv:
    """A convolution without bias that halves its input when `strides` is 2.

    The weights start as N(0, 2 / n) (He et al. 2015, section 2.2), where n counts the inputs of a unit
    (`init_fan='fan_in'`) or the units that read an input ('fan_out').
    """
    # Symmetric padding: XLA's 'SAME' pads (0, 1) at stride 2, and published weights expect (1, 1).
    padding = kernel_size // 2
    return nn.Conv(
        features,
        (kernel_size, kernel_size),
        (strides, strides),
        padding=((padding, padding), (padding, padding)),
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, init_fan, "normal"),
        dtype=jnp.dtype(dtype),
        conv_general_dilated=fastest.convolution,
        name=name,
    )


def zero_padded(images: Images, features: int, strides: int, pad: str = "both") -> Maps:
    """Option A: every `strides`-th pixel, with channels of zeros added on both sides or at the end.

    features: total number of channels. pad: 'both' or 'end'.
    """
    images = images[:, ::strides, ::strides]
    missing = features - images.shape[-1]
    before = missing // 2 if pad == "both" else 0
    return jnp.pad(images, ((0, 0), (0, 0), (0, 0), (before, missing - before)))


class Shortcut(nn.Module):
    """The connection around a block, to `features` channels (section 4.1, 'Identity vs. projection shortcuts').

    option: where the shape changes, 'A' pads with zeros and 'B' projects; elsewhere both are the identity. 'C'
    projects everywhere. conv, norm: functions that make a convolution and a normalisation. pad: see `zero_padded`.
    """

    option: str
    features: int
    strides: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    pad: str = "both"

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Maps:
        """The maps that the block adds to its last layer's output."""
        same = self.strides == 1 and images.shape[-1] == self.features
        if self.option == "C" or (self.option == "B" and not same):
            projected = self.conv(self.features, 1, self.strides, name="conv")(images)
            return self.norm(name="bn")(projected, train)
        return images if same else zero_padded(images, self.features, self.strides, self.pad)


class Block(nn.Module):
    """The common part of both kinds of block: y = relu(F(x) + shortcut(x)) (eq. 1 and 2), in a plain net relu(F(x)).

    features: width of the 3x3 convolutions. strides: of the block. shortcut: 'A', 'B', 'C', or 'none' for a plain
    net. zero_gamma: the last normalisation starts at zero. conv, norm: functions that make a convolution and a
    normalisation. shortcut_pad: the place of option A's zeros, see `zero_padded`.
    """

    features: int
    strides: int
    shortcut: str
    zero_gamma: bool
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    shortcut_pad: str = "both"

    def join(self, images: Images, residual: Maps, train: bool) -> Maps:
        """The end of a block: addition, then ReLU."""
        if self.shortcut != "none":
            features = residual.shape[-1]
            fields = (self.shortcut, features, self.strides, self.conv, self.norm, self.shortcut_pad)
            residual += Shortcut(*fields, name="shortcut")(images, train)
        # Every later block reads this sum; without the barrier XLA's CPU backend would recompute the chain for each.
        return jax.lax.optimization_barrier(nn.relu(residual))


class BasicBlock(Block):
    """Two 3x3 convolutions (Figure 5 left)."""

    convolutions = 2

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Maps:
        """Maps of `features` channels."""
        x = self.conv(self.features, 3, self.strides, name="conv1")(images)
        x = nn.relu(self.norm(name="bn1")(x, train))
        x = self.conv(self.features, 3, name="conv2")(x)
        x = self.norm(zero_gamma=self.zero_gamma, name="bn2")(x, train)
        return self.join(images, x, train)


class Bottleneck(Block):
    """1x1, 3x3 and 1x1 convolutions, the last four times as wide (Figure 5 right).

    stride_in: the strided convolution, '1x1' (the first) or '3x3'.
    """

    convolutions = 3

    stride_in: str = "1x1"

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Maps:
        """Maps of 4 `features` channels."""
        first, second = (self.strides, 1) if self.stride_in == "1x1" else (1, self.strides)
        x = self.conv(self.features, 1, first, name="conv1")(images)
        x = nn.relu(self.norm(name="bn1")(x, train))
        x = self.conv(self.features, 3, second, name="conv2")(x)
        x = nn.relu(self.norm(name="bn2")(x, train))
        x = self.conv(4 * self.features, 1, name="conv3")(x)
        x = self.norm(zero_gamma=self.zero_gamma, name="bn3")(x, train)
        return self.join(images, x, train)
