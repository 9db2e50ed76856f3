"""Checkpoints, saved asynchronously and restored onto any number of devices.

Orbax writes each one under a temporary name and renames it when it is complete, so a kill at any moment leaves the
earlier ones unharmed. Each is read by itself, so damage to one never affects another. A checkpoint has a checksum of
every array, which is verified when it is restored.
"""

import contextlib
import json
import math
import pathlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import Mesh
from jaxtyping import Array, PyTree
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, EveryNSteps, LatestN

from common.devices import sharding
from common.errors import UserError, first_line
from common.files import whole_file
from common.processes import distributed
from common.training.state import TrainState
from common.training.totals import Totals, no_totals

FOLDER = "checkpoints"
DAMAGED = "damaged"  # folder for checkpoints that cannot be read, so that training can write their steps again
_ITEM, _METRICS, _METADATA = "default", "metrics/metrics", "_CHECKPOINT_METADATA"  # orbax's names in a checkpoint
_CHECKSUMS, _TOTALS, _TIMES = "checksums", "totals", "times"
_SPARE_BYTES = 2**20  # for the files beside a checkpoint's arrays
_PATIENCE = 300.0  # seconds to wait for all processes to try to read a checkpoint


class Unreadable(UserError):  # noqa: N818
    """A checkpoint that is damaged or incomplete."""


def steps(workdir: pathlib.Path) -> list[int]:
    """Steps that have a checkpoint, oldest first."""
    return sorted(int(path.name) for path in (workdir / FOLDER).glob("*") if path.name.isdecimal() and path.is_dir())


