"""Train: `python -m common.main --config=FILE`; test: `python -m common.main --mode=evaluate --workdir=DIR`.

The work directory (default `runs/NAME`, NAME being the config file's) gets the config, `metrics.jsonl`,
`summary.json`, checkpoints and TensorBoard events. The same command given again resumes the run.

A test reads what it needs from the work directory; several of them are tested as an ensemble. It takes the checkpoint
with the lowest test error, and leaves its numbers in `evaluate_PROTOCOL.json`. With `--config` besides, what does not
change the network may be overridden: `--config.evaluate.batch_size`, `--config.data.directory`, `--config.mesh...`.
"""

import pathlib
import sys

from absl import flags

from common import launch
from common.devices import large_pages
from common.errors import UserError
from common.processes import distributed, supervise

_CONFIG = launch.define_config()
_WORKDIR = flags.DEFINE_multi_string(
    "workdir", [], "folder of the run; default runs/<config name>. Given several times in evaluation: an ensemble"
)
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "train, or evaluate a trained run's best checkpoint")
_PROTOCOL = flags.DEFINE_string(
    "protocol",
    "single",
    "how a trained run is tested: single, ten_crop, googlenet_144, dense, multi_scale, multi_crop, combined; see "
    "docs/testing.md",
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where several train together; or auto")
_PROCESSES = flags.DEFINE_integer("processes", None, "how many processes train together; clusters say it themselves")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "which of them this is, 0 to processes - 1")
_RESTARTS = flags.DEFINE_integer("restarts", 0, "how often to start again after a fault", lower_bound=0)
_SCALES = flags.DEFINE_list("scales", [], "shorter sides that test images get, in pixels; default: the papers'")


def main() -> None:
    """Do what the flags say."""
    if _CONFIG.value is None and (_MODE.value == "train" or not _WORKDIR.value):
        or_workdir = " (or --workdir=DIR, to evaluate the run in it)" if _MODE.value == "evaluate" else ""
        raise UserError(f"--config is missing; for example --config=configs/lenet5_digits.py{or_workdir}")
    folders = [pathlib.Path(name).expanduser() for name in _WORKDIR.value or [f"runs/{launch.config_name()}"]]
    if _CONFIG.value is not None:
        from common import config as config_lib  # slow imports, after the flags are known to be right

        config_lib.validate(_CONFIG.value)
    if _MODE.value == "evaluate":
        _evaluate(folders)
        return
    if len(folders) > 1 or _PROTOCOL.present or _SCALES.present:
        raise UserError("several --workdir, --protocol and --scales go with --mode=evaluate")
    mesh = _CONFIG.value.mesh
    group = (_COORDINATOR.value, _PROCESSES.value, _PROCESS_ID.value)
    with distributed.together(*group, mesh.start_timeout, mesh.heartbeat_timeout):
        _train(folders[0])


def _train(folder: pathlib.Path) -> None:
    from common import train
    from common.devices import compilation
    from common.processes.preemption import EXIT_PREEMPTED, Preempted

    compilation.keep_in(folder)
    try:
        summary = train.fit(_CONFIG.value, folder)
    except Preempted as stop:
        print(stop)
        sys.exit(EXIT_PREEMPTED)
    if not distributed.is_primary():
        return
    if skipped := len(summary.get("skipped_images", ())):
        print(f"training images that could not be read: {skipped:,}; others took their places; summary.json has them")
    best = summary["best_test"]
    print(
        f"test error {summary['test']['error']:.2%} after {summary['step']:,} steps "
        f"(lowest {best['error']:.2%} at step {best['step']:,}); look at it: python -m common.report --workdir={folder}"
    )


def _evaluate(folders: list[pathlib.Path]) -> None:
    if not all(text.strip().isdigit() for text in _SCALES.value):
        raise UserError(f"--scales is '{','.join(_SCALES.value)}'; expected pixels, such as --scales=224,256,288")
    from common.protocols import measure

    result = measure.measure(folders, _PROTOCOL.value, [int(text) for text in _SCALES.value], _CONFIG.value)
    print(measure.as_line(result))


if __name__ == "__main__":
    large_pages.use()  # not after a supervisor has been told of this process
    supervise.main("common.main", sys.argv[1:])
    launch.run(main)
