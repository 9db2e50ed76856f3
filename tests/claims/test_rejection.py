"""The share of examples that are rejected for a given error among the rest."""

import numpy as np
import pytest

from common.claims.rejection import least_rejected

# Sorted by gap: wrong, right, wrong, right, right, wrong, right, right, right, right.
GAPS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
WRONG = np.array([1, 0, 1, 0, 0, 1, 0, 0, 0, 0], bool)


@pytest.mark.parametrize(
    ("error", "share"),
    [
        (0.3, 0.0),  # 3 of 10
        (0.25, 0.1),  # 2 of 9
        (0.2, 0.3),  # 2 of 8 is too much, and 1 of 7 enough
        (0.14, 0.6),  # 1 of 7 is too much, and so are 1 of 6 and 1 of 5
        (0.0, 0.6),
    ],
)
def test_the_smallest_share_is_found_in_whatever_order_the_examples_are(error, share):
    order = np.random.default_rng(0).permutation(10)
    assert least_rejected(GAPS[order], WRONG[order], error) == pytest.approx(share)


def test_a_threshold_rejects_equal_gaps_together():
    gaps, wrong = np.array([0.5, 0.5, 0.5, 0.9]), np.array([True, False, False, False])
    assert least_rejected(gaps, wrong, 0.1) == 0.75
    assert least_rejected(gaps[:3], wrong[:3], 0.1) == 1.0
