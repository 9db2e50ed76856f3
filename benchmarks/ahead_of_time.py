"""A run's update compiled for TPUs on a machine without one: the memory of a chip, what it sends, an expected time.

    pip install -e '.[tpu]'
    python -m benchmarks.ahead_of_time --config=configs/resnet_imagenet_modern.py --topology=v5e:16x16

The network, augmentation, optimizer, batch and mesh are those of the config. Google's compiler distributes the update
over the chips and says how much of their memory it takes. Nothing runs, so no speed is measured: the time is the
compiler's estimate. --out=results/programs records the program and rewrites the table of docs/scaling.md.
"""

import collections
import dataclasses
import datetime
import functools
import os
import pathlib
import re
import time
from typing import TYPE_CHECKING, Any

from absl import flags

from benchmarks import collectives, measure
from common import launch
from common.claims import pages
from common.errors import UserError, first_line, unknown
from common.files import whole_file

if TYPE_CHECKING:  # slow imports come after the flags
    import jax
    from jax.sharding import Mesh
    from ml_collections import ConfigDict

BEGIN, END = "<!-- programs: -->", "<!-- /programs -->"
PAGE, RESULTS = pathlib.Path("docs/scaling.md"), pathlib.Path("results/programs")
# libtpu needs these on a machine that has no TPU, or on one where another process uses it.
_WITHOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_LAYER = re.compile(r'op_name="([^"]*)"')
_CHANGE = re.compile(r"--(?:config\.)?((?!config|train\.batch_size|mesh|topology|out)[\w.]+)=(\S+)")
_SLOWEST = 12  # operations that are listed
_DOES_NOT_FIT = re.compile(r"RESOURCE_EXHAUSTED: (.*)")


@dataclasses.dataclass(frozen=True)
class Chip:
    """A TPU chip: operations a second in bfloat16, bytes of memory, and number of matrix units.

    Google's documentation of Cloud TPU gives the peak and the memory.
    """

    peak: float
    memory: float
    matrix_units: int

    @property
    def clock(self) -> float:
        """Cycles a second at which the matrix units, each with 128x128 multiply-adds a cycle, reach the peak."""
        return self.peak / (2 * self.matrix_units * 128 * 128)


CHIPS = {
    "v5e": Chip(peak=197e12, memory=16e9, matrix_units=4),
    "v5p": Chip(peak=459e12, memory=95e9, matrix_units=8),
}

HEADINGS = (
    *("config", "chips", "batch", "mesh", "memory of a chip, GB", "GFLOP a chip", "a chip sends, MB"),
    *("the compiler expects, ms", "of the peak"),
)


def leave_devices_alone() -> None:
    """Makes JAX use no accelerator of this machine; it must be called before JAX starts a device."""
    import jax

    os.environ.update(_WITHOUT_TPU)
    jax.config.update("jax_platforms", "cpu")  # a variable would come too late: jaxtyping has imported JAX


def main() -> None:
    """Compiles the config's update for a topology, prints what it takes and, if asked, records it."""
    from common import config_checks  # slow imports
    from common.run import provenance

    given = flags.FLAGS
    if given.config is None:
        raise UserError("--config is missing; for example --config=configs/resnet_imagenet_modern.py")
    config_checks.validate(given.config)
    chip = _chip(given.topology)
    if given.candidate:
        _take(given.candidate)
    facts = describe(given.config, topology_mesh(given.topology, given.config.mesh), chip)
    made = {"command": measure.command(), "libtpu": _version(), "date": datetime.date.today().isoformat()}
    program = {"program": launch.config_name(), "topology": given.topology, **facts, **provenance.facts(), **made}
    print(text(program))
    if given.out:
        _record(program, pathlib.Path(given.out))


