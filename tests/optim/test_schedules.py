"""Learning-rate schedules at the points where their definitions are plain numbers."""

import math

import pytest
from ml_collections import ConfigDict

from common import models
from common.config import base
from common.config_checks import validate
from common.errors import UserError
from common.optim import schedules


def schedule(total=100, num_examples=1000, batch_size=100, **changes):
    config = base(ConfigDict()).schedule
    with config.unlocked():
        config.update(changes)
    return schedules.make_schedule(config, total, num_examples, batch_size)


def test_piecewise_changes_exactly_at_its_boundaries():
    rate = schedule(name="piecewise", boundaries=("2 epochs", "30 steps"), rates=(0.5, 0.2, 0.1))
    assert [float(rate(step)) for step in (0, 19, 20, 29, 30, 99)] == pytest.approx([0.5, 0.5, 0.2, 0.2, 0.1, 0.1])


@pytest.mark.parametrize("boundaries", [("30 steps", "10 steps"), ("3 epochs", "20 steps")])
def test_boundaries_out_of_order_are_refused(boundaries):
    with pytest.raises(UserError, match=r"boundaries is .* in updates \(30, [12]0\); expected none .* earlier"):
        schedule(name="piecewise", boundaries=boundaries, rates=(0.5, 0.2, 0.1))


def test_boundaries_that_fall_on_one_update_leave_out_the_rate_between_them():
    rate = schedule(name="piecewise", boundaries=("2 steps", "0.15 epochs"), rates=(0.5, 0.2, 0.1))
    assert [float(rate(step)) for step in (1, 2)] == pytest.approx([0.5, 0.1])


def test_table_gives_each_epoch_its_rate_and_keeps_the_last():
    rate = schedule(name="table", rates=(0.3, 0.2, 0.1))
    assert [float(rate(step)) for step in (0, 9, 10, 19, 20, 90)] == pytest.approx([0.3, 0.3, 0.2, 0.2, 0.1, 0.1])


def test_cosine_halves_midway_between_warmup_and_end():
    rate = schedule(name="cosine", learning_rate=0.4, warmup="20 steps", final=0.0)
    assert [float(rate(step)) for step in (0, 10, 20, 60, 100)] == pytest.approx([0.0, 0.2, 0.4, 0.2, 0.0], abs=1e-7)


def test_cosine_ends_at_its_final_rate():
    rate = schedule(name="cosine", learning_rate=0.4, final=0.1)
    assert float(rate(50)) == pytest.approx(0.25)
    assert float(rate(100)) == pytest.approx(0.1)


def test_linear_and_polynomial():
    assert float(schedule(name="linear", learning_rate=0.4, final=0.2)(50)) == pytest.approx(0.3)
    assert float(schedule(name="polynomial", learning_rate=0.4, power=0.5)(75)) == pytest.approx(0.4 * math.sqrt(0.25))


def test_inverse_square_root_is_flat_then_falls():
    rate = schedule(name="inverse_sqrt", learning_rate=0.4, timescale="25 steps")
    assert [float(rate(step)) for step in (1, 25, 100)] == pytest.approx([0.4, 0.4, 0.2])


def test_warmup_is_a_straight_line_to_the_schedule():
    rate = schedule(name="constant", learning_rate=0.4, warmup="1 epoch")
    assert [float(rate(step)) for step in (0, 5, 10, 50)] == pytest.approx([0.0, 0.2, 0.4, 0.4])


def test_warmup_of_large_batches_starts_from_the_small_batch_rate():
    # Goyal et al. 2017, section 2.2: from 0.1 to 0.1 k in five epochs; boundaries count from the run's start.
    rates, boundaries = (3.2, 0.32), ("8 epochs",)
    rate = schedule(name="piecewise", rates=rates, boundaries=boundaries, warmup="5 epochs", warmup_from=0.1)
    assert [float(rate(step)) for step in (0, 25, 50, 79, 80)] == pytest.approx([0.1, 1.65, 3.2, 3.2, 0.32])


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_the_rates_in_words_are_those_that_the_schedule_reads(name):
    config = base(ConfigDict()).schedule
    config.update({"name": name, "learning_rate": 0.7, "rates": (0.5, 0.25), "boundaries": ("1 epochs",)})
    rate = float(schedules.make_schedule(config, 100, 1000, 100)(0))
    expected = {0.5: f"learning rates 0.5, 0.25 ({name})", 0.7: f"learning rate 0.7 ({name})"}
    assert schedules.in_words(config) == expected[round(rate, 4)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "piecewise", "boundaries": ("1 epoch",), "rates": (0.1,)}, "1 rate and 1 boundary"),
        ({"name": "table"}, "rates is empty"),
        ({"name": "plateau", "min_scale": 2.0}, "config.schedule.min_scale is 2.0; expected at most 1"),
        ({"warmup": "soon"}, "config.schedule.warmup is 'soon'; expected a duration"),
        ({"boundaries": ("1 epoch", "5")}, r"config.schedule.boundaries\[1\] is '5'; expected a duration"),
    ],
)
def test_contradictions_are_refused_before_the_dataset_is_known(changes, message):
    section = base(ConfigDict()).schedule
    with section.unlocked():
        section.update(changes)
    with pytest.raises(UserError, match=message):
        schedules.check(section)


def test_a_plateau_without_patience_is_refused():
    config = base(models.section("lenet", "lenet5"))
    config.schedule.update({"name": "plateau", "patience": 0})
    with pytest.raises(UserError, match="config.schedule.patience is 0; expected at least 1"):
        validate(config)


@pytest.mark.parametrize("warmup", ["100 steps", "10 epochs", "2000 steps"])
def test_a_warmup_that_would_take_the_whole_run_is_a_tenth_of_it(warmup):
    rate = schedule(name="constant", learning_rate=0.4, warmup=warmup)
    assert [float(rate(step)) for step in (0, 5, 10, 99)] == pytest.approx([0, 0.2, 0.4, 0.4])
    assert float(schedule(name="constant", learning_rate=0.4, warmup="99 steps")(50)) < 0.4
