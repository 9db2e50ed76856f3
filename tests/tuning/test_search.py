"""The search space: its text, its types, and what is refused before any run."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from common.errors import UserError
from common.tuning import search
from configs import lenet5_mnist_modern


@pytest.fixture(scope="module")
def config():
    return lenet5_mnist_modern.get_config()


def test_values_have_the_type_of_the_option(config):
    texts = {
        "optimizer.b1=0..0.99": FloatDistribution(0, 0.99),
        "schedule.learning_rate=1e-4..1e-1 log": FloatDistribution(1e-4, 1e-1, log=True),
        "schedule.final=1e-6 .. 1e-4 log": FloatDistribution(1e-6, 1e-4, log=True),
        "data.limit=1..100": IntDistribution(1, 100),
        "train.batch_size=32..512 log": IntDistribution(32, 512, log=True),
        "train.label_smoothing=0|0.1": CategoricalDistribution([0.0, 0.1]),
        "augment.mirror=true|false": CategoricalDistribution([True, False]),
        "train.length=2 epochs | 100 steps": CategoricalDistribution(["2 epochs", "100 steps"]),
        "data.area=(0.5, 1.0)|(0.08, 1.0)": CategoricalDistribution(["(0.5, 1.0)", "(0.08, 1.0)"]),
        "model.activation=relu|tanh": CategoricalDistribution(["relu", "tanh"]),
    }
    space = search.parse(list(texts), config)
    assert list(space.values()) == list(texts.values())
    assert search.with_point(config, {"data.area": "(0.5, 1.0)"}).data.area == (0.5, 1.0)
    assert config.data.area == (0.08, 1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optimizer.b1", "has no values; expected a range"),
        ("optimizer.momentun=0..1", "unknown option 'optimizer.momentun'; did you mean 'optimizer.momentum'"),
        ("optimizer.learning_rate=1|2", "did you mean 'schedule.learning_rate'"),
        ("train.epochs=1|2", "unknown option 'train.epochs'; train has accumulate, batch_size,"),
        ("config.optimizer.momentum=0..1", "did you mean 'optimizer.momentum'"),
        ("optimizer=0..1", "unknown option 'optimizer'"),
        ("optimizer.b1=0.9..0.9", "is empty; expected a low end below the high end"),
        ("optimizer.b1=0.9..0.1", "is empty"),
        ("schedule.learning_rate=0..1 log", "starts at 0.0; a logarithmic range needs a low end above 0"),
        ("train.batch_size=0..9 log", "needs a low end above 0"),
        ("train.batch_size=32..64.5", "train.batch_size is '64.5'; expected a whole number"),
        ("optimizer.b1=0.1|many", "optimizer.b1 is 'many'; expected a number"),
        ("optimizer.b1=0..inf", "expected a number"),
        ("optimizer.b1=0.1..0.9 lgo", "optimizer.b1=0.1..0.9 lgo is no range; expected a range, as '0.1..0.9'"),
        ("augment.mirror=yes|no", "expected true or false"),
        ("data.area=1|2", "expected a tuple"),
        ("optimizer.name=adam", "is one value"),
        ("train.length=1..5", "train.length is not a number, so it has no range"),
        ("optimizer.b1=0.1|0.1", "has a choice twice"),
        ("seed=1..5", "--seeds=K averages"),
        ("data.validation=10%|20%", "decides how a trial is judged"),
        ("evaluate.test=true|false", "decides how a trial is judged"),
    ],
)
def test_an_impossible_search_is_refused(config, text, said):
    with pytest.raises(UserError) as refused:
        search.parse([text], config)
    assert said in str(refused.value)


def test_an_option_is_searched_once(config):
    with pytest.raises(UserError, match="gives optimizer.b1 twice"):
        search.parse(["optimizer.b1=0..0.9", "optimizer.b1=0.1|0.2"], config)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optimizer.b1=0..1", "config.optimizer.b1 is 1.0"),
        ("optimizer.momentum=0.1..0.9", "optimizer 'adamw' does not read it"),
        ("train.length=2 epochs|2 weeks", "config.train.length is '2 weeks'"),
        ("model.activation=relu|rellu", "rellu"),
    ],
)
def test_values_that_the_config_refuses_are_found_before_any_run(config, text, said):
    space = search.parse([text], config)
    config = search.with_point(config, {**search.trial_changes(config), "optimizer.name": "adamw"})
    with pytest.raises(UserError) as refused:
        search.check(space, config)
    assert said in str(refused.value)


def test_an_option_that_one_choice_leaves_without_effect_is_found_before_any_run(config):
    space = search.parse(["optimizer.name=adamw|sgd"], config)
    search.check(space, config)  # the config file sets the kind of decay, and that may stay
    with pytest.raises(UserError, match=r"cannot have optimizer.name=sgd: config.optimizer.decay .* has no effect"):
        search.check(space, config, ["optimizer.decay"])


def test_a_grid_has_every_combination_once(config):
    space = search.parse(["train.batch_size=32|64", "augment.randaugment_layers=1..3"], config)
    points = search.grid(space, seed=1)
    assert sorted(tuple(point.values()) for point in points) == [(a, b) for a in (32, 64) for b in (1, 2, 3)]
    assert points == search.grid(space, seed=1)
    with pytest.raises(UserError, match="needs choices for optimizer.b1"):
        search.grid(search.parse(["optimizer.b1=0..0.9"], config), seed=1)
    huge = search.parse(["train.batch_size=1..100000000000000000", "augment.mirror=true|false"], config)
    with pytest.raises(UserError, match="has 200,000,000,000,000,000 points; expected at most 100,000"):
        search.grid(huge, seed=1)
