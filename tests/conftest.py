"""The check of annotations while tests run: shapes and types of every function's arguments and results."""

import atexit
import gc
import inspect
import os
import shutil
import signal
import tempfile
import threading

from tests.runs import COMPILE_FAST, ROOT  # imports no JAX

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little: without optimization the whole suite takes half of the time.
os.environ.setdefault("XLA_FLAGS", COMPILE_FAST)
# No program is compiled twice: workers, and the commands that tests start, share what they compile.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="lineage-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

from jaxtyping import install_import_hook

import tests.checker  # noqa: F401  the hook looks it up in `tests`

# `models.families` finds them too, but it cannot be imported before the hook is installed.
FAMILIES = [path.parent.name for path in ROOT.glob("*/__init__.py") if "IS_FAMILY = True" in path.read_text()]
install_import_hook(["common", "classic", *FAMILIES], "tests.checker.check")

# A shell starts pytest under nohup or in the background with these signals ignored. The processes that tests start and
# stop would inherit that.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) == signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(_number, signal.SIG_DFL)

# JAX makes many small objects that live long. At the usual thresholds the search for cycles takes some 5% of the time.
gc.set_threshold(100_000, 10, 10)


def pytest_collection_finish():
    """Leaves the modules and the tests out of every later search for cycles."""
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Marks each test that names PyTorch, itself or in a function of its module, with `parity`."""
    for item in items:
        if _names_torch(item.function, set()):
            item.add_marker("parity")


def _names_torch(function, seen):
    function = inspect.unwrap(function)
    seen.add(function)
    code = function.__code__
    helpers = {helper for name in code.co_names if inspect.isfunction(helper := function.__globals__.get(name))}
    ours = (helper for helper in helpers - seen if helper.__module__ == function.__module__)
    return "torch" in code.co_consts + code.co_names or any(_names_torch(helper, seen) for helper in ours)
