"""Fits with `python -m classic.main --config=FILE:PIPELINE`, tests with `--mode=evaluate --workdir=DIR`.

PIPELINE is one of `classic.config.PIPELINES`, such as `fisher`, perhaps with parts that replace its own: `fisher+knn`.
Fitting writes the config, the fitted pipeline, `metrics.jsonl` and `summary.json` to the work directory, by default
`runs/<config name>_<pipeline>`. Every finished stage is kept there. So the same command continues a run that was
stopped, and if you change only the decoder, nothing else is computed again.

A test writes its numbers to `evaluate_single.json`. If you add `--config`, you may override the options that choose
the test data: `--config.data.source`, `--config.data.directory`, `--config.data.test_split`.
"""

import pathlib

from absl import flags

from common import launch
from common.errors import UserError
from common.files import quoted, user_path
from common.processes import supervise

_CONFIG = launch.define_config("configs/classic_digits.py:fisher", "classic/config.py")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of the run; default runs/<config name>_<pipeline>", allow_override=True
)
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "fit, or evaluate a fitted run", allow_override=True)


def main() -> None:
    """Fits or tests, as the flags say."""
    supervise.follow()
    if _CONFIG.value is None and (_MODE.value == "train" or not _WORKDIR.value):
        or_workdir = " (or --workdir=DIR, to evaluate the run in it)" if _MODE.value == "evaluate" else ""
        raise UserError(f"--config is missing; for example --config=configs/classic_digits.py:fisher{or_workdir}")
    if _WORKDIR.value == "":
        raise UserError("--workdir is empty; expected the folder of a run")
    folder = user_path(_WORKDIR.value or f"runs/{launch.config_name()}")
    if _CONFIG.value is not None:
        from classic import config as config_lib  # slow imports, after the flags are known to be right

        config_lib.validate(_CONFIG.value)
        if _MODE.value == "train":
            config_lib.check_given(_CONFIG.value, launch.given_options())
    try:
        if _MODE.value == "evaluate":
            _evaluate(folder)
        else:
            _fit(folder)
    except MemoryError as error:
        raise UserError(
            f"out of memory: {error or 'no room for an array'}; a smaller config.evaluate.batch_size or "
            "config.encode.sample needs less, and so does config.pool.dtype=float16"
        ) from error


def _fit(folder: pathlib.Path) -> None:
    from classic import train
    from common.devices import compilation

    compilation.keep_in(folder)
    summary = train.fit(_CONFIG.value, folder)
    if skipped := len(summary["skipped_images"]):
        print(f"images that could not be read: {skipped:,}; summary.json lists them")
    print(f"{train.result_line(summary)}; look at it: python -m classic.report --workdir={quoted(folder)}")


def _evaluate(folder: pathlib.Path) -> None:
    from classic import evaluate

    print(evaluate.as_line(evaluate.measure(folder, _CONFIG.value)))


if __name__ == "__main__":
    launch.run(main)
