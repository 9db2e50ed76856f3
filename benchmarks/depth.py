"""The cost of depth: time to compile a training step, and memory of activations with and without rematerialisation.

    python -m benchmarks.depth

Deep and shallow networks with scanned blocks are compiled in turn, and each ratio compares neighbouring measurements.
Times are processor times, on which other work on the machine has little effect. No update is run, so any machine will
do. Writes results/benchmark_depth.json.
"""

import functools
import pathlib
import time
from typing import Any

from absl import flags

from benchmarks import networks
from benchmarks.measure import define_place, record, spread
from common import launch

# Family, deep variant, shallow variant, changed fields, side of the images.
PAIRS = [
    ("resnet", "resnet1202", "resnet110", {"scan": "on"}, 32),
    ("resnet", "resnet152", "resnet50", {"scan": "on"}, 224),
    ("vit", "h14", "ti16", {}, 224),
]
# Family, variant, batch, and two values of `remat`: one keeps everything, the other only the input of each block.
FOOTPRINTS = [("resnet", "resnet152", 256, (False, True)), ("vit", "b16", 256, ("none", "blocks"))]


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: the importing tool has flags of its own."""
    flags.DEFINE_integer("rounds", 3, "measurements of each network", lower_bound=1)
    define_place("out", "results/benchmark_depth.json", "file of the result")


def main() -> None:
    """Measures and writes the result."""
    measured = {}
    for pair in PAIRS:
        measured |= _compile_times(*pair)
    for family, variant, batch_size, remats in FOOTPRINTS:
        for remat, what in zip(remats, ("everything kept", "rematerialised"), strict=True):
            name = f"{variant}, batch {batch_size} at 224, {what}"
            measured[f"{name}: activations, GB"] = spread([_footprint(family, variant, batch_size, remat) / 1e9])
    record(pathlib.Path(flags.FLAGS.out), "depth", measured)


def _compile_times(family: str, deep: str, shallow: str, fields: dict[str, Any], size: int) -> dict[str, Any]:
    seconds = {deep: [], shallow: []}
    for _ in range(flags.FLAGS.rounds):
        for variant, found in seconds.items():
            found.append(compile_seconds(family, variant, fields, size))
            print(f"{variant} compiles in {found[-1]:.1f} CPU-seconds", flush=True)
    ratios = [one / other for one, other in zip(seconds[deep], seconds[shallow], strict=True)]
    times = {f"{variant}, scanned: compile time, CPU-seconds": spread(found) for variant, found in seconds.items()}
    return {**times, f"{deep} over {shallow}: compile time": spread(ratios)}


def compile_seconds(family: str, variant: str, fields: dict[str, Any], size: int) -> float:
    """Seconds of processor time to trace and compile an update on a batch of two, without a cache."""
    import jax
    import jax.numpy as jnp
    import optax

    from common.config import base
    from common.training.state import create_state
    from common.training.steps import train_step

    model, classifier = networks.build(family, variant, size, **fields)
    config, optimizer = base(model), optax.sgd(0.1, momentum=0.9)
    state = jax.eval_shape(functools.partial(create_state, classifier, optimizer, config.seed))
    step = functools.partial(train_step, classifier=classifier, optimizer=optimizer, transform=lambda _, images: images)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    jax.clear_caches()
    jax.config.update("jax_enable_compilation_cache", False)
    started = time.process_time()
    jax.jit(step).lower(state, images, jax.ShapeDtypeStruct((2,), jnp.int32)).compile()
    return time.process_time() - started


def _footprint(family: str, variant: str, batch_size: int, remat: bool | str) -> int:
    import jax
    import jax.numpy as jnp

    from common.anatomy.footprint import activation_bytes

    _, classifier = networks.build(family, variant, 224, remat=remat)
    variables = jax.eval_shape(classifier.module.init, jax.random.key(0), jnp.zeros((1, *classifier.input_shape)))
    return activation_bytes(classifier, variables.pop("params"), variables, batch_size)


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
