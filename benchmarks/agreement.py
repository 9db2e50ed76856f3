"""Losses and gradients on this device against those on CPU: `python -m benchmarks.agreement [--families=resnet,vit]`.

Each network makes one training step, at a small size, from the same parameters, batch and random key on both. The
reference is computed by another process, on CPU in float32; there JAX also chooses other formulations of several
layers, so that these are compared too. Two more checks need this device alone: fused attention against a plain one, and
a run that is stopped and continued against one that is not. Every distance has its limit, which was set before any was
measured. The result is written after each check, and the same command continues where it was stopped.
"""

import contextlib
import dataclasses
import functools
import io
import json
import math
import multiprocessing
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import numpy as np
from absl import flags

from benchmarks.measure import record, spread
from common import launch
from common.errors import UserError, unknown

_FAMILIES = flags.DEFINE_list("families", [], "families of networks, 'attention' or 'resume' to check; default: all")
_OUT = flags.DEFINE_string("out", "results", "folder of the result")
_ANEW = flags.DEFINE_bool("anew", False, "measure again what the result has already")

# Float32 at the highest precision. Sums in another order differ by about 1e-6, and a smooth network hands that on: 1e-4
# leaves a factor of 100 and still shows TF32, which is 1e-3 or more. Where ReLU or max pooling takes the other branch
# because a number is within rounding of the edge, one of N activations gains or loses its gradient, which changes the
# layer's by about 1/sqrt(N), for our N of 10,000 and more up to 1e-2 of one layer's and less of the whole gradient.
SMOOTH, KINKED = 1e-4, 3e-3
# Bfloat16 rounds to 2^-9, and networks amplify that differently: the limit is this many times the distance on CPU, and
# never less than five roundings, nor more than half of the gradient itself. TF32 rounds less and has the same limit.
TIMES, LEAST, MOST = 3.0, 1e-2, 0.5
ATTENTION = 2e-2  # ten roundings of bfloat16: of scores, weights, their products and sums
RESUMED = 1e-5  # of the largest parameter; 0 where the device adds in a fixed order


@dataclasses.dataclass(frozen=True)
class Network:
    """A network to check: the changes make it small, and its signals neither fade nor explode."""

    family: str
    variant: str
    image_shape: tuple[int, int, int]
    float32_limit: float = KINKED
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Line:
    """A distance from the reference, relative to it, and its limit."""

    distance: float
    limit: float

    @property
    def verdict(self) -> str:
        """Agreement within the limit; a distance that is not a number does not agree."""
        return "agrees" if self.distance <= self.limit else "does not agree"


@dataclasses.dataclass(frozen=True)
class Reference:
    """A network's state and batch, its loss and gradient on CPU, and their distances there in bfloat16."""

    state: Any  # TrainState of NumPy arrays
    images: np.ndarray
    labels: np.ndarray
    loss: float
    gradient: np.ndarray  # with respect to all parameters, as one vector
    bfloat16: dict[str, float]


Lines = dict[str, Line]

# For the references, which compute for a moment and compile for much longer.
_COMPILE_FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

