"""Tests that every command says what it takes, and answers a wrong name, folder or kind of run in one line."""

import importlib.util
import json

import pytest
from absl import flags

from common.command_line import commands, config_files
from common.errors import UserError
from tests.fuzz.test_command_line import forget, taken
from tests.runs import ROOT, refusal, refused, run, start
from tests.slow import rest_slow

LINES, COLUMNS = 40, 80
PACKAGES = ["common", *(["classic"] if importlib.util.find_spec("cv2") else [])]
NAMES = {f"{package}.{name}" for package in PACKAGES for name in commands.names(package)}


def test_every_command_is_found():
    assert {"common.main", "common.predict", "common.report", "common.new", "common.tune"} <= NAMES
    assert not {"common.train", "common.config", "common.templates"} & NAMES


@pytest.mark.parametrize("package", rest_slow(PACKAGES))
def test_the_help_of_each_command_fits_a_screen(package):
    commands_of = sorted(name for name in NAMES if name.startswith(package))
    code, output, errors = run(*commands_of, module="tests.helps")
    assert (code, errors) == (0, "")
    helps = json.loads(output)
    assert helps.keys() == set(commands_of)
    for command, found in helps.items():
        lines = found["text"].splitlines()
        assert len(lines) <= LINES, command
        assert max(map(len, lines)) <= COLUMNS, command
        assert f"python -m {command}" in " ".join(found["text"].split())
        shown = [line.split()[0].partition("=")[0].strip("-:") for line in lines if line.startswith("  --")]
        assert [name.removeprefix("[no]") for name in shown] == found["options"]


def test_help_shows_the_options_of_a_command_and_exits_with_0():
    code, output, errors = run("--config=configs/none.py", "--help")
    assert (code, errors) == (0, "")
    assert "  --mode=train|evaluate: train, or evaluate a trained run (default train)\n" in output
    assert "  --config: config file, such as configs/lenet5_digits.py;" in output


def test_help_names_a_config_that_the_command_takes_and_the_file_of_its_options():
    code, output, errors = run("--help", module="classic.main")
    assert (code, errors) == (0, "")
    text = " ".join(output.split())
    assert "such as configs/classic_digits.py:fisher; --config.SECTION.OPTION=VALUE" in text
    assert "which classic/config.py lists" in text
    assert "lenet5" not in text


def test_help_says_of_an_option_only_what_is_true_of_it():
    _, tune, _ = run("--help", module="common.tune")
    assert "once for each option" in " ".join(tune.split())
    assert "repeat this option" not in tune  # for a list of values, which here is written with |
    _, new, _ = run("--help", module="common.new")
    assert "Options:" not in new  # it has none
    _, weights, _ = run("--help", module="common.weights")
    assert "    python -m common.weights export FILE --workdir=DIR [--source=PUBLISHER]\n\n" in weights


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("common", "expected a command, python -m common.NAME, where NAME is one of compare, export, inspect, main, "),
        ("common.train", "common.train is not a command; type python -m common.main --config=FILE"),
        ("common.evaluate", "type python -m common.main --mode=evaluate --workdir=DIR"),
        ("common.predcit", "did you mean python -m common.predict?"),
        ("common.report.page", "did you mean python -m common.report?"),
        ("classic.train", "type python -m classic.main --config=FILE"),
        ("benchmarks.racing.race", "benchmarks.racing.race is not a command"),  # a part of others
        ("benchmarks.faults", "did you mean python -m benchmarks.survival.faults?"),
        ("benchmarks.train", "benchmarks.train is not a command"),
        ("benchmarks.thruoghput", "did you mean python -m benchmarks.throughput?"),
        ("lecture", "expected a command, python -m lecture.NAME, where NAME is one of costs, pictures"),
    ],
)
def test_a_module_that_is_not_a_command_is_refused(module, said):
    with pytest.raises(UserError) as error:
        commands.check(module)
    assert said in str(error.value)


def test_python_is_asked_for_a_module():
    assert commands.requested_module(["python", "-X", "importtime", "-m", "common.main", "-m", "x"]) == "common.main"
    assert commands.requested_module(["python", "-mcommon.main"]) == "common.main"
    assert commands.requested_module(["python", "script.py"]) == commands.requested_module(["python", "-m"]) == ""


