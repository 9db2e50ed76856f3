"""Scaled dot-product attention in the form that is fastest on the device. The result is the same, to rounding."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from common.devices import compilation, host

Heads = Float[Array, "batch tokens heads head_size"]
Weights = Float[Array, "batch heads tokens tokens"]
Sums = Float[Array, "batch heads tokens 1"]

RESULT = "attention"  # the name under which rematerialisation may keep what the gradient reads of the result
_LEAST_SCORES = 2**17  # in a part of a batch; smaller parts cost more to start than they gain
_MOST_PARTS = 16  # the program grows with their number


def attend(query: Heads, key: Heads, value: Heads) -> Heads:
    """softmax(Q K^T / sqrt(d)) V, with scores and softmax in float32 or better (Vaswani et al. 2017, section 3.2).

    On a CPU it is differentiable in reverse mode only.
    """
    if compilation.on_cpu():
        return _in_parts(query, key, value) if compilation.tuned_for_cpu() else _with_log_sums(query, key, value)[0]
    if has_cudnn(str(query.dtype), query.shape[-1]):
        return _even(query, key, value, functools.partial(jax.nn.dot_product_attention, implementation="cudnn"))
    return jax.nn.dot_product_attention(query, key, value, implementation="xla")


def scores(query: Heads, key: Heads) -> Weights:
    """Q K^T, in float32 or better."""
    # The axes are put in order here: XLA's CPU backend takes 1.6 times as long when it orders them itself.
    return _product(query.swapaxes(1, 2), key.transpose(0, 2, 3, 1))


@functools.cache
def has_cudnn(dtype: str, head_size: int) -> bool:
    """True where cuDNN's fused attention, which keeps the attention weights out of memory, takes such heads.

    dtype: the type of queries, keys and values; head_size: the numbers in each. The kernel is for 16-bit types, a head
    size that is a multiple of 8 up to 128, and NVIDIA GPUs of compute capability 8.0 (Ampere) or later.
    """
    device = jax.devices()[0]
    if device.platform != "gpu" or "cuda" not in device.client.platform_version.lower():
        return False
    capability = tuple(int(number) for number in device.compute_capability.split("."))
    return capability >= (8, 0) and dtype in ("bfloat16", "float16") and head_size % 8 == 0 and head_size <= 128


def _even(query: Heads, key: Heads, value: Heads, fused: Callable[..., Heads]) -> Heads:
    """Attention by `fused`, with a masked token appended where the number of tokens is odd.

    JAX refuses the gradient of cuDNN's attention for odd numbers, such as a ViT's 196 patches and class token.
    """
    batch, tokens = query.shape[:2]
    if tokens % 2 == 0:
        return fused(query, key, value)
    lengths = jnp.full((batch,), tokens, jnp.int32)
    query, key, value = (jnp.pad(x, [(0, 0), (0, 1), (0, 0), (0, 0)]) for x in (query, key, value))
    return fused(query, key, value, key_value_seq_lengths=lengths)[:, :tokens]


def _in_parts(query: Heads, key: Heads, value: Heads) -> Heads:
    """Attention on each part of the batch; XLA's CPU backend computes the parts side by side.

    It would compute the products of a whole batch one after the other, on one core. If there are several devices, they
    have divided the batch already.
    """
    batch, tokens, heads, _ = query.shape
    most = min(2 * host.cores(), _MOST_PARTS, batch * heads * tokens**2 // _LEAST_SCORES)
    dividing = (number for number in range(most, 1, -1) if batch % number == 0)
    parts = next(dividing, 1) if jax.device_count() == 1 else 1
    each = zip(*(jnp.split(x, parts) for x in (query, key, value)), strict=True)
    return jnp.concatenate([_closed(*part) for part in each])


@jax.custom_vjp
def _closed(query: Heads, key: Heads, value: Heads) -> Heads:
    """Attention whose gradient reads the result, and computes only the weights again (Dao et al. 2022, appendix B)."""
    return _with_log_sums(query, key, value)[0]


def _with_log_sums(query: Heads, key: Heads, value: Heads) -> tuple[Heads, Sums]:
    """The result, and the logarithms of the sums of exp(scores).

    The divisions are applied to the smallest arrays, Q and the result: on a CPU each is a pass over memory.
    """
    found = scores(query / math.sqrt(query.shape[-1]), key)
    largest = found.max(axis=-1, keepdims=True)
    powers = jnp.exp(found - largest)
    sums = powers.sum(axis=-1, keepdims=True)
    heads = _product(powers.astype(value.dtype), value.swapaxes(1, 2)) / sums
    return heads.astype(value.dtype).swapaxes(1, 2), largest + jnp.log(sums)


def _closed_forward(query: Heads, key: Heads, value: Heads) -> tuple[Heads, tuple[Heads, Heads, Heads, Heads, Sums]]:
    heads, log_sums = (checkpoint_name(array, RESULT) for array in _with_log_sums(query, key, value))
    return heads, (query, key, value, heads, log_sums)


def _closed_backward(kept: tuple[Heads, Heads, Heads, Heads, Sums], gradient: Heads) -> tuple[Heads, Heads, Heads]:
    query, key, value, heads, log_sums = kept
    scaled = query / math.sqrt(query.shape[-1])
    weights = jnp.exp(scores(scaled, key) - log_sums)
    products = jnp.sum(gradient.astype(weights.dtype) * heads, axis=-1).swapaxes(1, 2)[..., None]
    to_scores = (weights * (scores(gradient, value) - products)).astype(value.dtype)
    to_query = _product(to_scores, key.swapaxes(1, 2)) / math.sqrt(query.shape[-1])
    to_key = _product(to_scores.swapaxes(2, 3), scaled.swapaxes(1, 2))
    to_value = _product(weights.astype(value.dtype).swapaxes(2, 3), gradient.swapaxes(1, 2))
    to_query, to_key, to_value = (x.astype(value.dtype).swapaxes(1, 2) for x in (to_query, to_key, to_value))
    return to_query, to_key, to_value


_closed.defvjp(_closed_forward, _closed_backward)


def _product(one: Float[Array, "batch heads m n"], other: Float[Array, "batch heads n k"]) -> Array:
    return jnp.matmul(one, other, preferred_element_type=jnp.promote_types(one.dtype, jnp.float32))
