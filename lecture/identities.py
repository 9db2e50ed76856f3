"""The lecture's identities: each function returns relative differences between the code used here and the formula.

Formulas are written out in NumPy in float64; inputs are drawn from fixed seeds. Most functions return two kinds of
differences: those that have to vanish, and the difference from a common mistake, which has to be large. A check that
also accepts the mistake would prove nothing.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float
from scipy import special

from common import config, models
from common.claims.fact import relative_difference
from common.devices.convolutions import fastest
from common.nn import batch_norm, layers, losses
from common.optim import optimizers
from vit import attention

Matrix = Float[np.ndarray, "_ _"]


def cross_entropy_gradient() -> dict[str, float]:
    """dL/dz = p - y for L = -sum y log softmax(z): automatic differentiation against the formula."""
    logits = 3 * _normal(0, 16, 10)
    classes, soft = jnp.asarray(np.arange(16) % 10), jax.nn.softmax(_normal(1, 16, 10))
    probabilities = special.softmax(np.asarray(logits, np.float64), axis=-1)

    def gradient(labels: Array) -> Array:
        return jax.jit(jax.grad(lambda z: jnp.sum(losses.cross_entropy(z, labels))))(logits)

    return {
        "labels are classes": relative_difference(gradient(classes), probabilities - np.eye(10)[np.asarray(classes)]),
        "labels are distributions": relative_difference(gradient(soft), probabilities - np.asarray(soft)),
        "labels left out": relative_difference(gradient(classes), probabilities),
    }


def entropy() -> dict[str, float]:
    """The mean information -log2 p of events with p = 1/2, 1/4, 1/8, 1/8, and of equally likely classes."""
    p = jnp.array([[1 / 2, 1 / 4, 1 / 8, 1 / 8]])
    bits = losses.cross_entropy(jnp.log(p), p) / np.log(2)  # the logits of p are log p
    return {
        "bits of 1/2, 1/4, 1/8, 1/8": float(bits[0]),
        "nats of 10 equal classes": float(losses.cross_entropy(jnp.zeros((1, 10)), jnp.array([3]))[0]) / np.log(10),
    }


def divergence() -> dict[str, float]:
    """Cross-entropy H(p, q) = H(p) + KL(p, q): our loss against sums of information, and KL's least value."""
    p, q = (np.asarray(jax.nn.softmax(2 * _normal(seed, 32, 6)), np.float64) for seed in (0, 1))
    cross, own = (np.asarray(losses.cross_entropy(jnp.log(jnp.asarray(x)), jnp.asarray(p))) for x in (q, p))
    return {
        "cross-entropy": relative_difference(cross, (p * -np.log(q)).sum(-1)),
        "entropy": relative_difference(own, special.entr(p).sum(-1)),
        "KL divergence": relative_difference(cross - own, special.rel_entr(p, q).sum(-1)),
        "KL divergence, arguments exchanged": relative_difference(cross - own, special.rel_entr(q, p).sum(-1)),
        "least KL divergence": float((cross - own).min()),
    }


def softmax() -> dict[str, float]:
    """Softmax of z + c is softmax of z, also where exp(z + c) overflows; of two classes it is the sigmoid."""
    z = 3 * _normal(0, 16, 10)
    exponentials = np.exp(np.asarray(z, np.float64))
    formula = exponentials / exponentials.sum(-1, keepdims=True)
    return {
        "formula": relative_difference(jax.nn.softmax(z), formula),
        "100 added": relative_difference(jax.nn.softmax(z + 100), formula),
        "two classes": relative_difference(jax.nn.softmax(z[:, :2])[:, 0], special.expit(np.subtract(*z.T[:2]))),
        "logits doubled": relative_difference(jax.nn.softmax(2 * z), formula),
    }


def convolution() -> dict[str, float]:
    """A convolutional layer correlates; with its kernel flipped in both directions it convolves."""
    from scipy import signal  # half a second

    image, kernel = np.asarray(_normal(0, 9, 8)), np.asarray(_normal(1, 3, 4))
    convolved = signal.convolve2d(image, kernel, "valid")
    return {
        "layer against correlation": relative_difference(
            _layer(image, kernel), signal.correlate2d(image, kernel, "valid")
        ),
        "layer with flipped kernel": relative_difference(_layer(image, kernel[::-1, ::-1]), convolved),
        "layer with kernel as it is": relative_difference(_layer(image, kernel), convolved),
    }


def linear_layers() -> dict[str, float]:
    """Two linear layers are one with weights W1 W2 and bias b1 W2 + b2, but not if a ReLU is between them."""
    x, w1, w2 = _normal(0, 16, 7), _normal(1, 7, 9), _normal(2, 9, 5)
    b1, b2 = _normal(3, 9), _normal(4, 5)

    @jax.jit
    def dense(inputs: Array, kernel: Array, bias: Array) -> Any:
        return nn.Dense(bias.size).apply({"params": {"kernel": kernel, "bias": bias}}, inputs)

    one = dense(x, w1 @ w2, b1 @ w2 + b2)
    return {
        "two layers": relative_difference(dense(dense(x, w1, b1), w2, b2), one),
        "with a ReLU": relative_difference(dense(nn.relu(dense(x, w1, b1)), w2, b2), one),
    }


