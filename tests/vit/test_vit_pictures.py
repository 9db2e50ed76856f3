"""Numbers and pictures of attention, for attention made by hand and for a small network."""

import dataclasses
import itertools
import pathlib
import types

import jax
import numpy as np
import pytest
from absl import flags
from ml_collections import ConfigDict
from PIL import Image
from vit_networks import classifier, images, logits, module, parameters

from common.config import base
from common.data.dataset_info import Info
from common.devices import mesh
from common.errors import UserError
from common.run import trained
from tests.slow import rest_slow
from vit import analysis, pictures


def made_by_hand(*layers, heads=1):
    """Attention [layers, 1, heads, tokens, tokens] of one image, all heads alike."""
    return np.stack([np.broadcast_to(layer, (1, heads, *np.shape(layer))) for layer in layers])


def uniform(tokens):
    return np.full((tokens, tokens), 1 / tokens)


@pytest.mark.parametrize("scan", [True, False])
def test_every_layers_attention_is_kept_on_request(scan):
    network = module(scan=scan)
    variables = {"params": parameters(network)}
    weights = analysis.attention(network, variables, images())
    assert weights.shape == (2, 2, 2, 7, 7)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert not np.allclose(weights[0], weights[1])


@pytest.mark.parametrize("scan", [True, False])
def test_every_blocks_output_is_a_map_on_the_grid(scan):
    """The last block's, normalised, pooled and classified, is what the network says."""
    network = module(scan=scan, pooling="average")
    params = parameters(network)
    maps = analysis.token_maps(network, {"params": params}, images())
    assert maps.shape == (3, 2, 2, 3, 16)
    norm = params["Transformer"]["encoder_norm"]
    last = np.asarray(maps[-1], np.float64).reshape(2, 6, 16)
    centred = last - last.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * norm["scale"] + norm["bias"]
    expected = scaled.mean(1) @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(logits(network, params, images()), expected, rtol=1e-3, atol=1e-4)


def test_looking_at_attention_changes_nothing():
    network = module()
    params = parameters(network)
    seen, _ = jax.jit(lambda p: network.apply({"params": p}, images(), mutable=["intermediates"]))(params)
    np.testing.assert_allclose(seen, logits(network, params, images()), rtol=1e-6, atol=1e-6)


def test_tokens_that_look_at_themselves_look_no_distance():
    distance = analysis.mean_attention_distance(made_by_hand(np.eye(7), heads=3), (2, 3), patch_pixels=16)
    np.testing.assert_array_equal(distance, np.zeros((1, 3)))


@pytest.mark.parametrize("prefix", [0, 1])
def test_uniform_attention_looks_the_mean_distance(prefix):
    places = list(itertools.product(range(2), range(3)))
    pairs = [np.hypot(a[0] - b[0], a[1] - b[1]) for a in places for b in places]
    distance = analysis.mean_attention_distance(made_by_hand(uniform(6 + prefix)), (2, 3), patch_pixels=4)
    np.testing.assert_allclose(distance, [[4 * np.mean(pairs)]])


def test_the_class_token_is_left_out_of_the_distance():
    mostly_class = np.eye(3) * 0.1
    mostly_class[:, 0] += 0.9
    distance = analysis.mean_attention_distance(made_by_hand(mostly_class), (1, 2), patch_pixels=16)
    np.testing.assert_allclose(distance, 0, atol=1e-12)


def test_distance_to_the_neighbour_is_the_patch():
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(analysis.mean_attention_distance(made_by_hand(swap), (1, 2), 14), [[14.0]])


def test_rollout_multiplies_layers_with_half_identity():
    rng = np.random.default_rng(0)
    first, second = rng.dirichlet(np.ones(5), size=(2, 5))
    rolled = analysis.rollout(made_by_hand(first, second))
    half = [0.5 * layer + 0.5 * np.eye(5) for layer in (first, second)]
    np.testing.assert_allclose(rolled[0], half[1] @ half[0], rtol=1e-12)
    np.testing.assert_allclose(rolled.sum(-1), 1, rtol=1e-12)


def test_rollout_averages_heads_and_normalises_rows():
    heads = np.random.default_rng(0).dirichlet(np.ones(4), size=(1, 1, 3, 4))
    mean = 0.5 * heads[0, 0].mean(axis=0) + 0.5 * np.eye(4)
    np.testing.assert_allclose(analysis.rollout(heads)[0], mean, rtol=1e-12)
    np.testing.assert_allclose(analysis.rollout(7 * heads).sum(-1), 1, rtol=1e-12)


def test_rollout_of_tokens_that_look_at_themselves_is_the_identity():
    np.testing.assert_array_equal(analysis.rollout(made_by_hand(np.eye(4), np.eye(4)))[0], np.eye(4))


def test_what_the_classifier_reads_is_the_class_tokens_row_or_the_mean():
    weights = np.random.default_rng(0).dirichlet(np.ones(7), size=7)
    np.testing.assert_array_equal(analysis.pooled_attention(weights, (2, 3)), weights[0, 1:].reshape(2, 3))
    weights = np.random.default_rng(0).dirichlet(np.ones(6), size=6)
    np.testing.assert_allclose(analysis.pooled_attention(weights, (2, 3)), weights.mean(0).reshape(2, 3))


def test_heat_maps_are_of_the_images_size_and_largest_at_the_patch():
    patches = np.zeros((1, 2, 3), np.float32)
    patches[0, 1, 2] = 0.2
    heat = analysis.heat_map(patches, (8, 12))
    assert heat.shape == (1, 8, 12)
    np.testing.assert_allclose(heat.max(), 1, rtol=1e-6)
    assert (heat[0, 6:, 10:] > 0.9).all()
    assert (heat[0, :4, :6] == 0).all()


