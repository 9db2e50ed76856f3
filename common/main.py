"""Trains with `python -m common.main --config=FILE`, tests with `python -m common.main --mode=evaluate --workdir=DIR`.

Training writes the config, `metrics.jsonl`, `summary.json`, checkpoints and TensorBoard events to the work directory
(default `runs/NAME`, after the config file). The same command given again resumes the run.

A test takes a checkpoint from the work directory (see --checkpoint) and writes its numbers to
`evaluate_PROTOCOL.json` there. Several work directories are tested as an ensemble. Adding `--config` allows changes
that do not affect the network: `--config.evaluate.batch_size`, `--config.data.directory`, `--config.mesh...`.
"""

import pathlib
import sys
from typing import Any

from absl import flags

from common import launch
from common.devices import large_pages
from common.errors import UserError
from common.files import quoted, user_path
from common.processes import distributed, supervise

_CONFIG = launch.define_config()
_WORKDIR = flags.DEFINE_multi_string(
    "workdir", [], "folder of the run; default runs/<config name>. Given several times in evaluation: an ensemble"
)
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "train, or evaluate a trained run")
PROTOCOL = flags.DEFINE_string(
    "protocol",
    "single",
    "test protocol of a trained run: single, ten_crop, googlenet_144, dense, multi_scale, multi_crop, combined; see "
    "docs/testing.md",
)
_CHECKPOINT = launch.define_checkpoint()
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 if several train together; or auto")
_PROCESSES = flags.DEFINE_integer(
    "processes", None, "number of processes that train together; clusters set it", lower_bound=1
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "number of this process, 0 to processes - 1")
_RESTARTS = flags.DEFINE_integer("restarts", 0, "number of restarts after a fault", lower_bound=0)
_SCALES = flags.DEFINE_list("scales", [], "shorter sides of test images, in pixels; default: the papers'")


def main() -> None:
    """Trains or tests, as the flags say."""
    if _CONFIG.value is None and (_MODE.value == "train" or not _WORKDIR.value):
        or_workdir = " (or --workdir=DIR, to evaluate the run in it)" if _MODE.value == "evaluate" else ""
        raise UserError(f"--config is missing; for example --config=configs/lenet5_digits.py{or_workdir}")
    if "" in _WORKDIR.value:  # as from a variable that is not set; it would mean the current folder
        raise UserError("--workdir is empty; expected the folder of a run")
    folders = [user_path(name) for name in _WORKDIR.value or [f"runs/{launch.config_name()}"]]
    if _CONFIG.value is not None:
        from common import config_checks  # slow imports, after the flags are known to be right

        config_checks.validate(_CONFIG.value)
    if _MODE.value == "evaluate":
        if _COORDINATOR.present or _PROCESSES.present or _PROCESS_ID.present:
            raise UserError("--coordinator, --processes and --process_id go with training; one process evaluates")
        _evaluate(folders)
        return
    if len(folders) > 1 or PROTOCOL.present or _CHECKPOINT.present or _SCALES.present:
        raise UserError("several --workdir, --protocol, --checkpoint and --scales go with --mode=evaluate")
    config: Any = _CONFIG.value  # not None: training needs one
    config_checks.check_given(config, launch.given_options())
    mesh = config.mesh
    place = (_COORDINATOR.value, _PROCESSES.value, _PROCESS_ID.value)
    with distributed.process_group(*place, mesh.start_timeout, mesh.heartbeat_timeout):
        _train(folders[0])


def _train(folder: pathlib.Path) -> None:
    from common import train
    from common.devices import compilation
    from common.processes.preemption import EXIT_PREEMPTED, Preempted
    from common.run.summary import result_line

    compilation.keep_in(folder)
    try:
        summary = train.fit(_CONFIG.value, folder)
    except Preempted as stop:
        print(stop)
        sys.exit(EXIT_PREEMPTED)
    if not distributed.is_primary():
        return
    if skipped := len(summary.get("skipped_images", ())):
        print(f"images that could not be read: {skipped:,}; summary.json lists them")
    print(f"{result_line(summary)}; look at it: python -m common.report --workdir={quoted(folder)}")


def _evaluate(folders: list[pathlib.Path]) -> None:
    if not all(text.strip().isdecimal() for text in _SCALES.value):
        raise UserError(f"--scales is '{','.join(_SCALES.value)}'; expected pixels, such as --scales=224,256,288")
    from common.protocols import measure

    scales = [int(text) for text in _SCALES.value]
    result = measure.measure(folders, PROTOCOL.value, scales, _CONFIG.value, _CHECKPOINT.value)
    print(measure.as_line(result))


if __name__ == "__main__":
    large_pages.use()  # first, since it may start this program again
    supervise.main("common.main", sys.argv[1:])
    launch.run(main)
