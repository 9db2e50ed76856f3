"""The contestants of `benchmarks.throughput`: training steps to be timed, each in its own process.

A contestant is a function (spec) -> (updates, peak_memory). updates(n) makes n updates and returns when they are done;
peak_memory() returns bytes. `serve` runs one behind a pipe, so that contestants share neither memory nor threads.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import networks
from benchmarks.networks import CLASSES
from common.devices import host

Updates = Callable[[int], None]
PeakMemory = Callable[[], int]

# Of stochastic gradient descent, ours and PyTorch's.
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4

# timm's names of our variants.
TIMM = {
    "resnet18_modern": "resnet18",
    "resnet34_modern": "resnet34",
    "resnet50_modern": "resnet50",
    "resnet101_modern": "resnet101",
    "vgg16": "vgg16",
    "vgg16_bn": "vgg16_bn",
    "s16": "vit_small_patch16_224",
    "b16": "vit_base_patch16_224",
    "l16": "vit_large_patch16_224",
}


@dataclasses.dataclass(frozen=True)
class Spec:
    """A race: the network `family:variant`, images in a batch, their side in pixels, precision of the computation.

    per_call: our updates in a compiled call, as `train.steps_per_call`. classes: the number of labels.
    """

    family: str
    variant: str
    batch_size: int
    image_size: int
    dtype: str
    per_call: int = 1
    classes: int = CLASSES

    @property
    def name(self) -> str:
        """The network and the race's conditions."""
        calls = f", {self.per_call} updates a call" if self.per_call > 1 else ""
        return f"{self.family} {self.variant}, batch {self.batch_size} at {self.image_size}, {self.dtype}{calls}"


def serve(connection: Connection, contestant: str, spec: Spec, candidate: str = "") -> None:
    """Sends the seconds of a contestant's first update, then those of n updates for each n that it receives.

    The first update includes compilation. Untimed updates precede the n, because other contestants have used memory and
    caches in the meantime. When it receives None, it sends the peak memory in bytes and ends. If something fails, it
    sends the exception as its answer. candidate: the name of a formulation of `benchmarks.racing.candidates` to use.
    """
    try:
        if candidate:
            from benchmarks.racing import candidates

            candidates.CANDIDATES[candidate]()
        updates, peak_memory = CONTESTANTS[contestant](spec)
        started = time.perf_counter()
        updates(spec.per_call)
        connection.send(time.perf_counter() - started)
        while (count := connection.recv()) is not None:
            updates(spec.per_call)
            started = time.perf_counter()
            updates(count)
            connection.send(time.perf_counter() - started)
        connection.send(peak_memory())
    except Exception as error:  # noqa: BLE001  the parent reports it
        connection.send(RuntimeError(f"{contestant}: {type(error).__name__}: {error}"))


def module_of(spec: Spec) -> tuple[Any, Any]:
    """The `model` section and the classifier of a race's network."""
    return networks.build(spec.family, spec.variant, spec.image_size, spec.classes, dtype=spec.dtype)


def _ours(spec: Spec) -> tuple[Updates, PeakMemory]:
    """Our update, compiled as in the training loop, with its state donated."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from common.config import base
    from common.data.pipeline import ResidentFeed
    from common.devices import mesh as mesh_lib
    from common.training.state import create_state
    from common.training.steps import compile_update
    from common.training.totals import no_totals

    jax.config.update("jax_enable_compilation_cache", False)  # so that the first update includes compilation
    model, classifier = module_of(spec)
    config = base(model)
    mesh = mesh_lib.make_mesh(config.mesh)
    idle, sgd = host.resident_memory(), optimizer()
    rng = np.random.default_rng(0)
    shape = (spec.batch_size, *networks.image_shape(spec.family, spec.image_size))
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    labels = jnp.asarray(rng.integers(spec.classes, size=spec.batch_size), jnp.int32)
    rows = jnp.tile(jnp.arange(spec.batch_size, dtype=jnp.int32), (spec.per_call, 1))
    batches = mesh_lib.replicate((images, labels, rows), mesh)
    # A single update in a call is given its batch. Several pick theirs from the images, as from a resident dataset.
    select = ResidentFeed.select if spec.per_call > 1 else lambda batch, _: batch[:2]
    compiled = compile_update(select, mesh, classifier=classifier, optimizer=sgd, transform=lambda _, batch: batch)
    carry = mesh_lib.replicate((create_state(classifier, sgd, config.seed), no_totals()), mesh)

    def updates(count: int) -> None:
        nonlocal carry
        for _ in range(count // spec.per_call):
            carry = compiled(*carry, batches, spec.per_call)
        jax.block_until_ready(carry)

    def peak_memory() -> int:
        stats = jax.devices()[0].memory_stats()
        return stats["peak_bytes_in_use"] if stats else host.peak_resident_memory() - idle

    return updates, peak_memory


def optimizer() -> Any:
    """Our optimizer: gradient descent with momentum and weight decay on every parameter, as PyTorch's."""
    import optax

    return optax.chain(optax.add_decayed_weights(WEIGHT_DECAY), optax.sgd(LEARNING_RATE, momentum=MOMENTUM))


