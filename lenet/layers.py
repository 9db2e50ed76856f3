"""The layers of the LeNets: shared weights, trainable sub-sampling, partial connections, Euclidean RBF units.

Every layer computes weighted sums, adds a bias and applies a squashing function. With `second_order` it computes the
same values but back-propagates curvature instead of gradients (see `curvature.py`).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from common.devices import compilation, pooling, products
from common.devices.convolutions import banded, fused, patches, single
from common.nn.layers import identity
from lenet import curvature
from lenet.bitmaps import CENTRES

Images = Float[Array, "batch height width channels"]
Maps = Float[Array, "batch out_height out_width maps"]
# For each map of a layer, the maps that it reads from the layer below.
Table = tuple[tuple[int, ...], ...]


def scaled_tanh(a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """f(a) = A tanh(S a), A = 1.7159, S = 2/3 (1998, eq. 6 and appendix A): f(1) = 1, f(-1) = -1."""
    return 1.7159 * jnp.tanh(2 / 3 * a)


ACTIVATIONS = {"scaled_tanh": scaled_tanh, "tanh": jnp.tanh, "relu": jax.nn.relu, "identity": identity}


def fan_in_uniform(fan_in: int | np.ndarray, root: bool = False) -> nn.initializers.Initializer:
    """U(-2.4/F, 2.4/F), where F is the number of weights that a unit really sums (1998, appendix A).

    fan_in: F, or one F per entry of the parameter's last axis; root: divide by sqrt(F) instead, which keeps the
    scale of signals if the inputs are uncorrelated. The 1998 paper argues for F because they are correlated.
    """
    return functools.partial(_uniform, bound=2.4 / (np.sqrt(fan_in) if root else fan_in))


def fan_in_normal(fan_in: int | np.ndarray) -> nn.initializers.Initializer:
    """N(0, 2/F), which keeps the scale of signals through rectifiers (He et al. 2015)."""
    return functools.partial(_normal, deviation=np.sqrt(2 / fan_in))


def _uniform(key, shape, dtype=jnp.float32, *, bound):
    return jnp.asarray(bound, dtype) * jax.random.uniform(key, shape, dtype, -1, 1)


def _normal(key, shape, dtype=jnp.float32, *, deviation):
    return jnp.asarray(deviation, dtype) * jax.random.normal(key, shape, dtype)


WEIGHT_INITS: dict[str, Callable[..., nn.initializers.Initializer]] = {
    "uniform": fan_in_uniform,
    "uniform_sqrt": functools.partial(fan_in_uniform, root=True),
    "he_normal": fan_in_normal,
}


def convolve(
    images: Images, kernel: Float[Array, "kernel_height kernel_width channels maps"], strides: int = 1
) -> Maps:
    """Convolution without padding, as patches times a matrix; the kernel is not flipped.

    On a CPU, `banded` products are faster for batches and small kernels.
    """
    if compilation.tuned_for_cpu() and banded.is_faster(images.shape, kernel.shape):
        return banded.convolution(images, kernel, strides)
    if images.shape[1:3] == kernel.shape[:2]:  # C5: there is nothing to slice
        return weighted_sums(images.reshape(images.shape[0], -1), kernel.reshape(-1, kernel.shape[-1]))[:, None, None]
    return patches.convolution(images, kernel, strides)


def weighted_sums(
    rows: Float[Array, "batch inputs"], kernel: Float[Array, "inputs features"]
) -> Float[Array, "batch features"]:
    """The sums of each row's inputs, weighted by the kernel."""
    return products.product(rows, kernel, products.OF_MATRICES)


