"""Tests that the campaign makes what is worth most first, survives interruptions, and knows what it lacks."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import campaign
from benchmarks.campaign import Places
from benchmarks.measurements import MEASUREMENTS, Measurement
from benchmarks.racing.candidates import CANDIDATES
from common import models
from common.claims.claim import all_claims
from common.errors import UserError
from common.run import workdir
from tests.runs import ROOT, refused, run

NETWORKS = {f"{family}:{variant}" for family in models.families() for variant in models.family_module(family).VARIANTS}
QUICK = Measurement("quick", "ends at once", 0.02, ("timeit", "-n1", "-r1", "pass"), ())
WRONG = Measurement("wrong", "fails", 0.02, ("timeit", "-n1", "-r1", "1/0"), ())
LONG = Measurement("long", "an hour", 60.0, ("timeit", "-n1", "-r1", "import time; time.sleep(3600)"), ())
NEEDY = Measurement("needy", "lacks its data", 1.0, ("timeit", "pass"), (), needs=("cifar10", "no_such_package"))


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path, "", "")


def status(places):
    return {name: entry["status"] for name, entry in campaign.read(places.out).items()}


def test_finished_measurements_are_not_repeated_and_interrupted_ones_are(places, capsys):
    campaign.run([LONG, WRONG, QUICK, NEEDY], places, time.monotonic() + 4, smoke=False)
    assert status(places) == {"quick": "done", "wrong": "failed", "long": "cut off"}
    said = capsys.readouterr().out
    assert "ZeroDivisionError" in said
    assert "needy: left out, needs --source, no_such_package" in said
    assert said.index("quick: done") < said.index("long: an hour")  # what there is time for comes first
    campaign.run([QUICK, WRONG], places, time.monotonic() + 4, smoke=False)
    assert "quick: done" not in (again := capsys.readouterr().out)
    assert "wrong: failed" in again


def test_a_measurement_that_has_failed_comes_after_the_others(places):
    workdir.write_json(places.out / campaign.STATE, {"wrong": {"status": "failed", "seconds": 1.0}})
    assert campaign.to_make([WRONG, LONG, QUICK], campaign.read(places.out)) == [LONG, QUICK, WRONG]
    lines = campaign.plan([WRONG, LONG, QUICK], places, minutes=90.0).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["long", "quick", "wrong"]


def test_a_measurement_that_is_cut_off_is_stopped_as_by_ctrl_c_and_leaves_no_process(places, tmp_path):
    # `common.reproduce` passes Ctrl-C on to its runs, which then save; their processes are no part of its group.
    lasting = "import time, subprocess as s, pathlib as p; q = s.Popen(['sleep', '3600'])"
    waiting = f"p.Path('{tmp_path}/id').write_text(str(q.pid))\ntry: time.sleep(3600)\n"
    waiting += f"except KeyboardInterrupt: p.Path('{tmp_path}/saved').touch()"
    slow = Measurement("slow", "saves", 60.0, ("timeit", "-n1", "-r1", "-s", lasting, waiting), ())
    campaign.run([slow], places, time.monotonic() + 4, smoke=False)
    assert status(places) == {"slow": "cut off"}
    assert (tmp_path / "saved").exists()
    process = pathlib.Path("/proc", (tmp_path / "id").read_text(), "stat")
    assert not process.exists() or process.read_text().split()[2] == "Z"  # ended, and nobody may have asked how


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_campaign_whose_connection_ends_ends_its_measurement(number, tmp_path):
    # Otherwise it would go on alone, and the next campaign would share the device with it.
    code = f"""
