"""Tests that the campaign makes what is worth most first, survives interruptions, and knows what it lacks."""

import pathlib
import time

import pytest

from benchmarks import campaign
from benchmarks.campaign import Places
from benchmarks.candidates import CANDIDATES
from benchmarks.measurements import MEASUREMENTS, Measurement
from common import models
from common.claims.claim import all_claims
from tests.runs import refused, run

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


def test_what_is_done_is_not_made_again_and_what_was_cut_off_is(places, capsys):
    campaign.run([LONG, WRONG, QUICK, NEEDY], places, time.monotonic() + 4, smoke=False)
    assert status(places) == {"quick": "done", "wrong": "failed", "long": "cut off"}
    said = capsys.readouterr().out
    assert "ZeroDivisionError" in said
    assert "needy: left out, needs --source, no_such_package" in said
    assert said.index("quick: done") < said.index("long: an hour")  # that which the time is enough for comes first
    campaign.run([QUICK, WRONG], places, time.monotonic() + 4, smoke=False)
    assert "quick: done" not in (again := capsys.readouterr().out)
    assert "wrong: failed" in again


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


@pytest.mark.slow  # every command of the campaign, with tiny networks
@pytest.mark.timeout(1200)
def test_every_measurement_runs_at_the_smoke_scale(tmp_path):
    code, output, errors = run(
        "--scale=smoke", "--minutes=18", f"--out={tmp_path}", module="benchmarks.campaign", timeout=1150
    )
    assert code == 0, errors
    assert set(status(Places(tmp_path, "", "")).values()) == {"done"}, output
