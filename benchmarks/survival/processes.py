"""Losses of several processes against those of one: `python -m benchmarks.survival.processes [--sizes=2,4]`.

Every architecture makes a few updates on the bundled digits: as one process with one device, and as groups of processes
that have a device each and exchange gradients over the loopback interface. The result is the relative difference
between the losses of a group and of one process, in training and in the test that follows. It should be no more than
rounding. Writes results/benchmark_processes.json after each network.
"""

import pathlib
import tempfile

from absl import flags

from benchmarks.measure import define_place, record, spread, whole_numbers
from benchmarks.survival import groups
from common import launch
from common.errors import UserError

STEPS = 6
# A small learning rate: rounding errors grow with every update and with the rate.
RUN = (
    f"--config.train.length={STEPS}steps",
    "--config.train.log_every=1steps",
    "--config.train.batch_size=32",
    "--config.data.limit=256",
    "--config.schedule.name=constant",
    "--config.schedule.warmup=0steps",
    "--config.schedule.learning_rate=1e-4",
    f"--config.evaluate.every={STEPS}steps",
    f"--config.checkpoint.every={STEPS}steps",
    "--config.mesh.devices=0",
)
NETWORKS = {
    "LeNet-5": ("configs/lenet5_folder.py", "--config.data.source=digits"),
    "AlexNet, small": ("configs/alexnet_digits.py",),
    "VGG": ("configs/vgg_digits.py",),
    "GoogLeNet": ("configs/googlenet_digits.py",),
    "ResNet-20": ("configs/resnet_digits.py",),
    "ResNet-20, statistics of 4 groups": ("configs/resnet_digits.py", "--config.model.batch_groups=4"),
    "ViT": ("configs/vit_digits.py",),
    "ViT, fully sharded": ("configs/vit_digits.py", "--config.mesh.fsdp=-1"),
}


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_list("sizes", ["2", "4"], "processes in a group")
    define_place("out", "results/benchmark_processes.json", "file of the result")


def main() -> None:
    """Trains every network in groups of every size, and writes the differences between the losses."""
    measured, sizes = {}, whole_numbers("sizes", flags.FLAGS.sizes)
    with tempfile.TemporaryDirectory(prefix="processes-") as name:
        root = pathlib.Path(name)
        for network, (config, *options) in NETWORKS.items():
            one = _losses(1, root / network / "1", root / "compiled", config, *options)
            for size in sizes:
                several = _losses(size, root / network / str(size), root / "compiled", config, *options)
                apart = [abs(a - b) / abs(a) for a, b in zip(one, several, strict=True)]
                measured[f"{network}: losses of {size} processes against one's, relative difference"] = spread(apart)
                record(pathlib.Path(flags.FLAGS.out), "processes", measured)


def _losses(size: int, folder: pathlib.Path, cache: pathlib.Path, config: str, *options: str) -> list[float]:
    """The losses of all updates, and of the test."""
    from common.run import metrics

    group = groups.start_group(size, f"--config={config}", *RUN, *options, f"--workdir={folder}", cache=cache)
    for code, _, errors in groups.finish_group(group, timeout=900):
        if code:
            raise UserError(f"a run of {config} as {size} processes ended with code {code}: {errors.strip()[-500:]}")
    return [values["loss"] for values in metrics.read(folder)]


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
