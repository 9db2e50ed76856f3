"""The nearest name of a misspelt one, and the first line of an error."""

import pytest

from common import errors


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet51", "resnet50"),
        ("resnet2", "resnet20"),
        ("resnet19", "resnet18"),
        ("resent50", "resnet50"),
        ("vgg", None),
    ],
)
def test_the_nearest_name_is_nearest_in_number_too(name, expected):
    known = [f"resnet{depth}" for depth in (18, 20, 34, 44, 50, 56, 101, 152, 1202)]
    assert errors.nearest(name, known) == errors.nearest(name, known[::-1]) == expected
    assert (f"did you mean '{expected}'" in str(errors.unknown("variant", name, known))) == bool(expected)


def test_an_empty_name_is_shown_in_quotes():
    said = str(errors.unknown("value of config.tracker", "tensorboard", ("", "wandb", "mlflow")))
    assert said == "unknown value of config.tracker 'tensorboard' (known: '', mlflow, wandb)"


def test_one_thing_is_counted_in_the_singular():
    said = [errors.count_of(count, "update") for count in (0, 1, 2, 2000)]
    assert said == ["0 updates", "1 update", "2 updates", "2,000 updates"]
    assert [errors.count_of(count, "class", "classes") for count in (1, 3)] == ["1 class", "3 classes"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("\n no file\nat line 3"), "no file"),
        (AssertionError(), "AssertionError"),
        (OSError("x" * 300), "x" * 200),
    ],
)
def test_the_first_line_of_an_error_without_a_message_is_its_type(error, expected):
    assert errors.first_line(error) == expected
