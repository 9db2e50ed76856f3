"""The layout of arrays: it changes no loss, and devices exchange what the model of docs/scaling.md predicts."""

import json
import subprocess
import sys

import jax
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from benchmarks import ahead_of_time, collectives, scaling
from common.devices import sharding
from tests import networks
from tests.modes import MODES, NETWORKS
from tests.runs import ROOT, environment, run
from tests.slow import rest_slow


def mesh(data, fsdp):
    return AbstractMesh((data, fsdp), ("data", "fsdp"))


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((512, 1024), PartitionSpec(None, "fsdp")),
        ((1024, 512), PartitionSpec(None, "fsdp")),  # never the first where another divides
        ((1024, 10), PartitionSpec("fsdp")),
        ((3, 3, 256, 512), PartitionSpec(None, None, None, "fsdp")),
        ((3, 3, 512, 512), PartitionSpec(None, None, None, "fsdp")),
        ((7, 7, 3, 64), PartitionSpec(None, None, None, "fsdp")),
        ((24, 1024, 16, 64), PartitionSpec(None, "fsdp")),  # 24 scanned blocks
        ((24, 4096), PartitionSpec(None, "fsdp")),
        ((4096,), PartitionSpec("fsdp")),
        ((1000,), PartitionSpec()),  # small
        ((999, 1001), PartitionSpec()),  # nothing divides
        ((), PartitionSpec()),
    ],
)
def test_the_largest_axis_that_divides_is_split(shape, spec):
    assert sharding.partition(shape, mesh(1, 8)) == spec
    assert sharding.partition(shape, mesh(8, 1)) == PartitionSpec()


def state_shapes(family, variant):
    """The shapes of a variant's state on ImageNet for SGD with momentum."""
    of = networks.classifier(family, variant, classes=1000, image=(224, 224, 3))
    return networks.state_shapes(of, optax.sgd(lambda step: 0.1, momentum=0.9))


def printed(*arguments, module):
    """The JSON in the last line that `python -m MODULE ARGUMENTS` prints, with eight simulated devices."""
    code, output, errors = run(*arguments, module=module, devices=8, timeout=500)
    assert code == 0, errors
    return json.loads(output.strip().splitlines()[-1])


# One rule serves all architectures. The network that is always tested has loops, attention, dropout and gradient
# accumulation. Its mode has both axes of the mesh. Batch normalisation on eight devices is tested in
# tests/nn/test_batch_norm.py.
def test_a_mesh_of_two_axes_has_the_losses_of_one_device():
    found = printed("vit", "one device", "data and fsdp", module="tests.modes")
    one, mode = found["one device"], found["data and fsdp"]
    assert one["losses"][0] != one["losses"][-1]
    assert mode["losses"] == pytest.approx(one["losses"], rel=2e-3)
    assert mode["bytes"] < one["bytes"]


@pytest.mark.slow  # a campaign over all architectures
@pytest.mark.parametrize("name", NETWORKS)
def test_every_mode_has_the_losses_of_one_device(name):
    found = printed(name, *MODES, module="tests.modes")
    one = found.pop("one device")
    assert one["losses"][0] != one["losses"][-1]
    for mode in found.values():
        assert mode["losses"] == pytest.approx(one["losses"], rel=2e-3)
    assert found["fsdp"]["bytes"] < found["data and fsdp"]["bytes"] < found["data"]["bytes"] == one["bytes"]


@pytest.mark.parametrize(
    ("family", "variant"), [("resnet", "resnet50"), ("vit", "l16"), ("vit", "h14"), ("vgg", "vgg16")]
)
def test_fully_sharded_each_of_eight_devices_holds_an_eighth(family, variant):
    shapes = state_shapes(family, variant)
    held = (shapes.params, shapes.opt_state, shapes.ema)
    whole = sharding.bytes_per_device(held, mesh(8, 1))
    assert sharding.bytes_per_device(held, mesh(1, 8)) == pytest.approx(whole / 8, rel=0.1)
    assert whole == 2 * sum(leaf.size * 4 for leaf in jax.tree.leaves(shapes.params)) + 4


def test_the_table_names_every_kind_of_array_and_sums():
    text = sharding.table(state_shapes("resnet", "resnet50"), mesh(1, 8))
    (head,) = (line.split() for line in text.splitlines() if line.startswith("fc/kernel"))
    assert head[1:] == ["2048x1000", "-,fsdp", f"{2048 * 125 * 4:,}"]
    assert len(text.splitlines()) < 60
    assert "all of params" in text


@pytest.mark.parametrize("layouts", rest_slow(["some", "all"]))
def test_checkpoints_of_any_layout_restore_on_any_other_and_the_chosen_are_kept(tmp_path, layouts):
    found = printed(tmp_path, layouts, module="tests.layouts")
    assert found["wrong"] == []
    assert found["kept"] == [3, 4, 8, 9, 10]  # the best, multiples of four, the last two


@pytest.mark.slow  # the losses on a mesh are compared above; this counts bytes
def test_data_parallel_sends_the_parameters_twice_round():
    found = printed(module="tests.passes")
    assert sum(found["1"].values()) == pytest.approx(2, rel=0.05)
    assert found["8"]["all-gather"] == pytest.approx(2, rel=0.3)


