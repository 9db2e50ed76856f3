"""Encoders: their equations against slow loops, second implementations, and what every encoder promises."""

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from skimage.feature import fisher_vector
from sklearn.decomposition import PCA, sparse_encode

from classic import pooling
from classic.descriptors import Descriptors
from classic.encoders import ENCODERS, batches, components, fisher, llc, sparse, triangle, words
from classic.options import check
from common.errors import UserError

D, T, N = 6, 12, 5
SMALL = {
    "flat": {},
    "words": {"words": 8},
    "fisher": {"components": 3, "pca": 4, "positions": True},
    "sparse": {"words": 10, "iterations": 30},
    "llc": {"words": 9, "neighbours": 3},
    "triangle": {"words": 8},
}


def options(name, **changes):
    return ConfigDict({**ENCODERS[name].DEFAULTS, **changes})


@pytest.fixture(scope="module")
def found():
    """Descriptors of N images, of which the last has none."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(N, T, D)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    present = rng.random((N, T)) < 0.8
    present[-1] = False
    vectors[~present] = 0
    return Descriptors(vectors, rng.random((N, T, 2)).astype(np.float32), present)


@pytest.fixture(scope="module")
def sample():
    vectors = np.random.default_rng(1).normal(size=(300, D)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def fitted(sample):
    centres = np.random.default_rng(2).random((len(sample), 2)).astype(np.float32)
    return {name: ENCODERS[name].fit(sample, options(name, **SMALL[name]), 0, centres) for name in ENCODERS}


def encode(name, arrays, found, layout="quadrants", **changes):
    regions = pooling.regions(found.centres, found.present, layout)
    return ENCODERS[name].encode(arrays, found, regions, options(name, **{**SMALL[name], **changes}))


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_codes_depend_on_their_own_image_alone(fitted, found, name, monkeypatch):
    # In batches or whole, an image's code is the same, and an empty image's is zero.
    whole = encode(name, fitted[name], found)
    assert whole.shape[:2] == (N, 4)
    assert whole.dtype == np.float32
    assert np.all(whole[-1] == 0)
    monkeypatch.setattr(batches, "BATCH_BYTES", 1)
    np.testing.assert_allclose(encode(name, fitted[name], found), whole, atol=1e-5)
    features = ENCODERS[name].finish(whole, options(name, **SMALL[name]))
    assert features.shape == (N, whole.shape[1] * whole.shape[2])
    assert np.isfinite(features).all()


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_fitting_is_reproducible_and_options_are_valid(fitted, sample, name):
    check("encode", options(name), ENCODERS[name].DEFAULTS, ENCODERS[name].CHOICES, ENCODERS[name].RANGES)
    centres = np.random.default_rng(2).random((len(sample), 2)).astype(np.float32)
    again = ENCODERS[name].fit(sample, options(name, **SMALL[name]), 0, centres)
    assert again.keys() == fitted[name].keys()
    for key, value in again.items():
        np.testing.assert_array_equal(value, fitted[name][key])


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("words", {"words": 301}, r"config\.encode\.words asks for 301 words, but the sample has 300 descriptors"),
        ("triangle", {"words": 301}, r"config\.encode\.words asks for 301 words, but the sample has 300"),
        ("llc", {"words": 301}, r"config\.encode\.words asks for 301 words, but the sample has 300"),
        ("sparse", {"words": 301}, r"config\.encode\.words asks for 301 words, but the sample has 300"),
        ("sparse", {"learn_from": 9}, r"config\.encode\.words asks for 10 words, but the sample has 9 descriptors"),
        ("fisher", {"components": 301}, r"config\.encode\.components asks for 301 Gaussians, but the sample has 300"),
        ("fisher", {"pca": 7}, r"config\.encode\.pca asks for 7 principal components, but descriptors have 6 numbers"),
        ("flat", {"pca": 7}, r"config\.encode\.pca asks for 7 principal components, but descriptors have 6 numbers"),
        ("llc", {"words": 4, "neighbours": 5}, r"config\.encode\.neighbours is 5, but config\.encode\.words is 4"),
    ],
)
def test_samples_that_are_too_small_are_refused(sample, name, changes, message):
    with pytest.raises(UserError, match=message):
        ENCODERS[name].fit(sample, options(name, **{**SMALL[name], **changes}), 0)


@pytest.mark.parametrize("name", sorted(set(ENCODERS) - {"flat"}))
def test_numbers_that_are_not_finite_are_refused(sample, name):
    broken = sample.copy()
    broken[7, 2] = np.nan
    with pytest.raises(UserError, match="1 of 300 sampled descriptors hold numbers that are not finite"):
        ENCODERS[name].fit(broken, options(name, **SMALL[name]), 0)


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("name", sorted(set(ENCODERS) - {"flat"}))
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_equal_descriptors_have_finite_codes(found, name, value):
    # Constant images: every descriptor is the same, or zero.
    same = np.full((40, D), value, np.float32)
    changes = {"positions": False} if name == "fisher" else {}
    arrays = ENCODERS[name].fit(same, options(name, **{**SMALL[name], **changes}), 0)
    flat = found._replace(vectors=np.full_like(found.vectors, value))
    codes = encode(name, arrays, flat, **changes)
    assert np.isfinite(codes).all()
    assert np.isfinite(encode(name, arrays, found, **changes)).all()


def test_a_mixture_of_equal_descriptors_far_from_zero_is_fitted():
    """In float32, rounding makes the variance of the equal ones negative."""
    rng = np.random.default_rng(0)
    spread, equal = 30 + rng.normal(size=(300, 4)), np.tile(100 * rng.random(4), (300, 1))
    sample = np.concatenate([spread, equal]).astype(np.float32)
    arrays = ENCODERS["fisher"].fit(sample, options("fisher", components=3, pca=0), 0)
    widths = np.sqrt(arrays["variances"].max(axis=1))
    np.testing.assert_allclose(np.sort(widths)[1:], [1, 1], atol=0.2)
    assert 0 < widths.min() < 0.01


def test_histograms_count_each_descriptor_at_its_nearest_word(fitted, found):
    codes = encode("words", fitted["words"], found, "pyramid1")
    expected = np.zeros_like(codes)
    regions = pooling.regions(found.centres, found.present, "pyramid1")
    for i, t, r in zip(*np.nonzero(regions), strict=True):
        expected[i, r, np.linalg.norm(fitted["words"]["words"] - found.vectors[i, t], axis=1).argmin()] += 1
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(codes[:, 0].sum(-1), found.present.sum(-1))


def test_hellinger_features_are_the_square_roots_of_shares(fitted, found):
    counts = encode("words", fitted["words"], found, "whole")
    features = words.finish(counts, options("words"))
    shares = counts[:-1, 0] / counts[:-1, 0].sum(-1, keepdims=True)
    np.testing.assert_allclose(features[:-1], np.sqrt(shares), atol=1e-6)
    weighted = words.finish(
        encode("words", fitted["words"], found, "pyramid1"),
        options("words", power=1.0, norm="none"),
        pooling.weights("pyramid1"),
    )
    np.testing.assert_allclose(weighted.sum(-1), found.present.sum(-1), rtol=1e-6)  # 1/2 on either level


def fisher_by_loop(arrays, vectors):
    """The equations of section 3 of Perronnin et al. (2010), descriptor by descriptor."""
    w, mu, var = (np.asarray(arrays[name], np.float64) for name in ("weights", "means", "variances"))
    by_mean, by_deviation = np.zeros_like(mu), np.zeros_like(mu)
    for x in vectors.astype(np.float64):
        density = w * np.exp(-0.5 * ((x - mu) ** 2 / var).sum(-1)) / np.sqrt(var).prod(-1)
        posterior = (density / density.sum())[:, None]
        by_mean += posterior * (x - mu) / np.sqrt(var)
        by_deviation += posterior * ((x - mu) ** 2 / var - 1)
    scale = len(vectors) * np.sqrt(w)[:, None]
    return np.concatenate([(by_mean / scale).ravel(), (by_deviation / (np.sqrt(2) * scale)).ravel()])


def test_fisher_vectors_are_those_of_the_equations(fitted, found):
    codes = encode("fisher", fitted["fisher"], found, "quadrants")
    assert codes.shape[-1] == 2 * 3 * (4 + 2)  # 2 K D, with two more numbers for the place
    arrays = fitted["fisher"]
    placed = np.concatenate([(found.vectors - arrays["mean"]) @ arrays["projection"], found.centres - 0.5], axis=-1)
    regions = pooling.regions(found.centres, found.present, "quadrants")
    for i, r in [(0, 0), (1, 3), (2, 1)]:
        np.testing.assert_allclose(codes[i, r], fisher_by_loop(arrays, placed[i, regions[i, :, r]]), atol=1e-4)


def test_fisher_vectors_agree_with_scikit_image(sample, found):
    # Its improved vectors start with K gradients of weights, and its gradients of deviations have the other sign.
    from sklearn.mixture import GaussianMixture

    changes = {"components": 3, "pca": 0}
    arrays = fisher.fit(sample, options("fisher", **changes), 0)
    mixture = GaussianMixture(3, covariance_type="diag")
    mixture.weights_, mixture.means_, mixture.covariances_ = (
        arrays[name].astype(np.float64) for name in ("weights", "means", "variances")
    )
    mixture.precisions_cholesky_ = 1 / np.sqrt(mixture.covariances_)
    everywhere = found._replace(present=np.ones_like(found.present))
    regions = pooling.regions(everywhere.centres, everywhere.present, "whole")
    codes = fisher.encode(arrays, everywhere, regions, options("fisher", **changes))
    for i in range(2):
        theirs = fisher_vector(found.vectors[i].astype(np.float64), mixture, improved=False)[3:]
        length = len(theirs) // 2
        by_mean, by_deviation = codes[i, 0, :length], codes[i, 0, length:]
        for ours, other in ((by_mean, theirs[:length]), (by_deviation, -theirs[length:])):
            np.testing.assert_allclose(ours / np.linalg.norm(ours), other / np.linalg.norm(other), atol=1e-3)


def test_fisher_vectors_of_the_mixture_itself_tend_to_zero(fitted):
    arrays = {name: fitted["fisher"][name] for name in ("weights", "means", "variances")}
    rng = np.random.default_rng(3)
    t = 40000
    which = rng.choice(3, t, p=arrays["weights"] / arrays["weights"].sum())
    drawn = arrays["means"][which] + np.sqrt(arrays["variances"][which]) * rng.normal(size=(t, 6))
    drawn = Descriptors(drawn[None].astype(np.float32), np.zeros((1, t, 2), np.float32), np.ones((1, t), bool))
    code = fisher.encode(arrays, drawn, np.ones((1, t, 1), bool), options("fisher", pca=0))
    assert np.abs(code).max() < 0.03
    improved = fisher.finish(code, options("fisher"))
    assert np.linalg.norm(improved) == pytest.approx(1, abs=1e-5)


def test_whitened_patches_have_unit_covariance_and_keep_their_axes(sample):
    arrays = triangle.zca(sample * np.arange(1, D + 1, dtype=np.float32), eps=1e-6)
    white = (sample * np.arange(1, D + 1) - arrays["mean"]) @ arrays["whitening"]
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(D), atol=1e-3)
    np.testing.assert_allclose(arrays["whitening"], arrays["whitening"].T, atol=1e-6)


@pytest.mark.parametrize("assignment", ["triangle", "hard"])
def test_k_means_features_are_those_of_the_equations(fitted, found, assignment):
    arrays = fitted["triangle"]
    codes = encode("triangle", arrays, found, assignment=assignment)
    regions = pooling.regions(found.centres, found.present, "quadrants")
    expected = np.zeros_like(codes)
    for i, t, r in zip(*np.nonzero(regions), strict=True):
        white = (found.vectors[i, t] - arrays["mean"]) @ arrays["whitening"]
        distance = np.linalg.norm(arrays["words"] - white, axis=1)
        active = np.maximum(0, distance.mean() - distance)
        expected[i, r] += active if assignment == "triangle" else distance == distance.min()
    np.testing.assert_allclose(codes, expected, atol=1e-4)


def test_about_half_of_the_triangle_activations_are_zero(fitted, sample):
    active = triangle.activations(fitted["triangle"], sample)
    assert 0.3 < float((active == 0).mean()) < 0.7


def test_sparse_codes_are_the_minimum(sample):
    # FISTA against scikit-learn's coordinate descent; its objective has half of both terms.
    arrays = sparse.fit(sample, options("sparse", words=10), 0)
    np.testing.assert_allclose(np.linalg.norm(arrays["words"], axis=1), 1, atol=1e-5)
    for iterations in (30, 400):
        ours = np.asarray(sparse.codes(arrays, sample[:20], 0.3, iterations))
        theirs = sparse_encode(
            sample[:20].astype(np.float64), arrays["words"].astype(np.float64), algorithm="lasso_cd", alpha=0.15,
            max_iter=5000,
        )  # fmt: skip
        np.testing.assert_allclose(ours, theirs, atol=0.05 if iterations == 30 else 2e-3)
    assert (ours == 0).mean() > 0.4


def test_both_ways_to_multiply_with_the_dictionary_agree(sample):
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(20, D)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    arrays = {"words": rows, "bound": np.float32(np.linalg.norm(rows, 2) ** 2)}
    wide = sparse.codes(arrays, sample[:5], 0.3, 40)
    padded = {"words": np.pad(rows, ((0, 0), (0, D))), "bound": arrays["bound"]}
    narrow = sparse.codes(padded, np.pad(sample[:5], ((0, 0), (0, D))), 0.3, 40)
    np.testing.assert_allclose(wide, narrow, atol=1e-5)


def test_codes_over_candidates_are_near_those_over_all_words(found):
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(60, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    arrays = {"words": rows, "bound": np.array(np.linalg.norm(rows, 2) ** 2, np.float32)}
    vectors = rows[:48].reshape(N - 1, T, 32) + 0.1 * rng.normal(size=(N - 1, T, 32)).astype(np.float32)
    near = Descriptors(vectors, found.centres[:-1], found.present[:-1])
    regions = pooling.regions(near.centres, near.present, "pyramid1")
    exact, most, half = (
        sparse.encode(arrays, near, regions, options("sparse", candidates=count)) for count in (0, 59, 30)
    )
    assert (exact > 0).sum() > 100
    np.testing.assert_allclose(most, exact, atol=5e-3)
    assert np.abs(half - exact).mean() < 0.02 * exact[exact > 0].mean()


def test_sparse_codes_are_pooled_by_their_largest_size(fitted, found):
    arrays = fitted["sparse"]
    codes = encode("sparse", arrays, found, "stripes")
    regions = pooling.regions(found.centres, found.present, "stripes")
    size = np.abs(sparse.codes(arrays, jnp.asarray(found.vectors).reshape(-1, D), 0.3, 30)).reshape(N, T, -1)
    expected = np.where(regions[..., None], size[:, :, None], 0).max(axis=1)
    np.testing.assert_allclose(codes, expected, atol=1e-5)


def test_locality_constrained_codes_solve_their_equation(fitted, found):
    arrays = fitted["llc"]
    chosen, weights = llc.codes(arrays, found.vectors, options("llc", **SMALL["llc"]))
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-4)
    pooled = encode("llc", arrays, found, "whole")
    for i, t in [(0, 0), (1, 2), (3, 5)]:
        x = found.vectors[i, t].astype(np.float64)
        nearest = np.linalg.norm(arrays["words"] - x, axis=1).argsort()[:3]
        np.testing.assert_array_equal(chosen[i, t], nearest)
        shifted = arrays["words"][nearest].astype(np.float64) - x
        covariance = shifted @ shifted.T
        covariance += 1e-4 * np.trace(covariance) * np.eye(3)
        code = np.linalg.solve(covariance, np.ones(3))
        np.testing.assert_allclose(weights[i, t], code / code.sum(), atol=1e-3)
        if found.present[i, t]:
            assert (pooled[i, 0, nearest] >= weights[i, t] - 1e-6).all()
    assert pooled.min() == 0


def test_joined_descriptors_keep_their_places(found):
    codes = encode("flat", {}, found, "whole")
    np.testing.assert_array_equal(codes.reshape(N, T, D), np.where(found.present[..., None], found.vectors, 0))
    added = encode("flat", {}, found, "quadrants", join=False)
    np.testing.assert_allclose(added.sum(axis=1), codes.reshape(N, T, D).sum(axis=1), atol=1e-5)


def test_reduced_descriptors_are_scikit_learns_whitened_components(sample, found):
    arrays = ENCODERS["flat"].fit(sample, options("flat", pca=3, whiten=True), 0)
    everywhere = found._replace(present=np.ones_like(found.present))
    codes = encode("flat", arrays, everywhere, "whole", pca=3, whiten=True).reshape(-1, 3)
    theirs = PCA(3, whiten=True, svd_solver="covariance_eigh").fit(sample).transform(found.vectors.reshape(-1, D))
    np.testing.assert_allclose(codes, theirs, atol=1e-3)


def test_components_of_few_long_descriptors_need_no_covariance():
    rows = np.random.default_rng(6).normal(size=(6, 400_000)).astype(np.float32)  # whose covariance takes 640 GB
    parts = components.project(components.fit_pca(rows, 3), rows)
    centred = (rows - rows.mean(axis=0)).astype(np.float64)
    variances = np.linalg.eigvalsh(centred @ centred.T / 5)[:2:-1]
    np.testing.assert_allclose(parts.var(axis=0, ddof=1), variances, rtol=1e-3)
