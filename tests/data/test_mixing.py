"""Mixup and CutMix: pairs of examples mixed by one share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from common.data import mixing

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4, 4, 1)), jnp.float32)
LABELS = jax.nn.one_hot(jnp.arange(6), 6)
mixup = jax.jit(mixing.mixup, static_argnames="alpha")
cutmix = jax.jit(mixing.cutmix, static_argnames="alpha")
mix = jax.jit(mixing.mix, static_argnames=("mixup_alpha", "cutmix_alpha"))


def share(labels):
    """The own label's part in a mixed batch of distinct labels."""
    return np.diag(np.asarray(labels))


def test_images_and_labels_are_blended_alike_with_the_one_before():
    images, labels = mixup(jax.random.key(0), IMAGES, LABELS, alpha=0.4)
    own = share(labels)
    assert np.ptp(own) == 0
    assert 0.5 <= own[0] <= 1
    before = np.roll(np.arange(6), 1)
    np.testing.assert_allclose(labels[np.arange(6), before], 1 - own, atol=1e-6)
    expected = own[0] * np.asarray(IMAGES) + (1 - own[0]) * np.asarray(IMAGES)[before]
    np.testing.assert_allclose(images, expected, atol=1e-6)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-6)


def test_the_share_is_a_betas_larger_part():
    keys = jax.random.split(jax.random.key(1), 2000)
    draw = jax.jit(jax.vmap(lambda key: mixing.mixup(key, IMAGES[:2, :1, :1], LABELS[:2, :2], 0.2)[1][0, 0]))
    shares, beta = np.asarray(draw(keys)), stats.beta(0.2, 0.2)
    assert shares.min() >= 0.5
    for limit in (0.6, 0.8, 0.95, 0.999):
        expected = beta.cdf(limit) - beta.cdf(1 - limit)
        assert np.mean(shares < limit) == pytest.approx(expected, abs=0.045)  # four standard deviations, or more


def test_mixing_is_a_function_of_the_key():
    first, again, other = (share(mixup(jax.random.key(k), IMAGES, LABELS, alpha=1.0)[1])[0] for k in (3, 3, 4))
    assert first == again != other


BEFORE = np.roll(np.arange(6), 1)


def boxes(count, alpha, height=20, width=30):
    """Masks of what comes from the image before, and the shares of its label, of `count` keys."""
    images = jnp.broadcast_to(jnp.arange(2.0)[:, None, None, None], (2, height, width, 1))
    draw = jax.jit(jax.vmap(lambda key: mixing.cutmix(key, images, LABELS[:2, :2], alpha)))
    out, labels = draw(jax.random.split(jax.random.key(0), count))
    return np.asarray(out[:, 0, :, :, 0]) == 1.0, np.asarray(labels[:, 0, 1])


def test_a_box_comes_from_the_image_before_and_labels_follow_its_area():
    for number in range(20):
        images, labels = cutmix(jax.random.key(number), IMAGES, LABELS, alpha=1.0)
        pasted = np.asarray(images == IMAGES[BEFORE]).all(-1)
        kept = np.asarray(images == IMAGES).all(-1)
        assert (pasted ^ kept).all()
        assert (pasted == pasted[0]).all()  # one box for the batch
        part = pasted[0].mean()
        np.testing.assert_allclose(labels, (1 - part) * np.eye(6) + part * np.eye(6)[BEFORE], atol=1e-6)


def test_the_box_is_a_rectangle_of_the_images_shape_about_any_centre():
    masks, parts = boxes(3000, 1.0)
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
    assert stats.ks_2samp(theirs, boxes(3000, 1.0)[1]).pvalue > 1e-4


@pytest.mark.parametrize("which", [mixup, cutmix])
def test_the_mean_label_and_its_sum_are_kept(which):
    _, labels = which(jax.random.key(5), IMAGES, LABELS, alpha=1.0)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(labels.mean(0), LABELS.mean(0), rtol=1e-6)


def test_one_of_both_is_chosen_for_each_batch():
    found = set()
    for number in range(12):
        key = jax.random.key(number)
        images, labels = mix(key, IMAGES, LABELS, mixup_alpha=1.0, cutmix_alpha=1.0)
        inner = jax.random.split(key)[1]
        for name, alone in (("mixup", mixup), ("cutmix", cutmix)):
            expected = alone(inner, IMAGES, LABELS, alpha=1.0)
            if np.allclose(images, expected[0], atol=1e-6) and np.allclose(labels, expected[1], atol=1e-6):
                found.add(name)
    assert found == {"mixup", "cutmix"}


def test_with_one_of_them_off_the_other_works_as_alone():
    key = jax.random.key(3)
    for alphas, alone in (
        ((0.4, 0.0), mixup(key, IMAGES, LABELS, alpha=0.4)),
        ((0.0, 1.0), cutmix(key, IMAGES, LABELS, alpha=1.0)),
        ((0.0, 0.0), (IMAGES, LABELS)),
    ):
        ours = mix(key, IMAGES, LABELS, mixup_alpha=alphas[0], cutmix_alpha=alphas[1])
        for one, other in zip(ours, alone, strict=True):
            np.testing.assert_array_equal(one, other)
