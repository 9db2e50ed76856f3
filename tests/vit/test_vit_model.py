"""The network's equations, initial values and errors."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vit_equations
from ml_collections import ConfigDict
from vit_networks import IMAGE, classifier, images, logits, module, parameters, section, shapes

from common import models
from common.devices import compilation
from common.errors import UserError
from vit import blocks, model, weights
from vit.embeddings import sincos2d


def named_originally(network, params):
    """Parameters under the names of the paper's files, in float64."""
    return {name: np.float64(array) for name, array in weights.to_published({"params": params}, network).items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pooling": "average", "gelu": "exact", "remat": "none"},
        {"representation_size": 7, "scan": False},
        {"remat": "blocks"},
    ],
)
def test_the_network_is_the_papers_equations(changes):
    network = module(**changes)
    params = parameters(network)
    batch = images()
    form = changes.get("gelu", "tanh")
    expected = [vit_equations.vision_transformer(named_originally(network, params), np.float64(x), form) for x in batch]
    np.testing.assert_allclose(logits(network, params, batch), expected, rtol=1e-4, atol=1e-4)


def test_both_forms_of_gelu_differ_by_little():
    params = parameters(module())
    tanh, exact = (logits(module(gelu=form), params, images()) for form in ("tanh", "exact"))
    assert 0 < np.abs(tanh - exact).max() < 0.05


@pytest.fixture(scope="module")
def new():
    """A classifier of a thousand classes, its first outputs and its initial parameters."""
    network = classifier(classes=1000, hidden_size=64, mlp_dim=96)
    key = jax.random.key(0, impl="rbg")  # compiles several times faster than the default
    outputs, variables = jax.jit(network.module.init_with_output)(key, images())
    return network, outputs, variables["params"]


def test_a_zero_head_starts_at_uniform_logits(new):
    network, outputs, _ = new
    outputs = network.logits(outputs)
    np.testing.assert_array_equal(outputs, 0)
    labels = jnp.array([3, 999])
    np.testing.assert_allclose(network.loss(outputs, labels), np.log(1000), rtol=1e-6)
    np.testing.assert_allclose(network.loss(outputs, jax.nn.one_hot(labels, 1000)), np.log(1000), rtol=1e-6)


def test_initial_parameters_are_the_reference_codes(new):
    params = new[-1]
    transformer = blocks.unstack_blocks(params)["Transformer"]
    np.testing.assert_array_equal(params["cls"], 0)
    np.testing.assert_array_equal(params["embedding"]["bias"], 0)
    # Lecun normal: variance 1 / fan-in.
    np.testing.assert_allclose(np.std(params["embedding"]["kernel"]), 1 / np.sqrt(4 * 4 * 3), rtol=0.1)
    np.testing.assert_allclose(np.std(transformer["posembed_input"]["pos_embedding"]), 0.02, rtol=0.15)
    kernels = []
    for number in range(2):
        block = transformer[f"encoderblock_{number}"]
        attention, mlp = block["MultiHeadDotProductAttention_0"], block["MlpBlock_0"]
        for name in ("query", "key", "value", "out"):
            _assert_xavier(attention[name]["kernel"], 64, 64)
            np.testing.assert_array_equal(attention[name]["bias"], 0)
        _assert_xavier(mlp["Dense_0"]["kernel"], 64, 96)
        _assert_xavier(mlp["Dense_1"]["kernel"], 96, 64)
        np.testing.assert_allclose(np.std(mlp["Dense_0"]["bias"]), 1e-6, rtol=0.3)
        np.testing.assert_array_equal(block["LayerNorm_0"]["scale"], 1)
        kernels.append(attention["query"]["kernel"])
    assert not np.allclose(*kernels)


def _assert_xavier(kernel, fan_in, fan_out):
    """Uniform up to sqrt(6 / (fan in + fan out))."""
    limit = np.sqrt(6 / (fan_in + fan_out))
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    np.testing.assert_allclose(np.std(kernel), limit / np.sqrt(3), rtol=0.05)


