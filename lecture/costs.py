"""The lecture's training times beside those of today: `python -m lecture.costs` writes the table of docs/lecture.md.

An image takes six operations for each multiply-add: two forwards and four backwards (docs/scaling.md). The
multiply-adds are those of the recorded facts, counted from our networks. A device's rate is in operations a second, as
`benchmarks.throughput` has recorded it for the networks that were measured.
"""

import dataclasses
import json
import pathlib

from common import launch
from common.claims import pages
from common.files import ROOT, whole_file

BEGIN, END = "<!-- training times -->", "<!-- /training times -->"
PAGE, RESULTS = ROOT / "docs" / "lecture.md", ROOT / "results"
IMAGENET = 1_281_167  # training images
_DAY = 86_400.0
_HEADINGS = ("network", "then", "operations in all", "rate of a device then", "today, one H200")


@dataclasses.dataclass(frozen=True)
class Training:
    """A paper's training on ImageNet: the network, the devices, and the days that it took.

    fact: the recorded fact. number: the name of its number that counts the network's multiply-adds; '' adds them all.
    epochs: passes over the training images. days: the least and the most that the paper gives; () if it gives none.
    """

    network: str
    fact: str
    number: str
    epochs: int
    devices: int
    kind: str
    days: tuple[float, ...]

    def operations(self, results: pathlib.Path) -> float:
        """The operations of all passes, six for each multiply-add."""
        numbers = json.loads((results / "facts" / f"{self.fact}.json").read_text())["numbers"]
        counted = [number["computed"] for name, number in numbers.items() if self.number in ("", name)]
        return 6.0 * sum(counted) * IMAGENET * self.epochs


# Krizhevsky 2012, section 5; Simonyan & Zisserman 2015, section 3; He 2016, section 3.4, which gives no time.
TRAININGS = (
    Training("AlexNet", "alexnet-multiply-adds", "", 90, 2, "GTX 580", (5, 6)),
    Training("VGG-16", "resnet-vgg-flops", "VGG-16", 74, 4, "Titan Black", (14, 21)),
    Training("ResNet-152", "resnet-t1-152", "multiply-adds", 120, 8, "GPU", ()),
)


def rates(results: pathlib.Path) -> dict[str, float]:
    """Operations a second of an H200 in bfloat16, by the network that was trained on it, slowest first."""
    found = {}
    for path in results.glob("benchmark_throughput_*_bfloat16_NVIDIA_H200.json"):
        result = json.loads(path.read_text())
        numbers = {name: value["median"] for name, value in result["measured"].items()}
        share, rate = numbers["ours, share of the rate of matrix products"], numbers["matrix products, TFLOP/s"]
        found[result["benchmark"].split(", ")[1]] = share * rate * 1e12
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def table(results: pathlib.Path) -> str:
    """The trainings as a table, and the assumptions below it."""
    measured = rates(results)
    slow, fast = next(iter(measured)), next(reversed(measured))
    rows = [_row(training, training.operations(results), measured[slow], measured[fast]) for training in TRAININGS]
    ends = " and ".join(f"{measured[name] / 1e12:.0f} TFLOP/s ({name})" for name in (slow, fast))
    return (
        pages.markdown_table(_HEADINGS, rows)
        + "\nTime = 6 × multiply-adds × images × epochs / (devices × rate of one). For today's times we take the "
        "rates of the slowest and the fastest network that `benchmarks.throughput` has timed in bfloat16: "
        f"{ends}. The three networks of the table were not timed. The times do not include reading the images or "
        "testing. The rates of the papers' devices follow from the papers' times by the same formula.\n"
    )


def _row(training: Training, operations: float, slow: float, fast: float) -> tuple[str, ...]:
    devices = f"{training.devices} × {training.kind}" if training.days else f"{training.devices} GPUs"
    if not training.days:
        then, rate = f"{devices}; the paper gives no time", ""
    else:
        least, most = training.days
        then = f"{devices}, {least:g} to {most:g} days"
        per_second = [operations / (training.devices * days * _DAY) / 1e12 for days in (most, least)]
        rate = f"{per_second[0]:.2g} to {per_second[1]:.2g} TFLOP/s"
    hours = [operations / rate / 3600 for rate in (fast, slow)]
    today = f"{hours[0]:.1f} to {hours[1]:.1f} hours"
    name = f"{training.network}, {training.epochs} epochs"
    return name, then, f"{operations / 1e18:.1f} × 10¹⁸", rate, today


def filled(document: str, results: pathlib.Path) -> str:
    """The document with the table between its markers rewritten."""
    return pages.replace_between(document, BEGIN, END, table(results))


def main() -> None:
    """Rewrites the table."""
    text = filled(PAGE.read_text(), RESULTS)
    with whole_file(PAGE) as file:
        file.write_text(text)
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    launch.run(main)
