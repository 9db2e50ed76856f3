"""Tests that the time of an update is added up by kind of kernel, as a trace tells it."""

import pytest

from benchmarks import kernels

GPU, HOST = 1, 2
NAMES = [
    {"ph": "M", "name": "process_name", "pid": GPU, "args": {"name": "/device:GPU:0"}},
    {"ph": "M", "name": "process_name", "pid": HOST, "args": {"name": "/host:CPU"}},
]


def event(name, microseconds, operation="", process=HOST):
    args = {"hlo_op": operation} if operation else {}
    return {"ph": "X", "pid": process, "name": name, "dur": microseconds, "args": args}


def test_an_accelerators_work_is_counted_and_not_the_hosts():
    ours = [event("gemm", 5, "dot.1", GPU), event("a kernel without an operation", 1, process=GPU)]
    rest = [event("python", 100), event("nothing", 0, process=GPU)]
    assert kernels.device_events([*NAMES, *rest, *ours]) == ours


def test_of_several_devices_the_first_is_counted():
    # An update's time is that of one device: they work side by side.
    other = {"ph": "M", "name": "process_name", "pid": 7, "args": {"name": "/device:GPU:1"}}
    ours = event("gemm", 5, "dot.1", GPU)
    assert kernels.device_events([other, *NAMES, event("gemm", 5, "dot.1", 7), ours]) == [ours]


def test_a_tpus_programs_and_loops_are_not_counted_beside_their_operations():
    threads = {1: "Steps", 2: "XLA Modules", 3: "XLA Ops"}
    names = [
        {"ph": "M", "name": "process_name", "pid": GPU, "args": {"name": "/device:TPU:0"}},
        {"ph": "M", "name": "process_name", "pid": 9, "args": {"name": "#Chip0 TPU Non-Core HBM"}},
        *({"ph": "M", "name": "thread_name", "pid": GPU, "tid": n, "args": {"name": threads[n]}} for n in threads),
    ]
    step, program, loop, fusion = (
        event(name, 9, process=GPU) | {"tid": tid}
        for name, tid in (("1", 1), ("jit_updates(1)", 2), ("while.3", 3), ("fusion.4", 3))
    )
    assert kernels.device_events([*names, step, program, loop, fusion, event("memory", 9, process=9)]) == [fusion]


def test_on_a_cpu_a_loop_is_not_counted_beside_what_it_repeats():
    repeated = event("dot.2", 5, "dot.2")
    others = [event("while.1", 50, "while.1"), event("call", 50, "call"), event("python", 100)]
    assert kernels.device_events([NAMES[1], *others, repeated]) == [repeated]


@pytest.mark.parametrize(
    ("name", "operation", "kind"),
    [
        ("cudnn_dgrad_engine", "custom-call.1", "convolutions: gradients of inputs"),
        ("sm90_wgrad", "conv.3", "convolutions: gradients of weights"),
        ("fmha_forward", "gemm.1", "attention"),
        ("loop", "convolution.7", "convolutions"),
        ("nvjet_hsh", "", "matrix products"),
        ("loop_transpose_fusion", "", "copies and layouts"),
        ("loop_add_fusion", "add.4", kernels.REST),
    ],
)
def test_a_kernel_is_of_the_first_kind_that_its_name_or_operation_tells(name, operation, kind):
    assert kernels.kind_of(event(name, 1, operation)) == kind


def test_times_are_summed_and_the_longest_come_first():
    events = [event("loop", 2, "add.1"), event("gemm", 5, "dot.1"), event("loop", 2, "add.1"), event("x", 1, "dot.2")]
    assert list(kernels.by_kind(events).items()) == [("matrix products", 6), (kernels.REST, 4)]
    assert kernels.longest(events) == [("dot.1", 5), ("add.1", 4), ("dot.2", 1)]


def test_kernels_of_a_recorded_graph_keep_their_own_names():
    assert kernels.longest([event("k" * 70, 2, "command_buffer.1")]) == [("k" * 60, 2)]


def test_a_dozen_kernels_are_listed():
    events = [event("kernel", 20 - number, f"op.{number}") for number in range(15)]
    assert kernels.longest(events) == [(f"op.{number}", 20 - number) for number in range(12)]
