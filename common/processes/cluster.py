"""The processes that take part in a run, from the command line or from a cluster's environment variables."""

import re
from collections.abc import Mapping
from typing import Any

from common.errors import UserError


def in_cluster(environment: Mapping[str, str]) -> bool:
    """True if the environment variables of Slurm, Open MPI, Kubernetes or TPU say that there are several processes.

    Raises UserError if the number of processes in them is not a number.
    """
    for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"):
        count = environment.get(name) or "1"
        if not count.isdecimal():
            raise UserError(f"environment variable {name} is '{count}'; expected a number of processes")
        if int(count) > 1:
            return True
    return "JOB_COMPLETION_INDEX" in environment or "," in environment.get("TPU_WORKER_HOSTNAMES", "")


def detect(timeout: float) -> tuple[str | None, int, int | None]:
    """The address of process 0, the number of processes and this process's number, as JAX detects them."""
    from jax._src.clusters import ClusterEnv  # jax.distributed.initialize uses it, but cannot name a missing process

    found: list[Any]
    try:
        *found, _ = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, int(timeout))
    except (ValueError, KeyError, IndexError) as error:  # from a variable that is missing or not what it should be
        raise UserError(
            f"JAX cannot read the cluster's environment variables ({type(error).__name__}: {error}); give "
            "--coordinator=HOST:PORT, --processes and --process_id"
        ) from error
    if None in found:
        raise UserError(
            "JAX finds no cluster that tells it about the other processes; give --coordinator=HOST:PORT, --processes "
            "and --process_id, or --processes=1 to train in one process"
        )
    coordinator, processes, process_id = found
    return (coordinator, processes, process_id) if processes > 1 else (None, 1, None)


def check_alone(coordinator: str | None, process_id: int | None) -> None:
    """Raises UserError for flags that make no sense in a process on its own."""
    if coordinator is not None or process_id is not None:
        raise UserError("--coordinator and --process_id need --processes, the number of processes, to be 2 or more")


def check_address(coordinator: str | None, processes: int, process_id: int | None) -> tuple[str, int]:
    """The address of process 0 and this process's number. Raises UserError if one is missing or malformed."""
    if coordinator is None or process_id is None:
        raise UserError(f"--processes={processes} needs --coordinator=HOST:PORT of process 0, and --process_id")
    if not 0 <= process_id < processes:
        raise UserError(f"--process_id is {process_id}; expected 0 to {processes - 1}")
    port = re.fullmatch(r".+:(\d{1,5})", coordinator)
    if not port or not 0 < int(port[1]) < 2**16:
        raise UserError(f"--coordinator is '{coordinator}'; expected HOST:PORT, with a port from 1 to 65535")
    return coordinator, process_id
