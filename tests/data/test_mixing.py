"""Mixup and CutMix: pairs of examples mixed by one share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from common.data import mixing

HEIGHT, WIDTH = 20, 30
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(3, HEIGHT, WIDTH, 1)), jnp.float32)
LABELS = jnp.eye(3)
BEFORE = np.roll(np.arange(3), 1)
KEYS = jax.random.split(jax.random.key(0), 2000)
ALPHAS = {"mixup": 0.2, "cutmix": 1.0}


def of_each(function, **alphas):
    """The function, compiled for one batch and many keys at once."""
    return jax.jit(jax.vmap(lambda key: function(key, IMAGES, LABELS, **alphas)))


ALONE = {name: of_each(getattr(mixing, name), alpha=alpha) for name, alpha in ALPHAS.items()}


@functools.cache
def drawn(name):
    """Images and labels of every key. Not to be written to."""
    return tuple(np.asarray(array) for array in ALONE[name](KEYS))


def test_images_and_labels_are_blended_alike_with_the_one_before():
    for images, labels in zip(*(array[:20] for array in drawn("mixup")), strict=True):
        own = np.diag(labels)
        assert np.ptp(own) == 0
        assert 0.5 <= own[0] <= 1
        np.testing.assert_allclose(labels[np.arange(3), BEFORE], 1 - own, atol=1e-6)
        expected = own[0] * np.asarray(IMAGES) + (1 - own[0]) * np.asarray(IMAGES)[BEFORE]
        np.testing.assert_allclose(images, expected, atol=1e-6)
        np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-6)


def test_the_share_is_a_betas_larger_part():
    shares, beta = drawn("mixup")[1][:, 0, 0], stats.beta(0.2, 0.2)
    assert shares.min() >= 0.5
    for limit in (0.6, 0.8, 0.95, 0.999):
        expected = beta.cdf(limit) - beta.cdf(1 - limit)
        assert np.mean(shares < limit) == pytest.approx(expected, abs=0.045)  # four standard deviations, or more


def test_mixing_is_a_function_of_the_key():
    shares = drawn("mixup")[1][:, 0, 0]
    np.testing.assert_array_equal(ALONE["mixup"](KEYS)[1][:, 0, 0], shares)
    assert len(np.unique(shares[shares < 0.999])) == np.sum(shares < 0.999)


def boxes():
    """Masks of what comes from the image before, and the shares of its label, of every key."""
    images, labels = drawn("cutmix")
    return (images[:, 0] == np.asarray(IMAGES[-1])).all(-1), labels[:, 0, -1]


@pytest.mark.slow
def test_a_box_comes_from_the_image_before_and_labels_follow_its_area():
    for images, labels in zip(*(array[:20] for array in drawn("cutmix")), strict=True):
        pasted = (images == np.asarray(IMAGES)[BEFORE]).all(-1)
        kept = (images == np.asarray(IMAGES)).all(-1)
        assert (pasted ^ kept).all()
        assert (pasted == pasted[0]).all()  # one box for the batch
        part = pasted[0].mean()
        np.testing.assert_allclose(labels, (1 - part) * np.eye(3) + part * np.eye(3)[BEFORE], atol=1e-6)


def test_the_box_is_a_rectangle_of_the_images_shape_about_any_centre():
    masks, parts = boxes()
    np.testing.assert_allclose(parts, masks.mean((1, 2)), atol=1e-6)
    for mask in masks[:200]:
        assert mask.sum() == mask.any(1).sum() * mask.any(0).sum()
    inside = [mask for mask in masks if mask.any() and not (mask[[0, -1]].any() or mask[:, [0, -1]].any())]
    for mask in inside[:200]:
        assert abs(mask.any(0).sum() - 1.5 * mask.any(1).sum()) <= 3.5  # lengths are even numbers
    covered = masks.mean(0)
    np.testing.assert_allclose(covered, covered[::-1, ::-1], atol=0.05)  # as much on one side as on the other


def test_the_boxs_area_is_that_of_the_papers_code():
    # Its `rand_bbox`, with a share uniform in 0..1 (alpha 1).
    rng = np.random.default_rng(0)
    theirs = []
    for share in rng.uniform(size=3000):
        down, across = int(20 * np.sqrt(1 - share)), int(30 * np.sqrt(1 - share))
        row, column = rng.integers(20), rng.integers(30)
        rows = np.clip(row + down // 2, 0, 20) - np.clip(row - down // 2, 0, 20)
        columns = np.clip(column + across // 2, 0, 30) - np.clip(column - across // 2, 0, 30)
        theirs.append(rows * columns / 600)
    assert stats.ks_2samp(theirs, boxes()[1]).pvalue > 1e-4


@pytest.mark.parametrize("name", ALONE)
def test_the_mean_label_and_its_sum_are_kept(name):
    labels = drawn(name)[1]
    np.testing.assert_allclose(labels.sum(2), 1, rtol=1e-6)
    np.testing.assert_allclose(labels.mean(1), np.broadcast_to(LABELS.mean(0), (2000, 3)), rtol=1e-6)


@pytest.mark.slow
def test_one_of_both_is_chosen_for_each_batch():
    mix = of_each(mixing.mix, mixup_alpha=ALPHAS["mixup"], cutmix_alpha=ALPHAS["cutmix"])
    images, labels = (np.asarray(array) for array in mix(KEYS[:200]))
    inner = jax.vmap(jax.random.split)(KEYS)[:, 1]
    fits = {}
    for name, alone in ALONE.items():
        expected = [np.asarray(array[:200]) for array in alone(inner)]
        close = np.isclose(images, expected[0], atol=1e-6).all((1, 2, 3, 4))
        fits[name] = close & np.isclose(labels, expected[1], atol=1e-6).all((1, 2))
    assert (fits["mixup"] | fits["cutmix"]).all()
    for fit in fits.values():
        assert 0.4 < fit.mean() < 0.7  # a share near 1 and an empty box fit both


def test_with_one_of_them_off_the_other_works_as_alone(monkeypatch):
    key, called = jax.random.key(3), []
    for name, sign in (("mixup", 1), ("cutmix", -1)):

        def stand_in(key, images, labels, alpha, name=name, sign=sign):
            called.append((name, key, alpha))
            return images * sign, labels * sign

        monkeypatch.setattr(mixing, name, stand_in)
    for mixup_alpha, cutmix_alpha, sign in ((0.4, 0.0, 1), (0.0, 0.7, -1), (0.0, 0.0, 1)):
        ours = mixing.mix(key, IMAGES, LABELS, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
        for one, other in zip(ours, (IMAGES, LABELS), strict=True):
            np.testing.assert_array_equal(one, other * sign)
    assert called == [("mixup", key, 0.4), ("cutmix", key, 0.7)]


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.001, 1000.0])
def test_extreme_shares_leave_numbers(alpha):
    for function in (mixing.mixup, mixing.cutmix):
        for values in of_each(function, alpha=alpha)(KEYS[:200]):
            assert np.isfinite(values).all()