def test_positions_are_most_similar_to_themselves():
    table = np.random.default_rng(0).normal(size=(1, 7, 16))
    similarity = analysis.position_similarity(table, (2, 3)).reshape(6, 6)
    np.testing.assert_allclose(np.diag(similarity), 1)
    np.testing.assert_allclose(similarity, similarity.T)
    a, b = table[0, 1], table[0, 4]
    np.testing.assert_allclose(similarity[0, 3], a @ b / np.sqrt((a @ a) * (b @ b)))


def test_fixed_positions_are_shown_as_well():
    network = module(position="sincos2d")
    table = analysis.position_table(network, parameters(network), (2, 3))
    similarity = analysis.position_similarity(table, (2, 3))
    assert similarity[0, 0, 0, 1] > similarity[0, 0, 0, 2]
    assert analysis.position_table(module(position="none"), {"Transformer": {}}, (2, 3)) is None


def test_components_of_the_patch_embedding_are_its_directions_by_variance():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(2 * 2 * 3, 2)))[0].T
    amounts = rng.normal(size=(50, 2)) * [5.0, 1.0]
    amounts -= amounts.mean(axis=0)
    amounts = np.linalg.qr(amounts)[0] * [5.0, 1.0]
    kernel = (amounts @ directions + 0.7).T.reshape(2, 2, 3, 50)
    components = analysis.patch_components(kernel, count=2).reshape(2, -1)
    np.testing.assert_allclose(np.abs(components @ directions.T), np.eye(2), atol=1e-6)


def a_run(image=(8, 12, 3), **changes):
    """A run as from `trained.load`, without training."""
    network = classifier(image, **changes)
    config = ConfigDict({"data": {"normalize": "range", "pixel_range": (-1.0, 1.0)}, "mesh": {"devices": 1, "fsdp": 1}})
    info = Info("some", 5, tuple("abcde"), image, train_size=10, test_size=10)
    variables = {"params": parameters(network.module, image)}
    return trained.Run(config, info, network, variables, step=0, mesh=mesh.make_mesh(config.mesh))


ATTENTION = ["Attention of the last layer", "Attention rollout", "Mean attention distance"]


@pytest.mark.parametrize(
    ("changes", "titles"),
    rest_slow(
        [
            ({"position": "learned_2d"}, ["Position embeddings", "Patch embedding"]),
            ({"position": "none", "image": (8, 12, 1)}, ["Patch embedding"]),
            ({"variant": "r_ti16", "depth": 1, "image": (32, 32, 1)}, ["Position embeddings"]),
        ]
    ),
)
def test_all_pictures_of_a_run_are_drawn(changes, titles):
    run = a_run(**changes)
    stored = np.uint8(np.random.default_rng(0).integers(0, 256, size=(10, *run.classifier.input_shape)))
    drawn = pictures.pictures(run, stored, np.arange(10) % 3)
    assert [title for title, _, _ in drawn] == ATTENTION + titles
    assert "10 images" in drawn[2][1]
    rows, columns = run.classifier.module.grid(stored.shape[1:3])
    own = [shown for shown in drawn[0][2].axes[0].images if shown.get_array().shape == (rows, columns)]
    assert f"own grid of {rows}×{columns} patches" in drawn[0][1]
    assert len(own) == 4 * 2  # images and heads
    maps = pictures.feature_maps(run, np.zeros((1, *run.classifier.input_shape), np.float32))
    assert [name for name, _ in maps] == ["embedding", *(f"block {n + 1}" for n in range(run.classifier.module.depth))]


@pytest.mark.slow
def test_the_command_writes_every_picture_and_needs_test_images_only(monkeypatch, tmp_path, capsys):
    run = a_run()
    data = base(ConfigDict()).data
    data.update(source=f"folder:{tmp_path}", pixel_range=(-1.0, 1.0))
    for name in "edcba":
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.fromarray(np.full((8, 12, 3), ord(name), np.uint8)).save(tmp_path / "test" / name / "1.png")
    run = dataclasses.replace(run, config=ConfigDict({**run.config, "data": data}))
    monkeypatch.setattr(trained, "load", lambda folder: run)
    monkeypatch.setattr(flags, "FLAGS", types.SimpleNamespace(workdir=str(tmp_path), out=""))
    pictures.main()
    titles = [*ATTENTION, "Position embeddings", "Patch embedding"]
    written = [pathlib.Path(line) for line in capsys.readouterr().out.splitlines()]
    assert written == [tmp_path / "pictures" / f"{title.lower().replace(' ', '_')}.png" for title in titles]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


@pytest.mark.slow
def test_a_patch_of_one_grey_pixel_has_a_component_that_can_be_drawn():
    run = a_run((2, 3, 1), patch_size=1, position="none")
    stored = np.arange(12, dtype=np.uint8).reshape(2, 2, 3, 1)
    with np.errstate(all="raise"):
        *_, (title, _, figure) = pictures.pictures(run, stored, np.arange(2))
    assert title == "Patch embedding"
    assert [image.get_array().tolist() for axes in figure.axes for image in axes.images] == [[[0]]]


def test_a_file_in_the_place_of_the_folder_is_named(monkeypatch, tmp_path):
    run = a_run()
    monkeypatch.setattr(trained, "load", lambda folder: run)
    (tmp_path / "file").touch()
    monkeypatch.setattr(flags, "FLAGS", types.SimpleNamespace(workdir=str(tmp_path), out=str(tmp_path / "file")))
    with pytest.raises(UserError, match=f"cannot write {tmp_path}/file: File exists"):
        pictures.main()


def test_images_of_different_classes_are_shown_first():
    np.testing.assert_array_equal(pictures.one_of_each(np.array([3, 3, 1, 3, 0])), [4, 2, 0, 1, 3])
