"""The properties that all benchmarks share."""

import importlib

import pytest
from absl import flags

from tests.runs import ROOT

FILES = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "benchmarks").rglob("[a-z]*.py"))
MODULES = sorted({".".join(file.parts) for file in FILES} - {"benchmarks.racing.torch_networks"})  # needs PyTorch


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_that_is_imported_defines_no_flag(name):
    # Two of them may be used in one process.
    importlib.import_module(name)
    assert name not in flags.FLAGS.flags_by_module_dict()
