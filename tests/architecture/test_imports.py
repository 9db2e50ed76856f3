"""Tests that imports do nothing but define names, and that commands import slow libraries after reading options."""

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
# Packages that cannot do without an extra; these two take 0.02 s.
NEEDED = {"classic": ("cv2", "skimage")}
# Libraries that take long to import, or are an extra, the lightest first; and the modules that cannot do without one,
# each with the heaviest that it stands on. The test before looks for TensorFlow and PyTorch, which other libraries use
# only where they are imported already.
HEAVY = {
    # pages and pictures are drawn with it, and nothing else is in these modules
    "matplotlib": ("common.report.", "common.comparison.", "lecture.pictures.", "classic.pictures", "classic.report"),
    "optuna": ("common.tuning.",),  # tune imports them when its options are known
    "pyarrow": ("common.data.formats.parquet",),  # sources are imported by their name
    "tensorflow_datasets": ("common.data.formats.tfds_source", "common.data.formats.builders."),
    "scipy.stats": (),
    "sklearn": (),
}
CODE = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""
# Imports each module without these libraries, then those that failed with one more library, and so on; prints for each
# library which modules needed it at last.
ALLOWING = """
import importlib, json, sys
(heavy, needed), waiting, found = json.loads(sys.argv[1]), sys.argv[2:], {}
sys.modules.update(dict.fromkeys([*heavy, *sum(needed.values(), [])]))
for library in ["", *heavy]:
    sys.modules.pop(library, None)
    tried, waiting = waiting, []
    for name in tried:
        for extra in needed.get(name, []):
            sys.modules.pop(extra)
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            assert error.name.startswith(tuple(heavy)), (name, error)
            waiting.append(name)
        else:
            found.setdefault(library, []).append(name)
del found[""]
assert not waiting, waiting
print(json.dumps(found))
"""


def imported(modules, folder):
    """The modules in a new process that has imported these; asserts that it says nothing and writes nothing."""
    return json.loads(said(CODE, modules, folder))


def said(code, arguments, folder):
    """The line that code prints in a new process; asserts that it says nothing else and writes nothing.

    A JAX backend that starts would fail: there is none of that name.
    """
    own = {**environment(), "PYTHONDONTWRITEBYTECODE": "1", "JAX_PLATFORMS": "no_such_platform"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert not list(folder.iterdir())
    return line


def modules_of(package):
    """Every module of a package, the files of the templates apart."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[:2] != ("common", "templates"):
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def every_module():
    """Every module of the repository that can be imported with the extras that are installed."""
    packages = ["common", *models.families(), "lecture"]
    packages += [name for name, libraries in NEEDED.items() if all(map(importlib.util.find_spec, libraries))]
    return [module for package in packages for module in modules_of(package)]


def test_a_command_knows_its_options_before_it_imports_a_slow_library(tmp_path):
    names = [f"common.{name}" for name in commands.names("common")]
    quick = [f"{name}.__main__" if name == "common.report" else name for name in names if name not in READ]
    assert len(quick) >= 8
    assert not set(imported(quick, tmp_path)) & set(SLOW)


@pytest.mark.slow  # the test above, and those that import nothing else: this one imports everything
def test_an_import_says_writes_and_starts_nothing(tmp_path):
    found = set(imported(list(every_module()), tmp_path))
    assert {"jax", "common.train", "resnet.model"} <= found
    assert not {"tensorflow", "torch"} & found


@pytest.mark.slow  # the first test above, for the commands: this one imports every module
def test_a_slow_library_is_imported_where_it_is_used(tmp_path):
    # The modules that stand on one are listed with it, and every other module is imported without any.
    drawn = tuple(f"{family}.pictures" for family in models.families())
    listed = {**HEAVY, "matplotlib": (*HEAVY["matplotlib"], *drawn)}
    found = json.loads(said(ALLOWING, [json.dumps([list(HEAVY), NEEDED]), *every_module()], tmp_path))
    assert not {
        library: wrong
        for library, names in found.items()
        if (wrong := [name for name in names if not f"{name}.".startswith(listed[library])])
    }
    assert "common.report.assembly" in found["matplotlib"]


@pytest.mark.slow  # the first test above: this one imports JAX once more
def test_claims_are_read_without_what_draws_them(tmp_path):
    claims = [f"{family}.claims" for family in models.families() if (ROOT / family / "claims.py").exists()]
    assert not {"matplotlib", "scipy.stats"} & set(imported(["common.reproduce", *claims], tmp_path))