PROGRAM = """
HloModule example

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %all-gather.1 = f32[64]{0} all-gather(f32[8]{0} %x), channel_id=1, replica_groups=[1,8]<=[8], dimensions={0}
}

%cond (p: (s32[], f32[8])) -> pred[] {
  %lt = pred[] compare(s32[] %a, s32[] %b), direction=LT
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %all-reduce.3 = (f32[100]{0}, f32[2,5]{1,0}) all-reduce(f32[100]{0} %g, f32[2,5]{1,0} %h), replica_groups={{0,1,2,3}}, to_apply=%add
  %while.1 = (s32[], f32[8]{0}) while((s32[], f32[8]{0}) %t), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"12"}}
  %all-to-all.2 = f32[8]{0} all-to-all(f32[8]{0} %g), replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}, dimensions={0}
  %rs = bf16[4]{0} reduce-scatter(bf16[8]{0} %g), replica_groups={{0,1},{2,3}}, dimensions={0}, to_apply=%add
}
"""  # noqa: E501


def test_collectives_are_read_with_their_groups_and_turns():
    found = {one.kind: one for one in collectives.read(PROGRAM)}
    assert found["all-reduce"].sent == 2 * 3 / 4 * 440
    assert found["all-gather"].sent == 12 * 7 / 8 * 256
    assert found["all-to-all"].sent == 3 / 4 * 32
    assert found["reduce-scatter"].sent == 1 / 2 * 16


ON_TPU = """
HloModule example

%start (p: bf16[8]) -> bf16[64] {
  %all-gather.1 = bf16[64]{0} all-gather(bf16[8]{0} %p), channel_id=7, replica_groups=[1,8]<=[8], dimensions={0}
}

%done (p: bf16[8]) -> bf16[64] {
  %all-gather.2 = bf16[64]{0} all-gather(bf16[8]{0} %p), channel_id=7, replica_groups=[1,8]<=[8], dimensions={0}
}

%all-reduce-scatter.3 (p: bf16[64]) -> bf16[8] {
  %all-reduce.4 = bf16[64]{0} all-reduce(bf16[64]{0} %p), channel_id=8, replica_groups=mesh['axis_0'=8,'axis_1'=4], device_ids=([4,8]T(1,0)) {'axis_0'}, to_apply=%add
}

ENTRY %main (a: bf16[8]) -> bf16[8] {
  %a = bf16[64]{0} fusion(bf16[8]{0} %x), calls=%start, metadata={op_name="jit(f)/dot"}, backend_config={"estimated_cycles":"100"}
  %b = bf16[64]{0} fusion(bf16[64]{0} %a), calls=%done, metadata={op_name="jit(f)/dot"}, backend_config={"estimated_cycles":"20"}
  %g = bf16[32]{0} all-reduce(bf16[32]{0} %e), channel_id=9, replica_groups=[1,8]<=[8], to_apply=%add
  %h = bf16[32]{0} all-reduce(bf16[32]{0} %f), channel_id=9, replica_groups=[1,8]<=[8], to_apply=%add
  %c = bf16[8]{0} fusion(bf16[64]{0} %b), calls=%all-reduce-scatter.3, backend_config={"estimated_cycles":"3"}
}
"""  # noqa: E501


def test_a_tpu_repeats_a_collective_at_its_start_and_end():
    found = collectives.sent(collectives.read(ON_TPU))
    assert found["all-gather"] == found["reduce-scatter"] == 7 / 8 * 128
    assert found["all-reduce"] == 2 * (2 * 7 / 8 * 64)  # two communications of one computation may share a channel


def test_the_expected_cycles_of_a_tpu_program_add_up_by_function():
    assert ahead_of_time.expected_cycles(ON_TPU) == {"jit(f)/dot": 120, "unnamed": 3}


def test_the_cost_model_has_its_limits():
    machine = scaling.Machine()
    resnet = scaling.Network("resnet", 25_557_032, 4_089_184_256, batch=128)
    alone, node, pod = (scaling.exchange_seconds(4 * resnet.parameters, n, machine) for n in (1, 8, 4096))
    assert alone == 0
    assert node == pytest.approx(7 / 8 * 4 * resnet.parameters / machine.near + 3 * machine.latency)
    assert pod < node + 4 * resnet.parameters / 8 / machine.far + 12 * machine.latency
    assert scaling.compute_seconds(resnet, machine) == pytest.approx(6 * 4.089e9 * 128 / (0.4 * 989e12), rel=1e-3)


@pytest.mark.parametrize(
    ("call", "devices"), [("scaling.simulate_devices", scaling.CHECKED_ON), ("ahead_of_time.leave_devices_alone", 1)]
)
def test_programs_are_compiled_for_other_devices_without_those_of_this_machine(call, devices):
    # On a machine with a GPU the 8 devices would be missing, and a Vision Transformer for a TPU would ask for cuDNN.
    code = f"from benchmarks import ahead_of_time, scaling; {call}(); import jax; "
    code += "print(jax.default_backend(), jax.device_count())"
    told = {**environment(), "JAX_PLATFORMS": "cuda"}
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=told, capture_output=True, text=True)
    assert ended.stdout.split() == ["cpu", str(devices)], ended.stderr
