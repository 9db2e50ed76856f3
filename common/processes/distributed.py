"""Several processes that train one network together, each with its own devices, on JAX's distributed runtime.

Process 0 is the primary. Only the primary prints and writes files, and the others find each other through it. If
processes are missing, the others print one line that names them and end with a separate exit code. There are two cases:

- A process does not arrive at the start or at a `barrier`.
- A process is lost during training. A thread of every process writes a pulse to the primary's store, even while the
  main thread is stuck in communication. If the communication of a process fails, it checks whose pulse has stopped and
  announces the loss, and all processes exit. The primary also announces the loss of a process whose pulse it has not
  seen for the heartbeat time. The others exit if the primary has not taken their pulses for as long. If all this fails,
  JAX's own, slower heartbeats end the run: see `common.processes.supervise`.
"""

import collections
import contextlib
import faulthandler
import itertools
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from common.errors import EXIT_USER_ERROR, UserError, one_line
from common.processes import cluster, rendezvous

EXIT_LOST = 76  # another process was lost; the same command continues from the last checkpoint

_PULSE_SECONDS = 1.0  # from one pulse to the next
_SILENCE_SECONDS = 4.0  # after communication has failed, a process that sends no pulse for this long is lost
_FAREWELL_SECONDS = 2.0  # enough for an announcement or a failure to reach every process
_LONGEST_WAIT = 2**31 - 1  # milliseconds, 25 days: a run may take longer
_COMMUNICATION = re.compile("gloo|nccl|collective|connection|unavailable|deadline|heartbeat|barrier|coordinat", re.I)
# JAX's processes report twice in JAX's heartbeat time, so it notices a loss after half to all of that time.
# With three times ours, that is later than our pulses, which name the lost process.
_JAX_HEARTBEATS = 3
_leaving = threading.Event()  # set when the run is over: from then on no process counts as lost
_threads: list[threading.Thread] = []
_calls: collections.Counter[str] = collections.Counter()  # of `barrier` and `gathered` by name


class Lost(Exception):  # noqa: N818
    """The loss of processes that the run needs."""

    def __init__(self, missing: list[int], total: int):
        who = ("process " if len(missing) == 1 else "processes ") + ", ".join(map(str, missing))
        super().__init__(f"lost {who} of {total}; start the run again to continue from its last checkpoint")
        self.missing, self.total = missing, total


def start(
    coordinator: str | None,
    processes: int | None,
    process_id: int | None,
    start_timeout: float,
    heartbeat_timeout: float,
) -> None:
    """Joins the other processes, before anything else uses JAX; does nothing in a single process.

    coordinator: 'host:port' of process 0. If it is 'auto', or if it and `processes` are None and environment variables
    describe a cluster, JAX asks the cluster. Timeouts are in seconds. Raises Lost, which names the processes that did
    not arrive, and UserError if the three contradict each other or no cluster answers.
    """
    if coordinator == "auto" or (coordinator is None and processes is None and cluster.in_cluster(os.environ)):
        coordinator, processes, process_id = cluster.detect(start_timeout)
    if processes is None or processes == 1:
        cluster.check_alone(coordinator, process_id)
        return
    coordinator, process_id = cluster.check_address(coordinator, processes, process_id)
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
        heartbeat_timeout_seconds=int(heartbeat_timeout) * _JAX_HEARTBEATS,
        shutdown_timeout_seconds=int(heartbeat_timeout),
    )
    faulthandler.disable()  # JAX's runtime says why it aborts; a stack of each thread would bury that
    limit = max(heartbeat_timeout, _SILENCE_SECONDS) / _PULSE_SECONDS
    taken = threading.Event()
    _start_thread("announcements", _listen)
    _start_thread("pulse", _pulse, limit, taken)
    if not is_primary():
        _start_thread("primary", _watch_primary, limit, taken)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  only the primary prints


def _start_thread(name: str, target: Callable[..., None], *arguments: Any) -> None:
    _threads.append(threading.Thread(target=target, args=arguments, daemon=True, name=name))
    _threads[-1].start()


def _client() -> Any:
    """JAX's connection to process 0, with its key-value store and barriers; None in a single process."""
    from jax._src import distributed  # orbax uses it too: there is no public name for it

    return distributed.global_state.client


def count() -> int:
    """The number of processes."""
    import jax

    return jax.process_count()


def is_primary() -> bool:
    """True in the process that writes files."""
    import jax

    return jax.process_index() == 0


def barrier(name: str, timeout: float) -> None:
    """Waits until all processes have called this with the same name as often as this process.

    Raises Lost after `timeout` seconds, which names the processes that have not.
    """
    if count() == 1:
        return
    import jax

    client, name = _client(), _numbered(name)
    client.key_value_set(f"barrier/{name}/{jax.process_index()}", "here")
    try:
        client.wait_at_barrier(name, int(timeout * 1000))
    except Exception as error:
        missing = _absent(f"barrier/{name}")
        raise Lost(missing, count()) from error


def any_of(name: str, flag: bool, timeout: float) -> bool:
    """True if `flag` is true in any process that calls this with the name. Waits and raises Lost as `barrier` does."""
    return str(True) in gathered(f"any {name}", str(flag), timeout)


def gathered(name: str, text: str, timeout: float) -> list[str]:
    """The `text` of each process, in their order. Waits for all to call this and raises Lost as `barrier` does."""
    if count() == 1:
        return [text]
    import jax

    client, name = _client(), _numbered(name)
    client.key_value_set(f"{name}/{jax.process_index()}", text)
    barrier(name, timeout)
    texts = {int(key.rpartition("/")[2]): value for key, value in client.key_value_dir_get(name)}
    return [texts[number] for number in range(count())]


