"""Tests that a family that `common.new` begins works as it is, and a wrong name writes nothing."""

import ast
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from common import models, new
from common.anatomy import layer_table
from common.errors import UserError
from tests.networks import classifier
from tests.runs import ROOT, environment


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def test_a_family_is_written_under_its_name(tmp_path):
    written = new.begin("tiny_net", tmp_path)
    assert sorted(tmp_path / path for path in written) == files(tmp_path)
    assert {str(path) for path in written} == {
        *(f"tiny_net/{name}" for name in ("__init__.py", "model.py", "paper.py", "README.md")),
        "configs/tiny_net_digits.py",
        "tests/tiny_net/test_tiny_net_model.py",
    }
    texts = {path: (tmp_path / path).read_text() for path in written}
    assert not [path for path, text in texts.items() if "skeleton" in text.lower()]
    names = {
        node.name for node in ast.walk(ast.parse(texts[pathlib.Path("tiny_net/model.py")])) if hasattr(node, "name")
    }
    assert "TinyNet" in names


def test_the_template_takes_the_functions_that_contributing_md_recommends(tmp_path):
    new.begin("tiny_net", tmp_path)
    tree = ast.parse((tmp_path / "tiny_net" / "model.py").read_text())
    layers = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("nn.")
    ]
    given = {(ast.unparse(one.func), key.arg): ast.unparse(key.value) for one in layers for key in one.keywords}
    assert given["nn.Conv", "conv_general_dilated"] == "fastest.convolution"
    assert given["nn.Dense", "dot_general"] == "products.product"


def test_a_long_name_leaves_the_code_as_the_linter_wants_it(tmp_path):
    written = [tmp_path / path for path in new.begin("n" * 40, tmp_path) if path.suffix == ".py"]
    assert [line for path in written for line in path.read_text().splitlines() if len(line) > 120] == []


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """A new family `tiny_net` as a package that `common.models` finds."""
    new.begin("tiny_net", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(models, "families", lambda: ["tiny_net"])
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "tiny_net"]:
        del sys.modules[name]


@pytest.mark.usefixtures("imported")
def test_a_new_family_makes_classifiers():
    of = classifier("tiny_net", "wide", image=(16, 16, 1))
    assert {row.name: row.parameters for row in layer_table.rows(of.module, of.input_shape)}[""] == 94_986
    with pytest.raises(UserError, match="did you mean 'relu'"):
        classifier("tiny_net", "small", activation="relo")
    with pytest.raises(UserError, match="takes images of 32x32 pixels or more, got 16x16: raise config.data.resize"):
        classifier("tiny_net", "small", image=(16, 16, 1), widths=(4, 4, 4, 4, 4))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is not a valid name"),
        ("My-Net", "is not a valid name"),
        ("../net", "is not a valid name"),
        ("n" * 41, "is not a valid name"),
        ("class", "is a Python keyword"),
        ("match", "is a Python keyword"),
        ("jax", "the name of another module"),
        ("tests", "the name of another module"),
        ("lenet", "the name of another module"),
        ("json", "the name of another module"),
        ("model", "a word in the code of common"),
    ],
)
def test_an_invalid_name_writes_nothing(name, said, tmp_path):
    with pytest.raises(UserError, match=said):
        new.begin(name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("taken", ["tiny_net/notes.txt", "configs/tiny_net_digits.py", "tests/tiny_net/test_more.py"])
def test_a_file_in_the_place_of_a_new_one_is_kept(taken, tmp_path):
    (tmp_path / taken).parent.mkdir(parents=True)
    (tmp_path / taken).write_text("mine")
    with pytest.raises(UserError, match="exists; choose another name"):
        new.begin("tiny_net", tmp_path)
    assert files(tmp_path) == [tmp_path / taken]


def test_a_family_that_cannot_be_finished_is_not_begun(tmp_path):
    (tmp_path / "tests").write_text("no folder")
    with pytest.raises(UserError, match="cannot write"):
        new.begin("tiny_net", tmp_path)
    assert [path for path in files(tmp_path) if path.name != "tests"] == []


def test_any_other_number_of_names_than_one_is_refused():
    for names in ((), ("one", "two")):
        with pytest.raises(UserError, match=r"expected one name .* python -m common\.new mynet"):
            new.main(*names)


@pytest.mark.slow  # the tests above: this one starts six commands
def test_the_recipe_of_contributing_md(tmp_path):
    # Its commands, one by one, in a copy of the code; the run ends after a few updates.
    for name in ("common", "configs", "tests", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    recipe = re.search(
        r"## Adding an architecture\n.*?```\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL
    )
    commands = [line.partition("#")[0].split() for line in recipe[1].splitlines() if line]
    assert [command[:3] for command in commands] == [
        ["python", "-m", name] for name in ("common.new", "pytest", "common.inspect", "common.main")
    ]
    own = {**environment(), "PYTHONPATH": str(tmp_path)}
    for command in commands:
        short = ["--config.train.length=3 steps", "--config.schedule.warmup=0 steps"] * (command[2] == "common.main")
        arguments = [sys.executable, *command[1:], *short]
        done = subprocess.run(arguments, cwd=tmp_path, env=own, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "runs" / "mynet_digits" / "summary.json").read_text())["step"] == 3
