"""Starting the real program in a process of its own, as a user does."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
COMPILE_FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
DIGITS = ("--config=configs/lenet5_digits.py", "--config.optimizer.curvature_examples=50")


def environment(devices=1):
    """The environment with this many simulated devices; programs for several take longer to compile than to run."""
    flags = f"--xla_force_host_platform_device_count={devices} {COMPILE_FAST if devices > 1 else ''}"
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}


def start(*arguments, module="common.main", devices=1):
    """The running process of `python -m MODULE ARGUMENTS`, from the repository's root."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(devices), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(*arguments, module="common.main", devices=1, timeout=240):
    """The finished process: (exit code, standard output, standard error)."""
    process = start(*arguments, module=module, devices=devices)
    output, errors = process.communicate(timeout=timeout)
    return process.returncode, output, errors


def refused(*arguments, module="common.main", **kwargs):
    """The one line that a user's mistake is answered with; asserts exit code 2 and no traceback."""
    code, _, errors = run(*arguments, module=module, **kwargs)
    assert code == 2, errors
    lines = errors.strip().splitlines()
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    return lines[0]
