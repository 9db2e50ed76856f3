"""Reading and writing published checkpoints, and starting from another network's parameters."""

import re

import jax
import ml_dtypes
import numpy as np
import pytest
from absl import logging
from scipy import ndimage
from vit_networks import classifier, images, logits, module, parameters, shapes

from common import config as config_lib
from common import config_checks, models
from common.errors import UserError
from vit import blocks, transfer, weights
from vit.embeddings import resize_positions

NORMS = ("scale", "bias")
DENSE = ("kernel", "bias")


def published_names(depth, norm, attention, mlp):
    """The array names of the published checkpoints."""
    names = {"cls", "Transformer/posembed_input/pos_embedding"}
    names |= {f"{layer}/{leaf}" for layer in ("embedding", "pre_logits", "head") for leaf in DENSE}
    names |= {f"Transformer/encoder_norm/{leaf}" for leaf in NORMS}
    for number in range(depth):
        block = f"Transformer/encoderblock_{number}"
        names |= {f"{block}/{layer}/{leaf}" for layer in ("LayerNorm_0", norm) for leaf in NORMS}
        names |= {f"{block}/{attention}/{layer}/{leaf}" for layer in ("query", "key", "value", "out") for leaf in DENSE}
        names |= {f"{block}/{mlp}/{layer}/{leaf}" for layer in ("Dense_0", "Dense_1") for leaf in DENSE}
    return names


def assert_same(ours, expected):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def stored(network, params):
    """The arrays of a checkpoint file, named as in the paper's files."""
    return weights.to_published({"params": params}, network)


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize(
    ("naming", "modules"),
    [
        ("original", ("LayerNorm_2", "MultiHeadDotProductAttention_1", "MlpBlock_3")),
        ("linen", ("LayerNorm_1", "MultiHeadDotProductAttention_0", "MlpBlock_0")),
    ],
)
def test_written_arrays_have_the_published_names_and_are_read_back_the_same(tmp_path, scan, naming, modules):
    network = module(representation_size=8, scan=scan)
    params = parameters(network)
    weights.write(tmp_path / "vit.npz", params, naming)
    with np.load(tmp_path / "vit.npz") as file:
        assert set(file) == published_names(2, *modules)
    assert_same(weights.load(tmp_path / "vit.npz", shapes(network)), params)


def test_shapes_of_a_checkpoint_are_the_published_ones():
    network = module(hidden_size=24, mlp_dim=40, num_heads=3, representation_size=24)
    found = {name: array.shape for name, array in stored(network, parameters(network)).items()}
    assert found["cls"] == (1, 1, 24)
    assert found["embedding/kernel"] == (4, 4, 3, 24)
    assert found["Transformer/posembed_input/pos_embedding"] == (1, 7, 24)
    block = "Transformer/encoderblock_0"
    assert found[f"{block}/MultiHeadDotProductAttention_1/query/kernel"] == (24, 3, 8)
    assert found[f"{block}/MultiHeadDotProductAttention_1/query/bias"] == (3, 8)
    assert found[f"{block}/MultiHeadDotProductAttention_1/out/kernel"] == (3, 8, 24)
    assert found[f"{block}/MlpBlock_3/Dense_0/kernel"] == (24, 40)
    assert found["head/kernel"] == (24, 5)


@pytest.mark.parametrize("prefix", ["opt/target/", "params/"])
def test_a_prefix_is_dropped_with_what_is_not_under_it(tmp_path, prefix):
    network = module()
    params = parameters(network)
    arrays = {prefix + name: array for name, array in stored(network, params).items()}
    np.savez(tmp_path / "vit.npz", **arrays, **{"opt/state/step": 7})
    assert_same(weights.load(tmp_path / "vit.npz", shapes(network)), params)


def test_positions_at_the_root_without_a_class_entry_are_taken(tmp_path):
    params = parameters(module(pooling="average"))
    arrays = blocks.flatten(blocks.unstack_blocks(params))
    arrays["pos_embedding"] = arrays.pop("Transformer/posembed_input/pos_embedding")
    np.savez(tmp_path / "vit.npz", **{f"params/{name}": array for name, array in arrays.items()})
    assert_same(weights.load(tmp_path / "vit.npz", shapes(module(pooling="average"))), params)


def test_a_class_token_without_a_position_gets_none():
    image = (8, 8, 3)
    params = parameters(module(image=image), image)
    params["Transformer"]["posembed_input"]["pos_embedding"] = np.ones((1, 4, 16), np.float32)
    table = transfer.adapt(params, shapes(module(image=image), image)).params["Transformer"]["posembed_input"]
    np.testing.assert_array_equal(table["pos_embedding"][0, :, 0], [0, 1, 1, 1, 1])


