"""Annotations are checked while tests run: shapes and types of every public function's arguments and results."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from jaxtyping import install_import_hook

install_import_hook(["common", "lenet"], "beartype.beartype")
