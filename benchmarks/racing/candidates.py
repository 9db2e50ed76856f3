"""Formulations that may be faster than ours on some device, or once were ours, for `benchmarks.formulations` to time.

A candidate is a function that replaces a formulation of ours, in this process, before a network is made. Its result is
ours, up to rounding, which the tests check on CPU. A candidate that wins moves from this module into the code.
"""

import functools
import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float

from common.devices import attention, pooling, products
from common.devices.convolutions import banded, fastest, narrow, strided, winograd
from common.nn import batch_norm, layers
from common.nn.layers import identity
from resnet import layers as resnet_layers
from resnet import model as resnet_model
from vit import model as vit_model

Images = Float[Array, "batch height width channels"]
Kernel = Float[Array, "kernel_height kernel_width in_channels features"]
Channels = Float[Array, " channels"]


def space_to_depth() -> None:
    """Computes ResNet's first convolution over blocks of 2x2 pixels: matrix units work on eight channels or more."""
    resnet_layers.fastest = SimpleNamespace(**{**vars(fastest), "convolution": _blockwise})


def _blockwise(
    images: Images, kernel: Kernel, strides: Sequence[int], padding: Sequence[tuple[int, int]], **options: Any
) -> Images:
    """A strided convolution of few channels by `space_to_depth_convolution`; any other convolution as it is."""
    if max(strides) == 1 or images.shape[-1] > 4:
        return fastest.convolution(images, kernel, strides, padding, **options)
    plain = functools.partial(lax.conv_general_dilated, dimension_numbers=options["dimension_numbers"])
    return space_to_depth_convolution(images, kernel, strides, padding, plain)