def test_bfloat16_arrays_are_read():
    values = np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
    read = weights.canonical({"params/head/kernel": values.view("V2")})
    np.testing.assert_array_equal(read["head/kernel"], np.float32([[1.5, -2.0]]))


@pytest.mark.slow
def test_group_norm_arrays_of_old_hybrids_are_squeezed(tmp_path):
    image = (32, 32, 3)
    network = module(variant="r26_s32", image=image, depth=1)
    params = parameters(network, image)
    arrays = stored(network, params)
    old = {
        name: a.reshape(1, 1, 1, -1) if "gn" in name.split("/")[-2] else a for name, a in arrays.items() if "/" in name
    }
    assert old["gn_root/scale"].shape == (1, 1, 1, 64)
    assert old["block2/unit1/gn_proj/bias"].shape == (1, 1, 1, 512)
    np.savez(tmp_path / "hybrid.npz", **old, cls=arrays["cls"])
    assert_same(weights.load(tmp_path / "hybrid.npz", shapes(network, image)), params)


def table(grid, prefix=1, hidden=5):
    size = (1, prefix + grid[0] * grid[1], hidden)
    return np.random.default_rng(0).normal(size=size).astype(np.float32)


@pytest.mark.parametrize("prefix", [0, 1, 2])
@pytest.mark.parametrize(
    ("old", "new"), [((14, 14), (24, 24)), ((7, 7), (4, 4)), ((3, 5), (6, 4)), ((2, 7), (2, 12)), ((4, 4), (4, 4))]
)
def test_positions_are_resized_as_scipys_linear_zoom_does(old, new, prefix):
    before = table(old, prefix)
    after = resize_positions(before, old, new, prefix)
    grid = before[0, prefix:].reshape(*old, -1)
    expected = ndimage.zoom(grid, (new[0] / old[0], new[1] / old[1], 1), order=1)
    np.testing.assert_allclose(after[0, prefix:].reshape(*new, -1), expected, atol=1e-5)
    np.testing.assert_array_equal(after[:, :prefix], before[:, :prefix])
    assert after.dtype == before.dtype


def test_resizing_keeps_the_corners_and_what_is_linear():
    rows, columns = np.mgrid[:3, :4]
    plane = np.float32(2 * rows + 0.5 * columns).reshape(1, 12, 1)
    after = resize_positions(plane, (3, 4), (5, 7), 0).reshape(5, 7)
    np.testing.assert_allclose(after, np.linspace(0, 4, 5)[:, None] + np.linspace(0, 1.5, 7), atol=1e-6)


def test_a_table_that_is_not_the_grid_is_refused():
    with pytest.raises(UserError, match="16 position embeddings do not fit 1 and a grid of 4x4"):
        resize_positions(table((4, 4), 0), (4, 4), (6, 6))


@pytest.mark.parametrize(("old_scan", "new_scan"), [(True, True), (False, True), (True, False)])
def test_starting_at_a_higher_resolution_and_with_other_classes(monkeypatch, tmp_path, old_scan, new_scan):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    old = parameters(module(image=(16, 16, 3), representation_size=8, scan=old_scan), (16, 16, 3))
    weights.write(tmp_path / "old.npz", old)
    network, image = module(image=(24, 32, 3), classes=9, scan=new_scan), (24, 32, 3)
    new = weights.load(tmp_path / "old.npz", shapes(network, image), new_head=True, new_grid=(6, 8))
    assert "pre-logits layer of 8 units dropped" in said[0]
    assert "position embeddings interpolated from 4x4 to 6x8 patches" in said[1]
    np.testing.assert_array_equal(logits(network, new, images(1, image)), np.zeros((1, 9)))
    positions = new["Transformer"]["posembed_input"]["pos_embedding"]
    old_positions = np.asarray(old["Transformer"]["posembed_input"]["pos_embedding"])
    np.testing.assert_array_equal(positions, resize_positions(old_positions, (4, 4), (6, 8)))
    np.testing.assert_array_equal(new["embedding"]["kernel"], old["embedding"]["kernel"])


def test_the_head_stays_unless_a_new_one_is_asked_for():
    params = parameters(module())
    kept = transfer.adapt(params, shapes(module()))
    assert kept.changes == []
    assert_same(kept.params, params)


