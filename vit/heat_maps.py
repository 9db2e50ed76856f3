"""Heat maps of a Vision Transformer's predictions: attention rollout (Abnar and Zuidema 2020, equation 1)."""

import jax
from jaxtyping import Array, Float, PyTree

from vit import analysis
from vit.model import VisionTransformer

METHOD = "attention rollout"

_AT_ONCE = 4  # images whose attention is in memory


def heat_maps(
    module: VisionTransformer, variables: PyTree, inputs: Float[Array, "batch height width channels"]
) -> Float[Array, "batch rows columns"]:
    """Each patch's share in what the classifier reads, through all blocks, for images ready for the network."""

    def one(image: Array) -> Array:
        rolled = analysis.rollout(analysis.attention(module, variables, image[None]))
        return analysis.pooled_attention(rolled, module.grid(image.shape))[0]

    return jax.lax.map(one, inputs, batch_size=_AT_ONCE)
