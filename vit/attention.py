"""Scaled dot-product and multi-head attention (Vaswani et al. 2017, section 3.2; ViT's appendix A)."""

import functools
import math

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from common.devices import attention, products
from common.devices.attention import Heads, Weights

Tokens = Float[Array, "batch tokens hidden"]


def attention_weights(query: Heads, key: Heads) -> Weights:
    """A = softmax(Q K^T / sqrt(d)): each query's (second last axis) weight for each key (last axis); rows sum to 1.

    Scores and softmax are computed and returned in float32 or better.
    """
    return jax.nn.softmax(attention.scores(query, key) / math.sqrt(query.shape[-1]), axis=-1)


class MultiHeadDotProductAttention(nn.Module):
    """Self-attention of several heads, each with its own queries, keys and values.

    num_heads must divide the hidden size; dtype is that of the computation. If the collection 'intermediates' is
    mutable, it gets the attention weights as 'attention'.
    """

    num_heads: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, tokens: Tokens) -> Tokens:
        """Concatenated heads times W_O; all four projections have biases."""
        hidden = tokens.shape[-1]
        project = functools.partial(
            nn.DenseGeneral,
            features=(self.num_heads, hidden // self.num_heads),
            kernel_init=nn.initializers.xavier_uniform(),
            dtype=self.dtype,
            dot_general=products.product,
        )
        query, key, value = (project(name=name)(tokens) for name in ("query", "key", "value"))
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "attention", attention_weights(query, key))
        heads = attention.attend(query, key, value)
        return project(features=hidden, axis=(-2, -1), name="out")(heads)
