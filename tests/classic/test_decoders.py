"""Decoders: scikit-learn as the second implementation, and what every decoder promises."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC

from classic.decoders import DECODERS, additive, kernels, linear, machine, preconditioner, quadratic, rows, selection
from classic.decoders.rows import Rows
from classic.options import check
from common.errors import UserError

NAMES = sorted(DECODERS)
QUICK = {"components": 12, "constants": (0.1, 1.0, 10.0)}


def options(name, **changes):
    defaults = DECODERS[name].DEFAULTS
    return ConfigDict({**defaults, **{key: QUICK[key] for key in QUICK if key in defaults}, **changes})


@pytest.fixture(scope="module")
def digits():
    """Training and test parts of the digits, pixels in [0, 1]."""
    data = load_digits()
    features, labels = (data.data / 16).astype(np.float32), data.target.astype(np.int32)
    return features[:400], labels[:400], features[400:700], labels[400:700]


@pytest.fixture(scope="module")
def three(digits):
    """The digits 0, 1 and 2 only, for comparisons that have to converge."""
    features, labels, *_ = digits
    kept = labels < 3
    return features[kept], labels[kept]


@pytest.mark.parametrize("name", NAMES)
def test_digits_are_read(digits, name, tmp_path):
    # From memory or a memory-mapped file, whole or in blocks; the arrays are plain.
    features, labels, unseen, answers = digits
    check("decode", options(name), DECODERS[name].DEFAULTS, DECODERS[name].CHOICES, DECODERS[name].RANGES)
    arrays = DECODERS[name].fit(features, labels, options(name), 0)
    found = DECODERS[name].scores(arrays, unseen, options(name))
    assert found.shape == (300, 10)
    assert found.dtype == np.float32
    assert linear.error(found, answers) < 0.25
    for value in arrays.values():
        assert np.asarray(value).dtype.kind in "fiu"
    np.save(tmp_path / "features.npy", unseen)
    stored = np.load(tmp_path / "features.npy", mmap_mode="r")
    np.testing.assert_allclose(DECODERS[name].scores(arrays, stored, options(name)), found, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_class_may_have_one_image_or_none(digits, name):
    features, labels, unseen, _ = digits
    kept = (labels < 2) | (np.arange(400) == np.flatnonzero(labels == 4)[0])
    arrays = DECODERS[name].fit(features[kept], labels[kept], options(name), 0, num_classes=6)
    found = DECODERS[name].scores(arrays, unseen, options(name))
    assert found.shape == (300, 6)
    assert np.isfinite(found).all()
    assert set(found.argmax(axis=1)) <= {0, 1, 4}


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_are_not_finite_and_single_classes_are_refused(digits, name):
    features, labels, *_ = digits
    broken = features.copy()
    broken[17, 3] = np.inf
    with pytest.raises(UserError, match="features of training image 17 hold numbers that are not finite"):
        DECODERS[name].fit(broken, labels, options(name), 0)
    with pytest.raises(UserError, match="400 training images are all of one class"):
        DECODERS[name].fit(features, np.zeros(400, np.int32), options(name), 0)


def test_constant_features_do_not_prevent_a_fit(digits):
    features, labels, unseen, _ = digits
    still = np.concatenate([np.full((400, 2), 7, np.float32), features], axis=1)
    after = np.concatenate([np.full((300, 2), 7, np.float32), unseen], axis=1)
    section = options("linear_svm", standardise=True, C="0.01")
    with_them, without = (DECODERS["linear_svm"].fit(x, labels, section, 0) for x in (still, features))
    found = DECODERS["linear_svm"].scores(with_them, after, section)
    np.testing.assert_allclose(found, DECODERS["linear_svm"].scores(without, unseen, section), atol=5e-3)


def test_linear_svm_is_scikit_learns(three):
    features, labels = three
    scale = linear.scaling(Rows(features), False)
    ours = linear.fit(Rows(features), labels, 3, linear.squared_hinge, scale, 0.3, tolerance=1e-7, max_iterations=3000)
    theirs = LinearSVC(C=0.3, dual=False, tol=1e-8, intercept_scaling=1000, max_iter=5000).fit(features, labels)
    np.testing.assert_allclose(ours.weights.T, theirs.coef_, atol=2e-3)
    np.testing.assert_allclose(ours.bias, theirs.intercept_, atol=5e-3)


def test_logistic_regression_is_scikit_learns(three):
    features, labels = three
    scale = linear.scaling(Rows(features), False)
    ours = linear.fit(Rows(features), labels, 3, linear.cross_entropy, scale, 0.3, tolerance=1e-7, max_iterations=3000)
    theirs = LogisticRegression(C=0.3, tol=1e-8, max_iter=1000).fit(features.astype(np.float64), labels)
    np.testing.assert_allclose(ours.weights.T, theirs.coef_, atol=2e-3)
    np.testing.assert_allclose(ours.bias - ours.bias.mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=2e-3)


def test_standardising_the_weights_is_standardising_the_features(three):
    features, labels = three
    features = features[:, features.std(axis=0) > 0.01]
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    results = []
    for values, standardise in ((features, True), (scaled, False)):
        part = Rows(values)
        scale = linear.scaling(part, standardise)
        found = linear.fit(part, labels, 3, linear.squared_hinge, scale, 0.01, tolerance=1e-6)
        results.append(linear.scores(found, part))
    np.testing.assert_allclose(*results, atol=2e-3)


def test_blocks_and_16_bits_change_nothing(three, monkeypatch):
    features, labels = three
    features = features.astype(np.float16)
    section = options("linear_svm", C="0.1")
    whole = DECODERS["linear_svm"].fit(features, labels, section, 0)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 64 * 4 * 7)
    parts = DECODERS["linear_svm"].fit(features, labels, section, 0)
    np.testing.assert_allclose(parts["weights"], whole["weights"], atol=5e-3)


def test_the_constant_is_the_best_on_the_validation_part(digits):
    features, labels, unseen, answers = digits
    section = options("linear_svm", constants=(1e-6, 0.1))
    arrays = DECODERS["linear_svm"].fit(features, labels, section, 0, validation=(unseen, answers))
    assert arrays["C"] == np.float32(0.1)
    found = DECODERS["linear_svm"].scores(arrays, unseen, section)
    assert arrays["validation_error"] == pytest.approx(linear.error(found, answers), abs=0.02)
    # Without a validation part some training images are held out, and then trained on.
    held = DECODERS["linear_svm"].fit(features, labels, section, 0)
    given = DECODERS["linear_svm"].fit(features, labels, options("linear_svm", C="0.1"), 0)
    np.testing.assert_allclose(held["weights"], given["weights"], atol=0.03)


def test_constants_are_compared_at_their_minima(digits):
    # A search that begins at the last constant's result must not end there.
    features, labels, unseen, answers = digits
    near, far = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (features, unseen))
    scale = linear.scaling(Rows(near), False)
    for constant, found in linear.path(Rows(near), labels, 10, linear.squared_hinge, scale, (0.01, 1.0, 100.0)):
        theirs = LinearSVC(C=constant, intercept_scaling=10.0, max_iter=20_000).fit(near, labels)
        expected = np.mean(theirs.predict(far) != answers)
        assert linear.error(linear.scores(found, Rows(far)), answers) == pytest.approx(expected, abs=0.02)


@pytest.fixture(scope="module")
def activations():
    """Features as k-means makes them, [600 40]: positive, correlated, far from centred; and labels of 4 classes."""
    rng = np.random.default_rng(0)
    causes = rng.normal(size=(600, 6)) @ rng.normal(size=(6, 40)) + 0.3 * rng.normal(size=(600, 40))
    labels = (causes @ rng.normal(size=(40, 4)) + 3 * rng.normal(size=(600, 4))).argmax(axis=1)
    return (20 + 3 * np.maximum(causes, -4)).astype(np.float32), labels.astype(np.int32)


def objective(found, scale, features, labels, constant):
    """1/2 |w|^2 + C sum of squared hinges, in 64 bits, of weights for scaled features."""
    outputs = features.astype(np.float64) @ found.weights + found.bias
    signs = np.where(labels[:, None] == np.arange(outputs.shape[1]), 1, -1)
    scaled = found.weights.astype(np.float64) * scale.deviation[:, None]
    return 0.5 * (scaled**2).sum() + constant * (np.maximum(0, 1 - signs * outputs) ** 2).sum()


@pytest.mark.parametrize("constant", [0.001, 0.1, 10.0])
def test_the_minimum_is_liblinears(activations, constant):
    # At the tolerance that decoders use the objective is within a thousandth of liblinear's.
    features, labels = activations
    scale = linear.scaling(Rows(features), True)
    assert scale.covariance is not None
    found = linear.fit(Rows(features), labels, 4, linear.squared_hinge, scale, constant)
    scaled = ((features - scale.mean) / scale.deviation).astype(np.float64)
    theirs = LinearSVC(C=constant, dual=False, tol=1e-9, intercept_scaling=1000, max_iter=10_000).fit(scaled, labels)
    weights = theirs.coef_.T / scale.deviation[:, None]
    least = linear.Linear(weights, theirs.intercept_ - scale.mean @ weights)
    assert objective(found, scale, features, labels, constant) == pytest.approx(
        objective(least, scale, features, labels, constant), rel=1e-3
    )


def test_a_preconditioner_saves_passes_and_keeps_the_minimum(activations):
    features, labels = activations
    scale = linear.scaling(Rows(features), True)
    values, passes = [], []
    for known in (scale, scale._replace(covariance=None)):
        calls = []

        def counted(outputs, of, calls=calls):
            calls.append(len(of))
            return linear.squared_hinge(outputs, of)

        found = linear.fit(Rows(features), labels, 4, counted, known, 0.1, tolerance=1e-4, max_iterations=3000)
        values.append(objective(found, scale, features, labels, 0.1))
        passes.append(len(calls))
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert passes[0] < passes[1] / 3


def test_the_root_is_that_of_the_curvature(activations):
    features, _ = activations
    covariance = linear.scaling(Rows(features), True).covariance
    np.testing.assert_allclose(covariance, np.corrcoef(features.T), atol=1e-4)
    change = preconditioner.preconditioner(covariance, 0.1)
    expected = preconditioner.CURVATURE * covariance + 0.1 * np.eye(40)
    np.testing.assert_allclose(change.root.T @ change.root, expected, atol=1e-6)
    weights, slope = np.random.default_rng(0).normal(size=(2, 40, 4))
    variables = change.variables(weights)
    np.testing.assert_allclose(change.weights(variables), weights, atol=1e-9)
    # A small step has the same effect in either.
    assert np.vdot(change.slope(slope), variables) == pytest.approx(np.vdot(slope, weights))


def test_many_features_have_no_covariance_and_the_same_scale(activations, monkeypatch):
    features, _ = activations
    known = linear.scaling(Rows(features), True)
    monkeypatch.setattr(linear, "MOST_FEATURES", 39)
    without = linear.scaling(Rows(features), True)
    assert without.covariance is None
    np.testing.assert_allclose(without.deviation, known.deviation, rtol=1e-4)


def test_held_out_examples_leave_one_of_each_class():
    labels = np.array([0] * 10 + [1] * 5 + [2])
    out = selection.held_out(labels, 0.4, 0)
    assert [int(out[labels == c].sum()) for c in range(3)] == [4, 2, 0]
    with pytest.raises(UserError, match="2 training images of 2 classes are too few to hold any out"):
        selection.held_out(np.array([0, 1]), 0.4, 0)


def test_larger_constants_are_not_tried_after_two_higher_errors():
    tried = []

    def errors():
        for constant, error in ((1, 0.5), (2, 0.3), (3, 0.3), (4, 0.4), (5, 0.31), (6, 0.1)):
            tried.append(constant)
            yield constant, error

    assert selection.best(errors()) == selection.Choice(2, 0.3)
    assert tried == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("value", ["validate", "-1", "0", "nan"])
def test_invalid_constants_are_refused_in_one_line(value):
    with pytest.raises(UserError, match=rf"config\.decode\.C is '{value}'; expected a number above 0, or 'validation'"):
        selection.constant(value)


@pytest.mark.parametrize("largest_pair", [16_000, 10])  # one matrix of kernel values, and the solver's own
@pytest.mark.parametrize("classes", [2, 4])
def test_kernel_machines_score_as_scikit_learns(digits, classes, largest_pair, monkeypatch):
    monkeypatch.setattr(machine, "LARGEST_PAIR", largest_pair)
    features, labels, unseen, _ = digits
    kept = labels < classes
    section = options("rbf_svm", gamma=0.05, C="3")
    found = DECODERS["rbf_svm"].scores(
        DECODERS["rbf_svm"].fit(features[kept], labels[kept], section, 0), unseen, section
    )
    theirs = SVC(C=3, gamma=0.05).fit(features[kept], labels[kept])
    if classes == 2:
        np.testing.assert_array_equal(found.argmax(axis=1), theirs.predict(unseen))
    else:
        np.testing.assert_allclose(found, theirs.decision_function(unseen), atol=1e-3)


@pytest.fixture(scope="module")
def histograms():
    counts = np.random.default_rng(0).poisson(0.7, (30, 40)).astype(np.float32)
    return counts / counts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["intersection", "chi2"])
def test_additive_kernels_are_their_equations_and_their_maps_near(histograms, name):
    x, y = histograms[:, None].astype(np.float64), histograms[None].astype(np.float64)
    both = np.where(x + y > 0, x + y, 1)
    expected = (np.minimum(x, y) if name == "intersection" else 2 * x * y / both).sum(axis=-1)
    np.testing.assert_allclose(getattr(kernels, name)(histograms, histograms), expected, atol=1e-5)
    errors = []
    for steps in kernels.STEPS:
        mapped = getattr(kernels, f"{name}_map")(steps)(histograms)
        assert mapped.shape == (30, 40 * (2 * steps - 1))
        ratio = (mapped @ mapped.T) / expected
        errors.append(float((ratio / ratio.mean()).std()))
    assert errors[1] < 0.1
    assert errors[2] < errors[0]


@pytest.mark.parametrize("name", ["intersection_svm", "chi2_svm"])
def test_the_map_decides_as_the_kernel_does(digits, name):
    features, labels, unseen, answers = digits
    exact, mapped = options(name, C="10", exact=400), options(name, C="1", exact=399)
    errors = []
    for section in (exact, mapped):
        arrays = DECODERS[name].fit(features, labels, section, 0)
        assert ("support" in arrays) == (section is exact)
        errors.append(linear.error(DECODERS[name].scores(arrays, unseen, section), answers))
    assert max(errors) < 0.2
    assert additive.DEFAULTS["exact"] < 5000  # a kernel matrix has the square of that many numbers


@pytest.mark.parametrize("exact", [0, 400])
def test_negative_features_have_no_histogram_kernel(digits, exact):
    features, labels, *_ = digits
    with pytest.raises(UserError, match="need features of at least 0, and one is -1"):
        DECODERS["chi2_svm"].fit(features - 1, labels, options("chi2_svm", exact=exact), 0)


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_nearest_neighbours_are_scikit_learns(digits, metric):
    features, labels, unseen, _ = digits
    section = options("knn", neighbours=1, metric=metric)
    arrays = DECODERS["knn"].fit(features, labels, section, 0)
    theirs = KNeighborsClassifier(1, metric=metric).fit(features, labels).predict(unseen)
    np.testing.assert_array_equal(DECODERS["knn"].scores(arrays, unseen, section).argmax(axis=1), theirs)


def test_the_nearest_of_equally_many_neighbours_decides():
    features, labels = np.array([[0.0], [1.0], [3.0]], np.float32), np.array([2, 1, 0])
    section = options("knn", neighbours=2)
    arrays = DECODERS["knn"].fit(features, labels, section, 0)
    found = DECODERS["knn"].scores(arrays, np.array([[0.1], [0.9], [2.9]], np.float32), section)
    assert found.argmax(axis=1).tolist() == [2, 1, 0]
    with pytest.raises(UserError, match=r"config\.decode\.neighbours is 4, but there are 3 training images"):
        DECODERS["knn"].fit(features, labels, options("knn", neighbours=4), 0)


def test_forty_components_make_821_inputs(digits):
    features, labels, *_ = digits
    rng = np.random.default_rng(0)
    arrays = DECODERS["quadratic"].fit(
        rng.normal(size=(60, 50)).astype(np.float32), labels[:60], options("quadratic", components=40), 0
    )
    assert arrays["weights"].shape == (821, 10)  # LeCun et al. 1998, section III.C.4
    values = quadratic.inputs({"projection": np.eye(2, dtype=np.float32)}, np.array([[2, 3]], np.float32))
    assert sorted(values[0].tolist()) == [1, 4, 6, 9]
    with pytest.raises(UserError, match=r"config\.decode\.components is 65, but there are 400 .* 64 features"):
        DECODERS["quadratic"].fit(features, labels, options("quadratic", components=65), 0)
