"""The lock of a work directory, so that two processes do not train in it at the same time."""

import contextlib
import datetime
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from absl import logging

from common.errors import UserError
from common.files import as_text, writing

FILE = "lock"


@contextlib.contextmanager
def held(workdir: pathlib.Path, primary: bool = True, kind: str = "workdir") -> Iterator[None]:
    """Creates a work directory and holds its lock; with several processes of a run only the primary holds it.

    Raises UserError for a path that is not UTF-8, which Orbax cannot write to, and one that names the holder if another
    process holds the lock. However a process ends, the operating system releases its lock. On a network file system the
    lock holds between machines if the server supports such locks, as NFS 4 does; otherwise a warning says so and the
    run goes on. kind: the flag that names the folder.
    """
    if not primary:
        yield
        return
    shown = as_text(str(workdir.absolute()))
    if shown != str(workdir.absolute()):
        raise UserError(f"{kind} '{shown}' has a name that is not UTF-8; choose another --{kind}")
    with writing(f"{kind} {workdir}"):
        workdir.mkdir(parents=True, exist_ok=True)
        file = os.open(workdir / FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(file, 200, 0).decode(errors="replace").strip() or "another process"
            raise UserError(f"{kind} {workdir} is in use by {holder}; wait, or choose another --{kind}") from error
        except OSError as error:
            logging.warning("%s cannot be locked (%s): start no second run in it", workdir, error.strerror)
        since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        with writing(f"{kind} {workdir}"):
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
        yield
    finally:
        os.close(file)  # releases the lock
