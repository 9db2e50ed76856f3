"""Decoders: scikit-learn as the second implementation, and what every decoder promises."""

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC

from classic.decoders import (
    DECODERS,
    additive,
    kernels,
    linear,
    machine,
    polynomial_svm,
    preconditioner,
    quadratic,
    rbf_network,
    rows,
    selection,
    tangent_distance,
)
from classic.decoders.rows import Rows
from classic.descriptors import DESCRIBERS
from classic.options import check
from common.errors import UserError

NAMES = sorted(DECODERS)
QUICK = {"components": 12, "constants": (0.1, 1.0, 10.0), "units": 10, "tangents": 0, "copies": 0}


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


@pytest.mark.parametrize("squash", [0.0, 2.0])
def test_a_unit_for_each_pair_learns_from_its_two_classes_and_votes_for_both(digits, squash):
    features, labels, unseen, _ = digits
    kept = labels < 3
    section = options("pairwise_linear", ridge=1e-3, squash=squash)
    found = DECODERS["pairwise_linear"].fit(features[kept], labels[kept], section, 0, 5)
    outputs = {}
    for first, second in ((0, 1), (0, 2), (1, 2)):
        chosen = (labels == first) | (labels == second)
        x = np.concatenate([features[chosen].astype(np.float64), np.ones((chosen.sum(), 1))], axis=1)
        y = np.where(labels[chosen] == first, 1.0, -1.0)
        weights = np.linalg.solve(x.T @ x + 1e-3 * len(x) * np.eye(65), x.T @ y)
        output = unseen @ weights[:-1] + weights[-1]
        outputs[first, second] = np.tanh(squash * output) if squash else output
    expected = np.stack(
        [outputs[0, 1] + outputs[0, 2], outputs[1, 2] - outputs[0, 1], -outputs[0, 2] - outputs[1, 2]], axis=1
    )
    scores = DECODERS["pairwise_linear"].scores(found, unseen, section)
    np.testing.assert_allclose(scores[:, :3], expected, atol=1e-4)
    np.testing.assert_allclose(scores[:, 3:], np.repeat(expected.min(axis=1)[:, None] - 1, 2, axis=1), atol=1e-4)
    everything = DECODERS["pairwise_linear"].fit(features, labels, options("pairwise_linear"), 0)
    assert everything["weights"].shape == (65, 45)  # LeCun et al. 1998, section III-C


def test_gaussian_units_are_placed_in_each_class_and_their_outputs_fit_the_targets(digits):
    features, labels, *_ = digits
    kept = (labels < 3) | (np.arange(400) == np.flatnonzero(labels == 4)[0])
    x, y = features[kept], labels[kept]
    found = DECODERS["rbf_network"].fit(x, y, options("rbf_network", units=7, ridge=1e-3), 0)
    assert found["units"].shape == (3 * 7 + 1, 64)
    for place, unit in enumerate(found["units"]):
        nearest = y[np.argsort(np.linalg.norm(x - unit, axis=1))[:3]]
        assert np.bincount(nearest, minlength=5).argmax() == place // 7 or place == 21
    np.testing.assert_allclose(found["units"][21], x[y == 4][0], atol=1e-6)
    values = rbf_network.activities(found, found["units"])
    np.testing.assert_allclose(np.diag(values), 1, atol=1e-4)
    np.testing.assert_array_equal(values[:, -1], 1)
    distance = np.sum((found["units"][0] - found["units"][9]) ** 2)
    assert values[0, 9] == pytest.approx(np.exp(-found["gamma"] * distance), rel=1e-3)
    # At the least sum of squares its derivative is 0.
    inputs = rbf_network.activities(found, x).astype(np.float64)
    wanted = np.where(y[:, None] == np.arange(5), 1, -1)
    slope = inputs.T @ (inputs @ found["weights"] - wanted) + 1e-3 * len(x) * found["weights"]
    assert np.abs(slope).max() < 1e-2 * np.abs(inputs.T @ wanted).max()


