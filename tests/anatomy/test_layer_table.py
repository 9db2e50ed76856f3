"""Layer tables: parameters, multiply-adds and receptive fields, and how the table prints them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from common.anatomy import layer_table
from common.anatomy.layer_table import Row
from tests.runs import refused, run


class Convolutions(nn.Module):
    """Strided, grouped, dilated."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(16, (5, 5), 2, padding=((2, 2), (2, 2)), name="strided")(images)
        x = nn.Conv(32, (3, 3), padding=((1, 1), (1, 1)), feature_group_count=4, use_bias=False, name="grouped")(x)
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.Conv(8, (3, 3), kernel_dilation=2, padding="VALID", name="dilated")(x)
        return nn.Dense(10, name="classes")(x.reshape(len(x), -1))


class Residual(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train=False):
        y = nn.Conv(self.features, (3, 3), padding=((1, 1), (1, 1)), use_bias=False)(x)
        y = nn.relu(nn.BatchNorm(use_running_average=not train)(y))
        y = nn.Dropout(0.5, deterministic=not train)(y)
        return x + nn.Conv(self.features, (3, 3), padding=((1, 1), (1, 1)), use_bias=False)(y)


class Nested(nn.Module):
    remat: bool = False

    @nn.compact
    def __call__(self, images, train=False):
        scale = self.param("scale", nn.initializers.ones, (4,))
        block = nn.remat(Residual, static_argnums=2) if self.remat else Residual
        x = block(4, name="first")(images * scale, train)
        return block(4, name="second")(x, train).mean((1, 2))


def by_name(module, input_shape, **options):
    return {row.name: row for row in layer_table.rows(module, input_shape, **options)}


def test_convolutions_have_the_numbers_computed_by_hand():
    rows = by_name(Convolutions(), (32, 32, 3))
    assert list(rows) == ["", "strided", "grouped", "dilated", "classes"]
    assert rows["strided"] == Row(
        name="strided",
        type="Conv",
        output_shape=(16, 16, 16),
        receptive_field=5,
        parameters=5 * 5 * 3 * 16 + 16,
        multiply_adds=16 * 16 * 16 * 5 * 5 * 3,
        leaf=True,
    )
    assert rows["grouped"].parameters == 3 * 3 * 4 * 32  # each of 4 groups reads 16 / 4 maps
    assert rows["grouped"].multiply_adds == 16 * 16 * 32 * 3 * 3 * 4
    assert rows["dilated"].output_shape == (4, 4, 8)
    assert rows["dilated"].multiply_adds == 4 * 4 * 8 * 3 * 3 * 32
    assert rows["classes"].multiply_adds == 4 * 4 * 8 * 10


def test_the_first_row_is_the_whole_network():
    rows = layer_table.rows(Convolutions(), (32, 32, 3))
    assert rows[0].output_shape == (10,)
    assert rows[0].parameters == sum(row.parameters for row in rows[1:])
    assert rows[0].multiply_adds == sum(row.multiply_adds for row in rows[1:])


def test_parameters_are_those_that_init_makes():
    module = Nested()
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 4)))["params"]
    total = layer_table.rows(module, (8, 8, 4))[0].parameters
    assert total == sum(np.size(leaf) for leaf in jax.tree.leaves(params))


def test_a_block_counts_everything_inside_it_and_is_listed_before_it():
    rows = by_name(Nested(), (8, 8, 4))
    convolution = 8 * 8 * 4 * 3 * 3 * 4
    assert list(rows)[:6] == [
        "",
        "first",
        "first/Conv_0",
        "first/BatchNorm_0",
        "first/Dropout_0",
        "first/Conv_1",
    ]
    assert rows["first/Conv_1"].multiply_adds == convolution
    assert rows["first"].multiply_adds == 2 * convolution
    assert rows["first"].parameters == 2 * 3 * 3 * 4 * 4 + 2 * 4
    assert rows[""].parameters == 2 * rows["first"].parameters + 4  # its own `scale`
    assert rows["first/Conv_1"].leaf
    assert not rows["first"].leaf


@pytest.mark.parametrize("train", [False, True])
def test_rematerialised_blocks_count_once(train):
    plain, remat = (by_name(Nested(remat), (8, 8, 4), train=train) for remat in (False, True))
    assert {name: row.multiply_adds for name, row in plain.items()} == {
        name: row.multiply_adds for name, row in remat.items()
    }
    assert plain["second"].multiply_adds > 0


class Attention(nn.Module):
    @nn.compact
    def __call__(self, images, train=False):
        tokens = images.reshape(len(images), -1, images.shape[-1])
        return nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(tokens)


