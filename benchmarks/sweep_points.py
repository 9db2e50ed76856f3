"""The points of `benchmarks.sweep`: networks, batches, image sizes and numbers of devices to time."""

import dataclasses

SCALES = ("full", "cpu", "smoke")


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of the sweep: a network, the images in a batch over all devices, their side in pixels, and the devices.

    sharded: whether the state is split over the devices (fully sharded data parallelism); else each device has all of
    it. dtype: of the computation.
    """

    family: str
    variant: str
    batch: int
    side: int
    devices: int = 1
    sharded: bool = False
    dtype: str = "bfloat16"

    @property
    def name(self) -> str:
        """The point's name in the results."""
        layout = f" on {self.devices} devices, {self.layout}" if self.devices > 1 else ""
        return f"{self.network}, batch {self.batch} at {self.side}{layout}, images/s"

    @property
    def network(self) -> str:
        """The variant's name, with that of the family before it unless it begins with that."""
        return self.variant if self.variant.startswith(self.family) else f"{self.family} {self.variant}"

    @property
    def layout(self) -> str:
        """The name of the state's layout on the devices."""
        return "fully sharded" if self.sharded else "data parallel"


Axes = dict[str, list[list[Point]]]  # a panel's title -> its lines of points


def axes_of(scale: str, devices: int) -> Axes:
    """The axes of a sweep on this many devices, the most important first; a single device has no axis of devices."""
    dtype = "bfloat16"
    if scale == "smoke":
        convolutional, transformer, base, side = ("resnet", "resnet20"), ("vit", "nano4"), 4, 16
        batches, sides = ((4, 8), (4,)), (16, 24)
        deeper = [[convolutional], [transformer]]
    elif scale == "cpu":
        convolutional, transformer, base, side = ("resnet", "resnet50_modern"), ("vit", "s16"), 4, 224
        batches, sides, dtype = ((2, 4, 8, 16, 32), (2, 4, 8, 16, 32)), (96, 128, 160, 224, 320), "float32"
        deeper = [
            [("resnet", f"resnet{depth}_modern") for depth in (18, 34, 50, 101, 152)],
            [("vit", variant) for variant in ("ti16", "s16", "b16")],
        ]
    else:
        convolutional, transformer, base, side = ("resnet", "resnet50_modern"), ("vit", "b16"), 64, 224
        batches, sides = ((8, 16, 32, 64, 128, 256, 512), (8, 16, 32, 64, 128, 256)), (96, 128, 160, 224, 320, 448)
        deeper = [
            [("resnet", f"resnet{depth}_modern") for depth in (18, 34, 50, 101, 152)],
            [("vit", variant) for variant in ("ti16", "s16", "b16", "l16")],
        ]
    both = (convolutional, transformer)
    axes = {
        "batch": [[Point(*one, batch, side) for batch in sizes] for one, sizes in zip(both, batches, strict=True)],
        "image size": [[Point(*convolutional, base, pixels) for pixels in sides]],
        "depth": [[Point(*one, base, side) for one in line] for line in deeper],
    }
    if devices > 1:
        counts = sorted({2**power for power in range(devices.bit_length())} | {devices})
        axes["devices"] = [
            [Point(*one, base * count, side, count, sharded and count > 1) for count in counts]
            for one in both
            for sharded in (False, True)
        ]
    return {
        axis: [[dataclasses.replace(point, dtype=dtype) for point in line] for line in lines]
        for axis, lines in axes.items()
    }


def coarse_to_fine(axes: Axes) -> list[Point]:
    """The points of all axes, each once, line by line. Every second point of a line precedes those between them."""
    lines = [line for lines in axes.values() for line in lines]
    return list(dict.fromkeys(point for line in lines for point in (*line[::2], *line[1::2])))
