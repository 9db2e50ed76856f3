"""The cost model of docs/scaling.md: `python -m benchmarks.scaling` writes the tables into that page.

`python -m benchmarks.scaling --check` compiles an update on 8 simulated devices and compares what it sends.
"""

import dataclasses
import datetime
import functools
import math
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags

from benchmarks import networks
from benchmarks.measure import define_place, page_text
from common import launch
from common.claims import pages
from common.files import whole_file

if TYPE_CHECKING:  # slow imports come after the flags
    from jax.sharding import Mesh
    from jaxtyping import PyTree


BEGIN, END = "<!-- scaling: -->", "<!-- /scaling -->"
CHECKED_ON = 8  # simulated devices
DEVICES = (8, 256, 4096)


@dataclasses.dataclass(frozen=True)
class Machine:
    """NVIDIA DGX H100, from its data sheet; numbers are for one GPU, in bfloat16 without sparsity.

    peak: operations a second. utilisation: the share of the peak that training is assumed to reach, for networks that
    have not been timed on such a device. near, far: bytes a second in one direction, over NVLink inside a node and over
    InfiniBand (400 Gb/s) between nodes. latency: seconds for a message between nodes, an assumption.
    """

    name: str = "H100"
    per_node: int = 8
    peak: float = 989e12
    utilisation: float = 0.4
    near: float = 450e9
    far: float = 50e9
    latency: float = 5e-6

    def __str__(self) -> str:
        return (
            f"{self.name} nodes of {self.per_node}: {self.peak / 1e12:,.0f} TFLOP/s each; "
            f"{self.near / 1e9:,.0f} GB/s inside a node and {self.far / 1e9:,.0f} GB/s between "
            f"nodes; {self.latency * 1e6:.0f} microseconds a message"
        )


@dataclasses.dataclass(frozen=True)
class Network:
    """A network in the model: its parameters, the multiply-adds of one image forwards, and the batch of a device.

    rate: images a second that one device trains, where that has been measured; else 0.
    """

    name: str
    parameters: int
    multiply_adds: int
    batch: int  # images on one device
    rate: float = 0.0


def compute_seconds(network: Network, machine: Machine) -> float:
    """The seconds of an update's arithmetic: forwards, twice that backwards, with two operations a multiply-add."""
    return 3 * 2 * network.multiply_adds * network.batch / (machine.peak * utilisation(network, machine))


def utilisation(network: Network, machine: Machine) -> float:
    """The share of a device's peak that a network's training reaches, measured or assumed."""
    if not network.rate:
        return machine.utilisation
    return 3 * 2 * network.multiply_adds * network.rate / machine.peak


def exchange_seconds(size: float, devices: int, machine: Machine) -> float:
    """The seconds for one pass of `size` bytes round all devices, as in an all-gather; an all-reduce is two passes.

    The pass has two stages: inside nodes, then between them, where each device has its own link and its own part of
    the array.
    """
    inside = min(devices, machine.per_node)
    nodes = math.ceil(devices / machine.per_node)
    near = (inside - 1) / inside * size / machine.near
    far = (nodes - 1) / nodes * (size / inside) / machine.far
    return near + far + math.ceil(math.log2(devices)) * machine.latency


def row(network: Network, devices: int, machine: Machine) -> list[str]:
    """A row of the table."""
    gradients = 4 * network.parameters
    weights = 2 * network.parameters  # gathered in bfloat16, as the layers use them
    compute = compute_seconds(network, machine)
    data = 2 * exchange_seconds(gradients, devices, machine)
    fsdp = 2 * exchange_seconds(weights, devices, machine) + exchange_seconds(gradients, devices, machine)
    return [
        network.name,
        f"{devices:,}",
        f"{network.batch * devices:,}",
        f"{utilisation(network, machine):.0%} {'measured' if network.rate else 'assumed'}",
        f"{1e3 * compute:.1f}",
        f"{2 * (devices - 1) / devices * gradients / 1e6:,.0f}",
        f"{1e3 * data:.1f}",
        f"{compute / max(compute, data):.0%} to {compute / (compute + data):.0%}",
        f"{1e3 * fsdp:.1f}",
        f"{network.batch * data / compute:.0f}",
        f"{4 * gradients / 1e9:.2f}",
        f"{4 * gradients / devices / 1e9:.3f}",
    ]


HEADINGS = (
    "network",
    "devices",
    "global batch",
    "share of the peak",
    "compute, ms",
    "all-reduce sends, MB",
    "all-reduce, ms",
    "efficiency, overlapped or not",
    "FSDP exchange, ms",
    "batch on a device that hides the all-reduce",
    "state, GB",
    "state with FSDP, GB",
)


def studied(results: pathlib.Path = pathlib.Path("results")) -> list[Network]:
    """The three networks of the tables, counted from their modules, with their rates where `results` has them."""
    chosen = (("resnet", "resnet50_modern", 128), ("vit", "l16", 64), ("vit", "h14", 32))
    return [
        dataclasses.replace(network(family, variant, batch), rate=measured_rate(results, family, variant))
        for family, variant, batch in chosen
    ]


