"""The lines that a run prints when it starts."""

import pathlib

from jax.sharding import Mesh
from ml_collections import ConfigDict

from common.anatomy.footprint import activation_bytes
from common.data.dataset_info import describe
from common.data.splits import Dataset
from common.devices import sharding
from common.errors import count_of
from common.models import Classifier
from common.optim import duration, factors, schedules
from common.optim.plan import Plan
from common.training.state import TrainState, num_parameters


def opening_lines(
    config: ConfigDict,
    classifier: Classifier,
    dataset: Dataset,
    state: TrainState,
    mesh: Mesh,
    plan: Plan,
    folder: pathlib.Path,
    step: int,
    stopped: bool,
) -> str:
    """The lines printed before the first step. stopped: whether the run has run out of patience, and stopped early."""
    model, size, info = config.model, config.train.batch_size, dataset.info
    kept = activation_bytes(classifier, state.params, state.model_state, size // config.train.accumulate)
    kind = mesh.devices.flat[0].device_kind
    lines = [
        f"{model.family} {model.variant}: {num_parameters(state.params):,} parameters",
        *_frozen(config, state),
        *([classifier.remark] if classifier.remark else []),
        describe(info),
        *dataset.notes,
        f"batch {size:,} over {mesh.size} x {kind} ({size // mesh.size:,} each); "
        f"{count_of(plan.total, 'update')}, {plan.epoch:,.6g} to an epoch",
        f"activations that the backward pass needs: {kept / mesh.size / 1e6:,.1f} MB on each device",
        *_accumulation(config.train.accumulate, state),
        *_short(config, plan, info.train_size),
        f"workdir {folder}" + _position(step, plan.total, stopped),
    ]
    if mesh.size > 1:
        lines.append(sharding.table(state, mesh))
    return "\n".join(lines)


def _frozen(config: ConfigDict, state: TrainState) -> list[str]:
    """A line if some parameters are frozen."""
    count = factors.count_frozen(state.params, factors.parse(config.optimizer.factors))
    return [f"{count:,} of them are frozen"] if count else []


def _accumulation(parts: int, state: TrainState) -> list[str]:
    """A line if batch normalisation does not use the whole batch's statistics."""
    if parts == 1 or "batch_stats" not in state.model_state:
        return []
    return [
        f"batch normalisation: statistics of each of the {parts} parts of a batch. The update is exactly that of "
        f"{parts} ghost batches (Hoffer 2017); only config.train.accumulate=1 has statistics of the whole batch"
    ]


def _short(config: ConfigDict, plan: Plan, train_size: int) -> list[str]:
    """Lines if the run is too short for its warm-up, or the training set too small for a batch."""
    size, lines = config.train.batch_size, []
    if size > train_size:
        lines.append(
            f"a batch is {1 / plan.epoch:,.2f} times the training set, so lengths in epochs are rounded to whole "
            "updates: a smaller config.train.batch_size comes closer to them"
        )
    warmup = schedules.warmup_steps(config.schedule, plan.total, train_size, size)
    if warmup < duration.to_steps(config.schedule.warmup, train_size, size):
        lines.append(
            f"the warm-up of '{config.schedule.warmup}' would take the whole run, so it is shortened to a tenth, "
            f"{count_of(warmup, 'update')}"
        )
    return lines


def _position(step: int, total: int, stopped: bool) -> str:
    if step >= total:
        return f": finished at step {step:,}; raise config.train.length to go on, or choose another --workdir"
    if stopped:
        return f": stopped early at step {step:,}; raise config.train.patience to go on, or choose another --workdir"
    return f", going on from step {step:,}" if step else ""
