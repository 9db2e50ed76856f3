"""All measurements of a GPU in one command: `python -m benchmarks.campaign --minutes=25`.

Makes the measurements of `benchmarks/measurements.py`, the most valuable first, each with its own command, until the
time is up. A measurement that takes longer than the time left waits until the others are made. If it is then cut off,
or if Ctrl-C, SIGTERM or the end of the connection (SIGHUP) stops the campaign, it has 20 seconds to save its state, and
the same command continues it. A failed measurement is tried again after the others. Results, logs and runs are written
to --out, where `campaign.json` says what is done. `--dry_run` prints the plan. `--scale=smoke` makes every measurement
with tiny networks on a CPU, as a test that none is broken; each time it starts from nothing, in the sub-folder `smoke`
of --out. Most measurements have several processes, so they are for GPUs: a TPU takes one process.
"""

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags
from PIL import Image

from benchmarks.measure import define_place
from benchmarks.measurements import MEASUREMENTS, Measurement
from common import launch
from common.claims import runner
from common.errors import UserError, unknown
from common.processes import signals

STATE = "campaign.json"
_GRACE = 20.0  # seconds that a measurement has to save its state and end


def _define_flags() -> None:
    """Defines this tool's flags. Not called on import: tests need none."""
    flags.DEFINE_float("minutes", 25.0, "time for all measurements", lower_bound=0.0)
    define_place("out", "results/campaign", "folder of results, logs and runs")
    flags.DEFINE_list("only", [], "names of measurements; default: all")
    flags.DEFINE_string("source", "", "CIFAR-10, as folder:PATH")
    flags.DEFINE_string("data_dir", "", "folder of prepared datasets, for MNIST and USPS")
    flags.DEFINE_enum("scale", "full", ["smoke", "full"], "smoke: tiny networks on a CPU, anew in OUT/smoke, as a test")
    flags.DEFINE_boolean("dry_run", False, "print the plan and do nothing")


@dataclasses.dataclass(frozen=True)
class Places:
    """The folders that commands name: of results, of CIFAR-10's images (folder:PATH) and of prepared datasets."""

    out: pathlib.Path
    source: str
    data: str


def main() -> None:
    """Prints the plan, or makes the measurements that it has time for."""
    stop_as_by_ctrl_c()
    given = flags.FLAGS
    smoke = given.scale == "smoke"
    names = [measurement.name for measurement in MEASUREMENTS]
    for name in given.only:
        if name not in names:
            raise unknown("measurement", name, names)
    wanted = [measurement for measurement in MEASUREMENTS if not given.only or measurement.name in given.only]
    places = Places(pathlib.Path(given.out), given.source, given.data_dir)
    if given.dry_run:
        print(smoke_plan(wanted, given.minutes) if smoke else plan(wanted, places, given.minutes))
        return
    ends = time.monotonic() + 60 * given.minutes
    if not smoke:
        check_platform(runner.platform_of_runs())
    with tempfile.TemporaryDirectory() as folder:
        if smoke:
            write_images(pathlib.Path(folder))
            places = dataclasses.replace(places, out=new_smoke(places.out), source=f"folder:{folder}")
        run(wanted, places, ends, smoke)
    print(table(wanted, read(places.out)))


def check_platform(platform: str) -> None:
    """Raises UserError unless it is that of a GPU. If JAX cannot use one, it warns and computes on the CPU."""
    if platform == "cpu":
        raise UserError(
            "JAX computes on the CPU here, and a campaign measures a GPU; python -c 'import jax; jax.devices()' may "
            "say why it uses none, and --scale=smoke tests the commands on a CPU"
        )
    if platform == "tpu":
        raise UserError(
            "a campaign needs several processes, and a TPU takes one; docs/performance.md names the commands that work "
            "there"
        )


def stop_as_by_ctrl_c() -> None:
    """Makes requests to stop, such as the end of a terminal's connection, end the current measurement as well.

    It has a session of its own, so nothing else would end it, and the next campaign would share the device with it.
    """
    for number in signals.REQUESTS:
        # The measurement does not inherit our handler, but would inherit an ignored Ctrl-C. nohup's wish is kept.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def new_smoke(out: pathlib.Path) -> pathlib.Path:
    """The folder below `out` of a campaign at the smoke scale, cleared of the results of an earlier one.

    Raises UserError for a folder with anything else in it.
    """
    folder = out / "smoke"
    if (folder / STATE).exists():
        shutil.rmtree(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} holds something else than a campaign; choose another --out, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, {})  # by which the next one knows it, even if this one is stopped during its first measurement
    return folder


def smoke_plan(wanted: Sequence[Measurement], minutes: float) -> str:
    """The measurements of a campaign at the smoke scale, in their order; it needs no data and repeats everything."""
    lines = [f"{one.name:30} to do  {one.worth}" for one in wanted]
    return "\n".join([*lines, f"with tiny networks, on images of its own; {minutes:g} minutes are given"])


def plan(wanted: Sequence[Measurement], places: Places, minutes: float) -> str:
    """The measurements with their expected minutes, as a table in the order in which they will be made."""
    state, left, total, waiting = read(places.out), minutes, 0.0, []
    lines = [_planned(one, "done") for one in wanted if _status(state, one) == "done"]
    for measurement in to_make(wanted, state):
        if lack := missing(measurement, places):
            lines.append(_planned(measurement, f"needs {', '.join(lack)}"))
        else:
            waiting.append(measurement)
    while waiting:
        measurement = next_measurement(waiting, 60 * left)
        waiting.remove(measurement)
        whole = measurement.minutes <= left
        said = _status(state, measurement) if whole else "begun" if left > 0 else "no time"
        lines.append(_planned(measurement, said))
        left, total = max(left - measurement.minutes, 0.0), total + measurement.minutes
    lines.append(f"{total:.0f} minutes are expected for all of it on one H100 or H200; {minutes:g} are given")
    return "\n".join(lines)


