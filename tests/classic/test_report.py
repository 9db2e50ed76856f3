"""Tests that the report on a classic run shows what the run is, and what it shows is true."""

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image

from classic import evidence, pictures, pipeline, report, saved, train
from classic.config import base
from classic.descriptors import sift
from common.data import datasets
from common.data.dataset_info import Info
from common.errors import UserError
from tests.runs import refused, run

SECTIONS = (
    *("costs", "confusion", "classes", "calibration", "predictions", "mistakes", "points", "vocabulary"),
    *("evidence", "recipe"),
)


def fitted_in(folder, parts, changes):
    config = base(f"raw_linear+patches+{parts}")
    config.data.limit = 200
    config.decode.C = "0.1"
    config.update_from_flattened_dict({"describe.size": 4, "describe.step": 2, **changes})
    train.fit(config, folder)
    return folder


@pytest.fixture(scope="module")
def worded(tmp_path_factory):
    """A run with a vocabulary of 6 patches."""
    return fitted_in(tmp_path_factory.mktemp("worded"), "words+quadrants", {"encode.words": 6})


@pytest.fixture(scope="module")
def html(worded):
    return report.report_html(worded)


@pytest.fixture(scope="module")
def test_set(worded):
    return datasets.load(saved.load(worded).config.data).test


def test_every_section_is_there_in_order(html):
    places = [html.index(f'<section id="{name}">') for name in SECTIONS]
    assert places == sorted(places)


def test_every_picture_shows_something_and_the_page_needs_no_other_file(html):
    encoded = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert len(encoded) == html.count("<img ")
    for text in encoded:
        assert np.ptp(np.asarray(Image.open(io.BytesIO(base64.b64decode(text, validate=True))))) > 0
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "<script" not in html


