"""Sources of examples: whole as arrays, read ahead, and in part."""

import numpy as np
import pytest

from common.data.preparation import Preparation
from common.data.sources import ImageSource, Record, Subset, read_ahead, to_arrays


class Numbered:
    """A source of `size` blank images whose labels are their indices."""

    def __init__(self, size: int, side: int):
        self.size, self.side = size, side

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return {"image": np.full((self.side, self.side, 1), index % 256, np.uint8), "label": np.int32(index)}


@pytest.mark.parametrize("side", [2, 200])  # decoded in one thread, and in several
def test_to_arrays_keeps_every_example_in_its_place(side):
    arrays = to_arrays(Numbered(600, side))
    assert arrays.labels.tolist() == list(range(600))
    assert (arrays.images[:, 0, 0, 0] == np.arange(600) % 256).all()


class Countless:
    """More records than a list of their indices could hold."""

    def __len__(self):
        return 2**50

    def __getitem__(self, index):
        return Record(np.zeros((1, 1, 1), np.uint8), 0, str(index))


def test_a_bad_images_replacement_is_looked_for_without_a_list_of_all_images():
    assert ImageSource(Countless(), Preparation(), bad={})[2**49]["label"] == 0


def test_reading_ahead_keeps_the_order_stays_close_and_reports_errors():
    begun = []

    def square(number):
        begun.append(number)
        return number**2

    for done, found in enumerate(read_ahead(square, range(50), threads=3, ahead=6)):
        assert found == done**2
        assert len(begun) <= done + 1 + 6
    assert sorted(begun) == list(range(50))
    assert list(read_ahead(square, [3], threads=2, ahead=6)) == [9]
    assert not list(read_ahead(square, [], threads=2, ahead=6))
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(lambda number: 1 / (3 - number), range(5), threads=2, ahead=4))


def test_a_subset_of_some_records_ends():
    records = [Record(np.zeros((2, 2, 1), np.uint8), label, "blank") for label in range(10)]
    for indices in (range(2, 6), np.arange(2, 6)):
        subset = Subset(records, indices)
        assert [record.label for record in subset] == [2, 3, 4, 5]
        assert subset.__getitems__([3, 1])[0].label == 5
        with pytest.raises(IndexError):
            subset[4]
