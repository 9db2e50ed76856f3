"""Exported programs give what the run gives, and a bad command line is one line."""

import re

import jax
import numpy as np
import optax
import pytest

from common import models
from common.config import base
from common.data.datasets import Info
from common.devices import mesh
from common.exporting import onnx, program, stablehlo
from common.run.trained import Run
from tests import networks
from tests.digits_run import digits_run
from tests.runs import refused, run

NETWORKS = {
    "lenet": ("lenet5", {}, (32, 32, 1)),
    "alexnet": ("small", {"widths": (4, 4, 4, 4, 4), "fc_width": 8}, (32, 32, 3)),
    "vgg": ("vgg11_bn", {"width": 1, "fc_width": 4}, (32, 32, 3)),
    "googlenet": ("googlenet_small", {"width": 0.0625}, (16, 16, 3)),
    "resnet": ("resnet20", {"stage_sizes": (1, 1, 1), "width": 4}, (16, 16, 3)),
    "vit": ("nano4", {"depth": 2}, (16, 16, 3)),
}


def run_of(family):
    variant, changes, shape = NETWORKS[family]
    config = base(models.section(family, variant, **changes))
    config.data.update({"pad": 2, "invert": True})
    info = Info("random", 10, tuple("0123456789"), shape, 10, 10)
    classifier = models.make_classifier(config.model, info)
    variables = networks.state(classifier, optax.sgd(0.1)).variables()
    return Run(config, info, classifier, variables, 0, mesh.make_mesh(config.mesh))


@pytest.mark.parametrize("form", [stablehlo, onnx])
@pytest.mark.parametrize("family", NETWORKS)
def test_a_file_gives_what_the_run_gives(family, form, tmp_path):
    if form is onnx:  # pip install '.[export]'
        pytest.importorskip("jax2onnx")
        pytest.importorskip("onnxruntime")
    made = program.make(run_of(family))
    path = tmp_path / "net"
    form.write(made, path, {})
    images = np.random.default_rng(0).integers(0, 256, (3, *made.image_shape), np.uint8)
    assert program.check(made, form.read(path), images) < 1e-5


def test_stored_images_are_undone_and_made_again():
    data = run_of("lenet").config.data
    stored = np.asarray(program.stored(jax.numpy.asarray(np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)), data))
    assert stored[0, 0, 0, 0] == 0
    assert stored[0, 2, 2, 0] == 255
    np.testing.assert_array_equal(program.bytes_of(stored, data).ravel(), np.arange(16))


def test_the_example_on_the_card_runs(tmp_path, monkeypatch, capsys):
    code, output, errors = run(f"--workdir={digits_run()}", f"--out={tmp_path}/a.stablehlo", module="common.export")
    assert code == 0, errors
    assert "largest difference from the run" in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.stablehlo", "a.stablehlo.json", "a.stablehlo.md"]
    [example] = re.findall(r"```python\n(.*?)```", (tmp_path / "a.stablehlo.md").read_text(), re.DOTALL)
    assert len(example.splitlines()) == 5
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(example, {})
    assert re.fullmatch(r"\[\d\]\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected --workdir=DIR --out=FILE"),
        (["--workdir=x", "--out=a.onx"], "did you mean '.onnx'"),
        (["--workdir=x", "--out=a.onnx", "--format=savedmodel"], "unknown format 'savedmodel'"),
        (["--workdir=x", "--out=a.onnx", "--batch=0"], "--batch=0: expected dynamic"),
        (["--workdir=x", "--out=/no/such/a.stablehlo"], "no folder '/no/such'"),
        (["--workdir=/no-such-run", "--out=/tmp/no-such.stablehlo"], "no run in /no-such-run"),
    ],
)
def test_one_line_for_a_mistake(arguments, expected):
    assert expected in refused(*arguments, module="common.export")
