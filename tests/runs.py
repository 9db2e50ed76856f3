"""Runs of the real tools, each in its own process, and what they print."""

import atexit
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from importlib import metadata

from common.devices import large_pages  # imports no JAX

ROOT = pathlib.Path(__file__).parent.parent
# Little optimization: programs run seldom, and a thousand steps on the digits take no longer. Compiling takes a third
# less time where XLA emits fused operations as LLVM code rather than by way of MLIR, a choice that newer releases lack.
_WITHOUT_MLIR = " --xla_cpu_use_fusion_emitters=false" if metadata.version("jaxlib").startswith("0.10.") else ""
COMPILE_FAST = f"--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true{_WITHOUT_MLIR}"
DIGITS = ("--config=configs/lenet5_digits.py", "--config.optimizer.curvature_examples=50")


def environment(devices=1):
    """The environment with this many simulated devices, and without the size of the terminal that pytest runs in."""
    flags = f"--xla_force_host_platform_device_count={devices} {COMPILE_FAST}"
    given = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return {**given, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}


def start(*arguments, module="common.main", devices=1):
    """The running process of `python -m MODULE ARGUMENTS`, from the repository's root, as a user starts it."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(devices), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(*arguments, module="common.main", devices=1, timeout=240):
    """(exit code, standard output, standard error) of `python -m MODULE ARGUMENTS`, forked after the slow imports."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = (pathlib.Path(folder, name) for name in ("output", "errors"))
        output.touch()
        errors.touch()
        request = {
            "module": module,
            "arguments": [str(argument) for argument in arguments],
            "environment": {**environment(devices), "GLIBC_TUNABLES": _tunables()},
            "output": str(output),
            "errors": str(errors),
            "timeout": timeout,
        }
        reply = _ask(request)
        assert reply != "timeout", (arguments, output.read_text(), errors.read_text())
        return int(reply), output.read_text(), errors.read_text()


def refused(*arguments, module="common.main", **kwargs):
    """The one line with which a tool answers a user's mistake; asserts exit code 2 and no traceback."""
    return refusal(*run(*arguments, module=module, **kwargs))


def refusal(code, _, errors):
    """The one line of a finished process; asserts exit code 2 and no traceback."""
    assert code == 2, errors
    lines = errors.strip().splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    return lines[0]


def _ask(request):
    server = _server()
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return server.stdout.readline().strip()


def _tunables():
    """The tunables with which a tool does not start itself again to ask for large pages."""
    return large_pages.tunables(os.environ)


@functools.cache
def _server():
    """The server that forks (`tests.forked`), one for each process of pytest."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.forked"],
        cwd=ROOT,
        env={**environment(), "GLIBC_TUNABLES": _tunables()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.communicate)
    return server