def permuted(batch):
    """The same patches of 4x4 in another order."""
    rows = batch.reshape(len(batch), 2, 4, 3, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(len(batch), 6, 4, 4, 3)
    shuffled = rows[:, [4, 2, 5, 0, 1, 3]].reshape(len(batch), 2, 3, 4, 4, 3)
    return shuffled.transpose(0, 1, 3, 2, 4, 5).reshape(batch.shape)


@pytest.mark.parametrize(
    ("position", "pooling", "invariant"),
    [
        ("none", "token", True),
        ("none", "average", True),
        ("learned", "token", False),
        ("learned_2d", "token", False),
        ("sincos2d", "average", False),
    ],
)
def test_only_without_positions_the_order_of_patches_does_not_matter(position, pooling, invariant):
    network = module(position=position, pooling=pooling)
    params = parameters(network)
    ours, others = (logits(network, params, batch) for batch in (images(), permuted(images())))
    assert np.allclose(ours, others, atol=1e-4) is invariant


def test_sine_cosine_positions_are_their_formula():
    rows, columns, hidden = 3, 5, 16
    table = sincos2d((rows, columns), hidden)
    for y in range(rows):
        for x in range(columns):
            for i in range(hidden // 4):
                w = 10_000 ** (-i / (hidden / 4 - 1))
                expected = [np.sin(x * w), np.cos(x * w), np.sin(y * w), np.cos(y * w)]
                np.testing.assert_allclose(table[y * columns + x, i :: hidden // 4], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("learned", {"pos_embedding": (1, 7, 16)}),
        ("learned_2d", {"x_embedding": (3, 8), "y_embedding": (2, 8)}),
        ("sincos2d", {}),
        ("none", {}),
    ],
)
def test_parameters_of_positions(position, expected):
    found = shapes(module(position=position))["Transformer"].get("posembed_input", {})
    assert {name: leaf.shape for name, leaf in found.items()} == expected


def test_two_dimensional_positions_join_the_column_and_the_row():
    network = module(position="learned_2d", pooling="average", depth=1)
    params = parameters(network)
    table = np.zeros((2, 3, 16), np.float32)
    table[..., :8] = params["Transformer"]["posembed_input"]["x_embedding"][None]
    table[..., 8:] = params["Transformer"]["posembed_input"]["y_embedding"][:, None]
    learned = module(pooling="average", depth=1)
    same = {
        **params,
        "Transformer": {**params["Transformer"], "posembed_input": {"pos_embedding": table.reshape(1, 6, 16)}},
    }
    expected = logits(learned, same, images())
    np.testing.assert_allclose(logits(network, params, images()), expected, rtol=1e-5, atol=1e-5)


def gradients(network, params):
    return outputs_and_gradients(network, params)[1]


def outputs_and_gradients(network, params):
    def loss(params):
        outputs = network.apply({"params": params}, images(), train=True)
        return jnp.sum(jnp.sin(outputs)), outputs

    gradient, outputs = jax.jit(jax.grad(loss, has_aux=True))(params)
    return outputs, gradient


def assert_trees_close(ours, expected):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), ours, expected)


def test_blocks_in_a_loop_compute_what_blocks_by_themselves_do():
    looped, apart = module(), module(scan=False)
    params = parameters(looped)
    unstacked = blocks.unstack_blocks(params)
    assert jax.tree.map(np.shape, unstacked) == jax.tree.map(np.shape, parameters(apart))
    found, ours = outputs_and_gradients(looped, params)
    expected, theirs = outputs_and_gradients(apart, unstacked)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert_trees_close(blocks.unstack_blocks(ours), theirs)


@pytest.mark.slow  # the test before this one, without and with more rematerialisation
def test_rematerialisation_does_not_change_a_gradient():
    looped, apart = module(), module(scan=False)
    params = parameters(looped)
    assert_trees_close(gradients(module(remat="none"), params), gradients(looped, params))
    unstacked = blocks.unstack_blocks(params)
    again = gradients(module(scan=False, remat="blocks"), unstacked)
    assert_trees_close(again, gradients(apart, unstacked))


def test_rematerialisation_keeps_less_for_the_backward_pass():
    def kept(network):
        params = parameters(network)
        pullback = jax.eval_shape(lambda p: jax.vjp(lambda p: network.apply({"params": p}, images()), p)[1], params)
        return sum(leaf.size for leaf in jax.tree.leaves(pullback))

    none, cheap, blocks = (kept(module(depth=6, remat=remat)) for remat in ("none", "cheap", "blocks"))
    assert blocks < cheap < 0.7 * none
    assert blocks < 0.5 * none


@pytest.mark.slow
def test_cheap_rematerialisation_computes_no_product_with_weights_again():
    def products(remat):
        network = module(depth=3, remat=remat)
        return str(jax.make_jaxpr(lambda p: gradients(network, p))(parameters(network))).count("dot_general[")

    assert products("cheap") == products("none") < products("blocks")