def saved_error(workdir: pathlib.Path, step: int) -> float | None:
    """The error measured when the checkpoint was saved, None if there is no such number.

    It is the validation error or, without a validation set, the test error.
    """
    try:
        error = json.loads((workdir / FOLDER / str(step) / _METRICS).read_text(encoding="utf-8"))["error"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(error) if isinstance(error, int | float) and math.isfinite(error) else None


def save_error(workdir: pathlib.Path, step: int, error: float) -> None:
    """Keeps the error of a checkpoint that was saved without one; all processes have to call it.

    Raises UserError where it cannot be written.
    """
    if distributed.is_primary():
        with whole_file(workdir / FOLDER / str(step) / _METRICS) as fresh:
            fresh.write_text(json.dumps({"error": error}), encoding="utf-8")
    distributed.barrier("the error of a checkpoint is saved", _PATIENCE)


def best_first(workdir: pathlib.Path) -> list[int]:
    """The steps that have a checkpoint: those with an error, lowest first, then the others, newest first.

    Among equal errors the later step comes first.
    """
    errors = {step: saved_error(workdir, step) for step in steps(workdir)}
    return sorted(errors, key=lambda step: (math.inf if errors[step] is None else errors[step], -step))


def restore(workdir: pathlib.Path, step: int, like: TrainState, mesh: Mesh) -> TrainState:
    """The state saved at `step`, laid out on `mesh`; `like` gives its structure and shapes.

    The numbers of devices and of processes that saved it do not matter. Raises Unreadable for a checkpoint that is
    damaged, and UserError for one of another network.
    """
    folder = workdir.absolute() / FOLDER / str(step)
    target = sharding.sharded_structs(like, mesh)
    try:
        expected = _saved_checksums(folder)
        with distributed.exit_on_lost_process(), ocp.StandardCheckpointer() as checkpointer:
            state = checkpointer.restore(folder / _ITEM, target)
    except jax.errors.JaxRuntimeError:  # a lack of memory or a broken connection: no fault of the checkpoint
        raise
    except Exception as error:
        _check_shapes(error, folder)
        raise Unreadable(f"checkpoint {folder} cannot be read: {_reason(error)}") from error
    changed = [name for name, value in _checksums(state).items() if expected and expected.get(name) != value]
    if changed:
        raise Unreadable(f"checkpoint {folder} is damaged: the checksum of '{changed[0]}' differs")
    return state


def restore_first(
    workdir: pathlib.Path, candidates: Iterable[int], like: TrainState, mesh: Mesh
) -> tuple[int, TrainState, list[int]]:
    """The first of some checkpoints that every process can read: its step, its state, and the steps passed over.

    Each checkpoint that is passed over is named in a warning. Raises Unreadable when none can be read.
    """
    passed: list[int] = []
    first_error: Unreadable | None = None
    for step in candidates:
        error, state = None, None
        try:
            state = restore(workdir, step, like, mesh)
        except Unreadable as unreadable:
            error = unreadable
        if not distributed.any_of(f"unreadable {workdir}/{step}", error is not None, _PATIENCE):
            assert state is not None
            return step, state, passed
        passed.append(step)
        first_error = first_error or error
        logging.warning("%s; using another one", error or f"checkpoint {step} cannot be read by another process")
    reason = f" ({first_error})" if first_error else ""
    raise Unreadable(f"none of the checkpoints in {workdir / FOLDER} can be read{reason}")


def restore_latest(workdir: pathlib.Path, like: TrainState, mesh: Mesh) -> TrainState | None:
    """The newest state that can be read, None if there is no checkpoint; for training, before `Checkpoints` opens.

    Newer, unreadable ones are moved to `damaged/`, so that their steps can be saved again. If no checkpoint can be
    read, raises Unreadable and moves nothing.
    """
    found = steps(workdir)
    if not found:
        return None
    _, state, passed = restore_first(workdir, reversed(found), like, mesh)
    if passed:
        if distributed.is_primary():
            for step in passed:
                _set_aside(workdir, step)
        distributed.barrier("damaged checkpoints are set aside", _PATIENCE)
    return state


def saved_totals(workdir: pathlib.Path, step: int) -> Totals:
    """The totals, as of the checkpoint at `step`, of the updates since the last record of training.

    They are those of no update for a step without a checkpoint, and for the checkpoint of an earlier version.
    """
    fresh, saved = no_totals(), _saved(workdir, step, _TOTALS)
    return fresh.replace(**{name: jnp.asarray(value, getattr(fresh, name).dtype) for name, value in saved.items()})


def saved_times(workdir: pathlib.Path, step: int) -> dict[str, float]:
    """The times that the checkpoint at `step` was saved with; {} without one, and for that of an earlier version."""
    return _saved(workdir, step, _TIMES)


class Checkpoints:
    """Saves the checkpoints of a work directory and deletes those that are no longer needed."""

    def __init__(self, workdir: pathlib.Path, keep: int = 1, keep_every: int = 0):
        """Keeps the latest `keep`, the one with the lowest error, and those at multiples of `keep_every`.

        Removes what is left of saves that were cut short.
        """
        self.folder = workdir.absolute() / FOLDER
        best = BestN(
            get_metric_fn=lambda metrics: metrics["error"], reverse=True, n=1, keep_checkpoints_without_metrics=False
        )
        forever = [EveryNSteps(keep_every)] if keep_every else []
        policy = AnyPreservationPolicy([LatestN(keep), best, *forever])
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=lambda metrics: metrics["error"],
            best_mode="min",
            cleanup_tmp_directories=True,  # a save that a kill cut short may be of a step that is never saved again
        )
        if distributed.is_primary():
            _repair(workdir)
        with _one_line_errors(self.folder):
            self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(
        self,
        step: int,
        state: TrainState,
        error: float | None,
        sums: Totals | None = None,
        times: Mapping[str, float] | None = None,
    ) -> None:
        """Starts to save `state`; `error` is the one measured at this step, None if there was none.

        sums, times: of the updates since the last record of training, see `saved_totals` and `metrics.Writer`. Raises
        UserError if there is no room for it, or if the previous save failed.
        """
        self._check_room(state)
        metrics = None if error is None else {"error": error}
        with _one_line_errors(self.folder):
            self._manager.save(
                step,
                args=ocp.args.StandardSave(state),
                metrics=metrics,
                custom_metadata={
                    _CHECKSUMS: _checksums(state),
                    _TOTALS: _as_numbers(sums),
                    _TIMES: dict(times or {}),
                },
            )

    def _check_room(self, state: PyTree) -> None:
        """Raises UserError if there is too little room: on a disk that runs full, Orbax's threads fail one by one."""
        with _one_line_errors(self.folder):
            free = shutil.disk_usage(self.folder).free
        needed = _SPARE_BYTES + sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if free < needed:
            raise UserError(
                f"no room for a checkpoint in {self.folder}: {free / 1e6:,.1f} MB are free and {needed / 1e6:,.1f} "
                "needed (earlier ones are kept)"
            )

    def wait(self) -> None:
        """Returns when every save has been committed. Raises UserError if one failed."""
        with _one_line_errors(self.folder):
            self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for saves, whatever happened, and stops the threads behind them."""
        with _one_line_errors(self.folder):
            self._manager.close()


def _checksums(state: PyTree) -> dict[str, int]:
    """A checksum of each array by name: a sum of its bits, which any single flipped bit changes."""
    sums = jax.device_get(_bit_sums(state))
    return {jax.tree_util.keystr(path): int(value) for path, value in jax.tree.leaves_with_path(sums)}


@jax.jit
def _bit_sums(state: PyTree) -> PyTree:
    return jax.tree.map(_bit_sum, state)


@jax.jit  # so that arrays of one shape, of which networks have many, are traced once
def _bit_sum(array: Array) -> Array:
    """The sum of the array's words, each times its own odd number, modulo 2^32: exact in any order."""
    kind = jnp.dtype(f"uint{8 * array.dtype.itemsize}")
    words = jax.lax.bitcast_convert_type(array, kind).astype(jnp.uint32)
    position = jnp.zeros((), jnp.uint32)
    for axis, size in enumerate(array.shape):
        position = position * size + jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis)
    return jnp.sum(words * (2 * position + 1), dtype=jnp.uint32)


