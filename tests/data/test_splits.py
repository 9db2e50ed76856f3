"""The fixed order of examples, and the share of each class that is held out."""

import numpy as np
import pytest

from common.data.splits import fixed_order, hold_out
from common.errors import UserError


def test_fixed_order_is_a_permutation_that_new_keys_do_not_disturb():
    keys = [f"class/{i}.png" for i in range(200)]
    order = fixed_order(keys)
    assert sorted(order) == list(range(200))
    assert order.tolist() != list(range(200))
    longer = fixed_order([*keys, "class/new.png"])
    assert [i for i in longer if i < 200] == order.tolist()


def test_hold_out_leaves_some_of_each_class_on_both_sides():
    labels = np.array([0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    train, test = hold_out(labels, ["a", "b"], 0.01)
    assert sorted([*train, *test]) == list(range(12))
    assert set(labels[test]) == set(labels[train]) == {0, 1}
    with pytest.raises(UserError, match="class 'b' has one image"):
        hold_out(np.array([0, 0, 1]), ["a", "b"], 0.5)


@pytest.mark.parametrize("seed", range(20))
def test_hold_out_takes_the_first_of_each_class(seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.concatenate([np.arange(7), np.arange(7), rng.integers(0, 7, rng.integers(0, 80))]))
    fraction = rng.uniform(0.01, 0.99)
    rest, held_out = hold_out(labels, list("abcdefg"), fraction)
    for label in range(7):
        members = np.flatnonzero(labels == label)
        count = int(np.clip(round(fraction * len(members)), 1, len(members) - 1))
        assert held_out[labels[held_out] == label].tolist() == members[:count].tolist()
    assert sorted([*rest, *held_out]) == list(range(len(labels)))