def _planned(measurement: Measurement, said: str) -> str:
    return f"{measurement.name:30} {measurement.minutes:6.1f} min  {said:28} {measurement.worth}"


def to_make(wanted: Sequence[Measurement], state: dict[str, Any]) -> list[Measurement]:
    """The measurements that are not done. Those that have failed come last, because they may fail again."""
    waiting = [one for one in wanted if _status(state, one) != "done"]
    return sorted(waiting, key=lambda one: _status(state, one) == "failed")


def next_measurement(waiting: Sequence[Measurement], seconds: float) -> Measurement:
    """The first measurement that fits into the time; if none does, the first of all, which will be cut off."""
    return next((one for one in waiting if 60 * one.minutes <= seconds), waiting[0])


def missing(measurement: Measurement, places: Places) -> list[str]:
    """The flags and packages that a measurement lacks here."""
    given = {"cifar10": ("--source", places.source), "data": ("--data_dir", places.data)}
    flags_lacking = [flag for need, (flag, value) in given.items() if need in measurement.needs and not value]
    packages = [need for need in measurement.needs if need not in given]
    return flags_lacking + [name for name in packages if importlib.util.find_spec(name) is None]


def run(wanted: Sequence[Measurement], places: Places, ends: float, smoke: bool) -> None:
    """Makes the measurements that are not done, one after the other, until the time `ends` (of `time.monotonic`)."""
    state, waiting = read(places.out), []
    for measurement in to_make(wanted, state):
        if lack := [] if smoke else missing(measurement, places):
            print(f"{measurement.name}: left out, needs {', '.join(lack)}", flush=True)
        else:
            waiting.append(measurement)
    while waiting and (left := ends - time.monotonic()) > 0:
        measurement = waiting[0] if smoke else next_measurement(waiting, left)
        waiting.remove(measurement)
        print(f"{measurement.name}: {measurement.worth}", flush=True)
        started = time.monotonic()
        status = _make(measurement, places, left, smoke)
        seconds = round(time.monotonic() - started, 1)
        before = state.get(measurement.name, {}).get("seconds", 0.0)
        state[measurement.name] = {"status": status, "seconds": round(before + seconds, 1)}
        _write(places.out, state)
        print(f"{measurement.name}: {status} after {seconds:.0f} s", flush=True)
    for measurement in waiting:
        print(f"{measurement.name}: left out, the time is up", flush=True)


def command(measurement: Measurement, places: Places, smoke: bool) -> list[str]:
    """The command line of a measurement."""
    module, *arguments = measurement.command
    arguments = [*measurement.smoke, "--out={out}"] if smoke else arguments
    if module == "common.reproduce":
        arguments = [argument for argument in arguments if argument != "--out={out}"]
    filled = [text.format(out=places.out, source=places.source, data=places.data) for text in arguments]
    return [sys.executable, "-m", module, *filled]


def _make(measurement: Measurement, places: Places, seconds: float, smoke: bool) -> str:
    """Runs a measurement's command, its output in a log; returns 'done', 'failed' or 'cut off'."""
    log = places.out / "logs" / f"{measurement.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    line = command(measurement, places, smoke)
    with log.open("a", encoding="utf-8") as file:
        print(f"$ {' '.join(line)}", file=file, flush=True)
        # It has a session of its own, so that everything that it starts can be ended with it.
        process = subprocess.Popen(line, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return "cut off"
        finally:
            _end(process)
    if code:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        print(f"  {said[-1][:200]} ({log})")
    return "failed" if code else "done"


def _end(process: subprocess.Popen) -> None:
    """Lets a measurement save and stop, as Ctrl-C does, and then ends everything that it has started.

    `common.reproduce` passes Ctrl-C on to its runs, which then save. SIGTERM would end it and its runs at once.
    """
    try:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):  # nothing is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def table(wanted: Sequence[Measurement], state: dict[str, Any]) -> str:
    """A line for each measurement: its state, and the time it has taken."""
    lines = []
    for measurement in wanted:
        seconds = state.get(measurement.name, {}).get("seconds")
        took = "" if seconds is None else f"{seconds / 60:.1f} of {measurement.minutes:.1f} min"
        lines.append(f"{measurement.name:30} {_status(state, measurement):10} {took}".rstrip())
    return "\n".join(lines)


def _status(state: dict[str, Any], measurement: Measurement) -> str:
    return state.get(measurement.name, {}).get("status", "to do")


def read(out: pathlib.Path) -> dict[str, Any]:
    """The state of a campaign: the status and the seconds of each measurement that has begun."""
    from common.run import workdir

    path = out / STATE
    return workdir.read_json(path) if path.exists() else {}


def _write(out: pathlib.Path, state: dict[str, Any]) -> None:
    from common.run import workdir

    workdir.write_json(out / STATE, state)


def write_images(folder: pathlib.Path, images_of_a_class: int = 20) -> None:
    """Writes random images of MNIST's 28x28 pixels in ten classes to FOLDER/train/<class>/ and FOLDER/test/<class>/.

    Raises UserError if the folder exists and is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty")
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in range(10):
            (folder / part / f"class{label}").mkdir(parents=True)
            for number in range(images_of_a_class):
                pixels = rng.integers(0, 256, (28, 28), np.uint8)
                Image.fromarray(pixels).save(folder / part / f"class{label}" / f"{number}.png")


if __name__ == "__main__":
    _define_flags()
    launch.run(main)
