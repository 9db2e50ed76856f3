"""Train or evaluate: `python -m common.main --config=configs/lenet5_digits.py`.

The work directory (default `runs/NAME`, NAME being the config file's) gets the config, `metrics.jsonl`,
`summary.json`, checkpoints and TensorBoard events. The same command given again resumes the run.
"""

import pathlib
import sys

from absl import flags

from common import launch
from common.errors import UserError

_CONFIG = launch.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; default runs/<config name>")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "train, or evaluate a trained run's best checkpoint")


def main() -> None:
    """Do what the flags say."""
    if _CONFIG.value is None:
        raise UserError("--config is missing; for example --config=configs/lenet5_digits.py")
    folder = pathlib.Path(_WORKDIR.value or f"runs/{launch.config_name()}").expanduser()
    from common import config as config_lib  # slow imports, after the flags are known to be right

    config_lib.validate(_CONFIG.value)
    if _MODE.value == "evaluate":
        _evaluate(folder)
    else:
        _train(folder)


def _train(folder: pathlib.Path) -> None:
    from common import train
    from common.preemption import EXIT_PREEMPTED, Preempted

    try:
        summary = train.fit(_CONFIG.value, folder)
    except Preempted as stop:
        print(stop)
        sys.exit(EXIT_PREEMPTED)
    best = summary["best_test"]
    print(
        f"test error {summary['test']['error']:.2%} after {summary['step']:,} steps "
        f"(lowest {best['error']:.2%} at step {best['step']:,}); look at it: python -m common.report --workdir={folder}"
    )


def _evaluate(folder: pathlib.Path) -> None:
    from common import trained

    run = trained.load(folder)
    values = trained.evaluate(run)
    print(f"step {run.step:,}: test loss {values['loss']:.4f}, error {values['error']:.2%} of {values['examples']:,}")


if __name__ == "__main__":
    launch.run(main)
