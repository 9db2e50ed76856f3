"""The race: both sides run the same network, and the numbers are what they say."""

import importlib.util
import multiprocessing
import os
import pathlib
import re

import jax
import numpy as np
import pytest

from benchmarks import networks, throughput
from benchmarks.racing import contestants, race
from benchmarks.racing.contestants import Spec
from common.anatomy import layer_table
from common.errors import UserError
from common.run import workdir
from common.training.state import num_parameters
from tests.networks import drawn
from tests.runs import ROOT, refused, run

OTHERS = ("vgg:vgg11_bn", "googlenet:googlenet_bn", "resnet:resnet34", "resnet:resnet50", "resnet:plain18", "vit:b32")
NETWORKS = (*networks.RACED, *OTHERS)
SMALL = ("lenet:lenet5_modern", "resnet:resnet20")


def spec_of(name):
    family, _, variant = name.partition(":")
    size = networks.size_of(family, variant)
    return Spec(family, variant, 4, size.side, "float32", classes=size.classes)


def network_of(spec):
    """Our module, the shape of an image, and PyTorch's counterpart."""
    from benchmarks.racing import torch_networks

    module = contestants.module_of(spec)[1].module
    shape = networks.image_shape(spec.family, spec.image_size)
    return module, shape, torch_networks.torch_network(module, spec.image_size)


def test_networks_that_timm_lacks_are_named():
    assert throughput.missing_in_timm([spec_of(name) for name in ("vit:s16", "lenet:lenet5_modern", "vgg:vgg16")]) == [
        "lenet:lenet5_modern"
    ]


@pytest.mark.parity
@pytest.mark.parametrize("name", NETWORKS)
def test_both_sides_have_the_same_parameters_and_multiply_adds(name):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):  # without numbers, which for some are half a gigabyte
        module, shape, network = network_of(spec_of(name))
        images = torch.zeros(2, shape[2], *shape[:2])
        with FlopCounterMode(display=False) as counter:
            network.train()(images)
    shapes = layer_table.variable_shapes(module, shape)
    assert num_parameters(shapes["params"]) == sum(parameter.numel() for parameter in network.parameters())
    assert _training_adds(module, shapes, shape) == counter.get_total_flops() // 2


def _training_adds(module, shapes, shape):
    """The multiply-adds of two images forwards in training, GoogLeNet's auxiliary classifiers included."""
    state = [name for name in shapes if name != "params"]

    def forward(variables, images):
        return module.apply(variables, images, train=True, rngs={"dropout": jax.random.key(0)}, mutable=state)

    return sum(layer_table.multiply_adds(forward, shapes, jax.ShapeDtypeStruct((2, *shape), "float32")).values())


@pytest.mark.parity
@pytest.mark.parametrize("name", SMALL)
def test_both_sides_have_the_same_logits(name):
    # Layer by layer in the order of the calls, the counterpart takes our arrays; so it is the same network.
    torch = pytest.importorskip("torch")
    module, shape, network = network_of(spec_of(name))
    variables = drawn(layer_table.variable_shapes(module, shape))
    images = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    with torch.no_grad():
        _load(torch, network, module, variables, shape)
        theirs = network.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(theirs, jax.jit(module.apply)(variables, images), rtol=1e-3, atol=1e-4)


def _load(torch, network, module, variables, shape):
    """Copies our arrays to the counterpart's layers, both in the order in which they have parameters."""
    ours = [_arrays(variables, row.name) for row in layer_table.rows(module, shape)[1:] if row.leaf and row.parameters]
    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear)
    theirs = [layer for layer in network.modules() if isinstance(layer, kinds)]
    for arrays, layer in zip(ours, theirs, strict=True):
        for key, name in (("bias", "bias"), ("scale", "weight"), ("mean", "running_mean"), ("var", "running_var")):
            if key in arrays:
                getattr(layer, name).copy_(torch.from_numpy(np.array(arrays[key])))
        if "kernel" in arrays:
            kernel = np.array(arrays["kernel"])
            turned = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
            layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(turned)))


def _arrays(variables, path):
    """The arrays of a layer by name, in whichever collection they are; those of a scanned block are refused."""
    found = {}
    for collection in variables.values():
        for name in path.split("/"):
            collection = collection.get(name, {})
        found |= collection
    return found


