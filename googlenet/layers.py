"""GoogLeNet's parts: convolution units, Inception modules, auxiliary classifiers."""

import functools
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from common.devices import products
from common.devices.convolutions import fastest
from common.nn.batch_norm import BatchNorm
from common.nn.layers import Dropout, adaptive_average_pool, max_pool

Images = Float[Array, "batch height width channels"]
Maps = Float[Array, "batch out_height out_width features"]

WEIGHT_INITS = {
    "xavier": nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),  # Caffe's replication; the paper is silent
    "gaussian": nn.initializers.normal(0.01),  # torchvision (which truncates at 200 deviations)
    "he_normal": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
}


class Unit(nn.Module, kw_only=True):
    """A convolution and a ReLU; with `batch_norm`, batch normalisation between them and no bias."""

    features: int
    kernel_size: int
    stride: int = 1
    batch_norm: bool = False
    ghost_batches: int = 1
    weight_init: str = "xavier"
    hidden_bias: float = 0.2
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Maps:
        """Maps whose sides are those of the input divided by the stride, rounded up."""
        padding = (self.kernel_size // 2, self.kernel_size // 2)
        x = nn.Conv(
            self.features,
            (self.kernel_size, self.kernel_size),
            self.stride,
            (padding, padding),
            use_bias=not self.batch_norm,
            kernel_init=WEIGHT_INITS[self.weight_init],
            bias_init=nn.initializers.constant(self.hidden_bias),
            dtype=self.dtype,
            conv_general_dilated=fastest.convolution,
            name="conv",
        )(x)
        if self.batch_norm:
            norm = BatchNorm(epsilon=1e-3, ghost_batches=self.ghost_batches, dtype=self.dtype, name="bn")
            x = norm(x, train)
        return nn.relu(x)


class Inception(nn.Module):
    """Four branches side by side, whose maps are concatenated: 1x1, 3x3, 5x5 and pooling (Figure 2b)."""

    widths: tuple[int, ...]  # the six numbers of a row of Table 1
    unit: functools.partial  # of Unit
    five: int  # kernel size of the '5x5' branch

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Float[Array, "batch height width features"]:
        """Maps of the input's size."""
        one, three_reduce, three, five_reduce, five, pool_proj = self.widths
        unit = self.unit
        reduced3 = unit(features=three_reduce, kernel_size=1, name="3x3_reduce")(x, train)
        reduced5 = unit(features=five_reduce, kernel_size=1, name="5x5_reduce")(x, train)
        pooled = max_pool(x, window=3, stride=1, padding=((1, 1), (1, 1)))
        branches = [
            unit(features=one, kernel_size=1, name="1x1")(x, train),
            unit(features=three, kernel_size=3, name="3x3")(reduced3, train),
            unit(features=five, kernel_size=self.five, name="5x5")(reduced5, train),
            unit(features=pool_proj, kernel_size=1, name="pool_proj")(pooled, train),
        ]
        return jnp.concatenate(branches, axis=-1)


class AuxiliaryClassifier(nn.Module):
    """Section 5: average pooling, 1x1 convolution, a hidden layer, dropout, logits; used in training only."""

    num_classes: int
    widths: tuple[int, int]  # maps of the convolution, hidden units
    pool: str
    dropout: float
    unit: functools.partial  # of Unit

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Float[Array, "batch classes"]:
        """Logits."""
        x = adaptive_average_pool(x, 4) if self.pool == "adaptive" else nn.avg_pool(x, (5, 5), (3, 3))  # 4x4
        x = self.unit(features=self.widths[0], kernel_size=1, name="conv")(x, train)
        layer = functools.partial(dense, self.unit.keywords)
        x = nn.relu(layer("fc", x.reshape(len(x), -1), self.widths[1], hidden=True))
        x = Dropout(self.dropout, deterministic=not train, name="dropout")(x)
        return layer("linear", x, self.num_classes).astype(jnp.float32)


def dense(
    fields: dict[str, Any], name: str, x: Float[Array, "batch inputs"], features: int, hidden: bool = False
) -> Float[Array, "batch {features}"]:
    """A fully connected layer, initialised as the network's fields say."""
    bias = nn.initializers.constant(fields["hidden_bias"] if hidden else 0.0)
    init = WEIGHT_INITS[fields["weight_init"]]
    dtype = fields["dtype"]
    return nn.Dense(features, kernel_init=init, bias_init=bias, dtype=dtype, dot_general=products.product, name=name)(x)
