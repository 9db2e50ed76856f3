"""Tests that the order of examples is a pure function of (seed, position)."""

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


SIZES = (40, 7, 0, 1, 12)
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), SIZES)).astype(np.int32)


def test_balanced_sampling_draws_each_class_equally_often_and_each_of_its_examples():
    classes, passes = order.by_class(LABELS), 12
    stream = order.indices(3, "epoch", 60, 0, passes * 60, classes)
    for start in range(0, passes * 60, 60):
        counts = np.bincount(LABELS[stream[start : start + 60]], minlength=5)
        np.testing.assert_array_equal(counts, [15, 15, 0, 15, 15])
    # The large class goes on in the next pass: 180 draws are four times all of its 40 examples, and half of them again.
    for label in (0, 1, 4):
        drawn = np.bincount(stream, minlength=60)[label == LABELS]
        assert drawn.max() - drawn.min() <= 1


def test_a_balanced_batch_is_the_same_whatever_was_asked_before_and_turns_go_on_between_passes():
    few = LABELS[:59]  # no multiple of the number of classes
    classes = order.by_class(few)
    whole = order.indices(1, "epoch", 59, 0, 590, classes)
    np.testing.assert_array_equal(order.indices(1, "epoch", 59, 230, 140, order.by_class(few)), whole[230:370])
    counts = np.bincount(few[whole], minlength=5)[np.unique(few)]
    assert counts.max() - counts.min() <= 1
    assert (order.indices(2, "epoch", 59, 0, 590, classes) != whole).any()
