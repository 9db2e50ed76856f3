"""The comparison of a device with CPU: the right computation agrees, a slightly wrong one does not."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks import agreement, references
from benchmarks.references import NETWORKS, Network
from tests.runs import refused, run

SMALL = Network("lenet", "mlp1989", (16, 16, 1))
VIT = dataclasses.replace(
    NETWORKS["vit ti16, 17 tokens"],
    image_shape=(32, 32, 3),
    changes={"hidden_size": 16, "mlp_dim": 32, "num_heads": 2, "depth": 2, "dropout": 0.1},
)


@pytest.fixture(scope="module", params=[SMALL, pytest.param(VIT, marks=pytest.mark.slow)], ids=["mlp", "vit"])
def compared(request):
    """A network, its reference, and its comparison on this very device."""
    reference = references.reference_of(request.param)
    return request.param, reference, agreement.compare(request.param, reference)


def test_a_device_agrees_with_itself_and_bfloat16_is_further_away(compared):
    _, _, lines = compared
    assert {line.verdict for line in lines.values()} == {"agrees"}
    assert lines["float32 highest, gradient"].distance < 1e-6 < 1e-3 < lines["bfloat16, gradient"].distance


def test_a_gradient_that_is_slightly_wrong_does_not_agree(compared):
    _, reference, _ = compared
    limit = agreement.limit(reference, "float32 highest", "gradient")
    without_last_array = np.where(
        np.arange(reference.gradient.size) < reference.gradient.size - 10, reference.gradient, 0
    )
    for wrong in (1.01 * reference.gradient, without_last_array, np.nan * reference.gradient):
        distance = references.distances(reference, reference.loss, wrong)["gradient"]
        assert agreement.Line(distance, limit).verdict == "does not agree"


def test_the_limit_of_bfloat16_follows_its_distance_on_cpu_and_has_bounds(compared):
    _, reference, _ = compared
    least, most = agreement.LEAST["bfloat16"], agreement.MOST["bfloat16"]
    for on_cpu, limit in ((0.0, least), (0.1, 0.1 * agreement.TIMES), (9.0, most)):
        known = dataclasses.replace(reference, on_cpu={"bfloat16": {"gradient": on_cpu}})
        assert agreement.limit(known, "bfloat16", "gradient") == pytest.approx(limit)


def test_every_part_of_a_network_has_a_gradient(compared):
    # Otherwise an error in it would not show: a head that starts at zero hides all that lies below.
    import jax

    _, reference, _ = compared
    leaves, start = jax.tree.leaves(reference.state.params), 0
    for leaf in leaves:
        part = reference.gradient[start : start + leaf.size]
        start += leaf.size
        assert np.linalg.norm(part) > 0
    assert start == reference.gradient.size


def test_a_failing_check_does_not_stop_the_others(monkeypatch, compared):
    network, reference, lines = compared

    def broken():
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setattr(agreement, "OTHERS", {"broken": broken, "whole": lambda: {"distance": 0.0}})
    monkeypatch.setattr(agreement, "NETWORKS", {"network": network})
    monkeypatch.setattr(agreement, "compare", lambda *given: lines if given == (network, reference) else None)
    assert list(agreement.checked(["broken", "network", "whole"], iter([reference]))) == [
        ("broken", {}, "RuntimeError: no such kernel"),
        ("network", lines, ""),
        ("whole", {"distance": 0.0}, ""),
    ]


@pytest.mark.parametrize("content", ["[1]", '{"measured": {"a": 1}}', "{"])
def test_a_file_that_is_no_result_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "benchmark_agreement_cpu.json").write_text(content)
    said = refused("--families=attention", f"--out={tmp_path}", module="benchmarks.agreement")
    assert f"{tmp_path}/benchmark_agreement_cpu.json is " in said


def test_an_unknown_family_is_refused_with_the_nearest():
    assert "did you mean 'resnet'" in refused("--families=resnt", module="benchmarks.agreement")


@pytest.mark.slow  # a benchmark from end to end; the comparisons themselves are tested above
@pytest.mark.timeout(300)
def test_the_command_writes_a_result_and_continues_it(tmp_path):
    options = ("--families=lenet,attention,resume", f"--out={tmp_path}")
    code, first, errors = run(*options, module="benchmarks.agreement")
    assert code == 0, errors
    (path,) = tmp_path.glob("benchmark_agreement_*.json")
    result = json.loads(path.read_text())
    assert set(result["verdicts"].values()) == {"agrees"}
    assert set(result["measured"]) == set(result["limits"]) == set(result["verdicts"])
    assert result["measured"]["resume: parameters"]["median"] == 0  # the same bits
    code, second, errors = run(*options, module="benchmarks.agreement")
    assert code == 0, errors
    assert second.splitlines() == first.splitlines()[-1:]  # nothing is measured again
