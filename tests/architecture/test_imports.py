"""An import does nothing but define names, and commands import slow libraries once their options are known."""

import importlib.util
import json
import subprocess
import sys

import pytest

from common import models
from common.command_line import commands
from tests.runs import ROOT, environment

SLOW = [
    "jax",
    "flax",
    "optax",
    "orbax",
    "matplotlib",
    "scipy",
    "sklearn",
    "tensorflow",
    "tensorflow_datasets",
    "optuna",
]
# Commands whose modules are also read as libraries, by tests and by classic.
READ = {"common.inspect", "common.predict", "common.reproduce", "common.tables"}
CODE = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


def imported(modules, folder):
    """The modules in a new process that has imported these; asserts that it says nothing and writes nothing.

    A JAX backend that starts would fail: there is none of that name.
    """
    own = {**environment(), "PYTHONDONTWRITEBYTECODE": "1", "JAX_PLATFORMS": "no_such_platform"}
    command = [sys.executable, "-c", CODE, *modules]
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert not list(folder.iterdir())
    return json.loads(line)


def modules_of(package):
    """Every module of a package, the files of the templates apart."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[:2] != ("common", "templates"):
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_a_command_knows_its_options_before_it_imports_a_slow_library(tmp_path):
    names = [f"common.{name}" for name in commands.names("common")]
    quick = [f"{name}.__main__" if name == "common.report" else name for name in names if name not in READ]
    assert len(quick) >= 8
    assert not set(imported(quick, tmp_path)) & set(SLOW)


@pytest.mark.slow  # the test above, and those that import nothing else: this one imports everything
def test_an_import_says_writes_and_starts_nothing(tmp_path):
    packages = ["common", *models.families(), "lecture"]
    needed = {"classic": ("cv2", "skimage")}
    packages += [name for name, libraries in needed.items() if all(map(importlib.util.find_spec, libraries))]
    found = set(imported([module for package in packages for module in modules_of(package)], tmp_path))
    assert {"jax", "common.train", "resnet.model"} <= found
    assert not {"tensorflow", "torch"} & found


@pytest.mark.slow  # the first test above: this one imports JAX once more
def test_claims_are_read_without_what_draws_them(tmp_path):
    claims = [f"{family}.claims" for family in models.families() if (ROOT / family / "claims.py").exists()]
    assert not {"matplotlib", "scipy.stats"} & set(imported(["common.reproduce", *claims], tmp_path))
