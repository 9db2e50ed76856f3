"""Embeddings of named layers, Grad-CAM against its closed form, and attention rollout."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from common import models
from common.config import base
from common.data.dataset_info import Info
from common.devices import mesh
from common.errors import UserError
from common.prediction import embeddings, heat_maps, images, layers, network
from common.report import explained
from common.run import trained
from resnet import weights
from tests import networks
from tests.slow import rest_slow
from tests.vit import vit_networks
from vit import analysis

SIDE, CLASSES = 8, 5


class Linear(nn.Module):
    """Maps whose means the logits are linear in."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(6, (3, 3), name="maps")(x)
        return nn.Dense(CLASSES, name="classifier")(x.mean(axis=(1, 2)))


def run_of(classifier, section):
    """A run with random weights, whose images are not normalised."""
    config = base(section)
    config.data.pixel_range = (0.0, 255.0)
    info = Info("made", CLASSES, tuple("abcde"), classifier.input_shape, 10, 10)
    shapes = jax.eval_shape(classifier.module.init, jax.random.key(0), inputs(classifier))
    return trained.Run(config, info, classifier, networks.drawn(shapes), 0, mesh.make_mesh(config.mesh))


def family_run(section):
    facts = networks.facts(CLASSES, (SIDE, SIDE, 3))
    return run_of(models.make_classifier(section, facts), section)


