"""The tables of training speeds: one for each processor, with marks for what the code has outlived."""

import re

import pytest

from common import tables
from common.claims import speeds

CODE = '''"""Words."""

import math  # for pi


def area(radius):
    """The area."""
    return math.pi * radius**2  # a # in a comment
'''


@pytest.fixture
def root(tmp_path):
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "shapes.py").write_text(CODE)
    (tmp_path / "alone.py").write_text("x = '# no comment'\n")
    return tmp_path


def spread(value):
    return {"median": value, "low": 0.9 * value, "high": 1.1 * value}


def result(root, family="convnet", **changes):
    """A result of a race, of the code below `root`."""
    measured = {"ours, images/s": spread(1234.0), "torch, images/s": spread(1300.0), "ours over torch": spread(0.95)}
    measured |= {"ours, share of the rate of matrix products": spread(0.5), "matrix products, TFLOP/s": spread(0.2)}
    for side, memory in (("ours", 1.25), ("torch", 1.5)):
        measured[f"{side}, peak memory, GB"] = spread(memory)
        measured[f"{side}, first update with compilation, s"] = spread(10 * memory)
    paths = ["alone.py", "room"]
    race = {"family": family, "variant": "deep", "batch_size": 8, "image_size": 224, "dtype": "float32"}
    return {
        "benchmark": "throughput",
        "race": {**race, "scale": "full"},
        "machine": {"memory_gb": 16.0, "threads": 2},
        "peers": {"torch": "2.13.0"},
        "commit": "0123456789abcdef",
        "uncommitted_changes": False,
        "code": {"paths": paths, "digest": speeds.code_digest(root, paths)},
        "measured": measured,
        "command": "python -m benchmarks.throughput",
        "environment": {"devices": "1 x cpu", "cpu": "EPYC", "cpu_cores": 2, "jax": "1", "flax": "2"},
        "date": "2026-11-28",
        **changes,
    }


def marks(found, root):
    """The note of each row."""
    rows = [line for line in speeds.table(found, root).splitlines() if line.startswith("| ")][2:]
    return [row.split(" | ")[-1].removesuffix(" |").removesuffix("|").strip() for row in rows]


def test_a_row_has_the_ratio_with_its_spread_and_the_machine_stands_below(root):
    text = speeds.table([result(root)], root)
    assert "| network | batch, pixels | images/s | over torch | share" in text
    assert "| convnet deep | 8 at 224 | 1,234 | **0.95** (0.85 to 1.04) | 50% | 1.25 / 1.50 | 12.5 / 15.0 |  |" in text
    assert "- 1 x cpu (EPYC, 2 cores), jax 1, flax 2, torch 2.13.0; 16.0 GB of memory, 2 threads; matrix" in text
    assert "commit 0123456789; 2026-11-28\n" in text


def test_a_row_that_is_older_than_the_code_is_marked_and_comments_do_not_count(root):
    old = result(root)
    assert marks([old], root) == [""]
    (root / "room" / "shapes.py").write_text(CODE.replace("Words", "Other words").replace("  # for pi", "\n"))
    assert marks([old], root) == [""]
    (root / "room" / "shapes.py").write_text(CODE.replace("**2", "**3"))
    assert marks([old], root) == ["older than the code"]
    assert marks([result(root)], root) == [""]
    (root / "alone.py").write_text("x = '# none'\n")
    assert marks([old], root) == ["older than the code"]
    (root / "alone.py").unlink()
    assert marks([old], root) == ["older than the code"]


def test_each_processor_has_its_table_the_newest_first(root):
    older = result(root, "elder", date="2026-11-27")
    older["environment"] = {**older["environment"], "cpu": "Xeon"}
    parts = re.split(r"\*\*(EPYC|Xeon)\*\*\n\n\|", speeds.table([older, result(root)], root))
    assert parts[1::2] == ["EPYC", "Xeon"]
    for part, network, other in ((parts[2], "convnet", "elder"), (parts[4], "elder", "convnet")):
        assert f"| {network} deep |" in part
        assert f"| {other} deep |" not in part
        assert part.count("\n- 1 x cpu (") == 1


def test_of_two_tables_of_one_day_the_one_for_the_present_code_is_first(root):
    outdated = result(root, "elder")
    outdated["environment"] = {**outdated["environment"], "cpu": "Xeon"}
    outdated["code"] = {**outdated["code"], "digest": "another"}
    assert re.findall(r"\*\*(EPYC|Xeon)\*\*\n", speeds.table([outdated, result(root)], root)) == ["EPYC", "Xeon"]


def test_code_that_was_not_committed_is_marked(root):
    assert marks([result(root, uncommitted_changes=True)], root) == ["code not committed"]


@pytest.mark.parametrize(
    "change",
    [
        {"race": {}},
        {"race": {"family": "a", "variant": "b", "dtype": "float32", "scale": "smoke"}},
        {"environment": {"devices": "1 x NVIDIA H200"}},
    ],
)
def test_other_results_are_not_in_the_table(root, change):
    assert speeds.table([result(root, **change)], root) == "No race is recorded yet.\n"


def test_the_table_replaces_what_stood_between_its_marks(root):
    text = tables.fill_benchmarks("a\n<!-- speeds -->\nstale\n<!-- /speeds -->\nb\n", [result(root)], root)
    assert text.startswith("a\n<!-- speeds -->\n\n**EPYC**\n\n| network |")
    assert text.endswith("\n<!-- /speeds -->\nb\n")
    assert "stale" not in text
