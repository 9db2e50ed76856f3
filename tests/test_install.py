"""Tests that an environment takes Lineage as an editable checkout, and no other way."""

import importlib
import tomllib

import pytest

from tests.runs import ROOT


@pytest.fixture
def backend(monkeypatch):
    """The build backend that pyproject.toml names."""
    pytest.importorskip("setuptools")
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    for folder in build["backend-path"]:
        monkeypatch.syspath_prepend(ROOT / folder)
    return importlib.import_module(build["build-backend"])


@pytest.mark.parametrize("hook", ["get_requires_for_build_wheel", "build_wheel", "get_requires_for_build_sdist"])
def test_a_copy_is_refused_with_what_to_type(backend, hook):
    with pytest.raises(SystemExit, match=r"^error: Lineage is used from a checkout.*pip install -e \.") as stopped:
        getattr(backend, hook)("wheels", {})
    assert "\n" not in str(stopped.value)


def test_an_editable_checkout_is_built_by_setuptools(backend):
    names = ("get_requires_for_build_editable", "prepare_metadata_for_build_editable", "build_editable")
    assert {getattr(backend, name).__self__.__module__ for name in names} == {"setuptools.build_meta"}