def stored(count=3, shape=(SIDE, SIDE, 3)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def inputs(classifier):
    return jnp.asarray(stored(shape=classifier.input_shape), jnp.float32)


def shapes_of(run):
    return layers.output_shapes(run.classifier.module, run.variables, run.classifier.input_shape)


def results(run, tap=None, explain=None):
    return network.compiled(run, 4, tap, explain)(list(stored(shape=run.info.image_shape)))


def captured(run, given):
    """Every intermediate of the network, by path."""
    apply = jax.jit(
        lambda v: run.classifier.module.apply(v, given, capture_intermediates=True, mutable="intermediates")
    )
    return apply(run.variables)[1]["intermediates"]


@pytest.fixture(scope="module")
def resnet():
    """Stages of one and three blocks; the last two blocks are scanned."""
    section = models.section("resnet", "resnet20", stage_sizes=(1, 3), width=4, scan="on")
    return family_run(section)


@pytest.fixture(scope="module")
def unrolled(resnet):
    """The same network without scans."""
    section = models.section("resnet", "resnet20", stage_sizes=(1, 3), width=4, scan="off")
    run = family_run(section)
    return dataclasses.replace(run, variables=weights.unstack(resnet.variables))


@pytest.fixture(scope="module")
def kept(unrolled):
    """All that the network without scans computes."""
    return captured(unrolled, inputs(unrolled.classifier))


@pytest.fixture(scope="module")
def last(unrolled):
    """The last block of the network without scans, with its heat map."""
    method = heat_maps.method(unrolled)
    return results(unrolled, layers.find_layer(shapes_of(unrolled), "conv3_3"), method.explain)


@pytest.fixture(scope="module")
def linear():
    loss = models.make_classifier(section := models.section("lenet", "lenet5_modern"), networks.facts(CLASSES)).loss
    shape = (SIDE, SIDE, 3)
    return run_of(models.Classifier(Linear(), loss, lambda outputs: outputs, shape, CLASSES), section)


def test_grad_cam_of_linear_logits_is_its_closed_form(linear):
    # y_c = mean over places of sum_k w_kc A_k, so alpha_k = w_kc / Z and the map is ReLU(sum_k w_kc A_k) / Z.
    method = heat_maps.method(linear)
    assert method.name == "Grad-CAM"
    found = results(linear, explain=method.explain)
    kept = captured(linear, inputs(linear.classifier))
    maps, classes = np.asarray(kept["maps"]["__call__"][0]), found.log_probabilities.argmax(-1)
    np.testing.assert_array_equal(classes, np.asarray(kept["classifier"]["__call__"][0]).argmax(-1))
    kernel = np.asarray(linear.variables["params"]["classifier"]["kernel"])
    expected = np.maximum(np.einsum("bhwk,kb->bhw", maps, kernel[:, classes]), 0) / SIDE**2
    assert (expected > 0).any(axis=(1, 2)).all()
    np.testing.assert_allclose(found.heat, expected, rtol=1e-3, atol=1e-5 * expected.max())


@pytest.mark.slow
def test_named_layers_are_what_the_network_computes(unrolled, kept, last):
    # Also where the heat maps are computed with them, which are taken from the same block.
    shapes = shapes_of(unrolled)
    assert layers.last_maps(shapes).layer == "conv3_3"
    first = results(unrolled, layers.find_layer(shapes, "conv2_1/conv1"))
    for name, found in (("conv2_1/conv1", first), ("conv3_3", last)):
        tree = kept
        for part in name.split("/"):
            tree = tree[part]
        expected = np.asarray(tree["__call__"][0])
        assert shapes[name] == expected.shape[1:]
        np.testing.assert_allclose(found.features, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_layers_in_a_scan_are_seen_as_those_that_stand_alone(resnet, last):
    # The scan's layers come with their number behind the images' axis; Grad-CAM takes the last of them.
    scanned = shapes_of(resnet)
    assert layers.last_maps(scanned).layer == "conv3_x"
    stacked = results(resnet, layers.find_layer(scanned, "conv3_x"), heat_maps.method(resnet).explain)
    assert stacked.features.shape == (3, 2, 4, 4, 8)
    np.testing.assert_allclose(stacked.features[:, -1], last.features, rtol=1e-3, atol=1e-5)
    assert stacked.heat.shape == (3, 4, 4)
    np.testing.assert_allclose(stacked.heat, last.heat, rtol=1e-3, atol=1e-6)


def test_the_default_is_what_the_classifier_reads(unrolled, kept):
    tap = layers.classifier_input(shapes_of(unrolled))
    assert str(tap) == "input of fc"
    maps = kept["conv3_3"]["__call__"][0]
    np.testing.assert_allclose(results(unrolled, tap).features, maps.mean(axis=(1, 2)), rtol=1e-3, atol=1e-5)


def test_an_unknown_layer_is_refused_with_the_nearest(linear):
    with pytest.raises(UserError, match="unknown layer 'map'; did you mean 'maps'"):
        layers.find_layer(shapes_of(linear), "map")


def test_a_network_without_maps_has_no_heat_map():
    section = models.section("lenet", "mlp")
    facts = networks.facts(CLASSES, (28, 28, 1))
    with pytest.raises(UserError, match="'mlp' has none"):
        heat_maps.method(run_of(models.make_classifier(section, facts), section))


@pytest.mark.parametrize("pooling", rest_slow(["token", "average"]))
def test_a_transformer_is_explained_by_rollout(pooling):
    run = run_of(vit_networks.classifier(image=(8, 8, 3), pooling=pooling), vit_networks.section(pooling=pooling))
    method = heat_maps.method(run)
    assert method.name == "attention rollout"
    weights = np.asarray(analysis.attention(run.classifier.module, run.variables, inputs(run.classifier)))
    total = np.eye(weights.shape[-1])
    for layer in weights.mean(axis=2):
        half = 0.5 * layer + 0.5 * np.eye(layer.shape[-1])
        total = half / half.sum(-1, keepdims=True) @ total
    np.testing.assert_allclose(total.sum(-1), 1, rtol=1e-5)
    expected = total[:, 0, 1:] if pooling == "token" else total.mean(axis=1)
    found = results(run, layers.classifier_input(shapes_of(run)), method.explain)
    np.testing.assert_allclose(found.heat, expected.reshape(3, 2, 2), rtol=1e-4)
    assert found.features.shape == (3, 16)


def test_heat_maps_do_not_replace_images(tmp_path):
    pixels, heat = stored(2), np.zeros((2, 2, 2), np.float32)
    batch = [images.Prepared(images.File(f"{folder}/a.png", "a.png"), pixels[0], "") for folder in "xy"]
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    explained.Pictures(str(tmp_path), "Grad-CAM").add(batch, heat, [("a $dollar", 0.5), ("b", 0.25)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.heat.png", "a.png", "a_2.heat.png"]
    assert (tmp_path / "a.png").read_bytes() == before
    unread = []
    assert [file.name for file in images.find([tmp_path], unread.append)] == ["a.png"]  # a second call explains no map
    (tmp_path / "a.png").unlink()
    assert images.find([tmp_path], unread.append) == []
    assert "is a folder without files but heat maps" in str(unread[0])
    assert images.find([""], unread.append) == []
    assert "a path is empty" in str(unread[1])
    [named] = images.find([tmp_path / "a.heat.png"], unread.append)
    assert named.name == "a.heat.png"


def test_a_picture_says_that_its_map_is_empty():
    # Grad-CAM cuts at 0: where every part speaks against the class, nothing is left.
    drawn = [explained.figure(stored(1)[0], np.full((2, 2), value, np.float32), "b") for value in (0.0, 0.1)]
    assert [figure.axes[0].get_title() for figure in drawn] == ["b: no part speaks for it", "b"]


def test_embeddings_need_a_file_that_can_be_written(tmp_path):
    with pytest.raises(UserError, match=r"ends in .npz"):
        embeddings.Embeddings(str(tmp_path / "e.csv"), "F6")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        embeddings.Embeddings(str(tmp_path / "file" / "e.npz"), "F6")
