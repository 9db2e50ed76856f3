"""The contestants of `benchmarks.throughput`: training steps to be timed, each in its own process.

A contestant is a function (spec) -> (step, peak_memory). step() makes one update and returns when it is done;
peak_memory() returns bytes. `serve` runs one behind a pipe, so that contestants share neither memory nor threads.
"""

import dataclasses
import functools
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import networks
from benchmarks.networks import CLASSES

Step = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Spec:
    """A race: the network `family:variant`, images in a batch, their side in pixels, precision of the computation."""

    family: str
    variant: str
    batch_size: int
    image_size: int
    dtype: str


def serve(connection: Connection, contestant: str, spec: Spec) -> None:
    """Builds a contestant and sends the seconds that took; then makes n updates for each n received and sends seconds.

    An untimed update precedes the n, because other contestants have used memory and caches meanwhile. For None it sends
    the peak memory in bytes and ends. It sends an exception in place of an answer.
    """
    try:
        started = time.perf_counter()
        step, peak_memory = CONTESTANTS[contestant](spec)
        step()
        connection.send(time.perf_counter() - started)
        while (count := connection.recv()) is not None:
            step()
            started = time.perf_counter()
            for _ in range(count):
                step()
            connection.send(time.perf_counter() - started)
        connection.send(peak_memory())
    except Exception as error:  # noqa: BLE001  the parent reports it
        connection.send(error)


def module_of(spec: Spec) -> tuple[Any, Any]:
    """The `model` section and the classifier of a race's network."""
    return networks.of(spec.family, spec.variant, spec.image_size, dtype=spec.dtype)


def _ours(spec: Spec) -> tuple[Step, Callable[[], int]]:
    """Our update (`common.training.steps`), compiled, with its state donated; SGD with momentum, as in PyTorch's."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from common.config import base
    from common.devices import compilation
    from common.training.state import create_state
    from common.training.steps import train_step

    model, classifier = module_of(spec)
    config, optimizer = base(model), optax.sgd(0.01, momentum=0.9)
    compiled = compilation.jit(
        functools.partial(train_step, classifier=classifier, optimizer=optimizer, transform=lambda _, images: images),
        donate_argnums=0,
    )
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(spec.batch_size, spec.image_size, spec.image_size, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(CLASSES, size=spec.batch_size), jnp.int32)
    state = create_state(classifier, optimizer, config.seed)

    def step() -> None:
        nonlocal state
        state, _ = compiled(state, images, labels)
        jax.block_until_ready(state)

    return step, functools.partial(_peak_memory, jax.devices()[0].memory_stats())


def _torch(spec: Spec) -> tuple[Step, Callable[[], int]]:
    """PyTorch's update, channels last, which makes its convolutions faster; compiled where there is a GPU."""
    import torch

    from benchmarks import torch_networks

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # TF32, as in JAX by default
    _, classifier = module_of(spec)
    network = torch_networks.torch_network(classifier.module, spec.image_size).to(device)
    network = network.to(memory_format=torch.channels_last)
    forward = torch.compile(network) if device == "cuda" else network
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    images = torch.randn(spec.batch_size, 3, spec.image_size, spec.image_size, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (spec.batch_size,), device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
            outputs = forward(images)
            main, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
            loss = torch.nn.functional.cross_entropy(main, labels)
            for logits in auxiliary:
                loss = loss + 0.3 * torch.nn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step, torch.cuda.max_memory_allocated if device == "cuda" else functools.partial(_peak_memory, None)


def _products(spec: Spec) -> tuple[Step, Callable[[], int]]:
    """Products of square matrices, ten in a step: the best rate of arithmetic on this machine."""
    import jax
    import jax.numpy as jnp

    size = product_size()
    left = jnp.full((size, size), 1.0 / size, spec.dtype)

    @jax.jit
    def chain(right: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, PRODUCTS, lambda _, product: left @ product, right)

    return lambda: jax.block_until_ready(chain(left)), functools.partial(_peak_memory, None)


PRODUCTS = 10  # in a step of the product contestant


def product_size() -> int:
    """The side of the matrices, large enough for the device's full rate."""
    import jax

    return 2048 if jax.default_backend() == "cpu" else 8192


def _peak_memory(device_stats: dict[str, int] | None) -> int:
    """Peak bytes of the accelerator's memory, or of this process where the accelerator does not count them."""
    if device_stats:
        import jax

        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


CONTESTANTS = {"ours": _ours, "torch": _torch, "products": _products}
