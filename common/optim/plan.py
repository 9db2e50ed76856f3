"""The steps at which a run logs, evaluates, saves and ends, in whole updates."""

import dataclasses
import math
from operator import attrgetter

from ml_collections import ConfigDict

from common.devices import compilation
from common.errors import UserError, count_of
from common.optim import duration

_UPDATES_IN_A_CALL = 50


@dataclasses.dataclass(frozen=True)
class Plan:
    """Lengths in updates. `epoch` is a pass over the training set, which need not be a whole number of batches.

    per_call: updates in one compiled call; 0: as many as suit the device. keep_every: checkpoints at multiples of it
    are kept for good; 0 is none. may_stop: whether the run may end after any evaluation; training numbers are then
    recorded at each. ends: other steps at which a call ends.
    """

    total: int
    epoch: float
    log_every: int
    evaluate_every: int
    save_every: int
    per_call: int
    keep_every: int = 0
    may_stop: bool = False
    ends: tuple[int, ...] = ()

    def with_per_call(self, resident: bool) -> "Plan":
        """The plan with a `per_call` that suits the device, if the config leaves it at 0.

        resident: whether the training set is on the device. On an accelerator one call then makes many updates, which
        hides the time that a call takes. CPUs are slow at convolutions inside loops, and streamed batches take memory.
        """
        many = resident and not compilation.on_cpu()
        wanted = self.per_call or (_UPDATES_IN_A_CALL if many else 1)
        return dataclasses.replace(self, per_call=min(wanted, self.total))

    def logs_after(self, step: int) -> bool:
        """True if training numbers are recorded after `step` updates."""
        last = step == self.total or (self.may_stop and self.evaluates_after(step))
        return last or step % self.log_every == 0

    def evaluates_after(self, step: int) -> bool:
        """True if the validation set, or without one the test set, is evaluated after `step` updates."""
        return step == self.total or step % self.evaluate_every == 0

    def saves_after(self, step: int) -> bool:
        """True if the state is saved after `step` updates."""
        return step == self.total or step % self.save_every == 0

    def updates_from(self, step: int) -> int:
        """The number of updates in the call after `step`; it ends no later than the next record, test, save or end."""
        cycles = (self.log_every, self.evaluate_every, self.save_every)
        ends = (end - step for end in (*self.ends, self._next_epoch(step)) if end > step)
        return min(self.per_call, self.total - step, *(every - step % every for every in cycles), *ends)

    def starts_epoch(self, step: int) -> bool:
        """True if the update after `step` is the first of a pass, to the nearest update."""
        return step == self._start_of_epoch(round(step / self.epoch))

    def _next_epoch(self, step: int) -> int:
        """The first step after `step` at which a pass starts."""
        if self.epoch < 1:
            return step + 1
        number = math.floor(step / self.epoch)
        starts = (self._start_of_epoch(number + later) for later in range(4))
        return next(start for start in starts if start > step)

    def _start_of_epoch(self, number: int) -> int:
        """The updates in `number` passes, to the nearest: passes of 10.4 begin after 0, 10, 21, 31, 42."""
        return round(number * self.epoch)


def make_plan(config: ConfigDict, num_examples: int) -> Plan:
    """The plan of a config for a training set of `num_examples`.

    Raises UserError if checkpoints to keep are never made, and for a trace that begins after the end.
    """
    size = config.train.batch_size
    steps = {
        "total": config.train.length,
        "log_every": config.train.log_every,
        "evaluate_every": config.evaluate.every,
        "save_every": config.checkpoint.every,
    }
    # Runs of earlier versions may have 0, which `check` refuses.
    steps = {name: max(duration.to_steps(text, num_examples, size), 1) for name, text in steps.items()}
    keep_every = duration.to_steps(config.checkpoint.keep_every, num_examples, size)
    if keep_every % steps["save_every"]:
        times = _checkpoints_to_keep_one(config)
        if not times:
            raise UserError(
                f"config.checkpoint.keep_every is '{config.checkpoint.keep_every}' ({count_of(keep_every, 'update')}), "
                f"but there is a checkpoint every {steps['save_every']}; use a multiple of config.checkpoint.every"
            )
        keep_every = times * steps["save_every"]  # they differ only because each was rounded to whole updates
    if config.profile.steps and config.profile.start >= steps["total"]:
        raise UserError(
            f"config.profile.start is {config.profile.start}, but the run has {count_of(steps['total'], 'update')}; "
            "use less, or config.profile.steps=0 for no trace"
        )
    return Plan(
        **steps,
        epoch=num_examples / size,
        per_call=config.train.steps_per_call,
        keep_every=keep_every,
        may_stop=config.train.patience > 0,
        ends=(config.profile.start, config.profile.start + config.profile.steps) if config.profile.steps else (),
    )


def check(config: ConfigDict) -> None:
    """Raises UserError for durations that are malformed, or wrong whatever the size of the dataset."""
    positive = ("train.length", "train.log_every", "evaluate.every", "checkpoint.every")
    paths = (*positive, "checkpoint.keep_every")
    texts = {path: attrgetter(path)(config) for path in paths}
    parsed = {path: duration.parse(text, f"config.{path}") for path, text in texts.items()}
    for path in positive:
        if parsed[path][0] == 0:
            raise UserError(f"config.{path} is '{texts[path]}'; expected more than 0")
    (_, unit), (keep, keep_unit) = parsed["checkpoint.every"], parsed["checkpoint.keep_every"]
    if keep and unit == keep_unit and not _checkpoints_to_keep_one(config):
        raise UserError(
            f"config.checkpoint.keep_every is '{config.checkpoint.keep_every}', but there is a checkpoint every "
            f"'{config.checkpoint.every}'; use a multiple of config.checkpoint.every"
        )


def _checkpoints_to_keep_one(config: ConfigDict) -> int:
    """The multiple of `checkpoint.every` that `checkpoint.keep_every` is as written; 0 if it is none."""
    (every, unit), (keep, keep_unit) = (duration.parse(config.checkpoint[name]) for name in ("every", "keep_every"))
    times = keep / every if every and unit == keep_unit else 0.0
    return round(times) if abs(times - round(times)) < 1e-6 else 0
