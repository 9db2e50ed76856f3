"""Several processes that train one network together, each with its own devices, on JAX's distributed runtime.

Process 0 is the primary: it alone prints and writes files, and the others find each other through it. What goes wrong
between processes ends in one line that names who is missing, and in an exit code of its own:

- A process that cannot be reached when all are waited for, at the start or at a `barrier`.
- A process that is lost while training. Whoever notices first (its communication fails) calls the roll, through the
  primary; every living process answers from a thread of its own, even when it is stuck in communication, and then all
  leave. The primary calls it, too, when it has not felt the pulse of a process for half of the heartbeat time. What
  nobody notices JAX's heartbeats do: see `common.supervise` for how that ends.
"""

import contextlib
import faulthandler
import itertools
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping

from common import rendezvous
from common.errors import EXIT_USER_ERROR, UserError

EXIT_LOST = 76  # another process was lost; the same command, given again, continues from the last checkpoint

_ANSWER_SECONDS = 3.0  # a living process has this long to answer the roll call
_COMMUNICATION = re.compile("gloo|nccl|collective|connection|unavailable|deadline|heartbeat|barrier|coordinat", re.I)
_leaving = threading.Event()  # set when the run is over, and no roll is called any more


class Lost(Exception):  # noqa: N818
    """Processes that the run needs are gone."""

    def __init__(self, missing: list[int], total: int):
        who = ("process " if len(missing) == 1 else "processes ") + ", ".join(map(str, missing))
        super().__init__(f"lost {who} of {total}; start the run again to continue from its last checkpoint")
        self.missing, self.total = missing, total