def _record(program: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes a program's facts into a folder and, if it is that of the results, the table into the page."""
    from common.run import workdir  # slow imports

    name = f"{_label(program)} {program['topology']} {program['batch']} fsdp{program['mesh']['fsdp']}"
    folder.mkdir(parents=True, exist_ok=True)
    workdir.write_json(folder / f"{re.sub('[^a-z0-9.=]+', '_', name)}.json", program)
    if folder == RESULTS:
        page = PAGE.read_text()
        with whole_file(PAGE) as file:
            file.write_text(pages.replace_between(page, BEGIN, END, table(folder)))


def _take(candidate: str) -> None:
    from benchmarks.racing import candidates  # slow imports

    if candidate not in candidates.CANDIDATES:
        raise unknown("candidate", candidate, candidates.CANDIDATES)
    candidates.CANDIDATES[candidate]()


def _chip(topology: str) -> Chip:
    kind = topology.partition(":")[0]
    if kind not in CHIPS:
        raise unknown("TPU", kind, CHIPS)
    return CHIPS[kind]


def topology_mesh(topology: str, section: "ConfigDict") -> "Mesh":
    """The mesh of a config's `mesh` section on all chips of a topology, such as 'v5e:4x4'.

    Raises UserError without Google's compiler, and for a topology that it does not know.
    """
    import jax
    from jax.experimental import topologies

    from common.devices import mesh as mesh_lib

    if _version() == "absent":
        raise UserError("compiling for TPUs needs libtpu: pip install -e '.[tpu]'")
    try:
        devices = topologies.get_topology_desc(topology, platform="tpu").devices
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        raise UserError(
            f"no TPU topology '{topology}' (--topology): {first_line(error)}; try v5e:2x4 or v5p:4x4x4"
        ) from error
    return mesh_lib.make_mesh(section, devices)


def describe(config: "ConfigDict", mesh: "Mesh", chip: Chip) -> dict[str, Any]:
    """The facts of a config's update, compiled for a mesh of chips.

    memory: bytes that a chip needs at the peak; state: those of them for the training state. operations: of a chip, six
    for each multiply-add of an image. sent: bytes that a chip sends in an update, by kind of collective.
    expected_seconds: the compiler's estimate for the update; slowest: its estimates for the slowest operations.
    compile_seconds: on this machine. Raises UserError for an update that does not fit.
    """
    import jax

    from common import config_checks
    from common.devices import sharding

    config_checks.validate(config)
    started = time.perf_counter()
    lowered, state, multiply_adds = _lower(config, mesh)
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if not (found := _DOES_NOT_FIT.search(str(error))):
            raise
        raise UserError(
            f"the update does not fit: {found[1].rstrip('.')}; use more chips, a smaller config.train.batch_size, "
            "config.train.accumulate, config.mesh.fsdp or config.model.remat"
        ) from error
    program = compiled.as_text()
    cycles = expected_cycles(program)
    batch = config.train.batch_size
    return {
        "chips": mesh.size,
        "batch": batch,
        "mesh": dict(mesh.shape),
        "memory": compiled.memory_analysis().peak_memory_in_bytes,
        "state": sharding.bytes_per_device(state, mesh),
        "operations": 6 * multiply_adds * batch / mesh.size,
        "sent": collectives.sent(collectives.read(program)),
        "expected_seconds": cycles.total() / chip.clock,
        "slowest": {name: count / chip.clock for name, count in cycles.most_common(_SLOWEST)},
        "compile_seconds": round(time.perf_counter() - started, 1),
    }


def _lower(config: "ConfigDict", mesh: "Mesh") -> "tuple[jax.stages.Lowered, Any, int]":
    """The config's update in TPU formulations, not compiled yet; its state; the multiply-adds of an image."""
    import jax

    from common import models
    from common.anatomy import layer_table
    from common.data import augment, datasets, pipeline
    from common.devices import compilation, sharding
    from common.devices import mesh as mesh_lib
    from common.optim.optimizers import make_optimizer
    from common.training.state import create_state
    from common.training.steps import check_support, compile_update, step_options
    from common.training.totals import no_totals

    size = config.train.batch_size
    mesh_lib.check_batch(size, config.train.accumulate, mesh)
    info = datasets.load_info(config.data)
    classifier = models.make_classifier(config.model, info)
    check_support(config, classifier)
    examples = info.train_size or size  # it changes only numbers in the schedule, not the operations
    optimizer, _ = make_optimizer(config, examples)
    fixed = {
        "classifier": classifier,
        "optimizer": optimizer,
        "transform": augment.make_input_transform(config.data, config.augment, _statistics(config, info.image_shape)),
        **step_options(config),
    }
    placed = mesh_lib.batched(mesh, axis=1)
    images = jax.ShapeDtypeStruct((1, size, *info.image_shape), "uint8", sharding=placed)
    labels = jax.ShapeDtypeStruct((1, size), "int32", sharding=placed)
    with compilation.compiled_for("tpu"), sharding.split_activations(mesh):
        state = jax.eval_shape(
            functools.partial(create_state, classifier, optimizer, config.seed, config.optimizer.ema > 0)
        )
        update = compile_update(pipeline.StreamedFeed.select, mesh, **fixed)
        arguments = (sharding.sharded_structs(tree, mesh) for tree in (state, jax.eval_shape(no_totals)))
        lowered = update.lower(*arguments, (images, labels), 1)
    shapes = layer_table.variable_shapes(classifier.module, classifier.input_shape)
    return lowered, state, layer_table.multiply_adds_per_image(classifier.module, shapes, classifier.input_shape)


def _statistics(config: "ConfigDict", shape: tuple[int, int, int]) -> Any:
    """Pixel statistics of the right shapes, since a program's cost does not depend on their values."""
    import numpy as np

    from common.data import pixel_statistics

    if not pixel_statistics.needs_statistics(config):
        return None
    ones = np.ones(shape[-1], np.float32)
    return pixel_statistics.PixelStatistics(0 * ones, ones, np.zeros(shape, np.float32), ones, np.diag(ones))


def expected_cycles(program: str) -> collections.Counter[str]:
    """The compiler's estimates for the operations of a TPU program, by the name of the function that they come from.

    An operation counts as often as it runs. An operation that comes from several functions has the name of the last.
    """
    cycles = collections.Counter()
    for one in collectives.instructions(program):
        if found := _CYCLES.search(one.text):
            name = _LAYER.search(one.text)
            cycles[name[1] if name else "unnamed"] += one.times * int(found[1])
    return cycles


def _label(program: dict[str, Any]) -> str:
    """The config's name, the candidate, and the options that the command changes, except batch and mesh."""
    changed = _CHANGE.findall(program["command"])
    return ", ".join([program["program"], *(f"{name.rpartition('.')[2]}={value}" for name, value in changed)])


def text(program: dict[str, Any]) -> str:
    """A program's facts, for a terminal."""
    headings, cells = HEADINGS, row(program)
    width = max(map(len, headings))
    lines = [f"{heading:{width}}  {cell}" for heading, cell in zip(headings, cells, strict=True)]
    lines.append(f"{'time to compile, s':{width}}  {program['compile_seconds']:.0f}")
    slowest = (f"{1e3 * seconds:8.2f} ms  {name}" for name, seconds in program["slowest"].items())
    return "\n".join([*lines, "", "the slowest operations, as the compiler expects:", *slowest])


def row(program: dict[str, Any]) -> list[str]:
    """A row of the table."""
    chip, expected = _chip(program["topology"]), program["expected_seconds"]
    split = program["mesh"]
    sent = sorted(program["sent"].items(), key=lambda item: -item[1])
    return [
        _label(program),
        f"{program['topology']}, {program['chips']:,}",
        f"{program['batch']:,}",
        "data parallel" if split["fsdp"] == 1 else f"data {split['data']} x fsdp {split['fsdp']}",
        f"{program['memory'] / 1e9:.2f} of {chip.memory / 1e9:.0f}",
        f"{program['operations'] / 1e9:,.0f}",
        ", ".join(f"{kind} {size / 1e6:,.0f}" for kind, size in sent if size >= 5e5),
        f"{1e3 * expected:.1f}",
        f"{program['operations'] / expected / chip.peak:.0%}",
    ]


def table(folder: pathlib.Path) -> str:
    """The table of all recorded programs, and a line on their versions."""
    from common.run import workdir  # slow imports

    found = [workdir.read_json(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        return "No program is recorded yet.\n"
    found.sort(key=lambda one: (one["program"].split("_")[0], one["program"], one["chips"], one["mesh"]["fsdp"]))
    versions, dates = (", ".join(sorted({one[key] for one in found})) for key in ("libtpu", "date"))
    written = f"Written by `python -m benchmarks.ahead_of_time --out={RESULTS}`, libtpu {versions}, {dates}.\n"
    return f"{pages.markdown_table(HEADINGS, map(row, found))}\n{written}"


def _version() -> str:
    from common.run import workdir

    return workdir.version("libtpu")


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    launch.define_config()
    flags.DEFINE_string("topology", "v5e:2x4", "the kind of TPU and the layout of its chips, such as v5e:16x16")
    flags.DEFINE_string("candidate", "", "a formulation of benchmarks/racing/candidates.py to use in place of ours")
    measure.define_place("out", "", "folder for the record of the program; default: it is only printed")


if __name__ == "__main__":
    leave_devices_alone()
    _define_flags()
    launch.run(main)
