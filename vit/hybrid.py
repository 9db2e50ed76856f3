"""The ResNet that a hybrid's patches are cut from (sections 3.1 and 4.1): group norm, standardised weights.

Layers have the published checkpoints' names: conv_root, gn_root, blockS/unitU/{conv1, gn1, ..., conv_proj, gn_proj}.
Every strided layer sees an even size; for these the 'SAME' padding of the published weights puts the odd pixel after
the image.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from common.nn.layers import max_pool

Maps = Float[Array, "batch height width channels"]
Features = Float[Array, "batch out_height out_width features"]
WIDTH = 64  # channels of the root and of the first stage's narrow convolutions
_ROOT_STRIDE = 4


def stride(stages: tuple[int, ...]) -> int:
    """Image pixels between neighbouring positions of the features."""
    return _ROOT_STRIDE * 2 ** max(len(stages) - 1, 0)


def resnet(images: Maps, stages: tuple[int, ...], dtype: str) -> Features:
    """Features, `stride(stages)` times smaller than the images along each axis.

    stages: bottleneck blocks in each stage; () is the root alone. Call it inside a compact method; the layers belong to
    that method's module.
    """
    x = StandardizedConv(WIDTH, 7, 2, padding=(2, 3), dtype=dtype, name="conv_root")(images)
    x = nn.relu(_group_norm(dtype, name="gn_root")(x))
    x = max_pool(x, 3, 2, padding=((0, 1), (0, 1)))
    for number, blocks in enumerate(stages):
        x = Stage(WIDTH * 2**number, blocks, 1 if number == 0 else 2, dtype=dtype, name=f"block{number + 1}")(x)
    return x


def standardize(
    kernel: Float[Array, "rows columns channels features"],
) -> Float[Array, "rows columns channels features"]:
    """The kernel with mean 0 and deviation 1 over the weights of each output (Qiao et al. 2019).

    The 1e-5 is added to the deviation, as in the code that made the published weights. Added to the variance it would
    shrink wide kernels, whose weights have variances as small as 1e-4.
    """
    centred = kernel - kernel.mean((0, 1, 2))
    return centred / (jnp.sqrt(jnp.square(centred).mean((0, 1, 2))) + 1e-5)


class StandardizedConv(nn.Module):
    """A convolution without bias whose kernel is standardised at each use."""

    features: int
    kernel_size: int = 1
    strides: int = 1
    padding: tuple[int, int] = (0, 0)
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Maps) -> Features:
        """Maps of `features` channels."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = standardize(self.param("kernel", nn.initializers.lecun_normal(), shape))
        return jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            window_strides=(self.strides, self.strides),
            padding=(self.padding, self.padding),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 to four times the width; a projection where the shape changes."""

    width: int
    strides: int = 1
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Maps) -> Features:
        """ReLU(shortcut + residual)."""
        conv = functools.partial(StandardizedConv, dtype=self.dtype)
        norm = functools.partial(_group_norm, self.dtype)
        shortcut = x
        if x.shape[-1] != 4 * self.width or self.strides != 1:
            shortcut = norm(name="gn_proj")(conv(4 * self.width, strides=self.strides, name="conv_proj")(x))
        padding = (1, 1) if self.strides == 1 else (0, 1)
        y = nn.relu(norm(name="gn1")(conv(self.width, name="conv1")(x)))
        y = nn.relu(norm(name="gn2")(conv(self.width, 3, self.strides, padding, name="conv2")(y)))
        y = norm(scale_init=nn.initializers.zeros, name="gn3")(conv(4 * self.width, name="conv3")(y))
        return nn.relu(shortcut + y)


class Stage(nn.Module):
    """Bottleneck blocks of one width; the first has the stride."""

    width: int
    blocks: int
    strides: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Maps) -> Features:
        """Maps of 4 * width channels."""
        for number in range(self.blocks):
            strides = self.strides if number == 0 else 1
            x = Bottleneck(self.width, strides, dtype=self.dtype, name=f"unit{number + 1}")(x)
        return x


def _group_norm(dtype: str, **fields) -> nn.GroupNorm:
    return nn.GroupNorm(num_groups=32, epsilon=1e-6, dtype=dtype, **fields)