def _torch(spec: Spec) -> tuple[Updates, PeakMemory]:
    """The update of the same network in PyTorch."""
    return in_torch(_torch_network(spec), spec)


def _torch_compiled(spec: Spec) -> tuple[Updates, PeakMemory]:
    """The same, compiled."""
    return in_torch(_torch_network(spec), spec, compiled=True)


def _torch_graphs(spec: Spec) -> tuple[Updates, PeakMemory]:
    """The same, compiled and recorded as CUDA graphs, so that a small network does not wait for kernels to start."""
    return in_torch(_torch_network(spec), spec, compiled=True, graphs=True)


def _torch_network(spec: Spec) -> Callable[[], Any]:
    from benchmarks.racing import torch_networks

    _, classifier = module_of(spec)
    return functools.partial(torch_networks.torch_network, classifier.module, spec.image_size)


def _timm(spec: Spec) -> tuple[Updates, PeakMemory]:
    """The compiled update of timm's module of that name."""
    import timm

    sizes = {"img_size": spec.image_size} if spec.family == "vit" else {}
    make = functools.partial(timm.create_model, TIMM[spec.variant], num_classes=spec.classes, **sizes)
    return in_torch(make, spec, compiled=True)


def in_torch(
    make: Callable[[], Any], spec: Spec, compiled: bool = False, graphs: bool = False
) -> tuple[Updates, PeakMemory]:
    """PyTorch's update of a module: channels last, a fused optimizer, and as many threads as this process has cores.

    make: returns the module. compiled: `torch.compile` compiles the forward and the backward pass; its caches on disk
    are off. graphs: both passes are recorded as CUDA graphs in the first updates.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as in JAX by default; a CPU has none
    torch.set_num_threads(host.cores())
    idle = host.resident_memory()
    network = make().to(device).to(memory_format=torch.channels_last)
    forward = network
    if compiled:
        import torch._inductor.config as inductor

        inductor.force_disable_caches = True  # so that the first update includes compilation
        forward = torch.compile(network, mode="reduce-overhead" if graphs else "default")
    sgd = torch.optim.SGD(network.parameters(), LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)
    height, width, channels = networks.image_shape(spec.family, spec.image_size)
    images = torch.randn(spec.batch_size, channels, height, width, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(spec.classes, (spec.batch_size,), device=device)

    def updates(count: int) -> None:
        for _ in range(count):
            sgd.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
                outputs = forward(images)
                main, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
                loss = torch.nn.functional.cross_entropy(main, labels)
                for logits in auxiliary:
                    loss = loss + 0.3 * torch.nn.functional.cross_entropy(logits, labels)
            loss.backward()
            sgd.step()
        if device == "cuda":
            torch.cuda.synchronize()

    def peak_memory() -> int:
        return torch.cuda.max_memory_allocated() if device == "cuda" else host.peak_resident_memory() - idle

    return updates, peak_memory


def _products(spec: Spec) -> tuple[Updates, PeakMemory]:
    """Products of square matrices, a few in an update: the highest rate of arithmetic on this machine."""
    import jax
    import numpy as np

    products, size = products_in_an_update(), product_size()
    # Random numbers, because a GPU multiplies zeros or equal numbers faster: fewer of its transistors switch.
    left = jax.numpy.asarray(np.random.default_rng(0).normal(size=(size, size)) / np.sqrt(size), spec.dtype)

    @jax.jit
    def chain(right: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, products, lambda _, product: left @ product, right)

    def updates(count: int) -> None:
        for _ in range(count // spec.per_call):
            result = chain(left)
        jax.block_until_ready(result)

    return updates, host.peak_resident_memory


def products_in_an_update() -> int:
    """The number of products in an update of the product contestant."""
    import jax

    return 2 if jax.default_backend() == "cpu" else 10


def product_size() -> int:
    """The side of the matrices, large enough for the device's full rate."""
    import jax

    return 2048 if jax.default_backend() == "cpu" else 8192


CONTESTANTS = {
    "ours": _ours,
    "torch": _torch,
    "torch.compile": _torch_compiled,
    "torch.graphs": _torch_graphs,
    "timm": _timm,
    "products": _products,
}
