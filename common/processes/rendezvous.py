"""A meeting of all processes before JAX's runtime starts, because the runtime cannot name the process it waits for.

Process 0 listens on the address that the runtime will use, and the others call until it answers. When all have called,
or the time is up, process 0 tells each of them which processes are missing.
"""

import socket
import struct
import time

from common.errors import UserError

_GREETING = b"lineage"
_RETRY_SECONDS = 0.2


def meet(coordinator: str, processes: int, process_id: int, timeout: float) -> list[int]:
    """The processes that are missing after all have arrived or `timeout` seconds have passed.

    coordinator: 'host:port' of process 0. If that process is missing, the result is [0], as nothing is known of others.
    """
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + timeout
    if process_id == 0:
        return _host(int(port), processes, deadline)
    return _call(host.strip("[]"), int(port), process_id, deadline)


def _host(port: int, processes: int, deadline: float) -> list[int]:
    calls: dict[int, socket.socket] = {}
    with _listen(port, deadline) as server:
        while len(calls) < processes - 1 and (left := deadline - time.monotonic()) > 0:
            server.settimeout(left)
            try:
                call, _ = server.accept()
                call.settimeout(5.0)
                greeting = _receive(call, len(_GREETING) + 4)
            except OSError:
                continue
            if greeting.startswith(_GREETING):
                calls[struct.unpack("!i", greeting[-4:])[0]] = call  # a process that was restarted calls again
    missing = [number for number in range(1, processes) if number not in calls]
    for call in calls.values():
        with call:
            _send(call, struct.pack(f"!{len(missing) + 1}i", len(missing), *missing))
    return missing


def _listen(port: int, deadline: float) -> socket.socket:
    """A server on the port; retries, since a run that has just ended may hold the port for a moment longer.

    Raises UserError if the port is still in use at the deadline, or this user may not use it.
    """
    both = socket.has_dualstack_ipv6()
    while True:
        try:
            family = socket.AF_INET6 if both else socket.AF_INET
            return socket.create_server(("", port), family=family, dualstack_ipv6=both)
        except OSError as error:
            if time.monotonic() > deadline or isinstance(error, PermissionError):
                raise UserError(f"cannot listen on port {port} of --coordinator: {error.strerror}") from error
            time.sleep(_RETRY_SECONDS)


def _call(host: str, port: int, process_id: int, deadline: float) -> list[int]:
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, port), timeout=left) as call:
                call.sendall(_GREETING + struct.pack("!i", process_id))
                call.settimeout(left + 5.0)
                (count,) = struct.unpack("!i", _receive(call, 4))
                return list(struct.unpack(f"!{count}i", _receive(call, 4 * count)))
        except (OSError, struct.error):
            time.sleep(_RETRY_SECONDS)
    return [0]


def _receive(call: socket.socket, size: int) -> bytes:
    """The next `size` bytes of a call, or fewer if the other side hangs up."""
    parts = b""
    while len(parts) < size and (part := call.recv(size - len(parts))):
        parts += part
    return parts


def _send(call: socket.socket, message: bytes) -> None:
    """Sends a message; nothing happens if the other side has hung up."""
    try:
        call.sendall(message)
    except OSError:
        return
