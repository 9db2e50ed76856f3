"""The networks of `benchmarks.agreement`, and their references, which a separate process computes on CPU.

A training step starts from the same parameters, batch and random key on every device, so that dropout is the same.
"""

import contextlib
import dataclasses
import functools
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import numpy as np

from common.devices import host
from common.errors import UserError

# Relative changes of the parameters that stand for sums in another order: several units in the last place of float32.
# Several are drawn, since the gradient jumps if a change makes a ReLU or max pooling take another branch.
ROUNDING, DRAWS = 1e-6, 5


@dataclasses.dataclass(frozen=True)
class Network:
    """A network to check. changes: of its fields, so that it is small and its signals neither fade nor explode."""

    family: str
    variant: str
    image_shape: tuple[int, int, int]
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Reference:
    """A network's state and batch, its loss and gradient on CPU, and the distances that rounding causes there.

    on_cpu: 'float32' -> the largest distances of 'loss' and 'gradient' after changes by `ROUNDING`; 'bfloat16' -> the
    distances of the same computation in bfloat16.
    """

    state: Any  # TrainState of NumPy arrays
    images: np.ndarray
    labels: np.ndarray
    loss: float
    gradient: np.ndarray  # with respect to all parameters, as one vector
    on_cpu: dict[str, dict[str, float]]


_ALEXNET = {"widths": (32, 64, 64, 64, 32), "fc_width": 128, "weight_init": "he_normal"}
_VGG = {"width": 16, "fc_width": 128, "weight_init": "glorot"}
_BOTTLENECKS = {"stage_sizes": (3, 1, 1, 1), "width": 16, "scan": "on"}
_VIT = {"depth": 3, "dropout": 0.1}
NETWORKS = {
    "lenet5": Network("lenet", "lenet5", (32, 32, 1)),
    "lenet1989": Network("lenet", "lenet1989", (16, 16, 1)),
    "lenet5_modern": Network("lenet", "lenet5_modern", (32, 32, 1)),
    "alexnet two_column": Network("alexnet", "two_column", (67, 67, 3), _ALEXNET),
    "vgg11": Network("vgg", "vgg11", (32, 32, 3), _VGG),
    "vgg11_bn": Network("vgg", "vgg11_bn", (32, 32, 3), _VGG),
    # Fewer layers than the papers', since depth amplifies rounding: bfloat16 moves plain-20's gradient by 0.6 on CPU.
    "resnet14": Network("resnet", "resnet20", (32, 32, 3), {"stage_sizes": (2, 2, 2)}),
    "plain8": Network("resnet", "plain20", (32, 32, 3), {"stage_sizes": (1, 1, 1)}),
    "resnet bottlenecks": Network("resnet", "resnet50_modern", (64, 64, 3), _BOTTLENECKS),
    "vit ti16, 17 tokens": Network("vit", "ti16", (64, 64, 3), _VIT),
    "vit ti16, 16 tokens": Network("vit", "ti16", (64, 64, 3), {**_VIT, "pooling": "average"}),
    # The last one, since it takes longest to compile.
    "googlenet": Network("googlenet", "googlenet", (79, 79, 3), {"width": 0.25, "weight_init": "he_normal"}),
}
BATCH, CLASSES = 8, 10
# The type of the computation, and `jax.default_matmul_precision`.
PRECISIONS = {
    "float32 highest": ("float32", "highest"),
    "float32 default": ("float32", None),
    "bfloat16": ("bfloat16", None),
}

# The process that makes the references computes for a moment, but compiles for much longer.
_COMPILE_FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


@contextlib.contextmanager
def references(networks: list[Network]) -> Iterator[Iterator[Reference]]:
    """The references of networks in their order, from a process that works ahead and ends with the context."""
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
    """Computes the references of networks on CPU, in a new process, and sends each, or an exception in its place."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX is imported
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_COMPILE_FAST}"
    with ThreadPoolExecutor(max(host.cores() // 2, 1)) as pool:
        try:
            for reference in pool.map(reference_of, networks):
                connection.send(reference)
        except BrokenPipeError:  # the parent has gone
            pool.shutdown(cancel_futures=True)
        except Exception as error:  # noqa: BLE001  the parent reports it
            connection.send(error)


def distances(reference: Reference, loss: float, gradient: np.ndarray) -> dict[str, float]:
    """The relative distances of a loss and of a gradient (in the L2 norm) from those of the reference."""
    return {"loss": relative(loss, reference.loss), "gradient": relative(gradient, reference.gradient)}


def relative(found: Any, wanted: Any) -> float:
    """The L2 norm of the difference between two arrays of any shape, over the norm of the one that is wanted."""
    found, wanted = np.ravel(np.asarray(found, np.float64)), np.ravel(np.asarray(wanted, np.float64))
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def reference_of(network: Network) -> Reference:
    """The reference of a network, on the device that JAX has in this process."""
    import jax

    from common.training.state import create_state

    rng = np.random.default_rng(0)

    def start(array: np.ndarray) -> np.ndarray:
        """An initial array, with noise if it is constant, or so small that the layers below would learn little."""
        noise = 0.1 * rng.normal(size=array.shape).astype(np.float32)
        return array + noise if array.std() < 0.015 else array

    state = jax.device_get(create_state(_classifier(network, "float32"), _keep_gradient(), seed=0))
    state = state.replace(params=jax.tree.map(start, state.params))
    images = rng.normal(size=(BATCH, *network.image_shape)).astype(np.float32)
    labels = rng.integers(CLASSES, size=BATCH).astype(np.int32)
    batch = Reference(state, images, labels, math.nan, np.zeros(0), {})
    with ThreadPoolExecutor() as pool:
        in_bfloat16 = pool.submit(lambda: training_step(network, "bfloat16")(batch))  # compiled beside the other
        step = training_step(network, "float32 highest")
        reference = dataclasses.replace(batch, **dict(zip(("loss", "gradient"), step(batch), strict=True)))

        def rounded(array: np.ndarray) -> np.ndarray:
            return array * (1 + ROUNDING * rng.normal(size=array.shape)).astype(np.float32)

        states = (state.replace(params=jax.tree.map(rounded, state.params)) for _ in range(DRAWS))
        moved = [distances(reference, *step(dataclasses.replace(batch, state=state))) for state in states]
        float32 = {quantity: max(draw[quantity] for draw in moved) for quantity in moved[0]}
        on_cpu = {"float32": float32, "bfloat16": distances(reference, *in_bfloat16.result())}
    return dataclasses.replace(reference, on_cpu=on_cpu)


def training_step(network: Network, precision: str) -> Callable[[Reference], tuple[float, np.ndarray]]:
    """The function from a reference's state and batch to the loss and the gradient of an update, dropout included.

    precision: one of `PRECISIONS`.
    """
    import jax

    from common.devices import compilation
    from common.training.steps import train_step

    dtype, of_products = PRECISIONS[precision]
    compiled = compilation.jit(
        functools.partial(
            train_step,
            classifier=_classifier(network, dtype),
            optimizer=_keep_gradient(),
            transform=lambda _, images: images,
        )
    )

    def step(start: Reference) -> tuple[float, np.ndarray]:
        with jax.default_matmul_precision(of_products):
            state, sums = compiled(start.state, start.images, start.labels)
        leaves = jax.device_get(jax.tree.leaves(state.opt_state))
        return float(sums.loss) / BATCH, np.concatenate([np.ravel(leaf) for leaf in leaves])

    return step


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