def space_to_depth_convolution(
    images: Images,
    kernel: Kernel,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    plain: Callable[..., Array],
) -> Images:
    """A strided convolution, computed with stride 1 over blocks of `strides` pixels, whose pixels become channels.

    The kernel is padded with zeros to whole blocks. plain: lax.conv_general_dilated with the remaining options.
    """
    ends = []
    for size, length, stride, (low, high) in zip(images.shape[1:], kernel.shape, strides, padding, strict=False):
        count = (size + low + high - length) // stride + 1
        ends.append((count - 1 - (-length // stride)) * stride - size - low)  # to the last window's end; may crop
    edges = [(low, end, 0) for (low, _), end in zip(padding, ends, strict=True)]
    padded = lax.pad(images, jnp.zeros((), images.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    short = [(0, -size % stride) for size, stride in zip(kernel.shape, strides, strict=False)]
    kernel = jnp.pad(kernel, [*short, (0, 0), (0, 0)])
    kernel = jnp.moveaxis(_blocks(jnp.moveaxis(kernel, -1, 0), strides), 0, -1)
    return plain(_blocks(padded, strides), kernel, (1, 1), ((0, 0), (0, 0)))


def _blocks(images: Images, block: Sequence[int]) -> Images:
    """Images with one pixel for each block, which has the channels of all pixels of the block."""
    batch, height, width, channels = images.shape
    rows, columns = block
    parts = images.reshape(batch, height // rows, rows, width // columns, columns, channels)
    return parts.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // rows, width // columns, -1)


def rectified_gradient() -> None:
    """Computes the ReLU's mask twice, inside the gradient of batch normalisation, rather than reading it twice."""
    resnet_model.BLOCKS["bottleneck"] = _Bottleneck


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def rectified(
    x: Images, gamma: Channels, beta: Channels, shift: Channels, epsilon: float
) -> tuple[Images, Channels, Channels]:
    """relu(BN(x)) over the whole batch, and the mean and the variance, through which no gradient flows.

    shift: see `batch_norm.group_statistics`. Differentiable in reverse mode only.
    """
    mean, var = (values[0, 0] for values in batch_norm.group_statistics(x[None, :, None], shift))
    return nn.relu((x - mean) * (lax.rsqrt(var + epsilon) * gamma) + beta), mean, var


def _rectified_forward(
    x: Images, gamma: Channels, beta: Channels, shift: Channels, epsilon: float
) -> tuple[tuple[Images, Channels, Channels], tuple]:
    y, mean, var = rectified(x, gamma, beta, shift, epsilon)
    return (y, mean, var), (x, gamma, beta, mean, var)


def _rectified_backward(epsilon: float, kept: tuple, gradients: tuple) -> tuple[Array, Array, Array, Array]:
    """The gradients of `batch_norm.normalised` for an incoming gradient that the ReLU has masked.

    The mask is written as two different expressions, because XLA would store a shared one in memory.
    """
    x, gamma, beta, mean, var = kept
    centred, scale = x - mean, gamma * lax.rsqrt(var + epsilon)
    summed = jnp.where(centred * scale + beta > 0, gradients[0], 0)
    passed = jnp.where(x * scale > mean * scale - beta, gradients[0], 0)
    axes, count = (0, 1, 2), x.size // x.shape[-1]
    sums, products = jnp.sum(summed, axes), jnp.sum(summed * centred, axes)
    to_x = (passed - sums / count - centred * (products / (count * (var + epsilon)))) * scale
    return to_x, products * lax.rsqrt(var + epsilon), sums, jnp.zeros_like(gamma)


rectified.defvjp(_rectified_forward, _rectified_backward)


class _RectifiedBatchNorm(nn.Module):
    """`BatchNorm` and a ReLU, in training only; parameters and statistics are the same."""

    momentum: float
    epsilon: float
    dtype: str

    @nn.compact
    def __call__(self, images: Images) -> Images:
        channels = (images.shape[-1],)
        gamma = self.param("scale", nn.initializers.ones, channels)
        beta = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        x = images.astype(jnp.promote_types(images.dtype, jnp.float32))
        y, mean, var = rectified(x, gamma, beta, running_mean.value, self.epsilon)
        if not self.is_initializing():
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var
        return y.astype(self.dtype)


class _Bottleneck(resnet_layers.Bottleneck):
    """The bottleneck with its first two normalisations and ReLUs as `rectified`, so it can only train."""

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Images:
        first, second = (self.strides, 1) if self.stride_in == "1x1" else (1, self.strides)
        momentum, epsilon, *_ = self.norm.args
        norm = functools.partial(_RectifiedBatchNorm, momentum, epsilon, self.norm.keywords["dtype"])
        x = norm(name="bn1")(self.conv(self.features, 1, first, name="conv1")(images))
        x = norm(name="bn2")(self.conv(self.features, 3, second, name="conv2")(x))
        x = self.conv(4 * self.features, 1, name="conv3")(x)
        return self.join(images, self.norm(zero_gamma=self.zero_gamma, name="bn3")(x, train), train)


def windowed_pooling() -> None:
    """Uses XLA's windowed reduction for max pooling on a CPU; ours takes maxima of slices there."""
    pooling.max_pool = pooling.max_of_windows


def sliced_pooling() -> None:
    """Uses maxima of slices for max pooling on an accelerator; ours is XLA's windowed reduction there."""
    pooling.max_pool = pooling.max_of_slices


def plain_attention() -> None:
    """Computes attention and its gradient by XLA itself: on a GPU ours is cuDNN's, on a CPU one in parts."""
    attention.attend = functools.partial(jax.nn.dot_product_attention, implementation="xla")


def direct_convolutions() -> None:
    """Computes 3x3 convolutions on a CPU by XLA; ours are Winograd's, which won when they were timed."""
    winograd.is_faster = lambda *_: False


def narrow_convolutions_by_xla() -> None:
    """Computes 3x3 convolutions with few maps on a CPU by XLA; ours are sums, which won when they were timed."""
    narrow.is_faster = lambda *_: False


def strided_gradients_by_xla() -> None:
    """Computes the gradients of strided convolutions' images on a CPU by XLA; ours are in parts without zeros."""
    strided.is_faster = lambda *_: False


def images_again() -> None:
    """Computes a convolution's images on a CPU again for the kernel's gradient, as XLA does unless ours keep them."""
    fastest.stored_once = identity


def pointwise_convolutions() -> None:
    """Computes 1x1 convolutions on a CPU by XLA; ours are products of matrices, which won when they were timed."""
    fastest.is_pointwise = lambda *_: False


def statistics_in_one_pass() -> None:
    """Takes batch normalisation's mean and variance in one pass on a CPU too; ours are two, which won there."""
    batch_norm.stores_centred_images = lambda: False


def copied_weights() -> None:
    """Lets an update on a CPU begin before all gradients are there; XLA then copies large kernels each time."""
    products.all_before_updates = identity
    products.wait_for_all = lambda *arrays: arrays


def stored_gradients() -> None:
    """Stores the gradients of large kernels on a CPU; ours become a part of the update if there are few rows."""
    products.is_sum_of_rows = lambda *_: False


def patches() -> None:
    """Computes the LeNets' convolutions on a CPU as patches times a kernel; for batches ours are `banded`."""
    banded.is_faster = lambda *_: False


def plain_products() -> None:
    """Leaves the gradients of dense layers on a CPU to XLA, as ours did until they were profiled."""

    def product(inputs: Array, kernel: Array, dimension_numbers: lax.DotDimensionNumbers, **options: Any) -> Array:
        return lax.dot_general(inputs, kernel, dimension_numbers, **options)

    products.product = product


def masks_again() -> None:
    """Computes dropout's masks wherever they are read, as Flax does; a TPU's compiler expects ours to be faster."""

    def mask(key: Array, rate: float, shape: tuple[int, ...]) -> Bool[Array, "*shape"]:
        return jax.random.bernoulli(key, 1 - rate, shape)

    layers.kept_units = mask


def looped_blocks() -> None:
    """Runs a ViT's blocks in a loop, as ours did until it was timed: it compiles sooner, but copies activations."""

    def scan(*args: Any, **options: Any) -> Any:
        return nn.scan(*args, **{**options, "unroll": 1})

    vit_model.nn = _linen(scan=scan)


def _linen(**replaced: Any) -> Any:
    """flax.linen with some of its names replaced."""
    return SimpleNamespace(**{**vars(nn), **replaced})


def no_command_buffers() -> None:
    """Starts kernels one by one, not as CUDA graphs."""
    _xla_flag("--xla_gpu_enable_command_buffer=")


def loops_in_command_buffers() -> None:
    """Records whole loops, such as that over updates, as CUDA graphs."""
    _xla_flag("--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,WHILE")


def no_autotuning() -> None:
    """Takes the first algorithm for each product and convolution, without trying others."""
    _xla_flag("--xla_gpu_autotune_level=0")


def _xla_flag(flag: str) -> None:
    """Adds a flag that XLA reads when the first program is compiled."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


CANDIDATES: dict[str, Callable[[], None]] = {
    candidate.__name__: candidate
    for candidate in (
        *(space_to_depth, rectified_gradient, windowed_pooling, sliced_pooling, plain_attention, looped_blocks),
        *(direct_convolutions, narrow_convolutions_by_xla, strided_gradients_by_xla),
        *(pointwise_convolutions, statistics_in_one_pass, images_again),
        *(copied_weights, stored_gradients, patches, plain_products, masks_again),
        *(no_command_buffers, loops_in_command_buffers, no_autotuning),
    )
}