import os, pathlib, time
from benchmarks import campaign
from benchmarks.measurements import Measurement
campaign.stop_as_by_ctrl_c()
waiting = "import os, pathlib as p, time; p.Path('{tmp_path}/id').write_text(str(os.getpid())); time.sleep(3600)"
slow = Measurement("slow", "", 60.0, ("timeit", "-n1", "-r1", waiting), ())
campaign.run([slow], campaign.Places(pathlib.Path("{tmp_path}"), "", ""), time.monotonic() + 3600, smoke=False)
"""
    started = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    found, ends = tmp_path / "id", time.monotonic() + 60
    while not (found.exists() and found.read_text()):
        assert started.poll() is None, started.stderr.read()
        assert time.monotonic() < ends
        time.sleep(0.05)
    started.send_signal(number)
    assert b"KeyboardInterrupt" in started.communicate(timeout=60)[1]
    process = pathlib.Path("/proc", found.read_text(), "stat")
    try:
        assert not process.exists() or process.read_text().split()[2] == "Z"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(found.read_text()), signal.SIGKILL)


def test_a_log_that_is_not_text_does_not_stop_the_campaign(places, capsys):
    write = "import os, sys; os.write(1, bytes([255, 10])); sys.exit(1)"
    campaign.run(
        [Measurement("odd", "", 0.02, ("timeit", "-n1", "-r1", write), ()), QUICK], places, time.monotonic() + 9, False
    )
    assert status(places) == {"odd": "failed", "quick": "done"}


def test_a_finished_measurement_does_not_report_missing_data(places, capsys):
    done = {"needy": {"status": "done", "seconds": 1.0}}
    workdir.write_json(places.out / campaign.STATE, done)
    campaign.run([NEEDY], places, time.monotonic() + 4, smoke=False)
    assert "left out" not in capsys.readouterr().out
    assert "done" in campaign.plan([NEEDY], places, minutes=1.0)


def test_a_smoke_campaign_begins_anew_beside_the_full_one(places):
    # Otherwise a full one would find everything done, or a smoke one would say so of code that has changed.
    workdir.write_json(places.out / campaign.STATE, {"quick": {"status": "done", "seconds": 1.0}})
    folder = campaign.new_smoke(places.out)
    assert campaign.read(folder) == {}
    workdir.write_json(folder / campaign.STATE, {"quick": {"status": "done", "seconds": 1.0}})
    assert campaign.read(campaign.new_smoke(places.out)) == {}
    assert status(places) == {"quick": "done"}


def test_a_smoke_campaign_that_was_stopped_early_leaves_nothing_to_the_next(places):
    (campaign.new_smoke(places.out) / "benchmark_agreement_cpu.json").touch()  # before any measurement was done
    folder = campaign.new_smoke(places.out)
    assert [path.name for path in folder.iterdir()] == [campaign.STATE]
    (folder / campaign.STATE).unlink()
    (folder / "mine").touch()
    with pytest.raises(UserError, match="smoke holds something else than a campaign"):
        campaign.new_smoke(places.out)
    assert (folder / "mine").exists()


def test_the_plan_of_a_smoke_campaign_needs_no_data_and_repeats_what_is_done(tmp_path):
    workdir.write_json(tmp_path / campaign.STATE, {"agreement": {"status": "done", "seconds": 1.0}})
    code, output, errors = run("--scale=smoke", "--dry_run", f"--out={tmp_path}", module="benchmarks.campaign")
    assert code == 0, errors
    *lines, _ = output.splitlines()
    assert [line.split()[0] for line in lines] == [measurement.name for measurement in MEASUREMENTS]
    assert all("to do" in line and "needs" not in line for line in lines)
    assert not (tmp_path / "smoke").exists()


def test_the_plan_has_the_order_in_which_measurements_are_made(places):
    lines = campaign.plan([LONG, WRONG, QUICK, NEEDY], places, minutes=0.1).splitlines()
    assert [line.split()[0] for line in lines] == ["needy", "wrong", "quick", "long", "60"]
    assert "needs --source, no_such_package" in lines[0]
    assert "begun" in lines[3]


def test_every_measurement_can_be_asked_for(places):
    names = [measurement.name for measurement in MEASUREMENTS]
    assert len(set(names)) == len(names)
    claims = all_claims()
    for measurement in MEASUREMENTS:
        module, *arguments = campaign.command(measurement, Places(pathlib.Path("OUT"), "folder:C", "D"), False)[2:]
        assert pathlib.Path(*module.split(".")).with_suffix(".py").exists()
        assert not any("{" in argument for argument in arguments)
        source = pathlib.Path(*module.split(".")).with_suffix(".py").read_text()
        for argument in arguments:
            flag, _, values = argument.partition("=")
            assert flag.startswith("--config") or f'"{flag[2:]}"' in source
            known = {"--claims": claims, "--candidates": CANDIDATES, "--models": NETWORKS, "--model": NETWORKS}
            assert not set(values.split(",")) - set(known.get(flag, values.split(",")))


def test_an_unknown_measurement_is_refused_with_the_nearest():
    assert "did you mean 'scaling'" in refused("--only=scalin", module="benchmarks.campaign")


def test_a_campaign_does_not_spend_its_time_on_a_cpu(tmp_path):
    # JAX falls back to it with a warning, as when two copies of NVIDIA's libraries do not fit together.
    assert "JAX computes on the CPU here" in refused("--minutes=1", f"--out={tmp_path}", module="benchmarks.campaign")
    assert not list(tmp_path.iterdir())


def test_a_campaign_is_for_gpus():
    campaign.check_platform("gpu")
    with pytest.raises(UserError, match="a TPU takes one"):
        campaign.check_platform("tpu")


@pytest.mark.slow  # every command of the campaign, with tiny networks
@pytest.mark.timeout(1200)
def test_every_measurement_runs_at_the_smoke_scale(tmp_path):
    code, output, errors = run(
        "--scale=smoke", "--minutes=18", f"--out={tmp_path}", module="benchmarks.campaign", timeout=1150
    )
    assert code == 0, errors
    assert set(status(Places(tmp_path / "smoke", "", "")).values()) == {"done"}, output
