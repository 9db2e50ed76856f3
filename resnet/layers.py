"""The parts of a ResNet: convolutions with He's initial weights, batch normalisation, shortcuts and blocks."""

import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from common.errors import UserError

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
        name=name,
    )


class BatchNorm(nn.Module):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta (Ioffe and Szegedy 2015, Algorithm 1).

    In training, the mean and variance of each channel are computed over space and the whole batch, however many
    devices share it. With `groups`, the batch is split into that many equal runs of consecutive examples, each with
    its own statistics, as when every GPU normalises its own part. Evaluation uses running averages: `mean` and `var`
    in the collection `batch_stats`. With groups, each update averages the groups' statistics.

    momentum: share of a running average that an update keeps. groups: 0 is the whole batch. zero_gamma: start from
    gamma = 0 instead of 1. dtype: of the result; statistics are always float32.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    groups: int = 0
    zero_gamma: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Images:
        """Normalised images. UserError when the batch does not split into groups of two or more examples."""
        channels = (images.shape[-1],)
        gamma = self.param("scale", nn.initializers.zeros if self.zero_gamma else nn.initializers.ones, channels)
        beta = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        x = images.astype(jnp.float32)
        if not train:
            y = _equation(x, running_mean.value, running_var.value, gamma, beta, self.epsilon)
            return y.astype(self.dtype)
        x = x.reshape(_group_count(len(images), self.groups), -1, *images.shape[1:])
        y, mean, var = normalised(x, gamma, beta, running_mean.value, self.epsilon)
        if not self.is_initializing():
            running_mean.value = self._keep(running_mean.value, mean)
            running_var.value = self._keep(running_var.value, var)
        return y.reshape(images.shape).astype(self.dtype)

    def _keep(self, average: Array, values: Array) -> Array:
        """The running average after one more update."""
        return self.momentum * average + (1.0 - self.momentum) * jnp.mean(values, axis=0)


Grouped = Float[Array, "groups group height width channels"]
Channels = Float[Array, " channels"]
Statistics = Float[Array, "groups channels"]
_GROUP = (1, 2, 3)  # the axes of Grouped that statistics are computed over


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def normalised(
    x: Grouped, gamma: Channels, beta: Channels, shift: Channels, epsilon: float
) -> tuple[Grouped, Statistics, Statistics]:
    """Each group normalised by its own mean and variance, and these two, through which no gradient flows.

    shift: see `group_statistics`. Differentiable in reverse mode only.
    """
    mean, var = group_statistics(x, shift)
    return _equation(x, _spread(mean), _spread(var), gamma, beta, epsilon), mean, var


def _normalised_forward(
    x: Grouped, gamma: Channels, beta: Channels, shift: Channels, epsilon: float
) -> tuple[tuple[Grouped, Statistics, Statistics], tuple]:
    y, mean, var = normalised(x, gamma, beta, shift, epsilon)
    return (y, mean, var), (x, gamma, mean, var)


def _normalised_backward(epsilon: float, kept: tuple, gradients: tuple) -> tuple:
    """The gradients of section 3 in closed form: two sums and one pass, where the chain rule takes several.

    dL/dx = gamma / std * (g - mean(g) - z mean(g z)) with z = (x - mean) / std. The division by std comes last: XLA's
    CPU backend would compute a cheaper last operation again for each of its readers, which are two convolutions.
    """
    x, gamma, mean, var = kept
    gradient, *_ = gradients
    centred, count = x - _spread(mean), math.prod(x.shape[1:4])
    sums, products = jnp.sum(gradient, _GROUP), jnp.sum(gradient * centred, _GROUP)
    rest = gradient - _spread(sums / count) - centred * _spread(products / (count * (var + epsilon)))
    to_x = rest * gamma / _spread(jnp.sqrt(var + epsilon))
    to_gamma = jnp.sum(products * jax.lax.rsqrt(var + epsilon), axis=0)
    return to_x, to_gamma, jnp.sum(sums, axis=0), jnp.zeros_like(gamma)


normalised.defvjp(_normalised_forward, _normalised_backward)


def _equation(x: Array, mean: Array, var: Array, gamma: Channels, beta: Channels, epsilon: float) -> Array:
    return (x - mean) * (jax.lax.rsqrt(var + epsilon) * gamma) + beta


def _spread(values: Statistics) -> Float[Array, "groups 1 1 1 channels"]:
    return values[:, None, None, None]


def group_statistics(x: Grouped, shift: Channels) -> tuple[Statistics, Statistics]:
    """Mean and variance of each group's channels, in one pass over the data.

    E[(x - s)^2] - (E[x] - s)^2 is the variance for any s, and it is precise for an s near the mean, such as the
    running mean.
    """
    centred = x - shift
    offset = jnp.mean(centred, _GROUP)
    return offset + shift, jnp.maximum(jnp.mean(jnp.square(centred), _GROUP) - jnp.square(offset), 0.0)


def _group_count(batch: int, groups: int) -> int:
    """The number of groups that the batch is normalised in; UserError if it does not split into them."""
    count = groups or 1
    if batch % count:
        raise UserError(
            f"config.model.batch_groups is {groups}, which does not divide a batch of {batch} examples; use a divisor, "
            "or 0 for statistics over the whole batch"
        )
    if batch == count:
        raise UserError(
            f"batch normalisation in training needs two examples or more in each group, and a batch of {batch} in "
            f"{count} {'groups' if count > 1 else 'group'} has one: lower config.model.batch_groups or raise "
            "config.train.batch_size"
        )
    return count


def zero_padded(images: Images, features: int, strides: int) -> Maps:
    """Option A: every `strides`-th pixel, with channels of zeros before and after the image's, `features` in all."""
    images = images[:, ::strides, ::strides]
    missing = features - images.shape[-1]
    return jnp.pad(images, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


class Shortcut(nn.Module):
    """The connection around a block, to `features` channels (section 4.1, 'Identity vs. projection shortcuts').

    option: where the shape changes, 'A' pads with zeros and 'B' projects; elsewhere both are the identity. 'C'
    projects everywhere. conv, norm: make a convolution and a batch normalisation.
    """

    option: str
    features: int
    strides: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Maps:
        """The maps that the block adds to its last layer's output."""
        same = self.strides == 1 and images.shape[-1] == self.features
        if self.option == "C" or (self.option == "B" and not same):
            projected = self.conv(self.features, 1, self.strides, name="conv")(images)
            return self.norm(name="bn")(projected, train)
        return images if same else zero_padded(images, self.features, self.strides)


class Block(nn.Module):
    """The common part of both kinds of block: y = relu(F(x) + shortcut(x)) (eq. 1 and 2), in a plain net relu(F(x)).

    features: width of the 3x3 convolutions. strides: of the block. shortcut: 'A', 'B', 'C', or 'none' for a plain
    net. zero_gamma: the last normalisation starts at zero. conv, norm: make a convolution and a normalisation.
    """

    features: int
    strides: int
    shortcut: str
    zero_gamma: bool
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    def join(self, images: Images, residual: Maps, train: bool) -> Maps:
        """The end of a block: addition, then ReLU."""
        if self.shortcut != "none":
            features = residual.shape[-1]
            shortcut = Shortcut(self.shortcut, features, self.strides, self.conv, self.norm, name="shortcut")
            residual += shortcut(images, train)
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