@pytest.mark.parity
def test_both_sides_make_the_same_update_of_a_parameter():
    # Momentum and weight decay: a linear layer whose gradient is zero shrinks alike on both sides.
    torch = pytest.importorskip("torch")
    import optax

    class Constant(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, images):
            return torch.zeros(len(images), 10) + 0 * self.weight

    network = Constant()
    updates, _ = contestants.in_torch(lambda: network, spec_of("resnet:resnet20"))
    updates(3)
    optimizer, params = contestants.optimizer(), np.ones((), np.float32)
    state = optimizer.init(params)
    for _ in range(3):
        changes, state = optimizer.update(np.zeros((), np.float32), state, params)
        params = optax.apply_updates(params, changes)
    np.testing.assert_allclose(network.weight.item(), params, rtol=1e-6)
    assert params < 1


@pytest.mark.parametrize("name", networks.RACED)
def test_every_raced_network_can_be_made_at_its_own_size_and_at_the_smallest(name):
    size = networks.RACED[name]
    for side in {size.side, size.smallest}:
        spec = Spec(*name.split(":"), 2, side, "float32", classes=size.classes)
        classifier, shape = contestants.module_of(spec)[1], networks.image_shape(spec.family, side)
        images = jax.ShapeDtypeStruct((2, *shape), "float32")

        def logits(key, images, classifier=classifier):
            return classifier.logits(classifier.module.init_with_output(key, images, train=False)[0])

        assert jax.eval_shape(logits, jax.random.key(0), images).shape == (2, size.classes)


class Paced:
    """A contestant whose updates take so many seconds, and which notes its turns."""

    def __init__(self, name, pace, turns):
        self.name, self.pace, self.turns = name, pace, turns

    def seconds(self, count):
        self.turns.append((self.name, count))
        return self.pace * count


def test_contestants_take_turns_in_both_orders_with_updates_of_their_own_number():
    turns = []
    racers = {"ours": Paced("ours", 2.0, turns), "torch": Paced("torch", 3.0, turns)}
    rounds = race.take_turns(racers, {"ours": 4, "torch": 2}, 2)
    assert rounds == [{"ours": 2.0, "torch": 3.0}] * 2
    assert turns == [("ours", 4), ("torch", 2), ("torch", 2), ("ours", 4)]


def test_the_share_of_the_rate_of_matrix_products():
    spec = spec_of("lenet:lenet5_modern")
    flops = 4 * 6 * 416_520  # of an update: four images, six operations for each multiply-add forwards
    assert 4 * race.training_flops(spec) == flops
    products = contestants.products_in_an_update() * 2 * contestants.product_size() ** 3
    found = race.shares(spec, [{"ours": 2.0, "products": 1.0}])
    assert found["matrix products, TFLOP/s"]["median"] == pytest.approx(products / 1e12)
    assert found["ours, share of the rate of matrix products"]["median"] == pytest.approx(flops / 2 / products)


def peers():
    """The libraries that are installed here, as --peers takes them."""
    return ["torch", "torch.compile"] if importlib.util.find_spec("torch") else []


RACE = ("--models=lenet:lenet5_modern", "--scale=smoke", "--rounds=2", "--seconds=0")


@pytest.mark.slow  # a benchmark from end to end
@pytest.mark.timeout(900)
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="only Linux reports peak memory there")
def test_a_race_has_the_numbers_of_every_side(tmp_path):
    options = (*RACE, f"--peers={','.join(peers())}", f"--out={tmp_path}")
    code, output, errors = run(*options, module="benchmarks.throughput", timeout=850)
    assert code == 0, errors
    assert "0 of 1 networks are there; left: lenet:lenet5_modern" in output
    [path] = tmp_path.glob("*.json")
    result = workdir.read_json(path)
    for side in ("ours", *peers()):
        for what in ("images/s", "peak memory, GB", "first update with compilation, s"):
            assert result["measured"][f"{side}, {what}"]["median"] > 0
    assert [name for name in result["measured"] if "ours over" in name] == [f"ours over {peer}" for peer in peers()]
    assert 0 < result["measured"]["ours, share of the rate of matrix products"]["median"] < 1
    assert result["peers"].keys() == ({"torch"} if peers() else set())
    assert (result["race"]["classes"], result["race"]["batch_size"]) == (10, 2)
    assert all((ROOT / name).exists() for name in result["code"]["paths"])
    assert "lenet/model.py" in result["code"]["paths"]


