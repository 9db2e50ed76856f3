"""The commit that a result names, and whether its code was committed."""

import subprocess

import pytest

from common.run import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout with a module, a page and a result, that provenance takes for the code's own."""
    (tmp_path / "results").mkdir()
    for name in ("module.py", "page.md", "results/one.json"):
        (tmp_path / name).write_text("first\n")
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    for command in (["init", "--quiet"], ["add", "--all"], [*author, "commit", "--quiet", "--message=first"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    monkeypatch.setattr(provenance, "_CODE", tmp_path)
    provenance._checkout.cache_clear()
    yield tmp_path
    provenance._checkout.cache_clear()


def test_a_clean_checkout_has_a_commit_and_no_changes(checkout):
    facts = provenance.facts()
    assert len(facts["commit"]) == 40
    assert facts["uncommitted_changes"] is False


@pytest.mark.parametrize(("name", "changed"), [("module.py", True), ("page.md", False), ("results/one.json", False)])
def test_only_changes_of_code_count(checkout, name, changed):
    (checkout / name).write_text("second\n")
    assert provenance.facts()["uncommitted_changes"] is changed


def test_code_that_is_no_checkout_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_CODE", tmp_path)
    provenance._checkout.cache_clear()
    assert provenance._checkout() == (None, None)
    provenance._checkout.cache_clear()