def measured_rate(results: pathlib.Path, family: str, variant: str) -> float:
    """The images a second that `benchmarks.throughput` has recorded for bfloat16 on an H100, else on an H200, else 0.

    Both GPUs have the same peak; the H200's memory is faster.
    """
    from common.run import workdir

    for device in ("NVIDIA_H100", "NVIDIA_H200"):
        for path in sorted(results.glob(f"benchmark_throughput_{family}_{variant}_bfloat16_{device}*.json")):
            return workdir.read_json(path)["measured"]["ours, images/s"]["median"]
    return 0.0


def network(family: str, variant: str, batch: int, side: int = 224, **changes: Any) -> Network:
    """A variant on colour images of `side` pixels and 1000 classes, with `batch` images on a device."""
    from common.anatomy import layer_table
    from common.training.state import num_parameters

    module = networks.build(family, variant, side, **changes)[1].module
    shapes = layer_table.variable_shapes(module, (side, side, 3))
    adds = layer_table.multiply_adds_per_image(module, shapes, (side, side, 3))
    return Network(f"{family} {variant}", num_parameters(shapes["params"]), adds, batch)


def _training(family: str, variant: str, side: int, **changes: Any) -> "tuple[Callable, PyTree]":
    """The update of a variant by SGD with momentum, and the shapes of its state."""
    import jax

    from common.config import base
    from common.data import augment
    from common.optim.optimizers import make_optimizer
    from common.training.state import create_state
    from common.training.steps import step_options, train_step

    section, classifier = networks.build(family, variant, side, **changes)
    config = base(section)
    optimizer, _ = make_optimizer(config, 1000)
    shapes = jax.eval_shape(functools.partial(create_state, classifier, optimizer, config.seed))
    transform = augment.make_input_transform(config.data, config.augment)
    fixed = {"classifier": classifier, "optimizer": optimizer, "transform": transform, **step_options(config)}
    return functools.partial(train_step, **fixed), shapes


def compiled_update(family: str, variant: str, mesh: "Mesh", side: int, batch: int, **changes: Any) -> str:
    """The text of an update compiled for a mesh of simulated devices; no arrays are allocated."""
    import jax

    from common.devices import mesh as mesh_lib
    from common.devices import sharding

    step, shapes = _training(family, variant, side, **changes)
    placed = {"sharding": mesh_lib.batched(mesh)}
    images = jax.ShapeDtypeStruct((batch, side, side, 3), "float32", **placed)
    labels = jax.ShapeDtypeStruct((batch,), "int32", **placed)

    def laid_out(state: "PyTree", *batch: jax.Array) -> tuple:
        state, totals = step(state, *batch)
        return sharding.constrain(state, mesh), totals

    with sharding.split_activations(mesh):
        update = jax.jit(laid_out, donate_argnums=0)
        return update.lower(sharding.sharded_structs(shapes, mesh), images, labels).compile().as_text()


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_bool("check", False, "compare with what compiled updates send, instead of writing the tables")
    define_place("out", "docs/scaling.md", "page whose tables are rewritten")


def simulate_devices() -> None:
    """Makes JAX see `CHECKED_ON` simulated CPUs and no accelerator; it must be called before JAX starts a device."""
    import jax

    jax.config.update("jax_platforms", "cpu")  # a variable would come too late: jaxtyping has imported JAX
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={CHECKED_ON}"


def main() -> None:
    """Writes the tables, or compares with compiled programs."""
    if flags.FLAGS.check:
        _compare()
        return
    page, machine = pathlib.Path(flags.FLAGS.out), Machine()
    text = page_text(page, BEGIN)
    rows = [row(one, devices, machine) for one in studied() for devices in DEVICES]
    written = f"Written by `python -m benchmarks.scaling`, {datetime.date.today().isoformat()}. {machine}.\n"
    table = f"{pages.markdown_table(HEADINGS, rows)}\n{written}"
    with whole_file(page) as file:
        file.write_text(pages.replace_between(text, BEGIN, END, table), encoding="utf-8")
    print(table, end="")


def _compare() -> None:
    """Prints the passes over the parameters' bytes that compiled programs send."""
    for family, variant, side in (("resnet", "resnet50", 64), ("vit", "l16", 32)):
        for fsdp in (1, CHECKED_ON):
            found = {kind: round(count, 3) for kind, count in passes(family, variant, side, fsdp).items()}
            print(f"{family} {variant}, fsdp {fsdp}: passes of the parameters' bytes, by kind: {found}", flush=True)


def passes(family: str, variant: str, side: int, fsdp: int, **changes: Any) -> dict[str, float]:
    """Bytes that an update on 8 devices sends, by kind of collective, over (n - 1) / n times the parameters' bytes."""
    from ml_collections import ConfigDict

    from benchmarks import collectives
    from common.devices import mesh

    grid = mesh.make_mesh(ConfigDict({"devices": CHECKED_ON, "fsdp": fsdp}))
    text = compiled_update(family, variant, grid, side, 2 * CHECKED_ON, **changes)
    once = (CHECKED_ON - 1) / CHECKED_ON * 4 * network(family, variant, 1, side, **changes).parameters
    return {kind: sent / once for kind, sent in collectives.sent(collectives.read(text)).items()}


if __name__ == "__main__":
    simulate_devices()
    _define_flags()
    launch.run(main)
