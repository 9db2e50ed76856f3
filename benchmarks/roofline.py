"""Limits of training speed on one accelerator: `python -m benchmarks.roofline` writes the table of docs/performance.md.

The arithmetic for an image and the least memory traffic of its activations are counted from the modules. The longer of
the two times sets the roof. Beside it the table has the speed that `benchmarks.throughput` has recorded.
"""

import dataclasses
import datetime
import math
import pathlib

from absl import flags

from benchmarks import networks
from benchmarks.measure import define_place, page_text
from common import launch
from common.claims import pages
from common.files import user_path, whole_file

BEGIN, END = "<!-- roofline: -->", "<!-- /roofline -->"
# A layer's output is written and read forwards. Backwards, its gradient is written and read, and it is read again.
PASSES = 5
# Networks and the sides of their images; without scans, which would hide the single blocks.
STUDIED = (
    ("resnet", "resnet50_modern", 224, {"scan": "off"}),
    ("vit", "b16", 224, {"scan": False}),
    ("vit", "l16", 224, {"scan": False}),
    ("vgg", "vgg16", 224, {}),
    ("googlenet", "googlenet", 224, {}),
    ("alexnet", "two_column", 224, {}),
    ("alexnet", "one_column", 224, {}),
    ("resnet", "resnet20", 32, {"scan": "off"}),
    ("resnet", "resnet56", 32, {"scan": "off"}),
    ("lenet", "lenet5_modern", 32, {}),
)
HEADINGS = (
    *("network", "at, pixels", "GFLOP an image", "traffic, MB an image", "FLOP a byte", "bound by"),
    *("images/s at the roof", "measured", "of the roof"),
)


@dataclasses.dataclass(frozen=True)
class Device:
    """An accelerator: its results' name, operations a second in bfloat16, and bytes a second of its memory."""

    name: str = "NVIDIA_H200"
    peak: float = 989e12
    bandwidth: float = 4.8e12


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of training on one image: floating-point operations, and bytes of activations in bfloat16."""

    operations: float
    traffic: float

    def images_per_second(self, device: Device) -> float:
        """The images a second at the roof."""
        return 1 / max(self.operations / device.peak, self.traffic / device.bandwidth)

    def bound(self, device: Device) -> str:
        """The limit that sets the roof."""
        return "arithmetic" if self.operations / device.peak > self.traffic / device.bandwidth else "memory"


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    define_place("out", "docs/performance.md", "page whose table is rewritten")
    flags.DEFINE_string("results", "results", "folder of the measurements")


def main() -> None:
    """Writes the table."""
    page, device = pathlib.Path(flags.FLAGS.out), Device()
    text = page_text(page, BEGIN)
    rows = []
    for family, variant, side, changes in STUDIED:
        rate = measured(user_path(flags.FLAGS.results), family, variant, device)
        rows.append(row(f"{family} {variant}", side, cost(family, variant, side, **changes), rate, device))
    sheet = f"{device.peak / 1e12:.0f} TFLOP/s in bfloat16 and {device.bandwidth / 1e12:.1f} TB/s"
    command = f"`python -m benchmarks.roofline`, {datetime.date.today().isoformat()}"
    written = f"Written by {command}, for the data sheet of the {device.name.replace('_', ' ')}: {sheet}.\n"
    table = f"{pages.markdown_table(HEADINGS, rows)}\n{written}"
    with whole_file(page) as file:
        file.write_text(pages.replace_between(text, BEGIN, END, table), encoding="utf-8")
    print(table, end="")


def cost(family: str, variant: str, side: int, **changes: object) -> Cost:
    """The cost of a variant, counted from its module."""
    from common.anatomy import layer_table

    _, classifier = networks.build(family, variant, side, **changes)
    whole, *layers = layer_table.rows(classifier.module, classifier.input_shape)
    elements = sum(math.prod(layer.output_shape) for layer in layers if layer.leaf)
    return Cost(3 * 2 * whole.multiply_adds, PASSES * 2 * elements)


def measured(results: pathlib.Path, family: str, variant: str, device: Device) -> float:
    """The images a second that are recorded for a device in bfloat16, else 0."""
    from common.run import workdir

    path = results / f"benchmark_throughput_{family}_{variant}_bfloat16_{device.name}.json"
    return workdir.read_json(path)["measured"]["ours, images/s"]["median"] if path.exists() else 0.0


def row(name: str, side: int, cost: Cost, rate: float, device: Device) -> list[str]:
    """A row of the table. rate: the measured images a second; 0 if they have not been measured."""
    roof = cost.images_per_second(device)
    return [
        *(name, f"{side}", f"{cost.operations / 1e9:.3g}", f"{cost.traffic / 1e6:.3g}"),
        *(f"{cost.operations / cost.traffic:.0f}", cost.bound(device), f"{roof:,.0f}"),
        *(f"{rate:,.0f}" if rate else "not yet", f"{rate / roof:.0%}" if rate else ""),
    ]


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
