"""LeCun's diagonal second derivatives, against the recursion written out connection by connection in float64."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lenet import curvature, layers, model
from lenet.bitmaps import CENTRES
from tests import networks

KEY = jax.random.key(1, impl="rbg")  # compiles several times faster than the default

# A network for the reference is a list of stages: an array with a row (unit, source, weight) for each connection,
# the layer's name and whether the unit squashes. Sources after the last unit of the stage below are the constant
# inputs: a bias's 1 and a padding pixel's -1.
BIAS, PADDING = 0, 1


def _convolution(size, channels, table, *, full=False, strides=1, low=0, bias_per_unit=False):
    """Connections of 5x5 kernels on maps of size x size; a layer's biases are numbered after its kernel."""
    links = sum(len(maps) for maps in table)
    out = size // 2 if low else size - 4
    constants = size * size * channels
    rows = []
    for i, j in np.ndindex(out, out):
        link = 0
        for reader, maps in enumerate(table):
            unit = (i * out + j) * len(table) + reader
            for read in maps:
                position = read * len(table) + reader if full else link
                for u, v in np.ndindex(5, 5):
                    y, x = i * strides + u - low, j * strides + v - low
                    inside = 0 <= y < size and 0 <= x < size
                    source = (y * size + x) * channels + read if inside else constants + PADDING
                    rows.append((unit, source, (u * 5 + v) * links + position))
                link += 1
            rows.append((unit, constants + BIAS, 25 * links + (unit if bias_per_unit else reader)))
    return np.array(rows)