def _numbered(name: str) -> str:
    """The name with the number of this call, since JAX's barriers and keys work once."""
    _calls[name] += 1
    return f"{name} {_calls[name]}"


def _absent(folder: str) -> list[int]:
    """The processes that have not written their number to a folder of the key-value store."""
    present = {int(key.rpartition("/")[2]) for key, _ in _client().key_value_dir_get(folder)}
    return [number for number in range(count()) if number not in present]


def silent_processes(seconds: float) -> list[int]:
    """The processes whose pulse does not change while this waits `seconds`; [0] if the primary does not answer."""
    try:
        before = _pulses()
        time.sleep(seconds)
        now = _pulses()
    except Exception:  # noqa: BLE001  whatever the error, the primary does not answer
        return [0]
    return [number for number in range(count()) if now.get(number) == before.get(number)]


def _pulses() -> dict[int, str]:
    """The last pulse of each process that has sent one."""
    return {int(key.rpartition("/")[2]): beat for key, beat in _client().key_value_dir_get("pulse")}


def _pulse(limit: float, taken: threading.Event) -> None:
    """Sends this process's pulse; the primary announces the loss of a process that misses more than `limit` pulses.

    Without pulses, processes that wait for a lost one, as in a save, would not notice. `taken` is set whenever the
    primary has taken a pulse.
    """
    import jax

    client, number = _client(), jax.process_index()
    # By process: its last pulse, and our own beat at that moment. We count in beats, not in seconds, so that no loss is
    # announced after all processes have been suspended.
    seen: dict[int, tuple[str, int]] = {}
    for beat in itertools.count():
        try:
            client.key_value_set(f"pulse/{number}", str(beat), allow_overwrite=True)
            pulses = _pulses() if number == 0 else {}
        except Exception:  # noqa: BLE001  the primary has gone: `_listen` notices
            return
        taken.set()
        seen |= {who: (pulse, beat) for who, pulse in pulses.items() if seen.get(who, ("",))[0] != pulse}
        missing = [who for who, (_, since) in seen.items() if beat - since > limit]
        if missing and not _leaving.is_set():
            leave_lost(missing)
        if _leaving.wait(_PULSE_SECONDS):
            return


def _watch_primary(limit: float, taken: threading.Event) -> None:
    """Exits if the primary takes no pulse for more than `limit` beats; calls to a suspended primary wait forever."""
    missed = 0
    while missed <= limit:
        if _leaving.wait(_PULSE_SECONDS):
            return
        missed = 0 if taken.is_set() else missed + 1
        taken.clear()
    _end_lost([0])


def announced_losses(client: Any) -> list[int]:
    """The processes whose loss is announced, as soon as one is; [0] if the primary, which keeps announcements, is gone.

    client: JAX's connection to process 0.
    """
    while True:
        try:
            return [int(number) for number in client.blocking_key_value_get("lost", _LONGEST_WAIT).split(",")]
        except Exception as error:  # noqa: BLE001  whatever the error, the primary does not answer
            if "DEADLINE_EXCEEDED" not in str(error):
                return [0]


def _listen() -> None:
    """Exits when a process announces a loss or the primary is gone, even if the main thread is stuck."""
    missing = announced_losses(_client())
    if not _leaving.is_set():
        _end_lost(missing)


@contextlib.contextmanager
def process_group(
    coordinator: str | None, processes: int | None, process_id: int | None, start_timeout: float, heartbeat: float
) -> Iterator[None]:
    """Calls `start`, and leaves together with the other processes at the end. A process that fails exits at once.

    An orderly exit would wait for processes that may be gone, or that wait for this one.
    """
    try:
        start(coordinator, processes, process_id, start_timeout, heartbeat)
        with exit_on_lost_process():
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
def exit_on_lost_process() -> Iterator[None]:
    """Exits at once, naming the lost processes, if communication fails inside; other errors pass through."""
    try:
        yield
    except Exception as error:
        failed = count() > 1 and _COMMUNICATION.search(f"{type(error).__name__} {error}")
        if failed and (missing := silent_processes(_SILENCE_SECONDS)):
            leave_lost(missing)
        raise


def _leave(error: BaseException) -> None:
    """Reports the error and ends this process, after giving the others time to do the same."""
    if isinstance(error, UserError):
        print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)
    with contextlib.suppress(Exception):
        barrier("leaving", _FAREWELL_SECONDS)
    os._exit(EXIT_USER_ERROR if isinstance(error, UserError) else 1)


def leave_lost(missing: list[int], total: int | None = None) -> None:
    """Announces the lost processes, so that all others exit, and ends this one."""
    if client := _client():
        with contextlib.suppress(Exception):  # another process has announced it, or the primary is gone
            client.key_value_set("lost", ",".join(map(str, missing)))
            time.sleep(_FAREWELL_SECONDS)
    _end_lost(missing, total)


def _end_lost(missing: list[int], total: int | None = None) -> None:
    print(f"error: {Lost(missing, total or count())}", file=sys.stderr, flush=True)
    os._exit(EXIT_LOST)


def _finish() -> None:
    """Leaves together with the other processes after success."""
    import jax

    _leaving.set()
    if count() > 1:
        jax.distributed.shutdown()
        for thread in _threads:  # Python aborts if it ends while a thread is inside JAX's client
            thread.join(_FAREWELL_SECONDS)
