"""The nearest name of a misspelt one, and files and folders that are written whole."""

import pytest

from common import errors
from common.errors import UserError


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


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "new" / "numbers.npz"
    with errors.whole_file(path) as fresh:
        assert (fresh.parent, fresh.suffix) == (path.parent, ".npz")
        fresh.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "model"

    def write(killed=False):
        with errors.whole_file(path) as fresh:
            (fresh / "inside").mkdir(parents=True)
            if killed:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(killed=True)
    assert not list(tmp_path.iterdir())
    write()
    assert list(tmp_path.iterdir()) == [path]
    assert (path / "inside").is_dir()
    with pytest.raises(UserError, match="cannot write"):  # a folder that is not empty stays
        write()
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text("old")

    def interrupted():
        with errors.whole_file(path) as fresh:
            fresh.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "numbers.json", tmp_path / "file" / "more" / "numbers.json"):
        with pytest.raises(UserError, match=r"cannot write .*file/.*numbers\.json"):
            errors.check_writable(path)
    with pytest.raises(UserError, match="cannot write .*: it is a folder"):
        errors.check_writable(tmp_path)
    errors.check_writable(tmp_path / "new" / "numbers.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with (
        pytest.raises(UserError, match=r"cannot write .*file/numbers\.json"),
        errors.whole_file(tmp_path / "file" / "numbers.json") as fresh,
    ):
        fresh.write_text("never")


def test_a_home_that_does_not_exist_is_a_name_like_any_other(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(errors.user_path("~/runs")) == "/home/ada/runs"
    assert str(errors.user_path("~nobody-has-this-name/runs")) == "~nobody-has-this-name/runs"


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
