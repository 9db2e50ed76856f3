"""Several processes that train one network together, each with its own devices, on JAX's distributed runtime.

Process 0 is the primary: it alone prints and writes files, and the others find each other through it. What goes wrong
between processes ends in one line that names who is missing, and in an exit code of its own:

- A process that cannot be reached when all are waited for, at the start or at a `barrier`.
- A process that is lost while training. Every process has a pulse, which a thread of its own keeps in the primary's
  store even while the main thread is stuck in communication. Whoever notices a loss (its communication fails) looks
  whose pulse has stopped and announces it, upon which all leave; so does the primary when it has not felt the pulse of
  a process for half of the heartbeat time. Should that fail, JAX's heartbeats end it: see `common.processes.supervise`.
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

from common.errors import EXIT_USER_ERROR, UserError
from common.processes import rendezvous

EXIT_LOST = 76  # another process was lost; the same command, given again, continues from the last checkpoint

_PULSE_SECONDS = 1.0  # from one pulse to the next
_SILENCE_SECONDS = 4.0  # without a pulse, after communication has failed: gone
_FAREWELL_SECONDS = 2.0  # what is announced, or has failed, reaches everyone in this time
_COMMUNICATION = re.compile("gloo|nccl|collective|connection|unavailable|deadline|heartbeat|barrier|coordinat", re.I)
_leaving = threading.Event()  # set when the run is over, and nobody is missed any more


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
    when the three contradict each other or no cluster answers.
    """
    if coordinator == "auto" or (coordinator is processes is None and in_cluster(os.environ)):
        coordinator, processes, process_id = _ask_cluster(start_timeout)
    if processes in (None, 1):
        _check_alone(coordinator, process_id)
        return
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
    threading.Thread(target=_listen, daemon=True, name="announcements").start()
    threading.Thread(target=_pulse, args=(heartbeat_timeout,), daemon=True, name="pulse").start()
    if not is_primary():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  one process speaks for all


def _ask_cluster(timeout: float) -> tuple[str | None, int, int | None]:
    """The address of process 0, how many processes there are and which this is, as JAX finds them out."""
    from jax._src.clusters import ClusterEnv  # what jax.distributed.initialize asks; it does not say whom it waits for

    *found, _ = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, int(timeout))
    if None in found:
        raise UserError(
            "JAX finds no cluster that tells it of the other processes; give --coordinator=HOST:PORT, --processes and "
            "--process_id, or --processes=1 for one alone"
        )
    coordinator, processes, process_id = found
    return (coordinator, processes, process_id) if processes > 1 else (None, 1, None)


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


def silent(seconds: float) -> list[int]:
    """Processes whose pulse does not change for so long, which this waits for; [0] when the primary cannot be asked."""
    try:
        before = _pulses()
        time.sleep(seconds)
        now = _pulses()
    except Exception:  # noqa: BLE001  whatever it is, the primary does not answer
        return [0]
    return [number for number in range(count()) if now.get(number) == before.get(number)]


def _pulses() -> dict[int, str]:
    """The last pulse of each process that has had one."""
    return {int(key.rpartition("/")[2]): beat for key, beat in _client().key_value_dir_get("pulse")}


def _pulse(heartbeat_timeout: float) -> None:
    """Show that this process lives, again and again; the primary misses one that has not for half of the time.

    A process that waits in vain for others, as in a save, would notice nothing; JAX's heartbeats end it without a name.
    """
    import jax

    client, number = _client(), jax.process_index()
    # By process: its last pulse, and the own beat at which that came: when all are suspended, none is missed.
    felt: dict[int, tuple[str, int]] = {}
    for beat in itertools.count():
        try:
            client.key_value_set(f"pulse/{number}", str(beat), allow_overwrite=True)
            pulses = _pulses() if number == 0 else {}
        except Exception:  # noqa: BLE001  without the primary, what it was to be told does not matter
            return
        felt |= {who: (pulse, beat) for who, pulse in pulses.items() if felt.get(who, ("",))[0] != pulse}
        limit = max(heartbeat_timeout / 2, _SILENCE_SECONDS) / _PULSE_SECONDS
        missing = [who for who, (_, since) in felt.items() if beat - since > limit]
        if missing and not _leaving.is_set():
            leave_lost(missing)
        if _leaving.wait(_PULSE_SECONDS):
            return


def _listen() -> None:
    """Leave when somebody announces a loss, or when the primary is gone; the main thread may not be able to."""
    try:
        announced = _client().blocking_key_value_get("lost", 2**31 - 1)
        missing = [int(number) for number in announced.split(",")]
    except Exception:  # noqa: BLE001  without the primary nothing can be announced
        missing = [0]
    if not _leaving.is_set():
        _end_lost(missing)


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
        failed = count() > 1 and _COMMUNICATION.search(f"{type(error).__name__} {error}")
        if failed and (missing := silent(_SILENCE_SECONDS)):
            leave_lost(missing)
        raise


def _leave(error: BaseException) -> None:
    """Say what went wrong and end this process, after giving the others the time to do the same."""
    if isinstance(error, UserError):
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)
    with contextlib.suppress(Exception):
        barrier("leaving", _FAREWELL_SECONDS)
    os._exit(EXIT_USER_ERROR if isinstance(error, UserError) else 1)


def leave_lost(missing: list[int], total: int | None = None) -> None:
    """Announce who is lost, so that all leave, and end this process."""
    if client := _client():
        with contextlib.suppress(Exception):  # somebody else has announced it, or the primary is gone
            client.key_value_set("lost", ",".join(map(str, missing)))
            time.sleep(_FAREWELL_SECONDS)
    _end_lost(missing, total)


def _end_lost(missing: list[int], total: int | None = None) -> None:
    print(f"error: {Lost(missing, total or count())}", file=sys.stderr, flush=True)
    os._exit(EXIT_LOST)


def _finish() -> None:
    """Leave together with the others, when all went well."""
    import jax

    _leaving.set()
    if count() > 1:
        jax.distributed.shutdown()
