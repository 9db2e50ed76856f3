"""Batch normalisation (Ioffe and Szegedy 2015), over the whole batch or over groups of its examples."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from common.devices import compilation
from common.errors import UserError

Images = Float[Array, "batch height width channels"]


class BatchNorm(nn.Module):
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta (Ioffe and Szegedy 2015, Algorithm 1).

    In training, the mean and variance of each channel are computed over space and the whole batch, however many
    devices share it. The batch can be split into groups with their own statistics, in two ways that go together:

    groups: equal runs of consecutive examples, as when every GPU normalises its own part; 0 is one run.
    ghost_batches: example i belongs to ghost batch i modulo this number (Hoffer et al. 2017, Algorithm 1). These are
        the parts of `train.accumulate`, and they lie on all devices alike.

    Evaluation uses running averages: `mean` and `var` in the collection `batch_stats`. With groups, each update
    averages the groups' statistics.

    momentum: the share of a running average that an update keeps. zero_gamma: start from gamma = 0 instead of 1. dtype:
    of the result; statistics are float32, or float64 for images of that type.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    groups: int = 0
    ghost_batches: int = 1
    zero_gamma: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Images:
        """Normalised images. Raises UserError if the batch does not split into groups of two or more examples."""
        channels = (images.shape[-1],)
        gamma = self.param("scale", nn.initializers.zeros if self.zero_gamma else nn.initializers.ones, channels)
        beta = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        x = images.astype(jnp.promote_types(images.dtype, jnp.float32))
        if not train:
            y = _equation(x, running_mean.value, running_var.value, gamma, beta, self.epsilon)
            return y.astype(self.dtype)
        runs = self.groups or 1
        _check_groups(len(images), runs, self.ghost_batches)
        x = x.reshape(runs, -1, self.ghost_batches, *images.shape[1:])
        y, mean, var = normalised(x, gamma, beta, running_mean.value, self.epsilon)
        if not self.is_initializing():
            running_mean.value = self._keep(running_mean.value, mean)
            running_var.value = self._keep(running_var.value, var)
        return y.reshape(images.shape).astype(self.dtype)

    def _keep(self, average: Array, values: Array) -> Array:
        """The running average after one more update."""
        return self.momentum * average + (1.0 - self.momentum) * jnp.mean(values, axis=(0, 1))


Grouped = Float[Array, "runs group ghosts height width channels"]
Channels = Float[Array, " channels"]
Statistics = Float[Array, "runs ghosts channels"]
_GROUP = (1, 3, 4)  # the axes of Grouped that statistics are computed over


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def normalised(
    x: Grouped, gamma: Channels, beta: Channels, shift: Channels, epsilon: float
) -> tuple[Grouped, Statistics, Statistics]:
    """Each group normalised by its own mean and variance, and these two, through which no gradient flows.

    shift: see `group_statistics`. Differentiable in reverse mode only.
    """
    return _normalised_forward(x, gamma, beta, shift, epsilon)[0]


def _normalised_forward(
    x: Grouped, gamma: Channels, beta: Channels, shift: Channels, epsilon: float
) -> tuple[tuple[Grouped, Statistics, Statistics], tuple[Grouped, Channels, Statistics | None, Statistics]]:
    """The results, and what the gradients need: x and its mean or, on a CPU, x without its mean and None."""
    if stores_centred_images():
        mean, var, centred = centred_statistics(x)
        return (_equation(centred, 0.0, _spread(var), gamma, beta, epsilon), mean, var), (centred, gamma, None, var)
    mean, var = group_statistics(x, shift)
    return (_equation(x, _spread(mean), _spread(var), gamma, beta, epsilon), mean, var), (x, gamma, mean, var)


def _normalised_backward(epsilon: float, kept: tuple, gradients: tuple) -> tuple:
    """The gradients of section 3 in closed form: two sums and one pass; the chain rule takes several passes.

    dL/dx = gamma / std * (g - mean(g) - z mean(g z)) with z = (x - mean) / std. The division by std comes last: XLA's
    CPU backend would compute a cheaper last operation again for each of its readers, which are two convolutions.
    """
    x, gamma, mean, var = kept
    gradient, *_ = gradients
    centred, count = x if mean is None else x - _spread(mean), math.prod(x.shape[axis] for axis in _GROUP)
    sums, products = jnp.sum(gradient, _GROUP), jnp.sum(gradient * centred, _GROUP)
    rest = gradient - _spread(sums / count) - centred * _spread(products / (count * (var + epsilon)))
    to_x = rest * gamma / _spread(jnp.sqrt(var + epsilon))
    to_gamma = jnp.sum(products * jax.lax.rsqrt(var + epsilon), axis=(0, 1))
    return to_x, to_gamma, jnp.sum(sums, axis=(0, 1)), jnp.zeros_like(gamma)


normalised.defvjp(_normalised_forward, _normalised_backward)


def _equation(x: Array, mean: Array | float, var: Array, gamma: Channels, beta: Channels, epsilon: float) -> Array:
    return (x - mean) * (jax.lax.rsqrt(var + epsilon) * gamma) + beta


def _spread(values: Statistics) -> Float[Array, "runs 1 ghosts 1 1 channels"]:
    return values[:, None, :, None, None]


def group_statistics(x: Grouped, shift: Channels) -> tuple[Statistics, Statistics]:
    """Mean and variance of each group's channels, in one pass over the data.

    E[(x - s)^2] - (E[x] - s)^2 is the variance for any s, and it is precise for an s near the mean, such as the
    running mean.
    """
    centred = x - shift
    offset = jnp.mean(centred, _GROUP)
    return offset + shift, jnp.maximum(jnp.mean(jnp.square(centred), _GROUP) - jnp.square(offset), 0.0)


def centred_statistics(x: Grouped) -> tuple[Statistics, Statistics, Grouped]:
    """Mean and variance of each group's channels, and x without its mean, which is stored.

    With `group_statistics`, XLA's CPU backend would store x - s, because it fuses no subtraction with a sum, and also
    x - mean, for the gradients. Here one array serves the variance, the result and the gradients.
    """
    mean = jnp.mean(x, _GROUP)
    centred = jax.lax.optimization_barrier(x - _spread(mean))
    return mean, jnp.mean(jnp.square(centred), _GROUP), centred


def _check_groups(batch: int, runs: int, ghost_batches: int) -> None:
    """Raises UserError unless a batch splits into these groups, with two or more examples each."""
    count = runs * ghost_batches
    ghosts = "" if ghost_batches == 1 else f"config.model.ghost_batches is {ghost_batches}"
    groups = "" if runs == 1 else f"config.model.batch_groups is {runs}"
    said = " and ".join(filter(None, (groups, ghosts)))
    if batch % count:
        raise UserError(
            f"{said}, which {'do' if groups and ghosts else 'does'} not divide a batch of {batch} examples; use a "
            "divisor, or statistics over the whole batch"
        )
    if batch == count:
        raise UserError(
            f"batch normalisation in training needs two examples or more in each group, and a batch of {batch} in "
            f"{count} {'groups' if count > 1 else 'group'} has one: {'lower the groups or ' if said else ''}raise "
            f"config.train.batch_size{f' ({said})' if said else ''}"
        )


def stores_centred_images() -> bool:
    """True where batch normalisation stores x - mean for its gradients, and takes the variance from it."""
    return compilation.tuned_for_cpu()
