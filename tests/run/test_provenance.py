"""The commit that a result names, and whether its code was committed."""

import subprocess

import pytest

from common.run import provenance


@pytest.fixture
def folder(tmp_path):
    """A git checkout with a module, a page and a result."""
    (tmp_path / "results").mkdir()
    for name in ("module.py", "page.md", "results/one.json"):
        (tmp_path / name).write_text("first\n")
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    for command in (["init", "--quiet"], ["add", "--all"], [*author, "commit", "--quiet", "--message=first"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    return tmp_path


def test_a_clean_checkout_has_a_commit_and_no_changes(folder):
    commit, changed = provenance.checkout(folder)
    assert len(commit) == 40
    assert changed is False


@pytest.mark.parametrize(("name", "changed"), [("module.py", True), ("page.md", False), ("results/one.json", False)])
def test_only_changes_of_code_count(folder, name, changed):
    (folder / name).write_text("second\n")
    assert provenance.checkout(folder)[1] is changed


def test_code_outside_a_checkout_has_no_commit(tmp_path):
    assert provenance.checkout(tmp_path) == (None, None)