def test_a_wider_gaussian_falls_more_slowly(digits):
    features, labels, *_ = digits
    near, far = (
        DECODERS["rbf_network"].fit(features, labels, options("rbf_network", width=width), 0)["gamma"]
        for width in (1.0, 2.0)
    )
    assert near == pytest.approx(4 * far, rel=1e-5)


def test_the_polynomial_kernel_is_its_equation_and_its_machine_scikit_learns(digits):
    features, labels, unseen, _ = digits
    section = options("polynomial_svm", degree=3, gamma=0.5, offset=2.0, C="3")
    values = polynomial_svm.kernel(section)(0.5)(features[:5], unseen[:4])
    expected = [[(0.5 * float(x @ y) + 2) ** 3 for y in unseen[:4]] for x in features[:5]]
    np.testing.assert_allclose(values, expected, rtol=1e-4)
    kept = labels < 4
    found = DECODERS["polynomial_svm"].fit(features[kept], labels[kept], section, 0)
    theirs = SVC(C=3, kernel="poly", degree=3, gamma=0.5, coef0=2.0).fit(features[kept], labels[kept])
    scores = DECODERS["polynomial_svm"].scores(found, unseen, section)
    np.testing.assert_allclose(scores, theirs.decision_function(unseen), atol=1e-3)


def described(name, features):
    """The features of digits, given as pixels in [0, 1], by a describer with its default options."""
    images = np.round(255 * features).astype(np.uint8).reshape(-1, 8, 8, 1)
    return DESCRIBERS[name].describe(images, ConfigDict(DESCRIBERS[name].DEFAULTS)).vectors[:, 0]


def test_virtual_support_vectors_teach_shifts(digits):
    features, labels, unseen, answers = digits
    parts = described("shifts", features)
    section = options("virtual_svm", degree=3, copies=4)
    virtual = DECODERS["virtual_svm"].fit(parts, labels, section, 0)
    plain = DECODERS["polynomial_svm"].fit(parts[:, :64], labels, options("polynomial_svm", degree=3), 0)
    assert virtual["gamma"] == plain["gamma"]
    every = {image.tobytes() for image in parts.reshape(-1, 64)}
    assert {image.tobytes() for image in virtual["support"]} <= every
    assert len(virtual["support"]) > len(plain["support"])
    aside = described("shifts", unseen)[:, 3 * 64 : 4 * 64]
    machines = ("virtual_svm", section, virtual), ("polynomial_svm", options("polynomial_svm", degree=3), plain)
    taught, untaught = (
        linear.error(DECODERS[name].scores(arrays, aside, chosen), answers) for name, chosen, arrays in machines
    )
    assert taught < untaught / 2


def test_a_virtual_machine_without_copies_decides_as_the_first(digits):
    features, labels, unseen, _ = digits
    section = options("virtual_svm", degree=3, gamma=0.05)
    arrays = DECODERS["virtual_svm"].fit(features, labels, section, 0)
    plain = DECODERS["polynomial_svm"].fit(features, labels, options("polynomial_svm", degree=3, gamma=0.05), 0)
    both = [
        DECODERS[name].scores(found, unseen, section).argmax(axis=1)
        for name, found in (("virtual_svm", arrays), ("polynomial_svm", plain))
    ]
    assert np.mean(both[0] != both[1]) < 0.01


def planes_of(features):
    return tangent_distance.planes(described("tangents", features), 7)


