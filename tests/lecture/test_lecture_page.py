"""The lecture's page: the code, commands, pictures and claims that it names are there, and its numbers are computed."""

import ast
import importlib
import pathlib
import re

import pytest
from flax import linen as nn

from classic import config as classic_config
from common import config as common_config
from common.claims import pages, statement
from common.claims.evidence import Evidence
from common.errors import UserError
from common.nn.batch_norm import BatchNorm
from lecture import costs
from lecture.pictures import catalogue, layers
from tests.runs import ROOT

PAGE = ROOT / "docs" / "lecture.md"
TEXT = PAGE.read_text()
SECTIONS = {part.partition("\n")[0]: part for part in TEXT.split("\n## ")[1:]}
TOPICS = [name for name in SECTIONS if name != "Training times, then and now"]
LINK = re.compile(r"\]\(\.\./([\w/]+\.py)#(\w+)\)")


def definition(path, name):
    """The source of a function, class or constant at the top level of a file; '' if it has none of that name."""
    source = (ROOT / path).read_text()
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", node)
        if name == getattr(target, "id", getattr(target, "name", None)):
            return ast.get_source_segment(source, node)
    return ""


def applied(module, options):
    """The config that a command's options describe."""
    path, _, argument = options.pop("config").partition(":")
    get_config = importlib.import_module(path.removesuffix(".py").replace("/", ".")).get_config
    config = get_config(*([argument] if argument else []))
    config.update_from_flattened_dict({k.removeprefix("config."): v for k, v in options.items() if "config." in k})
    (classic_config if module.startswith("classic") else common_config).validate(config)
    return config


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_has_all_its_parts(topic):
    section = SECTIONS[topic]
    assert LINK.search(section)
    assert "```python\n" in section
    assert "\npython -m " in section
    assert "](images/lecture_" in section or "](../results/" in section
    assert "<!-- verdicts: " in section
    assert re.search(r"<details><summary>Question: .*\?</summary>\n\n.+\n</details>", section)


def test_quoted_lines_are_in_the_code_that_is_linked():
    sources = []
    for path, name, block in re.findall(rf"{LINK.pattern}|```python\n(.*?)```", TEXT, re.DOTALL):
        if path:
            sources.append(definition(path, name))
            assert sources[-1], (path, name)
        else:
            lines = [{line.strip() for line in source.splitlines()} for source in sources]
            assert any({line.strip() for line in block.splitlines()} <= known for known in lines), block
            sources = []


def test_commands_can_be_given():
    commands = re.findall(r"python -m ([\w.]+)([^`\n]*)", TEXT)
    assert len(commands) > 15
    known = statement.packages_by_id()
    for module, rest in commands:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
        options = dict(re.findall(r"--([\w.]+)=(\S+)", rest))
        assert set(options.get("claims", "").split(",")) - {""} <= known.keys()
        if "config" in options:
            applied(module, options)


def test_links_lead_somewhere():
    headings = {re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in SECTIONS}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        path, _, anchor = target.partition("#")
        assert (PAGE.parent / path).exists() if path else anchor in headings, target


def test_pictures_are_those_that_make_pictures_draws_and_small():
    paths = {path.stem.removeprefix("lecture_"): path for path in (PAGE.parent / "images").glob("lecture_*.png")}
    assert paths.keys() == set(catalogue.PICTURES) == set(re.findall(r"images/lecture_(\w+)\.png", TEXT))
    assert [name for name, path in paths.items() if path.stat().st_size > 80_000] == []
    assert "\npictures:" in (ROOT / "Makefile").read_text()


def test_training_times_are_computed():
    assert costs.filled(TEXT, ROOT / "results") == TEXT, "run python -m lecture.costs"
    alexnet = costs.TRAININGS[0].operations(ROOT / "results")
    assert alexnet == 6 * 724_406_816 * 1_281_167 * 90  # Krizhevsky 2012: the kernels' multiply-adds, 90 passes
    assert "| AlexNet, 90 epochs | 2 × GTX 580, 5 to 6 days | 0.5 × 10¹⁸ | 0.48 to 0.58 TFLOP/s |" in TEXT


def test_verdicts_are_those_of_the_results():
    fact = {"fact": "a", "says": "two and two are four", "verdict": "agrees", "note": "", "numbers": {}}
    evidence = Evidence([], [fact], {"a": "lecture", "b": "lecture"}, {"b": ""})

    def filled(ids):
        document = f"<!-- verdicts: {ids} -->\nstale\n<!-- /verdicts -->\n"
        return pages.fill(document, evidence, pathlib.PurePath("docs/page.md"), pathlib.PurePath("results"))

    text = filled("a b")
    assert "\n- **agrees**: two and two are four (`a`)\n- no runs are recorded yet: `b`\n" in text
    assert "stale" not in text
    with pytest.raises(UserError, match="unknown claim or fact 'c'"):
        filled("c")


def test_normalisations_depend_on_a_column_and_on_a_row():
    batch, layer = layers.influence(BatchNorm()), layers.influence(nn.LayerNorm())
    assert batch[..., 2].all()
    assert batch.sum() == 3 * 2 * 2
    assert layer[1, 0, 1].all()
    assert layer.sum() == 6


def test_the_reductions_of_a_module_save_what_its_picture_says():
    costs = layers.inception_costs()
    reduced, pooling = 192 * 96 + 9 * 96 * 128 + 192 * 16 + 25 * 16 * 32, 192 * 32
    assert costs["3a"] == (28**2 * (192 * 64 + reduced + pooling), 28**2 * 192 * (64 + 9 * 128 + 25 * 32 + 32))
    assert all(without > 2 * module for module, without in costs.values())
    assert "192 × 16 + 25 × 16 × 32 = 15,872 weights, against 25 × 192 × 32 = 153,600" in TEXT
    assert (192 * 16 + 25 * 16 * 32, 25 * 192 * 32) == (15_872, 153_600)
