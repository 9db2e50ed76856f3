"""Checkpoints, saved asynchronously and restored onto any number of devices.

Orbax writes each one under a temporary name and renames it when it is complete, so a kill at any moment leaves the
earlier ones as they were.
"""

import contextlib
import pathlib
import re
import shutil
from collections.abc import Iterator

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import Mesh
from jaxtyping import PyTree
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, EveryNSteps, LatestN

from common.devices import sharding
from common.errors import UserError
from common.processes import distributed
from common.training.state import TrainState

FOLDER = "checkpoints"
_SPARE_BYTES = 2**20  # for the files beside a checkpoint's arrays
_PATIENCE = 300.0  # seconds in which all processes try to read a checkpoint
DAMAGED = "damaged"  # where unreadable checkpoints are moved, so that training can write those steps again


class Checkpoints:
    """The checkpoints of one work directory."""

    def __init__(self, workdir: pathlib.Path, keep: int = 1, keep_every: int = 0, read_only: bool = False):
        self.folder = workdir.absolute() / FOLDER
        best = BestN(
            get_metric_fn=lambda metrics: metrics["error"], reverse=True, n=1, keep_checkpoints_without_metrics=False
        )
        forever = [EveryNSteps(keep_every)] if keep_every else []
        policy = AnyPreservationPolicy([LatestN(keep), best, *forever])
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy, best_fn=lambda metrics: metrics["error"], best_mode="min", read_only=read_only
        )
        with _one_line_errors(self.folder):
            self._manager = ocp.CheckpointManager(self.folder, options=options)

    def steps(self) -> list[int]:
        """Steps that have a complete checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step with the lowest test error among those kept."""
        return self._manager.best_step()

    def save(self, step: int, state: TrainState, error: float | None) -> None:
        """Starts to save `state`; `error` is the test error measured at this step, None if there was none.

        UserError when there is no room for it, or when the previous save failed.
        """
        self.check_room(state)
        metrics = None if error is None else {"error": error}
        with _one_line_errors(self.folder):
            self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)

    def check_room(self, state: PyTree) -> None:
        """UserError without enough room: on a disk that runs full meanwhile, orbax's threads fail one by one."""
        free, needed = shutil.disk_usage(self.folder).free, _SPARE_BYTES + sum(x.nbytes for x in jax.tree.leaves(state))
        if free < needed:
            raise UserError(
                f"no room for a checkpoint in {self.folder}: {free / 1e6:,.1f} MB are free and {needed / 1e6:,.1f} "
                "needed (earlier ones are kept)"
            )

    def restore(self, step: int, like: TrainState, mesh: Mesh) -> TrainState:
        """The state saved at `step`, laid out on `mesh`; `like` gives its structure and shapes.

        The numbers of devices and of processes that saved it do not matter.
        """
        return self._manager.restore(step, args=ocp.args.StandardRestore(sharding.sharded_structs(like, mesh)))

    def restore_latest(self, like: TrainState, mesh: Mesh) -> TrainState | None:
        """The newest state that every process can read, None if there is no checkpoint.

        Newer ones are moved to `damaged/` with a warning. UserError when no checkpoint can be read.
        """
        steps = self.steps()
        for step in reversed(steps):
            state, error = self._try(step, like, mesh)
            if not distributed.any_of(f"unreadable {step}", error is not None, _PATIENCE):
                return state
            logging.warning("checkpoint %d cannot be read (%s); using the one before", step, _first_line(error))
            if distributed.is_primary():
                self._set_aside(step)
            distributed.barrier(f"set aside {step}", _PATIENCE)
            self._manager.reload()
        if steps:
            raise UserError(f"none of the checkpoints in {self.folder} can be read; moved to {DAMAGED}/")
        return None

    def _try(self, step: int, like: TrainState, mesh: Mesh) -> tuple[TrainState | None, Exception | None]:
        """The state, or the error that made it unreadable here; the loss of another process passes."""
        try:
            with distributed.noticing():
                return self.restore(step, like, mesh), None
        except Exception as error:  # noqa: BLE001  a damaged file can fail anywhere inside the reader
            _check_shapes(error, like, self.folder / str(step))
            return None, error

    def _set_aside(self, step: int) -> None:
        aside = self.folder.parent / DAMAGED
        aside.mkdir(exist_ok=True)
        (self.folder / str(step)).rename(aside / str(step))

    def wait(self) -> None:
        """Returns when every save has been committed; UserError if one failed."""
        with _one_line_errors(self.folder):
            self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for saves, whatever happened, and stops the threads behind them."""
        with _one_line_errors(self.folder):
            self._manager.close()


def _check_shapes(error: Exception, like: TrainState, where: pathlib.Path) -> None:
    """UserError for a checkpoint of another network, which is no damaged file."""
    text = str(error)
    if "shape" in text and "incompatible" in text or "tree structures do not match" in text:
        raise UserError(f"checkpoint {where} holds another network: {_first_line(error)}") from error


def _first_line(error: Exception | None) -> str:
    """The first line of an error, or the operating system's words where tensorstore quotes them."""
    if error is None:
        return "by another process"
    system = re.search(r": ([^:]+) \[os_error_code", str(error))
    lines = [system[1]] if system else str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


@contextlib.contextmanager
def _one_line_errors(folder: pathlib.Path) -> Iterator[None]:
    """UserError for checkpoints that could not be written; those saved before are untouched."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot write checkpoints to {folder}: {_first_line(error)} (earlier ones are kept)"
        ) from error
