"""Tests that test protocols show the network the papers' views and average its predictions."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from PIL import Image

from common import config as config_lib
from common import models
from common.data.dataset_info import Info
from common.devices import mesh
from common.errors import UserError
from common.protocols import batches, catalogue, measure, views
from common.run.trained import Run
from common.training.state import create_state
from tests import networks
from tests.slow import rest_slow

SMALL = {
    "lenet": ("lenet5_modern", {}),
    "alexnet": ("small", {"widths": (2, 2, 2, 2, 2), "fc_width": 4}),
    "vgg": ("vgg11", {"width": 2, "fc_width": 4}),
    "googlenet": ("googlenet_small", {"width": 1 / 32}),
    "resnet": ("resnet20", {"stage_sizes": (1, 1, 1), "width": 2}),
    "vit": ("nano4", {"hidden_size": 8, "mlp_dim": 8, "num_heads": 1, "depth": 1}),
}


def a_run(family="resnet", side=32, init=False, **data):
    """A run on the bundled digits, a thirtieth of them for testing, with drawn weights or with none."""
    variant, changes = SMALL[family]
    config = config_lib.base(models.section(family, variant, **changes))
    config.data.update({"resize": side, "holdout": 0.03, **data})
    config.evaluate.batch_size = 24
    config.mesh.devices = 1
    info = Info("digits", 10, tuple("0123456789"), (side, side, 1), 1747, 50)
    classifier = models.make_classifier(config.model, info)
    variables = None
    if init:
        variables = networks.state(classifier, optax.sgd(0.1), config.seed).variables()
    return Run(ConfigDict(config), info, classifier, variables, 0, mesh.make_mesh(config.mesh))


def coordinates(height, width):
    """An image whose pixels are their own coordinates: (row, column)."""
    return np.stack(np.mgrid[:height, :width], axis=-1).astype(np.float32)


def corners(crops):
    return [tuple(int(value) for value in crop[0, 0]) for crop in crops]


@pytest.mark.parametrize("cut", [views.ten_crops, views.grid_crops, views.three_square_crops])
def test_half_of_the_views_mirror_the_other_half(cut):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    seen = cut(image, 32)
    upright, mirrored = np.split(seen, 2)
    np.testing.assert_array_equal(mirrored, upright[:, :, ::-1])
    assert seen.shape[1:] == (32, 32, 3)
    assert seen.dtype == np.uint8


def test_the_centre_crop():
    assert corners(views.centre_crop(coordinates(256, 340), 224)) == [(16, 58)]


def test_ten_crops_are_of_the_middle_square():
    # AlexNet sections 2 and 4.1: the shorter side is 256, the middle 256x256 is kept, and crops are cut from that.
    seen = views.ten_crops(coordinates(256, 340), 224)
    assert len(seen) == 10
    assert corners(seen[:5]) == [(0, 42), (0, 74), (32, 42), (32, 74), (16, 58)]
    assert all((crop[-1, -1] - crop[0, 0] == 223).all() for crop in seen[:5])


@pytest.mark.parametrize("shape", [(256, 340), (340, 256)])
def test_googlenets_views_are_of_three_squares(shape):
    seen = views.three_square_crops(coordinates(*shape), 224)
    assert len(seen) == 36
    expected = []
    for place in (0, 42, 84):
        top, left = (0, place) if shape[1] > shape[0] else (place, 0)
        expected += [(top + down, left + right) for down in (0, 32) for right in (0, 32)] + [(top + 16, left + 16)]
    crops = [crop for number, crop in enumerate(seen[:18]) if number % 6 != 5]
    assert corners(crops) == expected


def test_googlenets_sixth_view_is_the_square_made_small():
    image = np.random.default_rng(0).integers(0, 256, (256, 300, 3), np.uint8)
    square = Image.fromarray(image[:, :256]).resize((224, 224), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(views.three_square_crops(image, 224)[5], np.asarray(square))


@pytest.mark.slow
def test_a_square_is_made_small_with_the_interpolation_of_the_run(monkeypatch):
    seen = []

    def noted(image, side, interpolation="bilinear"):
        seen.append(views.three_square_crops(image, side, interpolation))
        return seen[-1]

    run = a_run("googlenet", init=True, interpolation="bicubic")
    measure.score(run, [catalogue.Pass(36, noted)], examples=1)
    (image,) = (measure.test_set(run, catalogue.Pass(36, noted))[0]["image"],)
    square = Image.fromarray(image[..., 0]).resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(seen[0][5][..., 0], np.asarray(square))


def test_vggs_grid_covers_the_whole_image():
    seen = views.grid_crops(coordinates(256, 344), 224)
    assert len(seen) == 50
    assert corners(seen[:25]) == [(row, column) for row in (0, 8, 16, 24, 32) for column in (0, 30, 60, 90, 120)]


@pytest.mark.parametrize(
    ("shape", "kept", "corner"),
    [
        ((256, 341), (256, 320), (0, 10)),
        ((341, 256), (320, 256), (10, 0)),
        ((256, 256), (256, 256), (0, 0)),
        ((32, 32), (32, 32), (0, 0)),
        ((5, 7), (5, 7), (0, 0)),
    ],
)
def test_whole_images_keep_all_but_a_little_of_the_longer_side(shape, kept, corner):
    seen = views.whole(coordinates(*shape), 224)
    assert seen.shape == (2, *kept, 2)
    assert corners(seen[:1]) == [corner]
    np.testing.assert_array_equal(seen[1], seen[0][:, ::-1])


def test_an_image_smaller_than_the_crop_is_refused():
    with pytest.raises(UserError, match="no 32x32 crop fits in a test image of 28x40 pixels"):
        views.grid_crops(coordinates(28, 40), 32)


def scales(run, name, given=()):
    return [one.scale for one in catalogue.passes(run, name, given)]


def test_the_papers_scales():
    # 224 from 256: VGG 4.2, GoogLeNet 7; between 256 and 512, VGG 4.1 and 4.2.
    fixed = a_run("resnet", 224)
    fixed.config.data.update({"resize": 256, "crop": 224})
    assert scales(fixed, "single") == [None]
    assert scales(fixed, "ten_crop") == [256]
    assert scales(fixed, "googlenet_144") == [256, 288, 320, 352]
    assert scales(fixed, "dense") == [256]
    assert scales(fixed, "multi_scale") == scales(fixed, "multi_crop") == [224, 256, 288]
    assert scales(fixed, "combined") == [224, 256, 288] * 2
    assert scales(fixed, "multi_scale", [640, 224, 256, 384, 480]) == [224, 256, 384, 480, 640]
    fixed.config.data.resize_max = 512
    assert scales(fixed, "ten_crop") == [256]
    assert scales(fixed, "dense") == [384]
    assert scales(fixed, "multi_scale") == scales(fixed, "multi_crop") == [256, 384, 512]


def test_small_images_are_enlarged_for_crops_and_not_for_dense_application():
    run = a_run("resnet", 32)
    assert scales(run, "ten_crop") == [37]
    assert scales(run, "dense") == [32]
    assert scales(run, "multi_scale") == [32, 36]


def test_views_of_an_image_are_those_the_papers_count():
    run, image = a_run("resnet", 32), np.zeros((80, 100, 1), np.uint8)
    counts = {}
    for name in catalogue.PROTOCOLS:
        todo = catalogue.passes(run, name, [36, 48, 64])
        counts[name] = sum(len(one.cut(image, 32)) for one in todo)
    assert counts["multi_crop"] == 150
    assert counts["combined"] == 156
    assert counts["multi_scale"] == 6
    assert sum(len(one.cut(image, 32)) for one in catalogue.passes(run, "googlenet_144")) == 144
    assert sum(len(one.cut(image, 32)) for one in catalogue.passes(run, "ten_crop")) == 10


@pytest.mark.parametrize("family", ["alexnet", "lenet", "vit"])
def test_networks_for_one_size_say_what_they_can_do(family):
    with pytest.raises(UserError, match="one size; it can be tested with single, ten_crop, googlenet_144, mu"):
        catalogue.passes(a_run(family), "dense")


def test_mistakes_in_a_protocol_are_refused():
    run = a_run()
    with pytest.raises(UserError, match="unknown test protocol 'tencrop'; did you mean 'ten_crop'"):
        catalogue.passes(run, "tencrop")
    with pytest.raises(UserError, match="--scales has 28; expected at least the 32 pixels"):
        catalogue.passes(run, "ten_crop", [36, 28])


def test_batches_hold_every_view_once_and_have_one_size_for_a_shape():
    rng = np.random.default_rng(0)
    shapes = [((8, 8), (8, 12), (12, 8))[index] for index in rng.integers(0, 3, 101)]
    examples = [(np.full((3, *shape, 1), index % 200, np.uint8), index % 7) for index, shape in enumerate(shapes)]
    sizes, seen = {}, np.zeros(101, int)
    for images, indices, labels in batches.group_by_shape(examples, pixels=1000, multiple=4):
        assert len(images) % 4 == 0
        assert images[..., 0].size <= 1000
        sizes.setdefault(images.shape[1:3], set()).add(len(images))
        real = indices >= 0
        np.add.at(seen, indices[real], 1)
        np.testing.assert_array_equal(labels[real], indices[real] % 7)
        np.testing.assert_array_equal(images[real, 0, 0, 0], indices[real] % 200)
    assert (seen == 3).all()
    assert sizes == {(8, 8): {12}, (8, 12): {8}, (12, 8): {8}}


def test_few_views_wait_even_if_there_are_very_many_shapes():
    examples = [(np.zeros((1, 8, 8 + index, 1), np.uint8), 0) for index in range(200)]
    given = []

    def counted():
        for example in examples:
            given.append(example)
            yield example

    first = next(batches.group_by_shape(counted(), pixels=1000, multiple=1))
    assert (first[1] >= 0).sum() >= 1
    assert sum(views[..., 0].size for views, _ in given) < 6 * 1000


@pytest.mark.parametrize("family", ["vgg", "resnet"])
def test_dense_application_to_images_of_the_networks_size_is_the_single_crop(family):
    run = a_run(family, init=True)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    single, dense = (jax.jit(functools.partial(measure.log_probabilities, run, dense)) for dense in (False, True))
    alone = single(run.variables, images)
    np.testing.assert_allclose(dense(run.variables, images), alone, rtol=1e-4)
    np.testing.assert_allclose(np.exp(alone).sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("family", rest_slow(["vgg", "resnet", "googlenet"], quick=2))
def test_networks_are_applied_to_images_of_any_size(family):
    run = a_run(family)
    variables = jax.eval_shape(lambda: create_state(run.classifier, optax.sgd(0.1), run.config.seed).variables())
    images = jax.ShapeDtypeStruct((3, 40, 72, 1), np.uint8)
    assert jax.eval_shape(functools.partial(measure.log_probabilities, run, True), variables, images).shape == (3, 10)


def test_probabilities_are_averaged_over_views_and_passes():
    run = a_run("resnet", init=True)
    todo = catalogue.passes(run, "combined", [40])
    scores = measure.score(run, todo)
    assert scores.views == 2 + 50
    assert scores.log_probabilities.shape == (50, 10)
    apply = [jax.jit(functools.partial(measure.log_probabilities, run, one.dense)) for one in todo]
    for index in (0, 30, 49):
        means = []
        for one, log_probabilities in zip(todo, apply, strict=True):
            example = measure.test_set(run, one)[index]
            views = log_probabilities(run.variables, one.cut(example["image"], 32))
            means.append(np.mean(np.exp(views), axis=0))
            assert scores.labels[index] == example["label"]
        np.testing.assert_allclose(np.exp(scores.log_probabilities[index]), np.mean(means, axis=0), rtol=1e-4)


def test_a_view_that_is_lost_is_noticed(monkeypatch):
    def all_but_one(examples, pixels, multiple):
        for number, batch in enumerate(batches_by_shape(examples, pixels, multiple)):
            if number != 1:
                yield batch

    batches_by_shape = batches.group_by_shape
    monkeypatch.setattr(batches, "group_by_shape", all_but_one)
    run = a_run("resnet", init=True)
    with pytest.raises(RuntimeError, match="0 views were seen of some images and 1 of others"):
        measure.score(run, catalogue.passes(run, "single"))


def test_top1_and_top5_errors():
    probabilities = np.array([[0.5, 0.2, 0.1, 0.08, 0.07, 0.05]] * 4, np.float32)
    found = measure.errors(measure.Scores(np.array([0, 1, 4, 5]), np.log(probabilities), 1))
    assert found["top1_error"] == 0.75
    assert found["top5_error"] == 0.25
    assert found["examples"] == 4
    assert found["cross_entropy"] == pytest.approx(-np.log([0.5, 0.2, 0.07, 0.05]).mean(), rel=1e-5)


@pytest.mark.parametrize("classes", [2, 5])
def test_five_classes_or_fewer_have_no_top5_error(classes):
    found = measure.errors(measure.Scores(np.array([0, 1]), np.log(np.full((2, classes), 1 / classes, np.float32)), 1))
    assert "top5_error" not in found
    result = {"protocol": "single", "scales": [], "views": 1, "members": [{"step": 7}], **found}
    assert measure.as_line(result) == "single, 1 view of an image, step 7: top-1 error 50.00% of 2 images"


def test_probabilities_too_small_for_a_float_still_have_an_order_and_a_loss():
    # LeNet-5's penalties are hundreds apart: a softmax of their negatives has zeros.
    penalties = np.array([[0.0, 300.0, 200.0, 500.0, 400.0, 600.0]], np.float32)
    one = measure.Scores(np.array([1]), -penalties, 1)
    other = measure.Scores(np.array([1]), -penalties - np.array([0.0, 0, 0, 0, 0, 50], np.float32), 1)
    found = measure.errors(measure.ensemble([one, other]))
    assert (found["top1_error"], found["top5_error"]) == (1.0, 0.0)
    assert found["cross_entropy"] == pytest.approx(300.0)
    assert measure.errors(dataclasses.replace(one, labels=np.array([5])))["top5_error"] == 1.0


def test_an_ensemble_averages_probabilities():
    labels = np.array([0, 1])
    one = measure.Scores(labels, np.log(np.array([[0.9, 0.1], [0.6, 0.4]], np.float32)), 10)
    other = measure.Scores(labels, np.log(np.array([[0.5, 0.5], [0.2, 0.8]], np.float32)), 10)
    mean = np.exp(measure.ensemble([one, other]).log_probabilities)
    np.testing.assert_allclose(mean, [[0.7, 0.3], [0.4, 0.6]], rtol=1e-6)
    with pytest.raises(UserError, match="an ensemble needs one test set"):
        measure.ensemble([one, measure.Scores(labels[::-1], other.log_probabilities, 10)])
