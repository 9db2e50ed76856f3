"""Files and folders that are written whole, and paths that users give."""

import pathlib
import shlex

import pytest

from common import files
from common.errors import UserError


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "new" / "numbers.npz"
    with files.whole_file(path) as fresh:
        assert (fresh.parent, fresh.suffix) == (path.parent, ".npz")
        fresh.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "model"

    def write(killed=False):
        with files.whole_file(path) as fresh:
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
        with files.whole_file(path) as fresh:
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
            files.check_writable(path)
    with pytest.raises(UserError, match="cannot write .*: it is a folder"):
        files.check_writable(tmp_path)
    files.check_writable(tmp_path / "new" / "numbers.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with (
        pytest.raises(UserError, match=r"cannot write .*file/numbers\.json"),
        files.whole_file(tmp_path / "file" / "numbers.json") as fresh,
    ):
        fresh.write_text("never")


def test_a_home_that_does_not_exist_is_a_name_like_any_other(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(files.user_path("~/runs")) == "/home/ada/runs"
    assert str(files.user_path("~nobody-has-this-name/runs")) == "~nobody-has-this-name/runs"


def test_a_path_with_a_space_is_one_word_of_a_command():
    assert shlex.split(f"report --workdir={files.quoted(pathlib.Path('runs/my first'))}") == [
        "report",
        "--workdir=runs/my first",
    ]


def test_lines_that_a_kill_cut_short_do_not_hide_the_others(tmp_path):
    path = tmp_path / "lines.jsonl"
    assert files.json_lines(path) == []
    files.append_line(path, '{"a": 1}')
    path.write_bytes(path.read_bytes() + b'7\n\xff\n{"a": 2, "b')
    files.append_line(path, '{"a": 3}')
    assert files.json_lines(path) == [{"a": 1}, {"a": 3}]
    assert path.read_bytes().splitlines()[-2:] == [b'{"a": 2, "b', b'{"a": 3}']