@pytest.mark.slow  # a benchmark from end to end
def test_a_race_goes_on_where_it_stopped(tmp_path):
    def race_again():
        code, output, errors = run(*RACE, f"--out={tmp_path}", module="benchmarks.throughput")
        assert code == 0, errors
        return output

    assert "0 of 1 networks are there" in race_again()
    assert "1 of 1 networks are there; left: none" in race_again()
    [path] = tmp_path.glob("*.json")
    result = workdir.read_json(path)
    result["code"]["digest"] = "of earlier code"
    workdir.write_json(path, result)
    assert "0 of 1 networks are there" in race_again()
    assert workdir.read_json(path)["code"]["digest"] != "of earlier code"


@pytest.mark.slow  # every network of the race; not compiled in PyTorch, which takes longest
@pytest.mark.timeout(1800)
def test_every_raced_network_can_be_timed(tmp_path):
    code, output, errors = run(
        *("--scale=smoke", f"--peers={','.join(peers()[:1])}", "--rounds=2", "--seconds=0", f"--out={tmp_path}"),
        module="benchmarks.throughput",
        timeout=1700,
    )
    assert code == 0, (output, errors)
    assert len(list(tmp_path.glob("*.json"))) == len(networks.RACED)
    assert re.findall("left: (.*)", output)[-1] == "none"


@pytest.mark.parity
@pytest.mark.slow  # trains
def test_a_failing_network_does_not_stop_the_others(tmp_path):
    # The dense layers of PyTorch's auxiliary classifiers are made for images of 224 pixels.
    pytest.importorskip("torch")
    code, output, errors = run(
        *("--models=googlenet:googlenet,resnet:resnet20", "--peers=torch", "--image_size=96", "--batch_size=2"),
        *("--rounds=2", "--seconds=0", f"--out={tmp_path}"),
        module="benchmarks.throughput",
    )
    assert code == 2, (output, errors)
    assert "not timed, and the same command tries again: googlenet:googlenet" in errors
    [path] = tmp_path.glob("*.json")
    assert "resnet20" in path.name


def test_a_library_that_is_not_there_is_refused():
    assert "did you mean 'timm'" in refused("--peers=tim", module="benchmarks.throughput")


def test_a_network_that_does_not_exist_is_refused_before_anything_runs():
    assert "resnet50" in refused("--models=resnet:resnet51", module="benchmarks.throughput")


@pytest.mark.parametrize(("alone", "kept"), [(True, 3.0), (False, None)])
def test_a_first_update_beside_others_is_not_timed(alone, kept):
    ours, theirs = multiprocessing.Pipe()
    racer = race.Racer(race.Entry("ours", spec_of("lenet:lenet5_modern")), ours)
    theirs.send(3.0)
    racer.wait(alone)
    assert (racer.first_update, racer.failure) == (kept, "")


def test_contestants_see_no_gpu_where_jax_has_none(monkeypatch):
    # Otherwise PyTorch's build for CUDA would race on the GPU against our CPU.
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    race.share_device()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    race.share_device()
    assert not os.environ["CUDA_VISIBLE_DEVICES"]


@pytest.mark.parity
def test_pytorch_for_cpus_does_not_race_against_a_gpu(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    throughput.check_device([])
    with pytest.raises(UserError, match="finds none: install its build for CUDA"):
        throughput.check_device(["torch.compile"])


def test_pytorch_records_graphs_on_a_gpu_only():
    with pytest.raises(UserError, match="torch.graphs, which needs an NVIDIA GPU"):
        throughput.check_device(["torch.compile", "torch.graphs"])


def test_every_library_that_may_race_has_a_contestant():
    assert set(throughput.LIBRARIES) <= set(contestants.CONTESTANTS)


@pytest.mark.parity
@pytest.mark.slow  # the race of both sides, which compiles without graphs
def test_pytorchs_network_with_graphs_makes_updates():
    # Without a GPU nothing is recorded, and the rest of the contestant is the same.
    pytest.importorskip("torch")
    updates, peak_memory = contestants.CONTESTANTS["torch.graphs"](spec_of("lenet:lenet5_modern"))
    updates(2)
    assert peak_memory() > 0


def test_a_race_on_a_tpu_is_refused_before_anything_is_built(monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    with pytest.raises(UserError, match="a TPU takes one; `python -m benchmarks.sweep`"):
        race.share_device()