def test_attention_counts_its_projections_and_both_products_of_tokens():
    tokens, width = 6 * 6, 8
    rows = by_name(Attention(), (6, 6, width))
    assert rows["attention/query"].multiply_adds == tokens * width * width
    assert rows["attention"].multiply_adds == 4 * tokens * width * width + 2 * tokens * tokens * width
    assert rows["attention/query"].output_shape == (tokens, 2, 4)
    assert (rows["attention/query"].receptive_field, rows["attention"].receptive_field) == (1, 6)


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(x.shape[-1], use_bias=False)(x), None


class Scanned(nn.Module):
    length: int

    @nn.compact
    def __call__(self, images, train=False):
        layers = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.length)
        return layers(name="layers")(images, None)[0]


def test_every_step_of_a_scan_counts():
    rows = by_name(Scanned(length=7), (2, 3, 5))
    assert rows["layers/Dense_0"].multiply_adds == rows[""].multiply_adds == 7 * (2 * 3 * 5 * 5)
    assert rows["layers/Dense_0"].parameters == 7 * 5 * 5
    assert {name: row.repeats for name, row in rows.items()} == {"": 1, "layers": 7, "layers/Dense_0": 1}
    text = layer_table.format_table(list(rows.values()))
    assert "\nlayers x7 " in text
    assert "xN: N blocks of one form" in text
    assert "xN" not in layer_table.format_table(LAYERS)


_shared_product = jax.jit(lambda x, kernel: x @ kernel)


class Product(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train=False):
        return _shared_product(x, self.param("kernel", nn.initializers.ones, (x.shape[-1], self.features)))


class SameShapes(nn.Module):
    @nn.compact
    def __call__(self, images, train=False):
        return Product(4, name="b")(Product(4, name="a")(images))


def test_a_compiled_function_that_two_layers_call_counts_for_each():
    rows = by_name(SameShapes(), (3, 3, 4))
    assert rows["a"].multiply_adds == rows["b"].multiply_adds == 9 * 4 * 4


class Heads(nn.Module):
    """An auxiliary head that is used in training only."""

    @nn.compact
    def __call__(self, images, train=False):
        x = images.mean((1, 2))
        auxiliary = nn.Dense(5, name="auxiliary")(x) if train or self.is_initializing() else None
        return {"main": nn.Dense(5, name="main")(x), "auxiliary": auxiliary}


def test_a_head_for_training_only_has_parameters_but_no_multiply_adds_in_use():
    used, trained = (by_name(Heads(), (4, 4, 3), train=train)["auxiliary"] for train in (False, True))
    assert used.parameters == trained.parameters == 20
    assert (used.multiply_adds, trained.multiply_adds) == (0, 15)
    assert used.output_shape == (5,)


def test_multiply_adds_of_a_gradient_are_those_of_three_passes():
    module = nn.Dense(7, use_bias=False)
    x = jax.ShapeDtypeStruct((3, 5), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)

    def loss(variables, x):
        return jnp.sum(module.apply(variables, x) ** 2)

    forward = layer_table.multiply_adds(loss, variables, x)
    assert forward == {"": 3 * 5 * 7}
    both = layer_table.multiply_adds(jax.grad(loss, argnums=(0, 1)), variables, x)
    assert sum(both.values()) == 3 * forward[""]


def test_a_branch_counts_as_its_most_expensive_side():
    def either(flag, x):
        return jax.lax.cond(flag, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert layer_table.multiply_adds(either, True, jnp.ones((4, 4))) == {"": 2 * 64}


def test_a_while_loop_counts_once_and_says_so():
    def squares(x):
        return jax.lax.while_loop(lambda x: jnp.sum(x) < 100, lambda x: x @ x, x)

    with pytest.warns(UserWarning, match="counted once"):
        assert layer_table.multiply_adds(squares, jnp.ones((4, 4))) == {"": 64}


class Chain(nn.Module):
    """The start of VGG and a strided shortcut as in He 2016: receptive fields by the well-known recursion."""

    @nn.compact
    def __call__(self, images, train=False):
        padded = ((1, 1), (1, 1))
        x = nn.Conv(4, (3, 3), padding=padded, name="conv1_1")(images)
        x = nn.Conv(4, (3, 3), padding=padded, name="conv1_2")(x)
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.Conv(4, (3, 3), padding=padded, name="conv2_1")(x)
        shortcut = x[:, ::2, ::2]
        x = nn.Conv(4, (1, 1), 2, padding="VALID", name="strided")(x)
        x = nn.Conv(4, (3, 3), padding=padded, name="after")(x + shortcut)
        left, right = jnp.split(x, 2, axis=-1)
        return nn.Dense(3, name="classes")(jnp.concatenate([right, left], -1).mean((1, 2)))


def test_receptive_fields_follow_the_recursion():
    rows = by_name(Chain(), (64, 64, 3))
    fields = {name: row.receptive_field for name, row in rows.items() if name}
    assert fields == {"conv1_1": 3, "conv1_2": 5, "conv2_1": 10, "strided": 10, "after": 18, "classes": 64}


def test_receptive_fields_are_the_rows_whose_change_changes_the_output():
    module, shape = Convolutions(), (32, 32, 3)
    image = jnp.zeros((1, *shape))
    variables = jax.eval_shape(module.init, jax.random.key(0), image)
    positive = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01), variables)
    brighter = image + jnp.eye(32)[:, :, None, None]  # one row in each image of the batch

    def one_position(positive, images):
        _, found = module.apply(positive, images, capture_intermediates=True, mutable="intermediates")
        return found["intermediates"]["dilated"]["__call__"][0][:, 1, 2].sum(-1)

    felt = jax.jit(one_position)(positive, jnp.concatenate([image, brighter]))
    rows = np.flatnonzero(felt[1:] > felt[0])
    assert by_name(module, shape)["dilated"].receptive_field == rows[-1] - rows[0] + 1


