"""Random command lines, through the parser of the tools."""

import sys

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from common import config as config_lib
from common import (
    config_checks,
    launch,
    main,  # noqa: F401  defines the flags
)
from tests.fuzz.endings import ends_well, tried
from tests.runs import ROOT

CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").glob("[a-z]*.py"))
OPTIONS = sorted(config_lib.flat(config_lib.base(ConfigDict())))
MORE_OPTIONS = ["model.activation", "model.variant", "model", "data", "train", "", ".", "modle.width", "init.new_haed"]
TOOL_FLAGS = [
    "workdir",
    "mode",
    "protocol",
    "checkpoint",
    "coordinator",
    "processes",
    "process_id",
    "restarts",
    "scales",
]
VALUES = st.one_of(
    st.sampled_from(
        ["", "0", "1", "-1", "True", "none", "1e400", "nan", "inf", "()", "(1,2)", "((1,),)", "[", "5 epochs"]
    ),
    st.sampled_from(
        ["9" * 5000, "x" * 4000, "~nobody9/x", "0x10", "1_000", "²", "'a'", "a b", "%s", "{}", "\n", "__import__"]
    ),
    st.text(max_size=10),
    st.floats().map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.lists(st.one_of(st.floats(), st.integers(), st.text(max_size=3)), max_size=4).map(
        lambda values: str(tuple(values))
    ),
)
OVERRIDES = st.builds(
    "--config{}{}={}".format,
    st.sampled_from([".", ".", ".", "", ".."]),
    st.one_of(st.sampled_from(OPTIONS), st.sampled_from(MORE_OPTIONS), st.text(max_size=8)),
    VALUES,
)
INDEXED = st.builds(
    "--config.{}[{}]={}".format,
    st.sampled_from(["schedule.rates", "schedule.boundaries", "data.area", "augment.jitter", "seed"]),
    st.integers(-2, 5),
    VALUES,
)
OTHERS = st.one_of(
    st.builds("--{}={}".format, st.sampled_from(TOOL_FLAGS), VALUES),
    st.builds(
        "--{}".format, st.one_of(st.sampled_from([*TOOL_FLAGS, "config", "confg", "config.seed"]), st.text(max_size=8))
    ),
    st.text(max_size=8),
)
COMMANDS = st.tuples(
    st.one_of(
        st.sampled_from(CONFIGS).map("--config={}".format),
        st.sampled_from(CONFIGS).map("--config={}".format),
        st.one_of(st.sampled_from(["configs", "README.md", "configs/lenet5_digits", "", "/dev/null"]), VALUES).map(
            "--config={}".format
        ),
    ),
    st.lists(st.one_of(OVERRIDES, OVERRIDES, INDEXED, OTHERS), max_size=4),
).map(lambda parts: [parts[0], *parts[1]])


@pytest.fixture(scope="module", autouse=True)
def _in_the_repository():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield
    forget()


def forget():
    """Forgets the last command line, with the flags that its config file has defined."""
    for name in [name for name in flags.FLAGS if name.startswith("config.")]:
        delattr(flags.FLAGS, name)
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    flags.FLAGS.unparse_flags()


def taken(arguments):
    """Parses a command line as a tool does, and checks its config."""
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["common.main", *arguments])  # where the config's flag looks for its options
        try:
            launch.parse(sys.argv)
        except SystemExit:  # --help
            return
    if flags.FLAGS["config"].value is not None:
        config_checks.validate(flags.FLAGS["config"].value)


@tried(50)
@given(COMMANDS)
def test_a_command_line_is_taken_or_refused(arguments):
    ends_well("command line", taken, arguments)


def test_parsing_again_forgets_the_options_before():
    taken(["--config=configs/lenet5_digits.py", "--config.seed=5"])
    assert flags.FLAGS["config"].value.seed == 5
    taken(["--config=configs/lenet5_digits.py"])
    assert flags.FLAGS["config"].value.seed == 0
