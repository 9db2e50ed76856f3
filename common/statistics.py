"""Measures a training set's pixels: `python -m common.statistics --config=FILE [--workdir=DIR] [--config.KEY=VALUE]`.

Use it for runs that stream their training set and need its mean image, means, deviations or principal colours
(`config.data.normalize`, `config.augment.pca_colour`). A run whose training set is in memory measures them itself.
The statistics are those of the centre of each image, as in testing. They are written to `config.data.statistics`, or
else into the run's folder (default runs/<config name>).
"""

from absl import flags

from common import launch
from common.errors import UserError
from common.files import check_writable, user_path

_CONFIG = launch.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; default runs/<config name>", allow_override=True)


def main() -> None:
    """Measures the statistics, writes them and prints the main ones."""
    if _CONFIG.value is None:
        raise UserError("--config is missing; for example --config=configs/resnet_imagenet.py")
    from common import config_checks  # slow imports, once the flags are known to be right
    from common.data import datasets, pixel_statistics
    from common.run import workdir

    config_checks.validate(_CONFIG.value)
    data = _CONFIG.value.data
    folder = user_path(_WORKDIR.value or f"runs/{launch.config_name()}")
    path = user_path(data.statistics) if data.statistics else folder / pixel_statistics.FILE
    if path.exists() and workdir.has_checkpoints(path.parent):
        raise UserError(
            f"{path} belongs to a run that has begun with it; choose another --workdir, or a file by "
            "--config.data.statistics"
        )
    check_writable(path)
    train = datasets.open_dataset(data).train
    measured = pixel_statistics.measure(train, data.workers)
    pixel_statistics.save(measured, path)
    print(f"{len(train):,} images of {' x '.join(map(str, measured.mean_image.shape))}, written to {path}")
    for name, values in (("mean", measured.mean), ("standard deviation", measured.std)):
        print(f"{name} of each channel: {', '.join(f'{value:.3f}' for value in values)}")


if __name__ == "__main__":
    launch.run(main)