def test_two_dimensional_positions_are_interpolated_along_each_axis():
    params = parameters(module(position="learned_2d"))
    image = (8, 20, 3)
    new = transfer.adapt(params, shapes(module(position="learned_2d", image=image), image)).params
    positions, before = (p["Transformer"]["posembed_input"] for p in (new, params))
    expected = ndimage.zoom(np.asarray(before["x_embedding"]), (5 / 3, 1), order=1)
    np.testing.assert_allclose(positions["x_embedding"], expected, atol=1e-6)
    np.testing.assert_array_equal(positions["y_embedding"], before["y_embedding"])


SQUARE = (16, 16, 3)


@pytest.mark.parametrize(
    ("old", "new", "arguments", "message"),
    [
        ({"patch_size": 8}, {}, {}, "patches of 8x8 and the network 4x4: set config.model.patch_size=8"),
        ({"depth": 3}, {}, {}, "3 blocks of width 16 and the network 2 of 16: choose the checkpoint's variant"),
        ({"hidden_size": 8}, {}, {}, "2 blocks of width 8 and the network 2 of 16"),
        ({"classes": 9}, {}, {}, "9 classes apart and the network 5: set config.init.new_head=True"),
        (
            {"representation_size": 8},
            {},
            {},
            "also has 'pre_logits/bias', 'pre_logits/kernel': set .*representation",
        ),
        ({}, {"representation_size": 8}, {"new_head": True}, "lacks 'pre_logits/bias'.*representation_size=0"),
        ({}, {"pooling": "average"}, {}, "also has 'cls': set config.model.pooling='token'"),
        ({"pooling": "average"}, {}, {}, "lacks 'cls': set config.model.pooling='average'"),
        ({"position": "none"}, {}, {}, "lacks .*pos_embedding': set config.model.position"),
        ({"mlp_dim": 32}, {}, {}, r"MlpBlock_0/Dense_0/bias' is \(32,\) and the network's \(24,\)"),
        ({}, {"image": (16, 8, 3)}, {}, "8 patches are not a square grid: pass new_grid"),
        ({}, {"variant": "r26_s32", "image": (32, 32, 3)}, {}, "patches of 4x4 and the network 1x1"),
    ],
)
def test_another_networks_checkpoint_is_refused_in_one_line(old, new, arguments, message):
    params = parameters(module(**{"image": SQUARE, **old}), SQUARE)
    fields = {"image": SQUARE, **new}
    with pytest.raises(UserError, match=message) as error:
        transfer.adapt(params, shapes(module(**fields), fields["image"]), **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("old_grid", [(), [2, 3], (2, 3)])
def test_the_option_for_a_files_grid_is_two_whole_numbers_or_empty(old_grid):
    """A config read from JSON has a list."""
    network = classifier((8, 16, 3))
    old, like = parameters(module()), shapes(network.module, (8, 16, 3))
    rest = {"new_head": False, "network": network, "given_network": None if old_grid else classifier()}
    variables, changes = transfer.fitted({"params": old}, {"params": like}, old_grid=old_grid, **rest)
    assert changes == ["position embeddings interpolated from 2x3 to 2x4 patches"]
    assert jax.tree.map(np.shape, variables["params"]) == jax.tree.map(np.shape, like)


@pytest.mark.parametrize("old_grid", [(6,), (1, 2, 3), (0, 6), (2.0, 3.0)])
def test_an_invalid_grid_is_refused(old_grid):
    config = config_lib.base(models.section("vit", "nano4"))
    config.init.checkpoint, config.init.old_grid = "somewhere.npz", old_grid
    message = f"config.init.old_grid is {old_grid}; expected rows and columns of patches"
    with pytest.raises(UserError, match=re.escape(message)):
        config_checks.validate(config)


def test_missing_and_extra_arrays_are_named(tmp_path):
    network = module()
    arrays = stored(network, parameters(network))
    del arrays["Transformer/encoder_norm/bias"]
    np.savez(tmp_path / "vit.npz", **arrays, stranger=np.zeros(3))
    with pytest.raises(UserError, match="lacks 'Transformer/encoder_norm/bias' and also has 'stranger'"):
        weights.load(tmp_path / "vit.npz", shapes(network))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no file"), (b"not a zip file", "is not a checkpoint of arrays"), ("resnet", "not a Vision Transf")],
)
def test_files_that_are_not_checkpoints_are_refused(tmp_path, content, message):
    path = tmp_path / "some.npz"
    if content == "resnet":
        np.savez(path, conv1=np.zeros(3))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        weights.read(path)