_ALEXNET = {"widths": (32, 64, 64, 64, 32), "fc_width": 128, "weight_init": "he_normal"}
_VGG = {"width": 16, "fc_width": 128, "weight_init": "glorot"}
_VIT = {"depth": 3, "dropout": 0.1}
NETWORKS = {
    "lenet5": Network("lenet", "lenet5", (32, 32, 1), SMOOTH),
    "lenet1989": Network("lenet", "lenet1989", (16, 16, 1), SMOOTH),
    "lenet5_modern": Network("lenet", "lenet5_modern", (32, 32, 1)),
    "alexnet two_column": Network("alexnet", "two_column", (67, 67, 3), changes=_ALEXNET),
    "vgg11": Network("vgg", "vgg11", (32, 32, 3), changes=_VGG),
    "vgg11_bn": Network("vgg", "vgg11_bn", (32, 32, 3), changes=_VGG),
    "googlenet": Network("googlenet", "googlenet", (79, 79, 3), changes={"width": 0.25, "weight_init": "he_normal"}),
    "resnet20": Network("resnet", "resnet20", (32, 32, 3)),
    "plain20": Network("resnet", "plain20", (32, 32, 3)),
    "resnet50_modern": Network("resnet", "resnet50_modern", (64, 64, 3), changes={"width": 16}),
    "vit ti16, 17 tokens": Network("vit", "ti16", (64, 64, 3), SMOOTH, _VIT),
    "vit ti16, 16 tokens": Network("vit", "ti16", (64, 64, 3), SMOOTH, {**_VIT, "pooling": "average"}),
}
BATCH, CLASSES = 8, 10
# The type of the computation, and `jax.default_matmul_precision`.
PRECISIONS = {
    "float32 highest": ("float32", "highest"),
    "float32 default": ("float32", None),
    "bfloat16": ("bfloat16", None),
}
TOKENS = (197, 196, 64, 50)  # of the attention check


def main() -> None:
    """Makes the checks that the flags name and the result lacks."""
    chosen = _chosen(_FAMILIES.value)
    path, device = _result()
    done = {} if _ANEW.value else _read(path)
    missing = [name for name in chosen if not any(line.startswith(f"{name}: ") for line in done)]
    with _references([NETWORKS[name] for name in missing if name in NETWORKS]) as references:
        for name in missing:
            found = OTHERS[name]() if name in OTHERS else compare(NETWORKS[name], next(references))
            found = {f"{name}: {quantity}": line for quantity, line in found.items()}
            done |= found
            _write(path, device, done)
            for quantity, line in found.items():
                print(f"  {quantity:60} {line.distance:8.1e} of {line.limit:7.1e}  {line.verdict}", flush=True)
    wrong = [name for name, line in done.items() if line.verdict != "agrees"]
    print(f"{len(done) - len(wrong)} of {len(done)} agree on {device}: {path}")
    for name in wrong:
        print(f"does not agree: {name}")


def compare(network: Network, reference: Reference) -> Lines:
    """The loss and the gradient on this device against the reference, in three precisions."""
    computed = training_steps(network, reference, PRECISIONS)
    return {
        f"{precision}, {quantity}": Line(distance, limit(network, reference, precision, quantity))
        for precision, (loss, gradient) in computed.items()
        for quantity, distance in distances(reference, loss, gradient).items()
    }


def limit(network: Network, reference: Reference, precision: str, quantity: str) -> float:
    """The largest distance of the 'loss' or the 'gradient' at which a precision agrees with the reference."""
    if precision == "float32 highest":
        return network.float32_limit
    return min(max(TIMES * reference.bfloat16[quantity], LEAST), MOST)


def distances(reference: Reference, loss: float, gradient: np.ndarray) -> dict[str, float]:
    """The relative differences of a loss and of a gradient, the latter's in L2 norm, from the reference's."""
    return {"loss": relative(loss, reference.loss), "gradient": relative(gradient, reference.gradient)}


def relative(found: Any, wanted: Any) -> float:
    """The L2 norm of a difference over that of what is wanted; the arrays are of any shape."""
    found, wanted = np.ravel(np.asarray(found, np.float64)), np.ravel(np.asarray(wanted, np.float64))
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def reference_of(network: Network) -> Reference:
    """The reference of a network, on the device that JAX has in this process."""
    import jax

    from common.training.state import create_state

    rng = np.random.default_rng(0)

    def start(array: np.ndarray) -> np.ndarray:
        """An initial array. Constant ones, and those so small that the layers below learn little, get noise."""
        noise = 0.1 * rng.normal(size=array.shape).astype(np.float32)
        return array + noise if array.std() < 0.015 else array

    state = jax.device_get(create_state(_classifier(network, "float32"), _keep_gradient(), seed=0))
    state = state.replace(params=jax.tree.map(start, state.params))
    images = rng.normal(size=(BATCH, *network.image_shape)).astype(np.float32)
    labels = rng.integers(CLASSES, size=BATCH).astype(np.int32)
    batch = Reference(state, images, labels, math.nan, np.zeros(0), {})
    computed = training_steps(network, batch, ("float32 highest", "bfloat16"))
    loss, gradient = computed["float32 highest"]
    reference = dataclasses.replace(batch, loss=loss, gradient=gradient)
    return dataclasses.replace(reference, bfloat16=distances(reference, *computed["bfloat16"]))


