"""Random options in the configs of the repository."""

import functools
import importlib
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import config as config_lib
from common import config_checks, models
from common.data.dataset_info import Info
from common.optim import optimizers
from common.training.steps import check_support
from tests.fuzz.endings import ends_well, tried

FILES = (path.stem for path in (pathlib.Path(__file__).parents[2] / "configs").glob("[a-z]*.py"))
CONFIGS = sorted(name for name in FILES if not name.startswith("classic_"))  # those have options of their own
INFO = Info("fuzz", 10, tuple("0123456789"), (32, 32, 1), 1000, 100)

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-3, 300),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-2, 2),
)
TEXTS = st.one_of(
    st.sampled_from(["", "0 steps", "5 epochs", "-1 steps", "1e9 epochs", "10%", "none", "relu", "tfds:", "folder:"]),
    st.text(max_size=12),
    st.just("x" * 4000),
)
ANYTHING = st.recursive(
    st.one_of(NUMBERS, TEXTS, st.none(), st.booleans()), lambda inner: st.lists(inner, max_size=4).map(tuple)
)


@functools.cache
def loaded(name):
    """The config file of that name, for a folder of images where it takes one."""
    arguments = ("images",) if name == "lenet5_folder" else ()
    return importlib.import_module(f"configs.{name}").get_config(*arguments)


def values(default):
    """Values that the command line lets through for an option with this default."""
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, int):
        return st.one_of(st.integers(-(2**70), 2**70), st.integers(-3, 300))
    if isinstance(default, float):
        return st.one_of(st.floats(), st.floats(-2, 2), st.integers(-3, 300).map(float))
    if isinstance(default, str):
        return TEXTS
    return st.one_of(ANYTHING, st.lists(NUMBERS, max_size=5)).map(
        lambda value: value if isinstance(value, tuple) else (tuple(value) if isinstance(value, list) else (value,))
    )


@st.composite
def configs(draw):
    """A config file of the repository with one to three options changed at random."""
    config = loaded(draw(st.sampled_from(CONFIGS))).copy_and_resolve_references()
    paths = [path for path in config_lib.flat(config) if path not in ("model.family", "model.variant")]
    for path in draw(st.lists(st.sampled_from(paths), min_size=1, max_size=3, unique=True)):
        section, name = config, path.split(".")
        for part in name[:-1]:
            section = section[part]
        with section.unlocked(), section.ignore_type():
            section[name[-1]] = draw(values(section[name[-1]]))
    return config


def taken(config):
    """Checks a config as a run does before it loads anything."""
    config_checks.validate(config)
    classifier = models.make_classifier(config.model, INFO)
    check_support(config, classifier)
    optimizers.make_optimizer(config, INFO.train_size)


@tried(60)
@given(configs())
def test_a_config_is_taken_or_refused_in_one_line(config):
    ends_well("config", taken, config)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_of_the_repository_is_valid(name):
    config_checks.validate(loaded(name))