def _fours(size, maps):
    """Connections of the sums of 2x2 pixels; all share weight number 0, whose value is 1."""
    rows = []
    for i, j, c, u, v in np.ndindex(size // 2, size // 2, maps, 2, 2):
        rows.append(((i * size // 2 + j) * maps + c, ((2 * i + u) * size + 2 * j + v) * maps + c, 0))
    return np.array(rows)


def _coefficients(size, maps):
    """Connections of a map's coefficient and bias to the sums of four."""
    units = np.arange(size * size * maps)
    weights = np.stack([units, units, units % maps], 1)
    biases = np.stack([units, np.full_like(units, len(units) + BIAS), maps + units % maps], 1)
    return np.concatenate([weights, biases])


def _dense(inputs, outputs):
    """Connections of every input to every output, and the biases."""
    rows = [(i, j, j * outputs + i) for i, j in np.ndindex(outputs, inputs)]
    return np.array(rows + [(i, inputs + BIAS, inputs * outputs + i) for i in range(outputs)])


def _lenet5():
    return [
        ("C1", True, _convolution(32, 1, [(0,)] * 6, full=True)),
        (None, False, _fours(28, 6)),
        ("S2", True, _coefficients(14, 6)),
        ("C3", True, _convolution(14, 6, model.C3_TABLE)),
        (None, False, _fours(10, 16)),
        ("S4", True, _coefficients(5, 16)),
        ("C5", True, _convolution(5, 16, [tuple(range(16))] * 120, full=True)),
        ("F6", True, _dense(120, 84)),
    ]


def _zip89():
    strided = {"strides": 2, "low": 2, "bias_per_unit": True}
    return [
        ("H1", True, _convolution(16, 1, [(0,)] * 12, full=True, **strided)),
        ("H2", True, _convolution(8, 12, model.ZIP_H2_TABLE, **strided)),
        ("H3", True, _dense(192, 30)),
        ("Output", True, _dense(30, 10)),
    ]


def _weights(params, name):
    """A layer's numbers in the order of the weight lists: kernel or coefficient, then biases."""
    if name is None:
        return np.ones(1)
    main = params[name]["kernel" if "kernel" in params[name] else "coefficient"]
    return np.concatenate([np.ravel(main), np.ravel(params[name]["bias"])]).astype(np.float64)


def _reference(stages, params, image, seed):
    """Forward, then the Gauss-Newton recursion backward from h = seed at the outputs: (outputs, h_kk by layer)."""
    x, passed = np.ravel(image).astype(np.float64), []
    for name, squashes, rows in stages:
        unit, source, weight = rows.T
        weights, inputs = _weights(params, name), np.concatenate([x, [1, -1]])
        a = np.zeros(unit.max() + 1)
        np.add.at(a, unit, weights[weight] * inputs[source])
        x = 1.7159 * np.tanh(2 / 3 * a) if squashes else a
        slopes = 1.7159 * 2 / 3 * (1 - np.tanh(2 / 3 * a) ** 2) if squashes else np.ones_like(a)
        passed.append((name, rows, weights, inputs, slopes))
    h_x, h_weights = np.full(len(x), seed), {}
    for name, rows, weights, inputs, slopes in reversed(passed):
        unit, source, weight = rows.T
        h_a = slopes**2 * h_x
        h_weights[name], h_x = np.zeros(len(weights)), np.zeros(len(inputs))
        np.add.at(h_weights[name], weight, h_a[unit] * inputs[source] ** 2)
        np.add.at(h_x, source, h_a[unit] * weights[weight] ** 2)
        h_x = h_x[:-2]
    return x, h_weights


@pytest.mark.parametrize(
    ("variant", "size", "stages", "seed", "layer"),
    [("lenet5", 32, _lenet5, 2, "F6"), ("lenet1989", 16, _zip89, 2 / 10, "Output")],
)
def test_curvature_is_the_papers_recursion_over_every_connection(variant, size, stages, seed, layer):
    # Wide initial weights: with the paper's, units are nearly linear and a wrong f' would hardly show.
    initial = {"weight_init": "uniform_sqrt", "bias_init": "same"}
    classifier = networks.classifier("lenet", variant, image=(size, size, 1), **initial)
    images = jax.random.normal(jax.random.key(0), (2, size, size, 1))
    params = jax.jit(classifier.module.init)(KEY, images)["params"]
    network = stages()
    references = [_reference(network, params, image, seed) for image in images]

    apply = functools.partial(classifier.module.apply, capture_intermediates=True, mutable="intermediates")
    _, state = jax.jit(apply)({"params": params}, images)
    outputs = state["intermediates"][layer]["__call__"][0]
    np.testing.assert_allclose(outputs, [x for x, _ in references], atol=1e-4)

    found = jax.jit(classifier.curvature)(params, images, jnp.array([3, 8]))
    for name in params:
        expected = np.mean([h_weights[name] for _, h_weights in references], axis=0)
        np.testing.assert_allclose(_weights(found, name), expected, rtol=1e-3, atol=1e-6 * expected.max())


class _LinearNetwork(nn.Module):
    """One sub-sampling unit per map, then a dense layer: linear, so that Gauss-Newton drops nothing."""

    second_order: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images):
        fields = {"activation": "identity", "second_order": self.second_order}
        x = layers.Subsampling(**fields)(images)[:, 0, 0]
        x = layers.Dense(4, **fields)(x)
        centres = jnp.asarray(CENTRES[:3, 8:12])
        if self.second_order:
            return curvature.squared_distances(layers.rbf_penalties, x, centres)
        return layers.rbf_penalties(x, centres)


@pytest.mark.parametrize("examples", [5, 120])  # many are estimated in parts, the last of them smaller
def test_curvature_of_a_linear_network_is_the_exact_hessian_diagonal(examples):
    network = _LinearNetwork()
    images = jax.random.normal(jax.random.key(0), (examples, 2, 2, 3))
    labels = jax.random.randint(jax.random.key(1), (examples,), 0, 3)
    params = jax.jit(network.init)(KEY, images)["params"]
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    def loss(flat):
        penalties = network.apply({"params": unflatten(flat)}, images)
        return penalties[jnp.arange(examples), labels].mean()

    estimate = functools.partial(curvature.diagonal, network, curvature.correct_penalty_seed)
    found = jax.jit(estimate)(params, images, labels)
    expected = jnp.diag(jax.jit(jax.hessian(loss))(flat))
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(found)[0], expected, rtol=1e-4, atol=1e-5)


def test_seeds_are_the_losses_second_derivatives():
    outputs, labels = jnp.array([[0.3, -1.0, 2.0]]), jnp.array([1])

    def diagonal(loss):
        return jnp.diag(jax.jit(jax.hessian(lambda outputs: loss(outputs[None], labels)[0]))(outputs[0]))

    loss = model.OUTPUTS["softmax"].losses["cross_entropy"]
    np.testing.assert_allclose(curvature.softmax_seed(outputs, labels)[0], diagonal(loss), rtol=1e-5)
    loss = model.OUTPUTS["place_coded"].losses["mse"]
    np.testing.assert_allclose(curvature.place_coded_seed(outputs, labels)[0], diagonal(loss), rtol=1e-5)


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_pooling_without_parameters_passes_squared_weights(pooling):
    images = jax.random.normal(jax.random.key(0), (1, 2, 2, 1))
    layer = layers.Subsampling(pooling=pooling, second_order=True)
    h = jax.jit(jax.grad(lambda images: layer.apply({}, images).sum()))(images)
    expected = jnp.full_like(images, 1 / 16) if pooling == "average" else (images == images.max()).astype(float)
    np.testing.assert_allclose(h, expected)


@pytest.mark.parametrize("variant", model.VARIANTS)
def test_second_order_network_computes_the_same_outputs(variant):
    network = model.NETWORKS[variant]()
    images = jax.random.normal(jax.random.key(0), (2, network.image_size, network.image_size, 1))
    variables = networks.drawn(networks.shapes(network, images.shape[1:]))
    second_order = network.clone(second_order=True)
    np.testing.assert_allclose(
        jax.jit(second_order.apply)(variables, images), jax.jit(network.apply)(variables, images), rtol=1e-5
    )


def test_curvature_of_a_batch_is_the_mean_over_its_examples():
    # Dense layers show it; the recursion above is a mean over two images, in networks with convolutions.
    classifier = networks.classifier("lenet", "mlp1989", image=(16, 16, 1))
    images, labels = jax.random.normal(jax.random.key(0), (3, 16, 16, 1)), jnp.array([4, 0, 9])
    params = networks.drawn(networks.shapes(classifier.module, (16, 16, 1)))["params"]
    estimate = jax.jit(classifier.curvature)
    each = [estimate(params, images[i : i + 1], labels[i : i + 1]) for i in range(3)]
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *each)
    whole = estimate(params, images, labels)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-9), whole, mean)