def links(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """The connections between maps in a table: (maps that are read, maps that read them), sorted by the second."""
    read = np.concatenate([np.array(maps) for maps in table])
    reader = np.repeat(np.arange(len(table)), [len(maps) for maps in table])
    return read, reader


def expand_links(
    kernel: Float[Array, "kernel_height kernel_width links"], table: Table, channels: int
) -> Float[Array, "kernel_height kernel_width channels features"]:
    """The full kernel of a partially connected layer: the stored weights, and zeros where there is no link."""
    read, reader = links(table)
    full = jnp.zeros((*kernel.shape[:2], channels, len(table)), kernel.dtype)
    return full.at[:, :, read, reader].set(kernel, unique_indices=True)


def rbf_penalties(
    features: Float[Array, "batch features"], centres: Float[Array, "classes features"]
) -> Float[Array, "batch classes"]:
    """y_i = sum_j (x_j - w_ij)^2 (1998, eq. 7)."""
    return jnp.sum((features[:, None] - centres) ** 2, axis=-1)


class Layer(nn.Module, kw_only=True):
    """The fields and methods of all trained layers.

    activation: a name in ACTIVATIONS; weight_init: a name in WEIGHT_INITS; bias_init: 'same' (the range of the
    unit's weights) or 'zeros'; dtype: of the computation, parameters are float32; second_order: back-propagate
    curvature (see `curvature.py`).
    """

    activation: str = "scaled_tanh"
    weight_init: str = "uniform"
    bias_init: str = "same"
    dtype: str = "float32"
    second_order: bool = False

    def weights(self, name: str, shape: tuple[int, ...], fan_in: int | np.ndarray) -> Float[Array, "..."]:
        """The parameter `name`, in the dtype of the computation."""
        return self.param(name, WEIGHT_INITS[self.weight_init](fan_in), shape).astype(self.dtype)

    def bias(self, shape: tuple[int, ...], fan_in: int | np.ndarray) -> Float[Array, "..."]:
        """The parameter 'bias', in the dtype of the computation."""
        if self.bias_init == "same":
            return self.weights("bias", shape, fan_in)
        return self.param("bias", nn.initializers.zeros, shape).astype(self.dtype)

    def weigh(
        self, operation: curvature.Operation, inputs: Float[Array, "..."], weights: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """`operation(inputs, weights)`, linear in each."""
        inputs = inputs.astype(self.dtype)
        return curvature.bilinear(operation, inputs, weights) if self.second_order else operation(inputs, weights)

    def squash(self, sums: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The activation of each unit's weighted sum."""
        function = ACTIVATIONS[self.activation]
        if self.second_order:
            return curvature.elementwise(function, sums)
        # For one image this was timed. The size of a batch may be a symbol, in an exported program.
        alone = compilation.tuned_for_cpu() and len(sums) == 1
        return fused.elementwise(function, sums) if alone else function(sums)


class Convolution(Layer):
    """A convolutional layer: each map scans the image with one kernel.

    table: the maps that each map reads; None means all. The parameter tree holds connected weights only: `kernel`
    is [height, width, links] with a table and [height, width, channels, features] without.
    padding: pixels before and after, along both axes; padding_value: their value.
    bias_per_unit: one bias for each unit (1989) instead of one for each map.
    """

    features: int
    kernel_size: int = 5
    strides: int = 1
    padding: tuple[int, int] = (0, 0)
    padding_value: float = 0.0
    table: Table | None = None
    bias_per_unit: bool = False

    @nn.compact
    def __call__(self, images: Images) -> Maps:
        """The maps of this layer, from those of the layer below."""
        channels, size = images.shape[-1], (self.kernel_size, self.kernel_size)
        area = self.kernel_size**2
        if self.table is None:
            fan_in = area * channels
            kernel = self.weights("kernel", (*size, channels, self.features), fan_in)
        else:
            fan_in = area * np.array([len(maps) for maps in self.table])
            _, reader = links(self.table)
            kernel = self.weights("kernel", (*size, len(reader)), fan_in[reader])
            kernel = expand_links(kernel, self.table, channels)
        images = jnp.pad(images, ((0, 0), self.padding, self.padding, (0, 0)), constant_values=self.padding_value)
        if self._is_of_single_image(images, kernel):
            return single.layer(images, kernel, self.bias((self.features,), fan_in), ACTIVATIONS[self.activation])
        sums = self.weigh(functools.partial(convolve, strides=self.strides), images, kernel)
        bias_shape = sums.shape[1:] if self.bias_per_unit else (self.features,)
        return self.squash(sums + self.bias(bias_shape, fan_in))

    def _is_of_single_image(self, images: Images, kernel: Float[Array, "..."]) -> bool:
        """True if `single` computes this layer faster.

        Its sums of other types than float32 would be rounded after each term.
        """
        plain = self.strides == 1 and not self.bias_per_unit and not self.second_order
        precise = images.dtype == kernel.dtype == jnp.float32
        return compilation.tuned_for_cpu() and plain and precise and single.is_faster(images.shape, kernel.shape)


class Subsampling(Layer):
    """Halves each map: f(coefficient * sum of four + bias), with a coefficient and a bias for each map (1998, II-B).

    pooling: 'trainable' is the paper's; 'average' and 'max' have no parameters and do not squash.
    """

    pooling: str = "trainable"

    @nn.compact
    def __call__(self, images: Images) -> Maps:
        """Maps of half the size, from maps of even height and width."""
        if self.pooling == "max":
            return pooling.blocks_of_fours(images, jnp.maximum)
        # For second derivatives, the sum is the only input of its coefficient, so h = (sum of x)^2 is exact for one
        # unit. The sum of x^2 over its four connections would leave out the products between them.
        sums = pooling.sums_of_fours(images)
        if self.pooling == "average":
            return self.weigh(jnp.multiply, sums, jnp.full((), 1 / 4, self.dtype))
        maps = (images.shape[-1],)
        # The paper's linear fan-in is meant for nearly equal inputs, and these four pixels are nearly equal. So the
        # range is U(+-2.4/4), whatever `weight_init` is. With sqrt(4), a sum of four would start out saturated.
        bound = fan_in_uniform(fan_in=4)
        coefficient = self.param("coefficient", bound, maps).astype(self.dtype)
        bias = self.param("bias", bound if self.bias_init == "same" else nn.initializers.zeros, maps)
        return self.squash(self.weigh(jnp.multiply, sums, coefficient) + bias.astype(self.dtype))


class Dense(Layer):
    """A fully connected layer."""

    features: int

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch inputs"]) -> Float[Array, "batch features"]:
        """Weighted sums of all inputs, squashed."""
        fan_in = inputs.shape[-1]
        kernel = self.weights("kernel", (fan_in, self.features), fan_in)
        return self.squash(self.weigh(weighted_sums, inputs, kernel) + self.bias((self.features,), fan_in))


class RBF(nn.Module):
    """Squared Euclidean distances to each digit's bitmap, smallest for the likeliest class; has no parameters."""

    second_order: bool = False

    @nn.compact
    def __call__(self, features: Float[Array, "batch 84"]) -> Float[Array, "batch 10"]:
        """Ten penalties, in float32, from F6's 84 values."""
        features, centres = features.astype(jnp.float32), jnp.asarray(CENTRES)
        if self.second_order:
            return curvature.squared_distances(rbf_penalties, features, centres)
        return rbf_penalties(features, centres)