def test_a_layer_that_depends_on_no_image_has_no_receptive_field():
    class Constant(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            return images + nn.Dense(1, name="constant")(jnp.ones((1, 1, 1)))

    rows = by_name(Constant(), (4, 4, 1))
    assert rows["constant"].receptive_field is None
    assert rows[""].receptive_field == 1


LAYERS = [
    Row("", "Net", (10,), 8, 163_696, 1_499, False),
    Row("block", "Block", (8, 8, 2), 8, 163_600, 1_000, False),
    Row("block/inner", "Conv", (8, 8, 2), 3, 90, 1_000, True),
]


def test_a_table_indents_ends_with_the_total_and_stops_at_a_depth():
    lines = layer_table.format_table(LAYERS).splitlines()
    assert [line.split()[0] for line in lines if not line.startswith("-")] == ["layer", "block", "inner", "total"]
    assert lines[3].startswith("  inner")
    assert "8x8x2" in lines[3]
    assert "inner" not in layer_table.format_table(LAYERS, depth=1)


def test_the_papers_numbers_stand_beside_ours_with_a_star_where_they_differ():
    paper = {
        "block": {"parameters": "164K", "output_shape": (8, 8, 2)},
        "total": {"parameters": 163_697, "multiply_adds": "1.5K"},
        "block/other": {"parameters": 1},
    }
    text = layer_table.format_table(LAYERS, paper, connections={"block": 1_234})
    block = next(line for line in text.splitlines() if line.startswith("block"))
    assert block.split() == ["block", "Block", "8x8x2", "=", "8", "163,600", "164K", "1,000", "1,234"]
    total = next(line for line in text.splitlines() if line.startswith("total"))
    assert total.split() == ["total", "Net", "10", "8", "163,696", "163,697*", "1,499", "1.5K"]
    assert "no module here: block/other" in text


def test_no_line_is_longer_than_a_terminal():
    long = [Row("a" * 40, "B" * 60, (224, 224, 64), 3, 10**8, 10**10, True)]
    lines = layer_table.format_table(LAYERS[:1] + long).splitlines()
    assert max(map(len, lines)) == 100
    narrow = layer_table.format_table(LAYERS[:1] + long, width=60).splitlines()
    assert max(map(len, narrow)) == 60
    assert (narrow[0].split()[:2], narrow[2].split()[-1]) == (["layer", "output"], "10,000,000,000")


def test_inspecting_lenet5_shows_the_papers_totals():
    code, output, errors = run("--config=configs/lenet5_digits.py", module="common.inspect")
    assert code == 0, errors
    total = next(line for line in output.splitlines() if line.startswith("total"))
    # LeCun 1998, section II-B: 60,000 parameters and 340,908 connections.
    assert total.split() == ["total", "LeNet5", "10", "32", "60,000", "=", "415,680", "340,908", "="]
    rows = [line.split() for line in output.splitlines() if line]
    fields = {row[0]: row[3] for row in rows if row[0] in ("C1", "S2", "C3", "S4", "C5")}
    assert fields == {"C1": "5", "S2": "6", "C3": "14", "S4": "16", "C5": "32"}
    assert max(map(len, output.splitlines())) <= 100


def test_sizes_have_three_digits():
    options = ("--config=configs/mlp_mnist.py:324", "--config.data.source=digits", "--config.data.resize=28")
    code, output, errors = run(*options, module="common.inspect")
    assert code == 0, errors
    assert "memory: parameters 0.983 MiB" in output  # 4 x (785 x 324 + 325 x 10) bytes are 1,006 KiB


def test_inspecting_without_a_config_is_refused_in_one_line():
    line = "error: --config is missing; for example --config=configs/lenet5_digits.py"
    assert refused(module="common.inspect") == line