def _saved_checksums(folder: pathlib.Path) -> dict[str, int]:
    """The checksums that a checkpoint was saved with; {} if an earlier version, which had none, saved it."""
    return _saved_metadata(folder).get(_CHECKSUMS) or {}


def _saved_metadata(folder: pathlib.Path) -> dict[str, Any]:
    return json.loads((folder / _METADATA).read_text(encoding="utf-8")).get("custom_metadata") or {}


def _saved(workdir: pathlib.Path, step: int, name: str) -> dict[str, Any]:
    folder = workdir / FOLDER / str(step)
    return (_saved_metadata(folder).get(name) if folder.exists() else None) or {}


def _as_numbers(sums: Totals | None) -> dict[str, float]:
    return {} if sums is None else {name: value.item() for name, value in jax.device_get(vars(sums)).items()}


def _set_aside(workdir: pathlib.Path, step: int) -> None:
    """Moves a checkpoint to `damaged/`, under a name that is free there."""
    aside = workdir / DAMAGED
    with _one_line_errors(aside):
        aside.mkdir(exist_ok=True)
        name, number = str(step), 1
        while (aside / name).exists():
            name, number = f"{step}.{number}", number + 1
        shutil.move(workdir / FOLDER / str(step), aside / name)  # even from another disk, where `checkpoints` is a link


def _repair(workdir: pathlib.Path) -> None:
    """Removes the metrics of checkpoints whose error cannot be read: Orbax's manager would fail on them."""
    for step in steps(workdir):
        metrics = (workdir / FOLDER / str(step) / _METRICS).parent
        if metrics.exists() and saved_error(workdir, step) is None:
            logging.warning("the metrics of checkpoint %d cannot be read; it counts as one without an error", step)
            shutil.rmtree(metrics, ignore_errors=True)


def _check_shapes(error: Exception, where: pathlib.Path) -> None:
    """Raises UserError for a checkpoint of another network, which is not damaged."""
    text = str(error)
    if "shape" in text and "incompatible" in text or "tree structures do not match" in text:
        raise UserError(f"checkpoint {where} holds another network: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The first line of an error, or the operating system's message if tensorstore quotes it."""
    system = re.search(r": ([^:]+) \[os_error_code", str(error))
    return system[1] if system else first_line(error)


@contextlib.contextmanager
def _one_line_errors(folder: pathlib.Path) -> Iterator[None]:
    """Turns an error while writing a checkpoint into a UserError; those saved before are untouched."""
    try:
        yield
    except jax.errors.JaxRuntimeError:  # as in `restore`; a supervisor starts the run again, unlike after a UserError
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"cannot write checkpoints to {folder}: {_reason(error)} (earlier ones are kept)") from error
