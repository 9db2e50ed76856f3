"""The properties that all benchmarks share."""

import importlib

import pytest
from absl import flags

from tests.runs import ROOT

MODULES = sorted({path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")} - {"torch_networks"})  # needs PyTorch


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_that_is_imported_defines_no_flag(name):
    # Two of them may be used in one process.
    importlib.import_module(f"benchmarks.{name}")
    assert f"benchmarks.{name}" not in flags.FLAGS.flags_by_module_dict()