@pytest.mark.parametrize("module", ["common.evaluate", "benchmarks.racing.race", "lecture.trainings"])
def test_a_module_that_is_not_a_command_ends_before_anything_is_imported(module):
    process = start(module=module)
    output, errors = process.communicate(timeout=60)
    assert f"{module} is not a command" in refusal(process.returncode, output, errors)


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("resnet_folder", "resnet"),  # no LeNet's, which has a config of that ending
        ("renset_digits", "resnet_digits"),
        ("lenet_digits", "lenet5_digits"),
        ("vgg16_digits", "vgg_digits"),
        ("classic_digit", "classic_digits"),
        ("x" * 5000, None),
        ("", None),
    ],
)
def test_the_nearest_config_is_of_the_same_network(name, close):
    known = {path.stem for path in (ROOT / "configs").glob("[a-z]*.py")}
    found = config_files.nearest_config(name, known - {name})
    assert found is None if close is None else found.startswith(close)


def test_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "configs/lenet5_digits.py"
    assert config_files.find(name) == ROOT / name
    taken([f"--config={name}", "--config.seed=7"])
    assert flags.FLAGS["config"].value.seed == 7
    with pytest.raises(UserError, match=r"no config file 'lenet5_digits'; did you mean 'configs/lenet5_digits\.py'"):
        config_files.find("lenet5_digits")
    (tmp_path / "configs").mkdir()
    (tmp_path / name).write_text("from configs.vgg_digits import get_config")  # one's own comes first
    assert str(config_files.find(f"{name}:vgg16")) == name
    taken([f"--config={name}:vgg16"])
    assert flags.FLAGS["config"].value.model.variant == "vgg16"
    forget()


def test_the_config_that_a_run_wrote_is_not_one_to_start_from():
    with pytest.raises(UserError, match=r"'runs/mine/config.json' is not Python; .* history.jsonl"):
        config_files.find("runs/mine/config.json")


@pytest.fixture
def others(tmp_path):
    """A folder with a run of each kind, as far as a command reads one that is not its own; and an empty one."""
    info = {"name": "digits", "class_names": ["a", "b"], "image_shape": [8, 8, 1], "num_classes": 2}
    info |= {"train_size": 1, "test_size": 1}
    for kind, config in {"network": {"data": {}, "model": {}}, "pipeline": {"data": {}, "decode": {}}}.items():
        (tmp_path / kind / "checkpoints").mkdir(parents=True)
        (tmp_path / kind / "config.json").write_text(json.dumps(config))
        (tmp_path / kind / "dataset.json").write_text(json.dumps(info))
    (tmp_path / "pipeline" / "checkpoints").rmdir()
    (tmp_path / "empty").mkdir()
    return tmp_path


WALKS = [
    ("common.weights export a.npz --workdir=pipeline", "is not a network's"),
    ("common.main --config=configs/classic_digits.py:fisher", "python -m classic.main takes pipelines"),
    ("common.predict --workdir=empty a.png", "no run in"),
    ("common.main --mode=evaluate --workdir=pipeline", "is not a network's"),
    ("common.export --workdir=empty --out=run.stablehlo", "no run in"),
    ("common.report --workdir=pipeline", "is not a network's"),
    ("common.report --workdir=empty", "no run in"),
    ("common.tables --results=empty", "no results in"),
    ("common.inspect --config=configs/resnet_digits.py:resnet2", "resnet_digits.py takes no argument, got 'resnet2'"),
    ("classic.report --workdir=network", "holds a network's run"),
    ("classic.main --config=configs/lenet5_digits.py", "python -m common.main takes it"),
    ("classic.predict --workdir=empty a.png", "no fitted pipeline in"),
]


@pytest.mark.parametrize(("command", "said"), rest_slow(WALKS, quick=3))
def test_a_folder_without_a_run_or_with_another_kind_is_refused(command, said, others):
    name, *arguments = command.split()
    if name.startswith("classic"):
        pytest.importorskip("cv2")
    for folder in ("network", "pipeline", "empty"):
        arguments = [argument.replace(f"={folder}", f"={others / folder}") for argument in arguments]
    assert said in refused(*arguments, module=name)