def training_steps(
    network: Network, start: Reference, precisions: Iterable[str]
) -> dict[str, tuple[float, np.ndarray]]:
    """The `training_step` in each of `PRECISIONS` that is named; they are compiled side by side."""
    step = functools.partial(training_step, network, start)
    with ThreadPoolExecutor() as pool:
        found = {precision: pool.submit(step, *PRECISIONS[precision]) for precision in precisions}
        return {precision: future.result() for precision, future in found.items()}


def training_step(network: Network, start: Reference, dtype: str, precision: str | None) -> tuple[float, np.ndarray]:
    """The loss and the gradient that an update on the batch uses, from the reference's state, dropout included.

    precision: of float32 products, as in `jax.default_matmul_precision`; None is the device's own.
    """
    import jax

    from common.devices import compilation
    from common.training.steps import train_step

    step = functools.partial(
        train_step,
        classifier=_classifier(network, dtype),
        optimizer=_keep_gradient(),
        transform=lambda _, images: images,
    )
    with jax.default_matmul_precision(precision):
        state, sums = compilation.jit(step)(start.state, start.images, start.labels)
    leaves = jax.device_get(jax.tree.leaves(state.opt_state))
    return float(sums.loss) / BATCH, np.concatenate([np.ravel(leaf) for leaf in leaves])


def _keep_gradient() -> Any:
    """An optimizer whose state is the last gradient and which changes no parameter."""
    import optax

    zeros = optax.tree.zeros_like
    return optax.GradientTransformation(zeros, lambda gradient, state, params=None: (zeros(gradient), gradient))


def _classifier(network: Network, dtype: str) -> Any:
    from common import models

    section = models.section(network.family, network.variant, **network.changes, dtype=dtype)
    info = SimpleNamespace(num_classes=CLASSES, class_names=(), image_shape=network.image_shape)
    return models.make_classifier(section, info)


def attention() -> Lines:
    """The attention of `common.devices.kernels` in bfloat16, and its gradients, against a plain one in float32."""
    import jax
    import jax.numpy as jnp

    from common.devices import kernels

    def plain(query: Any, key: Any, value: Any) -> Any:
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value)

    def with_gradients(function: Callable, heads: Any, cotangent: Any) -> Any:
        output, pullback = jax.vjp(function, *heads)
        return output, *pullback(cotangent)

    lines = {}
    for tokens in TOKENS:
        keys = jax.random.split(jax.random.key(tokens), 4)
        *heads, cotangent = (jax.random.normal(key, (4, tokens, 4, 64), jnp.bfloat16) for key in keys)
        found = jax.jit(functools.partial(with_gradients, kernels.attention))(heads, cotangent)
        heads, cotangent = jax.tree.map(lambda array: array.astype(jnp.float32), (heads, cotangent))
        with jax.default_matmul_precision("highest"):
            wanted = jax.jit(functools.partial(with_gradients, plain))(heads, cotangent)
        names = ("output", "gradient of queries", "gradient of keys", "gradient of values")
        for name, *pair in zip(names, found, wanted, strict=True):
            lines[f"{tokens} tokens, {name}"] = Line(relative(*pair), ATTENTION)
    return lines


