"""A server that does the slow imports once and then forks a child for each command line: `python -m tests.forked`.

This saves each start of a tool two seconds of imports. The imports start no JAX backend and define no flag, so a child
behaves as a new process does. `tests.runs` is the client. A request is a line of JSON on standard input; the reply, on
standard output, is the child's exit code, or `timeout`.
"""

import gc
import importlib.util
import json
import os
import runpy
import signal
import sys
import time


def serve():
    """Answers requests until standard input ends, and returns None; in a child, returns the request to carry out."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            prepare(request)
            return request
        code = finish(child, time.monotonic() + request["timeout"])
        os.write(1, f"{code}\n".encode())
    return None


def prepare(request):
    """Gives a child the standard files and the environment of its request."""
    streams = (os.devnull, os.O_RDONLY), (request["output"], os.O_WRONLY), (request["errors"], os.O_WRONLY)
    for number, (path, mode) in enumerate(streams):
        file = os.open(path, mode)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  the server's own has read ahead
    os.environ.clear()
    os.environ.update(request["environment"])


def finish(child, deadline):
    """The exit code of a child, negative for a signal; `timeout` after killing one that takes too long."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout"
        time.sleep(0.01)


def import_libraries():
    """Imports what most tools need."""
    import common.config
    import common.run.trained
    import common.train  # noqa: F401

    if all(map(importlib.util.find_spec, ("cv2", "skimage"))):  # the tests of networks need neither
        import classic.train  # noqa: F401

    gc.collect()
    gc.set_threshold(100_000, 10, 10)  # as in tests/conftest.py
    gc.freeze()  # otherwise a child spends half a second at its end on a search through all these objects


if __name__ == "__main__":
    import_libraries()
    request = serve()
    if request is not None:
        sys.argv = [request["module"], *request["arguments"]]
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
