"""Skeleton: two convolutions, two poolings and a fully connected layer.

Paper: name it here. Layers carry the paper's names. Shapes in comments are height x width x maps for images of 16x16
pixels.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from common import models
from common.devices import products
from common.devices.convolutions import fastest
from common.models import Classifier
from common.nn.layers import check_image_size, identity, max_pool
from common.nn.losses import cross_entropy


class Skeleton(nn.Module):
    """Each stage is a 3x3 convolution, an activation and a 2x2 pooling; one layer reads the last maps."""

    num_classes: int = 10
    widths: tuple[int, ...] = (16, 32)  # maps of conv1, conv2, ...
    activation: str = "relu"  # or 'tanh', the historic one
    dtype: str = "float32"  # of the computation; parameters are float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Logits."""
        del train  # for layers that differ in training, such as dropout
        activation = {"relu": nn.relu, "tanh": jnp.tanh}[self.activation]
        x = images.astype(self.dtype)
        for number, width in enumerate(self.widths, start=1):
            x = nn.Conv(
                width,
                (3, 3),
                padding=((1, 1), (1, 1)),
                dtype=self.dtype,
                conv_general_dilated=fastest.convolution,  # faster on a CPU, as is `products.product`
                name=f"conv{number}",
            )(x)
            x = max_pool(activation(x), window=2, stride=2)  # 8x8x16, 4x4x32
        x = x.reshape(x.shape[0], -1)
        logits = nn.Dense(self.num_classes, dtype=self.dtype, dot_general=products.product, name="fc")(x)
        return logits.astype(jnp.float32)


VARIANTS = models.variants(Skeleton, {"small": {}, "wide": {"widths": (64, 128)}})
CHOICES = {"activation": ("relu", "tanh"), "dtype": ("float32", "bfloat16")}
RANGES = {"widths": models.COUNT}


def network(section: ConfigDict, num_classes: int) -> Skeleton:
    """The module that a `model` section describes. Raises UserError for unknown names and numbers out of range."""
    options = models.hyper_parameters(section, VARIANTS, CHOICES, RANGES)
    return Skeleton(num_classes=num_classes, **options)


def make_classifier(section: ConfigDict, info: models.Facts) -> Classifier:
    """The classifier of a `model` section for a dataset with these facts.

    Raises UserError for images that are too small.
    """
    module = network(section, info.num_classes)
    smallest = 2 ** len(module.widths)  # pixels of a side, of which the poolings leave one
    hint = "raise config.data.resize, or use fewer of config.model.widths"
    check_image_size(f"{section.family} {section.variant}", info.image_shape, smallest, hint)
    return Classifier(
        module=module,
        loss=cross_entropy,
        logits=identity,
        input_shape=info.image_shape,
        num_classes=info.num_classes,
        soft_labels=True,
    )