def local_response_norm() -> dict[str, float]:
    """b_i = a_i / (k + alpha * sum of a_j^2 over i - n/2 <= j <= i + n/2)^beta, the sum cut off at the ends."""
    k, n, alpha, beta = 2.0, 5, 1e-4, 0.75
    a = 100 * np.asarray(_normal(0, 2, 3, 3, 12), np.float64)  # in the range of grey levels, so that the sum matters
    formula = np.empty_like(a)
    for i in range(12):
        window = a[..., max(0, i - n // 2) : min(11, i + n // 2) + 1]
        formula[..., i] = a[..., i] / (k + alpha * (window**2).sum(-1)) ** beta
    images = jnp.asarray(a, jnp.float32)
    divided = jax.jit(functools.partial(layers.local_response_norm, divide_by_size=True))
    return {
        "layer": relative_difference(jax.jit(layers.local_response_norm)(images), formula),
        "alpha over n": relative_difference(divided(images), formula),
    }


def normalisation_axes() -> dict[str, float]:
    """Batch normalisation standardises a channel over batch and positions, layer normalisation each position alone."""
    x = np.asarray(_normal(0, 8, 5, 4, 6) * np.arange(1, 7) + np.arange(6), np.float32)
    company = np.concatenate([x[:1], 7 * x[1:] - 3])  # another batch with the same first example
    one, zero = jnp.ones(6), jnp.zeros(6)
    trained = {"scale": one, "bias": zero}

    @jax.jit
    def batch(x: Array) -> Array:
        variables = {"params": trained, "batch_stats": {"mean": zero, "var": one}}
        return batch_norm.BatchNorm(epsilon=1e-6).apply(variables, x, train=True, mutable="batch_stats")[0]

    @jax.jit
    def layer(x: Array) -> Any:
        return nn.LayerNorm(epsilon=1e-6).apply({"params": trained}, x)

    return {
        "batch, over (0, 1, 2)": relative_difference(batch(x), _standardised(x, (0, 1, 2))),
        "layer, over (3,)": relative_difference(layer(x), _standardised(x, (3,))),
        "batch, over (3,)": relative_difference(batch(x), _standardised(x, (3,))),
        "layer, in another batch": relative_difference(layer(company)[0], layer(x)[0]),
        "batch, in another batch": relative_difference(batch(company)[0], batch(x)[0]),
    }


def attention_formula() -> dict[str, float]:
    """softmax(Q K^T / sqrt(d)) V of each head, then W_O: our layer and Flax's against the formula."""
    heads, tokens = 3, 0.2 * _normal(0, 2, 7, 12)
    ours = attention.MultiHeadDotProductAttention(heads)
    shapes = jax.eval_shape(ours.init, jax.random.key(0), tokens)["params"]
    leaves, tree = jax.tree.flatten(shapes)
    drawn = [_normal(1 + number, *leaf.shape) for number, leaf in enumerate(leaves)]
    params = jax.tree.unflatten(tree, drawn)
    result = jax.jit(ours.apply)({"params": params}, tokens)
    return {
        "our layer": relative_difference(result, _attention(params, tokens)),
        "Flax's layer": relative_difference(
            jax.jit(nn.MultiHeadDotProductAttention(heads).apply)({"params": params}, tokens),
            _attention(params, tokens),
        ),
        "without the root of d": relative_difference(result, _attention(params, tokens, root=False)),
    }


def momentum() -> dict[str, float]:
    """The update v <- 0.9 v - 0.0005 rate w - rate g, w <- w + v, whose rate falls to a tenth, against optax's."""
    rates = (0.1, 0.1, 0.1, 0.01, 0.01, 0.01)
    gradients = [_normal(1 + step, 5) for step in range(len(rates))]
    start = _normal(0, 5)
    w, v = np.asarray(start, np.float64), np.zeros(5)
    outside, u = np.asarray(start, np.float64), np.zeros(5)  # the same with the rate outside the velocity
    for rate, gradient in zip(rates, np.asarray(gradients, np.float64), strict=True):
        v = 0.9 * v - 0.0005 * rate * w - rate * gradient
        w = w + v
        u = 0.9 * u + 0.0005 * outside + gradient
        outside = outside - rate * u
    section = config.base(models.section("alexnet", "two_column")).optimizer
    section.name, section.momentum, section.weight_decay, section.decay = "momentum", 0.9, 0.0005, "coupled"
    chain = optimizers.make_chain(section, lambda step: jnp.asarray(rates)[step], plateau=False)
    params = {"kernel": start}
    state = chain.init(params)
    for gradient in gradients:
        updates, state = chain.update({"kernel": gradient}, state, params)
        params = optax.apply_updates(params, updates)
    return {
        "weights after six updates": relative_difference(params["kernel"], w),
        "rate outside the velocity": relative_difference(params["kernel"], outside),
    }


def _normal(seed: int, *shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _layer(image: Matrix, kernel: Matrix) -> Matrix:
    """A convolutional layer of one map without padding, computed as our networks compute theirs."""
    layer = nn.Conv(1, kernel.shape, padding=((0, 0), (0, 0)), use_bias=False, conv_general_dilated=fastest.convolution)
    params = {"kernel": jnp.asarray(kernel)[:, :, None, None]}
    return np.asarray(layer.apply({"params": params}, jnp.asarray(image)[None, :, :, None]))[0, :, :, 0]


def _standardised(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(x, np.float64)
    return (values - values.mean(axes, keepdims=True)) / np.sqrt(values.var(axes, keepdims=True) + 1e-6)


def _attention(params: dict, tokens: Array, root: bool = True) -> np.ndarray:
    """The formula, head by head; `params` are a layer's, with `query`, `key`, `value` and `out`."""
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x, total = np.asarray(tokens, np.float64), weights["out"]["bias"]
    for head in range(weights["query"]["kernel"].shape[1]):
        query, key, value = (
            x @ weights[name]["kernel"][:, head] + weights[name]["bias"][head] for name in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(-1, -2) / (np.sqrt(query.shape[-1]) if root else 1.0)
        total = total + special.softmax(scores, axis=-1) @ value @ weights["out"]["kernel"][head]
    return total
