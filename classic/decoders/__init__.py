"""Decoders by name: modules with DEFAULTS, CHOICES, RANGES, fit and scores.

DEFAULTS, CHOICES, RANGES                               options, see `classic.options.check`
fit(features, labels, options, seed, num_classes=None, validation=None) -> arrays
    everything that is learnt. Features may be memory-mapped and of 16 bits. Labels are 0 to num_classes - 1; the
    default of num_classes is the largest label plus 1. validation: (features, labels) on which the constant C is
    chosen. Without it a share of the training examples is held out for the choice, and the decoder is then fitted to
    all training examples.
scores(arrays, features, options) -> [n classes]        the highest is the predicted class
"""

from types import ModuleType

from classic.decoders import (
    chi2_svm,
    intersection_svm,
    knn,
    linear_svm,
    logistic,
    pairwise_linear,
    polynomial_svm,
    quadratic,
    rbf_network,
    rbf_svm,
    tangent_distance,
    virtual_svm,
)

DECODERS: dict[str, ModuleType] = {
    "linear_svm": linear_svm,
    "intersection_svm": intersection_svm,
    "chi2_svm": chi2_svm,
    "rbf_svm": rbf_svm,
    "polynomial_svm": polynomial_svm,
    "virtual_svm": virtual_svm,
    "knn": knn,
    "tangent_distance": tangent_distance,
    "logistic": logistic,
    "pairwise_linear": pairwise_linear,
    "quadratic": quadratic,
    "rbf_network": rbf_network,
}
