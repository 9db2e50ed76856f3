"""The libraries of the extra: one line says what is missing."""

import importlib
import sys

import pytest

import classic
from common.errors import UserError


def test_a_missing_library_is_named_in_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cv2", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"^classic needs OpenCV: pip install -e '\.\[classic\]'$"):
        importlib.reload(classic)
    monkeypatch.setattr(sys, "argv", ["-m"])  # as while `python -m classic.main` looks for its module
    with pytest.raises(SystemExit) as stopped:
        importlib.reload(classic)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: classic needs OpenCV: pip install -e '.[classic]'\n"
