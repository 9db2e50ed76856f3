"""The order of examples is a pure function of (seed, position)."""

import numpy as np
import pytest

from common.data import order


@pytest.mark.parametrize("shuffle", ["epoch", "once", "none"])
@pytest.mark.parametrize("batch", [1, 7, 10, 23])
def test_every_pass_has_every_example_once_whatever_the_batch(shuffle, batch):
    stream = np.concatenate([order.indices(3, shuffle, 10, start, batch) for start in range(0, 60 * batch, batch)])
    for start in range(0, len(stream) - 9, 10):
        assert sorted(stream[start : start + 10]) == list(range(10))


def test_a_batch_is_the_same_whatever_was_asked_before():
    whole = order.indices(1, "epoch", 100, 0, 500)
    np.testing.assert_array_equal(order.indices(1, "epoch", 100, 230, 140), whole[230:370])


def test_once_repeats_one_order_and_epoch_draws_new_ones():
    first, second = np.split(order.indices(0, "once", 50, 0, 100), 2)
    np.testing.assert_array_equal(first, second)
    first, second = np.split(order.indices(0, "epoch", 50, 0, 100), 2)
    assert (first != second).any()
    assert (order.indices(0, "once", 50, 0, 50) != order.indices(1, "once", 50, 0, 50)).any()