def in_cluster(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several, as far as environment variables say: Slurm, Open MPI, Kubernetes, TPU."""
    counts = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
    if any(int(environment.get(name) or 1) > 1 for name in counts):
        return True
    return "JOB_COMPLETION_INDEX" in environment or "," in environment.get("TPU_WORKER_HOSTNAMES", "")


def start(
    coordinator: str | None,
    processes: int | None,
    process_id: int | None,
    start_timeout: float,
    heartbeat_timeout: float,
) -> None:
    """Join the other processes, before anything else of JAX is used; nothing where there is one process alone.

    coordinator: 'host:port' of process 0; with 'auto', and with None for all three where variables tell of a cluster,
    JAX asks the cluster. Times are in seconds. Raises Lost, naming them, when not all processes come, and UserError
    when the three contradict each other.
    """
    if coordinator == "auto":
        coordinator = None
    elif processes == 1 or (processes is None and not in_cluster(os.environ)):
        _check_alone(coordinator, process_id)
        return
    if processes is not None:
        _check(coordinator, processes, process_id)
        missing = rendezvous.meet(coordinator, processes, process_id, start_timeout)
        if missing:
            raise Lost(missing, processes)
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        coordinator,
        processes,
        process_id,
        initialization_timeout=int(start_timeout),
        heartbeat_timeout_seconds=int(heartbeat_timeout),
        shutdown_timeout_seconds=int(heartbeat_timeout),
    )
    faulthandler.disable()  # where JAX's runtime aborts, it says why; a stack of each thread would bury that
    threading.Thread(target=_answer, daemon=True, name="roll call").start()
    threading.Thread(target=_pulse, args=(heartbeat_timeout,), daemon=True, name="pulse").start()
    if not is_primary():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  one process speaks for all


def _check_alone(coordinator: str | None, process_id: int | None) -> None:
    if coordinator is not None or process_id is not None:
        raise UserError("--coordinator and --process_id need --processes, the number of processes, to be 2 or more")


def _check(coordinator: str | None, processes: int, process_id: int | None) -> None:
    if coordinator is None or process_id is None:
        raise UserError(f"--processes={processes} needs --coordinator=HOST:PORT of process 0, and --process_id")
    if not 0 <= process_id < processes:
        raise UserError(f"--process_id is {process_id}; expected 0 to {processes - 1}")
    if not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(f"--coordinator is '{coordinator}'; expected HOST:PORT")


def _client() -> object | None:
    """JAX's connection to process 0, with its key-value store and barriers; None in a process alone."""
    from jax._src import distributed  # what orbax uses too: there is no public name for it

    return distributed.global_state.client


def count() -> int:
    """How many processes there are."""
    import jax

    return jax.process_count()


def is_primary() -> bool:
    """Whether this process is the one that writes."""
    import jax

    return jax.process_index() == 0


def barrier(name: str, timeout: float) -> None:
    """Wait until all processes have come to the barrier of this name, which can be used once.

    Raises Lost, naming those that have not come, after `timeout` seconds.
    """
    if count() == 1:
        return
    import jax

    client = _client()
    client.key_value_set(f"barrier/{name}/{jax.process_index()}", "here")
    try:
        client.wait_at_barrier(name, int(timeout * 1000))
    except Exception as error:
        missing = _absent(f"barrier/{name}")
        raise Lost(missing, count()) from error


def any_of(name: str, flag: bool, timeout: float) -> bool:
    """Whether `flag` holds in any process; a name can be used once. Raises Lost as `barrier` does."""
    if count() == 1:
        return flag
    import jax

    client = _client()
    client.key_value_set(f"any/{name}/{jax.process_index()}", str(flag))
    barrier(f"any {name}", timeout)
    return any(value == "True" for _, value in client.key_value_dir_get(f"any/{name}"))


def _absent(folder: str) -> list[int]:
    """Processes that have not written their number in a folder of the key-value store."""
    present = {int(key.rpartition("/")[2]) for key, _ in _client().key_value_dir_get(folder)}
    return [number for number in range(count()) if number not in present]


def roll_call() -> list[int]:
    """Ask every process for a sign of life; those that give none, or [0] when the primary does not answer."""
    try:
        _client().key_value_set("roll/call", "who is there?", allow_overwrite=True)
        time.sleep(_ANSWER_SECONDS)
        return _absent("roll/present")
    except Exception:  # noqa: BLE001  whatever it is, the primary does not answer
        return [0]


def _answer() -> None:
    """Answer the roll call when it comes, wait for what comes of it, and leave if the main thread cannot."""
    import jax

    client, number = _client(), jax.process_index()
    try:
        client.blocking_key_value_get("roll/call", 2**31 - 1)
        client.key_value_set(f"roll/present/{number}", "here")
        time.sleep(2 * _ANSWER_SECONDS)
        missing = _absent("roll/present")
    except Exception:  # noqa: BLE001  without the primary there is no roll to call
        missing = [0]
    if missing and not _leaving.is_set():
        leave_lost(missing)


def _pulse(heartbeat_timeout: float) -> None:
    """Tell the primary now and then that this process lives; the primary calls the roll when one has not for too long.

    A process that waits in vain for others, as in a save, would notice nothing; JAX's heartbeats end it without a name.
    """
    import jax

    client, number = _client(), jax.process_index()
    felt: dict[str, tuple[str, float]] = {}  # by process: its last pulse, and when that came
    for beat in itertools.count():
        if _leaving.wait(heartbeat_timeout / 20):
            return
        try:
            client.key_value_set(f"pulse/{number}", str(beat), allow_overwrite=True)
            pulses = client.key_value_dir_get("pulse") if number == 0 else []
        except Exception:  # noqa: BLE001  without the primary, what it was to be told does not matter
            return
        now = time.monotonic()
        felt |= {who: (pulse, now) for who, pulse in pulses if felt.get(who, ("",))[0] != pulse}
        silent = any(now - when > heartbeat_timeout / 2 for _, when in felt.values())
        if silent and (missing := roll_call()) and not _leaving.is_set():
            leave_lost(missing)


@contextlib.contextmanager
def together(
    coordinator: str | None, processes: int | None, process_id: int | None, start_timeout: float, heartbeat: float
) -> Iterator[None]:
    """`start`, and at the end leave with the others; of several processes, end this one at once if it fails.

    An orderly end would wait for processes that may be gone, or that wait for this one.
    """
    try:
        start(coordinator, processes, process_id, start_timeout, heartbeat)
        with noticing():
            yield
    except SystemExit:
        _finish()
        raise
    except BaseException as error:
        if isinstance(error, Lost):
            leave_lost(error.missing, error.total)
        if count() == 1:
            raise
        _leave(error)
    _finish()


@contextlib.contextmanager
def noticing() -> Iterator[None]:
    """Leave at once, naming the lost, when what fails inside is communication; other errors pass."""
    try:
        yield
    except Exception as error:
        if count() > 1 and _COMMUNICATION.search(f"{type(error).__name__} {error}") and (missing := roll_call()):
            leave_lost(missing)
        raise


def _leave(error: BaseException) -> None:
    """Say what went wrong and end this process, after giving the others the time to do the same."""
    if isinstance(error, UserError):
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)
    with contextlib.suppress(Exception):
        barrier("leaving", _ANSWER_SECONDS)
    os._exit(EXIT_USER_ERROR if isinstance(error, UserError) else 1)


def leave_lost(missing: list[int], total: int | None = None) -> None:
    """Say who is lost and end this process at once."""
    print(f"error: {Lost(missing, total or count())}", file=sys.stderr, flush=True)
    os._exit(EXIT_LOST)


def _finish() -> None:
    """Leave together with the others, when all went well."""
    import jax

    _leaving.set()
    if count() > 1:
        jax.distributed.shutdown()
