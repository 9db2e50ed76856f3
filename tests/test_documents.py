"""Tests that the documents' commands can be given: modules, flags, options, claims and scripts exist."""

import importlib
import re
import subprocess

import pytest

from classic import config as classic_config
from common import config_checks
from common.claims import statement
from common.errors import UserError
from common.pretrained import adopted
from tests.runs import ROOT

PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "*/README.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"  # which names what was, too
)
COMMAND = re.compile(r"python -m ((?:common|classic|benchmarks|lecture)[\w.]*)([^`\n|&]*)")
OPTION = re.compile(r"--([\w.]+)(?:=('[^']*'|\"[^\"]*\"|\S+))?")


def commands(page):
    """(module, its options by name) of each command on a page."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    for module, rest in COMMAND.findall(text):
        yield module, {name: value.strip("'\"") for name, value in OPTION.findall(rest.partition("#")[0])}


def source_of(module):
    """The text of a command's module, with all modules of its package if it is one."""
    path = ROOT / module.replace(".", "/")
    paths = [path / "__main__.py", *path.glob("*.py")] if path.is_dir() else [path.with_suffix(".py")]
    return "".join(path.read_text() for path in paths)


@pytest.mark.parametrize("page", PAGES)
def test_commands_can_be_given(page, monkeypatch):
    monkeypatch.setattr(adopted, "adopt", lambda *_, **__: None)  # the weights that a user would have are not here
    known = statement.packages_by_id()
    for module, options in commands(page):
        if module.endswith(".NAME"):
            continue
        defined = source_of(module) + source_of("common.launch")
        for name in options:
            flag = name.partition(".")[0]
            assert f'"{flag}"' in defined or flag in ("help", "helpfull"), (module, name)
        asked = set(options.get("claims", "").split(",")) - {"", "ID", "NAME"}
        assert asked <= known.keys(), (module, asked - known.keys())
        if "config" in options and not options["config"].isupper():
            applied(module, options)


def applied(module, options):
    """The config that a command's options describe. A folder or file that a user would have may be missing."""
    path, _, argument = options["config"].partition(":")
    if any(word in path for word in ("NAME", "FAMILY", "DATASET", "mynet")):  # that a reader would make
        return
    get_config = importlib.import_module(path.removesuffix(".py").replace("/", ".")).get_config
    if any(word in argument for word in ("FAMILY", "PIPELINE", "VARIANT")):
        return
    config = get_config(*([argument] if argument else []))
    if module == "common.weights":
        config.init.checkpoint = "FILE"  # that is imported
    changes = {name.removeprefix("config."): value for name, value in options.items() if name.startswith("config.")}
    for name, value in changes.items():
        section = config
        for part in name.split("."):
            assert part in section, (module, name)
            section = section[part]
        kind = type(section)
        if value.isupper() and kind is not str:  # a placeholder
            continue
        typed = kind(value) if kind in (int, float) else value == "True" if kind is bool else value
        config.update_from_flattened_dict({name: typed if kind is not tuple else section})
    (classic_config if module.startswith("classic") else config_checks).validate(config)


@pytest.mark.parametrize("page", PAGES)
def test_shell_blocks_are_shell(page):
    for block in re.findall(r"```(?:bash|sh)\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", (ROOT / page).read_text()):
        path, _, anchor = target.partition("#")
        where = folder / path if path else ROOT / page
        assert where.exists(), target
        if anchor and where.suffix == ".md":
            headings = re.findall(r"^#+ (.*)", where.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in headings}, target


def test_an_option_that_does_not_exist_is_noticed():
    with pytest.raises((UserError, AssertionError)):
        applied("common.main", {"config": "configs/lenet5_digits.py", "config.train.lenght": "3 epochs"})
