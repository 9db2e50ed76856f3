"""The lecture's page: the code that it quotes, its pictures, claims and numbers.

`tests/test_documents.py` has its links and commands.
"""

import ast
import pathlib
import re

import pytest
from flax import linen as nn

from common.claims import pages
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


@pytest.mark.slow
def test_the_reductions_of_a_module_save_what_its_picture_says():
    costs = layers.inception_costs()
    reduced, pooling = 192 * 96 + 9 * 96 * 128 + 192 * 16 + 25 * 16 * 32, 192 * 32
    assert costs["3a"] == (28**2 * (192 * 64 + reduced + pooling), 28**2 * 192 * (64 + 9 * 128 + 25 * 32 + 32))
    assert all(without > 2 * module for module, without in costs.values())
    assert "192 × 16 + 25 × 16 × 32 = 15,872 weights, against 25 × 192 × 32 = 153,600" in TEXT
    assert (192 * 16 + 25 * 16 * 32, 25 * 192 * 32) == (15_872, 153_600)