def resume() -> Lines:
    """The parameters of a run that goes on from its middle checkpoint against those of the undisturbed run.

    LeNet-5 on distorted digits, with curvatures. The largest difference counts, over the largest parameter.
    """
    from common import train
    from configs import lenet5_digits

    config = lenet5_digits.get_config()
    config.train.update({"length": "40 steps", "batch_size": 8, "steps_per_call": 10})
    config.data.limit, config.optimizer.curvature_examples = 160, 50  # an epoch, and so a new curvature, is 20 steps
    config.checkpoint.update({"every": "10 steps", "keep": 4})
    config.evaluate.every = config.train.length
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        undisturbed, continued = pathlib.Path(name, "undisturbed"), pathlib.Path(name, "continued")
        train.fit(config, undisturbed)
        shutil.copytree(undisturbed, continued)
        (continued / "summary.json").unlink()
        for step in ("30", "40"):
            shutil.rmtree(continued / "checkpoints" / step)
        train.fit(config, continued)
        wanted, found = _last_parameters(undisturbed), _last_parameters(continued)
    return {"parameters": Line(float(np.abs(found - wanted).max() / np.abs(wanted).max()), RESUMED)}


def _last_parameters(folder: pathlib.Path) -> np.ndarray:
    import jax

    from common.run import trained

    leaves = jax.device_get(jax.tree.leaves(trained.load(folder, "last").variables["params"]))
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


OTHERS: dict[str, Callable[[], Lines]] = {"attention": attention, "resume": resume}


def _chosen(families: list[str]) -> list[str]:
    """The names of the checks of these families, or of all; UserError for a family that does not exist."""
    family_of = {**{name: network.family for name, network in NETWORKS.items()}, **{name: name for name in OTHERS}}
    for family in families:
        if family not in family_of.values():
            raise unknown("family", family, set(family_of.values()))
    return [name for name, family in family_of.items() if not families or family in families]


@contextlib.contextmanager
def _references(networks: list[Network]) -> Iterator[Iterator[Reference]]:
    """The references of networks, one after the other, from a process that works ahead and ends with the context."""
    spawn = multiprocessing.get_context("spawn")  # a fork would share the parent's runtime
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs, networks), daemon=True)
    process.start()
    theirs.close()
    try:
        yield (_answer(ours) for _ in networks)
    finally:
        ours.close()
        process.terminate()
        process.join()


def serve(connection: Connection, networks: list[Network]) -> None:
    """Sends the reference of each network, computed on CPU, or the exception in its place. For a new process."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX is imported
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_COMPILE_FAST}"
    for network in networks:
        try:
            connection.send(reference_of(network))
        except BrokenPipeError:  # the parent has gone
            return
        except Exception as error:  # noqa: BLE001  the parent reports it
            connection.send(error)


def _answer(side: Connection) -> Reference:
    try:
        answer = side.recv()
    except EOFError as error:
        raise UserError(
            "the process that computes the references on CPU has died, perhaps for want of memory"
        ) from error
    if isinstance(answer, Exception):
        raise answer
    return answer


def _result() -> tuple[pathlib.Path, str]:
    """The path of the result, and the device's name."""
    from common.run import workdir

    device = workdir.environment()["devices"].rpartition(" x ")[2]
    return pathlib.Path(_OUT.value) / f"benchmark_agreement_{device.replace(' ', '_')}.json", device


def _read(path: pathlib.Path) -> Lines:
    """The lines of a result that an earlier command has written, if it has."""
    if not path.exists():
        return {}
    result = json.loads(path.read_text(encoding="utf-8"))
    return {name: Line(found["median"], result["limits"][name]) for name, found in result["measured"].items()}


def _write(path: pathlib.Path, device: str, lines: Lines) -> None:
    measured = {name: spread([line.distance]) for name, line in lines.items()}
    limits = {name: line.limit for name, line in lines.items()}
    verdicts = {name: line.verdict for name, line in lines.items()}
    facts: dict[str, Any] = {"limits": limits, "verdicts": verdicts}
    with contextlib.redirect_stdout(io.StringIO()):  # every line, each time; `main` prints the new ones
        record(path, f"agreement of {device} with CPU", measured, "python -m benchmarks.agreement", **facts)


if __name__ == "__main__":
    launch.run(main)
