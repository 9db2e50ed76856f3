"""The epochs that a run takes to reach a training error, as measured while it learns."""

import pathlib

from common.run import metrics, workdir


def epochs_until(folder: pathlib.Path, error: float) -> float:
    """Epochs until the training error (a fraction) is at most `error`.

    Each training error is the mean since the previous record (`config.train.log_every`). If a run never reaches the
    error, the result is its whole length, which is a lower bound (see `never_reached`).
    """
    config, info = workdir.load_config(folder), workdir.load_info(folder)
    steps = _step(folder, error) or metrics.read(folder, "train")[-1]["step"]
    return steps * config.train.batch_size / info.train_size


def never_reached(folder: pathlib.Path, error: float) -> bool:
    """True for a run that ended with its training error still above `error`."""
    return _step(folder, error) is None


def _step(folder: pathlib.Path, error: float) -> int | None:
    """The update at which the target was reached; None if it never was."""
    return next((record["step"] for record in metrics.read(folder, "train") if record["error"] <= error), None)
