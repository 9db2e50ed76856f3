"""Compiled programs are kept in the run's folder, so that a run that goes on does not compile again."""

import os
import pathlib
import warnings

import jax

FOLDER = "compiled"


def keep_in(workdir: pathlib.Path) -> None:
    """Keep them in WORKDIR/compiled, or where JAX_COMPILATION_CACHE_DIR says."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(workdir.absolute() / FOLDER))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # A full disk or a kill leaves an entry that is cut short: it is compiled again, and what a full disk
    # means for the run is told where its checkpoints are written.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
