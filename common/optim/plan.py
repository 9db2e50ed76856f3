"""When a run does what, in whole updates."""

import dataclasses

from ml_collections import ConfigDict

from common.optim import duration


@dataclasses.dataclass(frozen=True)
class Plan:
    """Lengths in updates. `epoch` is a pass over the training set, which need not be a whole number of batches."""

    total: int
    epoch: float
    log_every: int
    evaluate_every: int
    save_every: int
    per_call: int

    def log(self, step: int) -> bool:
        """Whether training numbers are recorded after `step` updates."""
        return step == self.total or step % self.log_every == 0

    def evaluate(self, step: int) -> bool:
        """Whether the test set is evaluated after `step` updates."""
        return step == self.total or step % self.evaluate_every == 0

    def save(self, step: int) -> bool:
        """Whether the state is saved after `step` updates."""
        return step == self.total or step % self.save_every == 0

    def updates_from(self, step: int) -> int:
        """How many updates to make in one call after `step`, so that it ends no later than whatever is due next."""
        cycles = (self.log_every, self.evaluate_every, self.save_every, max(round(self.epoch), 1))
        return min(self.per_call, self.total - step, *(every - step % every for every in cycles))

    def starts_epoch(self, step: int) -> bool:
        """Whether the update after `step` is the first of a pass, to the nearest update."""
        return step % max(round(self.epoch), 1) == 0


def make_plan(config: ConfigDict, num_examples: int) -> Plan:
    """The plan of a config for a training set of `num_examples`."""
    size = config.train.batch_size
    steps = {
        "total": config.train.length,
        "log_every": config.train.log_every,
        "evaluate_every": config.evaluate.every,
        "save_every": config.checkpoint.every,
    }
    steps = {name: max(duration.to_steps(text, num_examples, size), 1) for name, text in steps.items()}
    return Plan(**steps, epoch=num_examples / size, per_call=config.train.steps_per_call)