def test_the_page_says_what_was_run(html, worded, test_set):
    fitted = saved.load(worded)
    assert f"patches -&gt; words -&gt; quadrants -&gt; linear_svm: {fitted.parameters:,} numbers learnt" in html
    assert f"{pipeline.predictions(fitted, test_set).error:.2%}" in html
    for shown, there in (("describe.size", True), ("data.limit", True), ("data.pad", False), ("scikit-learn", True)):
        assert (f"<dt>{shown}</dt>" in html) == there


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A fitted pipeline that decodes the patches themselves."""
    return saved.load(fitted_in(tmp_path_factory.mktemp("flat"), "flat", {}))


def test_a_pipeline_without_a_vocabulary_has_no_such_section(flat, test_set):
    assert report.vocabulary(flat, test_set) == []
    [section] = report.evidence_maps(flat, test_set, pipeline.predictions(flat, test_set))
    assert section.name == "evidence"


def test_evidence_is_the_contribution_of_the_descriptors_in_the_square(flat, test_set):
    # For a linear pipeline the scores are sums over descriptors, so that what they add can be written down.
    fitted = flat
    image, label = test_set.images[0], int(test_set.labels[0])
    found = pipeline.describe(fitted.config, image[None])
    weights = fitted.arrays["decode"]["weights"].reshape(*found.vectors.shape[1:], -1)  # [t d classes]
    parts = np.einsum("td,tdk->tk", found.vectors[0], weights)
    scores = parts.sum(0) + fitted.arrays["decode"]["bias"]
    maps = evidence.margins(fitted, image, label)
    others = np.arange(10) != label
    for row, column in ((0, 0), (4, 9), (13, 13)):
        centre = (np.array([row, column]) + 0.5) / evidence.PLACES
        inside = (np.abs(found.centres[0] - centre) <= evidence.SHARE / 2).all(-1)
        without = scores - parts[inside].sum(0)
        lead, left = (s[label] - s[others].max() for s in (scores, without))
        assert maps[row, column] == pytest.approx(lead - left, abs=1e-4)


def test_evidence_of_whole_images_covers_pixels(tmp_path, test_set):
    config = base()
    config.data.limit = 200
    config.decode.C = "0.1"
    train.fit(config, tmp_path)
    fitted = saved.load(tmp_path)
    flat = np.full_like(test_set.images[0], 100)
    np.testing.assert_allclose(evidence.margins(fitted, flat, 3), 0, atol=1e-5)  # its mean colour hides nothing
    assert np.abs(evidence.margins(fitted, test_set.images[0], int(test_set.labels[0]))).max() > 0.01


def test_patches_of_a_word_belong_to_it(worded, test_set):
    fitted = saved.load(worded)
    columns = evidence.words(fitted, test_set.images[:60], count=5, most=4)
    assert len(columns) == 5
    numbers = []
    for patches in columns:
        assert {patch.shape for patch in patches} == {(4, 4, 1)}
        found = [evidence.codes(fitted, pipeline.describe(fitted.config, patch[None])) for patch in patches]
        [number] = {int(strength[0].argmax()) for strength in found}
        numbers.append(number)
    assert len(set(numbers)) == 5


def test_images_without_a_word_have_no_vocabulary(worded, test_set):
    arrays = {"encode": {"words": np.eye(3, 128, dtype=np.float32)}}
    blind = dataclasses.replace(saved.load(worded), config=base("sparse_sift"), arrays=arrays)
    assert evidence.words(blind, np.full((3, 8, 8, 1), 90, np.uint8), count=2, most=4) == []
    blank = dataclasses.replace(test_set, images=np.full_like(test_set.images[:3], 90), labels=test_set.labels[:3])
    assert report.vocabulary(blind, blank) == []


def test_patches_of_keypoints_have_the_keypoints_sizes():
    y, x = np.mgrid[:64, :64]
    images = np.stack([
        200 * np.exp(-((y - 32) ** 2 + (x - 32) ** 2) / (2 * deviation**2)) for deviation in (2, 6)
    ]).astype(np.uint8)[..., None]  # fmt: skip
    config = base("sparse_sift")
    config.describe.scale, config.describe.max_keypoints = 1, 1
    words = {"words": np.eye(1, 128, dtype=np.float32)}
    info = Info("blobs", 2, ("small", "large"), (64, 64, 1), 2, 2)
    [patches] = evidence.words(pipeline.Pipeline(config, info, {"encode": words}), images, count=1, most=2)
    sizes = sorted(6 * sift.keypoints(image, config.describe)[0].size for image in images)
    assert sorted(len(patch) for patch in patches) == [min(round(size), 64) for size in sizes]
    assert sizes[1] > 2 * sizes[0]


def test_patches_of_grids_have_the_sizes_of_their_squares():
    config = base("bow")
    config.describe.scale, config.describe.sizes, config.describe.step = 1, (4, 8), 4
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), np.uint8)
    info = Info("noise", 2, ("a", "b"), (8, 8, 1), 1, 1)
    words = {"words": pipeline.describe(config, image).vectors[0]}  # each is the word of one square
    patches = evidence.words(pipeline.Pipeline(config, info, {"encode": words}), image, count=5, most=1)
    assert sorted(patch.shape for [patch] in patches) == [*4 * [(4, 4, 1)], (8, 8, 1)]


def test_fishers_posteriors_are_probabilities(tmp_path, test_set):
    fitted = saved.load(
        fitted_in(tmp_path, "fisher", {"encode.components": 4, "encode.pca": 6, "encode.positions": True})
    )
    strength = evidence.codes(fitted, pipeline.describe(fitted.config, test_set.images[:1]))
    assert strength.shape == (9, 4)
    np.testing.assert_allclose(strength.sum(1), 1, rtol=1e-5)


def test_small_images_are_enlarged_for_corners():
    assert pictures.enlargement(np.zeros((28, 32, 1), np.uint8)) == 4
    assert pictures.enlargement(np.zeros((300, 200, 3), np.uint8)) == 1


@pytest.mark.slow  # the page is made above
def test_the_command(worded, tmp_path):
    code, output, errors = run(f"--workdir={worded}", f"--out={tmp_path / 'page.html'}", module="classic.report")
    assert code == 0, errors
    assert output.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert "no fitted pipeline in" in refused(f"--workdir={tmp_path}", module="classic.report")


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no fitted pipeline"):
        report.report_html(tmp_path)