def test_tangent_distance_is_symmetric_and_at_most_the_euclidean_one(digits):
    images, tangents = planes_of(digits[0][:30])
    found = np.stack([tangent_distance.squared_distances(images[i], tangents[i], images, tangents) for i in range(30)])
    euclidean = ((images[:, None] - images[None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(found, found.T, atol=1e-3)
    assert np.all(found <= euclidean + 1e-4)
    assert np.all(np.diag(found) < 1e-5)
    # The least value over steps along both images' tangent vectors, by least squares with one row for each unknown.
    for i, j in ((0, 1), (3, 20)):
        both = np.concatenate([tangents[i], -tangents[j]]).T.astype(np.float64)
        system = np.concatenate([both, np.sqrt(1e-3) * np.eye(14)])
        goal = np.concatenate([images[j] - images[i], np.zeros(14)])
        _, [least], *_ = np.linalg.lstsq(system, goal)
        assert found[i, j] == pytest.approx(least, rel=1e-3)


def test_a_digit_that_is_moved_a_little_stays_near_by_tangent_distance(digits):
    image = np.kron(digits[0][1].reshape(8, 8), np.ones((3, 3))).astype(np.float32)
    smooth = cv2.GaussianBlur(np.pad(image, 4), (0, 0), 1.5)
    changes = {
        "shift": np.float32([[1, 0, 0.7], [0, 1, -0.5]]),
        "turn": cv2.getRotationMatrix2D((15.5, 15.5), 5, 1.0),
        "size": cv2.getRotationMatrix2D((15.5, 15.5), 0, 1.06),
    }
    moved = [cv2.warpAffine(smooth, change, (32, 32), flags=cv2.INTER_CUBIC) for change in changes.values()]
    pictures = (255 * np.clip([smooth, *moved], 0, 1)).astype(np.uint8)[..., None]
    vectors = DESCRIBERS["tangents"].describe(pictures, ConfigDict(DESCRIBERS["tangents"].DEFAULTS)).vectors[:, 0]
    images, tangents = tangent_distance.planes(vectors, 7)
    found = tangent_distance.squared_distances(images[0], tangents[0], images, tangents)
    euclidean = ((images - images[0]) ** 2).sum(axis=-1)
    assert np.all(found[1:] < euclidean[1:] / 10)


def test_blank_images_have_no_tangents(digits):
    images, tangents = planes_of(np.concatenate([np.zeros((1, 64)), digits[0][:3]]))
    assert np.all(tangents[0] == 0)
    np.testing.assert_allclose(tangents[1] @ tangents[1].T, np.eye(7), atol=1e-3)
    found = tangent_distance.squared_distances(images[0], tangents[0], images, tangents)
    assert np.isfinite(found).all()
    assert found[0] == 0


def test_the_nearest_by_tangent_distance_decides(digits):
    features, labels, unseen, answers = digits
    train, test = described("tangents", features), described("tangents", unseen)
    section = options("tangent_distance", tangents=7, candidates=30)
    arrays = DECODERS["tangent_distance"].fit(train, labels, section, 0)
    found = DECODERS["tangent_distance"].scores(arrays, test[:20], section).argmax(axis=1)
    images, tangents = tangent_distance.planes(test[:20], 7)
    for row in range(20):
        nearest = np.argsort(((arrays["images"] - images[row]) ** 2).sum(axis=1))[:30]
        values = tangent_distance.squared_distances(
            images[row], tangents[row], arrays["images"][nearest], arrays["tangents"][nearest]
        )
        assert found[row] == labels[nearest[values.argmin()]]
    assert np.mean(found != answers[:20]) < 0.25


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("tangent_distance", {"tangents": 6}, r"tangents is 6, but an image has 64 features, .* not 7 equal parts"),
        ("tangent_distance", {"neighbours": 9, "candidates": 5}, r"candidates is 5; expected at least .*, 9"),
        ("tangent_distance", {"neighbours": 401, "candidates": 500}, r"neighbours is 401, but there are 400 training"),
        ("virtual_svm", {"copies": 4}, r"copies is 4, but an image has 64 features, which are not 5 equal parts"),
    ],
)
def test_features_and_options_that_do_not_fit_are_refused_in_one_line(digits, name, changes, words):
    features, labels, *_ = digits
    with pytest.raises(UserError, match=words):
        DECODERS[name].fit(features, labels, options(name, **changes), 0)
