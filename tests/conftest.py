"""Annotations are checked while tests run: shapes and types of every function's arguments and results."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little: without optimization the whole suite takes half of the time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

from jaxtyping import install_import_hook

import tests.checker  # noqa: F401  the hook looks it up in `tests`

ROOT = pathlib.Path(__file__).parent.parent
install_import_hook(["common", *(path.parent.name for path in ROOT.glob("*/model.py"))], "tests.checker.check")
