"""The comparison of two datasets: differences that are refused, and those that are not."""

import dataclasses
import re

import pytest

from common.data.dataset_info import Info, mismatch, tolerable_changes

INFO = Info("animals", 2, ("cat", "dog"), (4, 6, 3), 12, 3, 0, "abc")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"class_names": ("cat", "dog", "emu")}, r"not those that the run was trained on \(new: 'emu'\)"),
        ({"class_names": ("cat",)}, r"\(gone: 'dog'\)"),
        ({"class_names": ("cat", "hound")}, r"\(gone: 'dog'; new: 'hound'\)"),
        (
            {"class_names": ("dog", "cat")},
            "in another order than .*: from class 0 on 'dog', 'cat' instead of 'cat', 'dog'",
        ),
        ({"image_shape": (4, 6, 1)}, "images of 'animals' are 4 x 6 x 1; the run was trained on 4 x 6 x 3"),
    ],
)
def test_other_classes_or_shapes_are_a_mismatch(change, says):
    now = dataclasses.replace(INFO, **change)
    assert re.search(says, mismatch(INFO, now))
    assert mismatch(now, now) is None


def test_other_numbers_of_images_are_tolerable():
    now = dataclasses.replace(INFO, train_size=14, validation_size=2, fingerprint="abd")
    assert mismatch(INFO, now) is None
    assert tolerable_changes(INFO, now) == (
        "'animals' has changed since the run began: 14 training images, 12 before; 2 validation images, 0 before"
    )
    assert "but different ones" in tolerable_changes(INFO, dataclasses.replace(INFO, fingerprint="abd"))
    assert tolerable_changes(INFO, INFO) is None
    assert tolerable_changes(dataclasses.replace(INFO, fingerprint=""), INFO) is None  # a run of an earlier version


def test_the_same_images_are_no_change_if_some_are_left_out_as_unreadable():
    assert tolerable_changes(INFO, dataclasses.replace(INFO, test_size=2)) is None
    assert "2 test images, 3 before" in tolerable_changes(INFO, dataclasses.replace(INFO, test_size=2, fingerprint="d"))
