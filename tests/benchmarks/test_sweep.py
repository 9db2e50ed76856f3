"""The sweep over batches, sizes and devices: its points, its results, and how it goes on after a stop."""

import gc
import time

import jax
import pytest

from benchmarks import sweep, sweep_points
from benchmarks.sweep_points import Point
from common.errors import UserError
from common.run import workdir
from tests.runs import run

AXES = {
    "batch": [[Point("resnet", "resnet20", batch, 16) for batch in (4, 8, 512)]],
    "image size": [[Point("resnet", "resnet20", 4, side) for side in (16, 24)]],
}
SPEED = {"median": 2.0, "low": 1.0, "high": 3.0}
LATER = float("inf")
FELL_OFF = jax.errors.JaxRuntimeError("INTERNAL: the link fell off")


class Measuring:
    """Notes what is measured; a batch of 512 does not fit, and one of 8 fails with `failure` the first time."""

    def __init__(self, failure=FELL_OFF):
        self.points, self.failure = [], failure

    def __call__(self, point):
        failed_before = point in self.points
        self.points.append(point)
        if point.batch == 512:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")
        if point.batch == 8 and not failed_before:
            raise self.failure
        return SPEED


@pytest.fixture
def kept(monkeypatch):
    """Leaves other tests what they have compiled: a sweep clears the caches after each point, and collects garbage."""
    cleared = []
    monkeypatch.setattr(gc, "collect", lambda: 0)  # slow in a process with as many objects as that of the tests
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(True))
    return cleared


def test_a_sweep_goes_on_where_it_stopped(tmp_path, kept):
    path, measure = tmp_path / "sweep.json", Measuring()
    first = sweep.sweep(AXES, path, measure, LATER, "command")
    assert [point.batch for point in measure.points] == [4, 512, 8, 4]  # a point of two axes is measured once
    assert len(kept) == 4  # each began with empty caches
    names = [point.name for point in sweep_points.coarse_to_fine(AXES)]
    assert first == workdir.read_json(path)
    assert first["measured"] == {names[0]: SPEED, names[3]: SPEED}
    assert first["does_not_fit"] == [names[1]]
    assert first["failed"] == {names[2]: "INTERNAL: the link fell off"}
    second = sweep.sweep(AXES, path, measure, LATER, "command")
    assert len(measure.points) == 5  # only what had failed
    assert set(second["measured"]) == {names[0], names[2], names[3]}
    assert not second["failed"]
    third = sweep.sweep(AXES, path, measure, LATER, "command")
    assert (len(measure.points), third) == (5, second)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (ValueError("odd numbers of tokens\nare not"), "odd numbers of tokens"),
        (NotImplementedError(), "NotImplementedError"),
    ],
)
def test_a_failing_point_does_not_stop_the_others(failure, said, tmp_path, kept):
    # JAX itself refuses what a device lacks, such as a gradient of fused attention, before the runtime sees it.
    result = sweep.sweep(AXES, tmp_path / "sweep.json", Measuring(failure), LATER, "command")
    assert list(result["failed"].values()) == [said]
    assert len(result["measured"]) == 2


def test_no_point_begins_when_the_time_is_up(tmp_path):
    measure = Measuring()
    result = sweep.sweep(AXES, tmp_path / "sweep.json", measure, time.monotonic(), "command")
    assert not measure.points
    assert not result["measured"]


def test_the_picture_names_points_that_do_not_fit_and_works_without_all_points(tmp_path, kept):
    path = tmp_path / "sweep.json"
    result = sweep.sweep(AXES, path, Measuring(), LATER, "command")
    figure = sweep.draw(AXES, result, path.with_suffix(".png"))
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert [panel.get_legend().get_texts()[0].get_text() for panel in figure.axes] == [
        "resnet20 (512 does not fit)",
        "resnet20",
    ]


@pytest.mark.parametrize("scale", sweep_points.SCALES)
def test_every_point_splits_over_its_devices_and_has_one_name(scale):
    assert "devices" not in sweep_points.axes_of(scale, 1)
    points = sweep_points.coarse_to_fine(sweep_points.axes_of(scale, 6))
    assert len({point.name for point in points}) == len(points)
    assert {point.devices for point in points} == {1, 2, 4, 6}
    assert all(point.batch % point.devices == 0 for point in points)


def test_a_cpu_is_measured_in_float32_and_an_accelerator_in_bfloat16():
    kinds = {
        scale: {point.dtype for point in sweep_points.coarse_to_fine(sweep_points.axes_of(scale, 1))}
        for scale in ("cpu", "full")
    }
    assert kinds == {"cpu": {"float32"}, "full": {"bfloat16"}}
    assert list(sweep_points.axes_of("cpu", 1)) == ["batch", "image size", "depth"]


@pytest.mark.slow
def test_a_point_in_float32_is_measured():
    found = sweep.images_per_second(Point("vit", "nano4", 2, 16, dtype="float32"), group_seconds=0.0)
    assert 0 < found["low"] <= found["median"] <= found["high"]


def test_results_of_another_machine_are_not_continued(tmp_path, kept):
    path = tmp_path / "sweep.json"
    sweep.sweep(AXES, path, Measuring(), LATER, "command")
    result = workdir.read_json(path)
    result["environment"]["cpu"] = "Z80"
    workdir.write_json(path, result)
    with pytest.raises(UserError, match="has results of 'Z80'"):
        sweep.sweep(AXES, path, Measuring(), LATER, "command")
    assert workdir.read_json(path) == result


@pytest.mark.slow  # measures small networks on simulated devices
@pytest.mark.timeout(400)
def test_a_sweep_on_two_devices(tmp_path):
    code, output, errors = run(
        *("--scale=smoke", f"--out={tmp_path}"), module="benchmarks.sweep", devices=2, timeout=360
    )
    assert code == 0, errors
    result = workdir.read_json(next(tmp_path.glob("*.json")))
    points = sweep_points.coarse_to_fine(sweep_points.axes_of("smoke", 2))
    assert set(result["measured"]) == {point.name for point in points}
    assert all(0 < found["low"] <= found["median"] <= found["high"] for found in result["measured"].values())
    assert f"0 of {len(points)} points are there; 2 local devices" in output
    assert len(list(tmp_path.glob("*.png"))) == 1