@pytest.mark.slow
def test_blocks_outside_a_loop_are_recomputed_in_the_backward_pass_only():
    def temporary_bytes(remat):
        network = module(depth=3, mlp_dim=256, remat=remat)
        loss = lambda params, batch: jnp.sum(network.apply({"params": params}, batch, train=True))  # noqa: E731
        with compilation.compiled_for("tpu"):
            program = jax.jit(jax.grad(loss), compiler_options=compilation.CPU_OPTIONS)
            compiled = program.lower(shapes(network), images(count=256)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes("blocks") < 0.6 * temporary_bytes("none")


@pytest.mark.slow  # a loop computes what its blocks do: see the test of that
def test_a_loop_is_as_long_a_program_for_any_depth():
    def length(depth, **changes):
        network = module(depth=depth, **changes)
        return str(jax.make_jaxpr(lambda p: gradients(network, p))(parameters(network))).count("\n")

    assert length(2) == length(7)
    assert length(7, scan=False) > 2 * length(2, scan=False)


def test_dropout_acts_in_training_only():
    network = module(dropout=0.5)
    params = parameters(network)
    run = jax.jit(lambda key: network.apply({"params": params}, images(), train=True, rngs={"dropout": key}))
    first, again, second = run(jax.random.key(0)), run(jax.random.key(0)), run(jax.random.key(1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, second)
    without = logits(module(), params, images())
    np.testing.assert_allclose(logits(network, params, images()), without, rtol=1e-5, atol=1e-5)


def test_blocks_of_a_loop_drop_different_units():
    """With all blocks alike and x -> x + drop(constant), equal masks would give multiples of one mask."""
    network = model.Encoder(depth=2, mlp_dim=8, num_heads=2, position="none", dropout=0.5)
    tokens = jnp.zeros((1, 4, 16))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), tokens, (2, 2)))["params"]
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    params["encoderblock"]["MlpBlock_0"]["Dense_1"]["bias"] = jnp.ones((2, 16))
    params["encoder_norm"]["scale"] = jnp.ones(16)
    rngs = {"dropout": jax.random.key(3)}
    out = jax.jit(lambda p: network.apply({"params": p}, tokens, (2, 2), train=True, rngs=rngs))(params)
    assert len(np.unique(np.round(out[0, 0], 3))) == 3  # dropped by both, by one, by neither


def test_bfloat16_computes_nearly_the_same_with_float32_parameters():
    params = parameters(module())
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(module(dtype="bfloat16")))} == {jnp.dtype("float32")}
    exact = logits(module(), params, images())
    rounded = logits(module(dtype="bfloat16"), params, images())
    assert rounded.dtype == jnp.float32
    assert 0 < np.abs(rounded - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("changes", "image", "message"),
    [
        (
            {"patch_size": 16},
            (224, 230, 3),
            "224x230 pixels do not split into patches of 16x16: set config.data.resize to .* 224, .*patch_size",
        ),
        ({"variant": "r26_s32"}, (33, 33, 3), "patches of 32x32: set config.data.resize to .* 32"),
        ({"variant": "r26_s32", "stages": (2,) * 12}, (32, 32, 3), "12 stages, the last with 131072 channels"),
        ({"patch_size": 5}, (28, 28, 3), "config.model.patch_size to a divisor of both sides, such as 4"),
        ({"num_heads": 3}, IMAGE, "hidden_size 16 does not split into 3 heads; set config.model.num_heads to 2"),
        ({"position": "sincos"}, IMAGE, "did you mean 'sincos2d'"),
        ({"position": "sincos2d", "hidden_size": 18}, IMAGE, "multiple of 4"),
        ({"pooling": "gap"}, IMAGE, "unknown config.model.pooling"),
        ({"dtype": "float61"}, IMAGE, "unknown config.model.dtype"),
        ({"depth": 0}, IMAGE, "config.model.depth is 0"),
        ({"representation_size": -1}, IMAGE, "config.model.representation_size is -1"),
        ({"dropout": 1.0}, IMAGE, "config.model.dropout is 1.0"),
    ],
)
def test_impossible_options_are_refused_in_one_line(changes, image, message):
    with pytest.raises(UserError, match=message) as error:
        classifier(image, **changes)
    assert "\n" not in str(error.value)


def test_an_unknown_variant_is_refused():
    with pytest.raises(UserError, match="did you mean 'b16'"):
        models.section("vit", "b61")


def test_a_config_read_back_from_json_gives_the_same_network():
    config = section("r26_s32")
    read = ConfigDict(json.loads(config.to_json()))
    network = model.network(read, 10)
    assert network == model.network(config, 10)
    assert hash(network) == hash(model.network(config, 10))
