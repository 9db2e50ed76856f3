"""Tests that exported programs give what the run gives, and a bad command line is one line."""

import functools
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl import flags

from common import export, models
from common.config import base
from common.data.dataset_info import Info
from common.devices import mesh
from common.errors import UserError
from common.exporting import card, onnx, primitives, program, savedmodel, stablehlo
from common.pretrained import named
from common.run.trained import Run
from tests import networks
from tests.digits_run import digits_run
from tests.runs import ROOT, environment, refused, run
from tests.slow import rest_slow

NETWORKS = {
    "lenet": ("lenet5", {}, (32, 32, 1)),
    "alexnet": ("small", {"widths": (4, 4, 4, 4, 4), "fc_width": 8}, (32, 32, 3)),
    "vgg": ("vgg11_bn", {"width": 1, "fc_width": 4}, (32, 32, 3)),
    "googlenet": ("googlenet_small", {"width": 0.0625}, (16, 16, 3)),
    "resnet": ("resnet20", {"stage_sizes": (1, 1, 1), "width": 4}, (16, 16, 3)),
    "vit": ("nano4", {"depth": 2}, (16, 16, 3)),
}


@functools.cache
def run_of(family):
    variant, changes, shape = NETWORKS[family]
    config = base(models.section(family, variant, **changes))
    config.data.update({"pad": 2, "invert": True})
    info = Info("random", 10, tuple("0123456789"), shape, 10, 10)
    classifier = models.make_classifier(config.model, info)
    variables = networks.drawn(named.shapes(classifier.module, classifier))
    return Run(config, info, classifier, variables, 0, mesh.make_mesh(config.mesh))


@pytest.fixture(scope="module")
def onnx_installed():
    pytest.importorskip("jax2onnx")
    return pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("family", rest_slow(sorted(NETWORKS, key=lambda name: name != "lenet")))
def test_a_stablehlo_file_gives_what_the_run_gives(family, tmp_path):
    gives_what_the_run_gives(family, stablehlo, tmp_path)


@pytest.mark.parity
@pytest.mark.parametrize("family", NETWORKS)
def test_an_onnx_file_gives_what_the_run_gives(family, onnx_installed, tmp_path):
    gives_what_the_run_gives(family, onnx, tmp_path)


@pytest.fixture(scope="module")
def tensorflow():
    return pytest.importorskip("tensorflow")


@pytest.mark.parity
@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("family", NETWORKS)
def test_a_savedmodel_gives_what_the_run_gives(family, batch, tensorflow, tmp_path):
    gives_what_the_run_gives(family, savedmodel, tmp_path, batch)
    [signature] = tensorflow.saved_model.load(str(tmp_path / "net")).signatures.values()
    [images] = signature.structured_input_signature[1].values()
    assert (images.dtype, images.shape[0]) == (tensorflow.uint8, batch)


def gives_what_the_run_gives(family, form, tmp_path, batch=None):
    made = program.make(run_of(family), batch=batch)
    path = tmp_path / "net"
    form.write(made, path, {})
    images = np.random.default_rng(0).integers(0, 256, (3, *made.image_shape), np.uint8)
    assert program.check(made, form.read(path), images) < 1e-5


@pytest.mark.parametrize("pads", [((0, 0), (12, 3), (0, 7)), ((0, 0), (0, 0), (5, 0))])
def test_padding_by_more_than_the_axis_is_that_of_numpy(pads):
    images = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    pad = primitives.flattened(lambda x: jax.numpy.pad(x, pads), jax.ShapeDtypeStruct(images.shape, images.dtype))
    np.testing.assert_array_equal(jax.jit(pad)(images), np.pad(images, pads))


@pytest.mark.parity
def test_shortcuts_that_add_more_maps_than_there_are_become_onnx(onnx_installed, tmp_path):
    config = base(models.section("resnet", "resnet50", stage_sizes=(1, 1), width=4, shortcut="A"))
    info = Info("random", 10, tuple("0123456789"), (32, 32, 3), 10, 10)
    classifier = models.make_classifier(config.model, info)
    variables = networks.drawn(named.shapes(classifier.module, classifier))
    made = program.make(Run(config, info, classifier, variables, 0, mesh.make_mesh(config.mesh)))
    onnx.write(made, tmp_path / "net", {})
    images = np.random.default_rng(0).integers(0, 256, (3, *made.image_shape), np.uint8)
    assert program.check(made, onnx.read(tmp_path / "net"), images) < 1e-5


def test_stored_images_are_undone_and_made_again():
    data = run_of("lenet").config.data
    stored = np.asarray(program.stored(jax.numpy.asarray(np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)), data))
    assert stored[0, 0, 0, 0] == 0
    assert stored[0, 2, 2, 0] == 255
    np.testing.assert_array_equal(program.bytes_of(stored, data).ravel(), np.arange(16))


def test_photographs_stand_for_the_test_images_of_an_imported_network():
    made = run_of("lenet")
    images = program.photographs(made, 4)
    assert (images.shape, images.dtype) == ((4, *made.info.image_shape), np.uint8)
    assert len({image.tobytes() for image in images}) == 4


def test_a_program_that_differs_from_its_run_is_no_export(tmp_path):
    made = program.make(run_of("lenet"))
    images = np.zeros((2, *made.image_shape), np.uint8)
    with pytest.raises(UserError, match=r"differs from the run by .* on 2 test images, more than 1e-04"):
        program.check(made, lambda images: program.expected(made, images) + 2e-4, images)


@pytest.mark.parametrize(("best", "step"), [({}, "1,200"), ({"best_validation": {"step": 1100}}, "1,100")])
def test_the_card_names_the_checkpoint_of_the_test_error(best, step, tmp_path):
    # With a validation set, the summary's test error is that of the checkpoint with the lowest validation error.
    (tmp_path / "summary.json").write_text(json.dumps({"step": 1200, "test": {"error": 0.0123}, **best}))
    shown = card.text(program.make(run_of("lenet")), tmp_path / "a.stablehlo", tmp_path, "nothing")
    assert f"| error | 1.23% of the run's test images, at step {step} |" in shown


def exported(name, folder, *options):
    """The output of the command on the digits run, and the names of the files that it leaves."""
    code, output, errors = run(f"--workdir={digits_run()}", f"--out={folder}/{name}", *options, module="common.export")
    assert code == 0, errors
    assert "largest difference from the run" in output
    return output, sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_the_example_on_the_card_runs(tmp_path, monkeypatch, capsys):
    _, files = exported("a.stablehlo", tmp_path, "--batch=1")
    assert files == ["a.stablehlo", "a.stablehlo.json", "a.stablehlo.md"]
    assert json.loads((tmp_path / "a.stablehlo.json").read_text())["classes"] == list("0123456789")
    check_example(tmp_path / "a.stablehlo.md", monkeypatch, capsys)
    recipe = "adamw, learning rate 0.003 (cosine), batch 16, 2 epochs"
    assert f"| recipe | {recipe} |" in (tmp_path / "a.stablehlo.md").read_text()
    again = refused(f"--workdir={digits_run()}", f"--out={tmp_path}/a.stablehlo", module="common.export")
    assert "a.stablehlo' exists; choose another --out" in again


def test_a_machine_with_an_accelerator_writes_the_program_of_any_other(tmp_path):
    # Its own program would run on that accelerator alone, and differ from ONNX Runtime's by its rounding of products.
    command = [sys.executable, "-m", "common.export", f"--workdir={digits_run()}", f"--out={tmp_path}/a.stablehlo"]
    told = {**environment(), "JAX_PLATFORMS": "cuda"}
    ended = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    exported = jax.export.deserialize(bytearray((tmp_path / "a.stablehlo").read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "rocm", "tpu")


@pytest.mark.parity
def test_an_export_to_8_bits_prints_the_errors_before_and_after(onnx_installed, tmp_path, monkeypatch, capsys):
    output, files = exported("a.onnx", tmp_path, "--quantize=int8")
    assert files == ["a.onnx", "a.onnx.md"]
    assert re.search(r"8 bits: error \d+\.\d+% before and \d+\.\d+% after, on 17\d test images", output)
    assert "largest difference from the run before quantisation: " in output  # of another program than the file's
    metadata = onnx_installed.InferenceSession(tmp_path / "a.onnx").get_modelmeta().custom_metadata_map
    assert metadata["computed_in"] == "float32, with products of 8-bit integers"
    check_example(tmp_path / "a.onnx.md", monkeypatch, capsys)


@pytest.mark.parity
def test_a_savedmodel_has_its_classes_and_its_card_an_example_that_runs(tensorflow, tmp_path, monkeypatch, capsys):
    _, files = exported("a.savedmodel", tmp_path)
    assert files == ["a.savedmodel", "a.savedmodel.md"]
    module = tensorflow.saved_model.load(str(tmp_path / "a.savedmodel"))
    assert json.loads(module.metadata.numpy())["classes"] == list("0123456789")
    check_example(tmp_path / "a.savedmodel.md", monkeypatch, capsys)
    exported("b.savedmodel", tmp_path, "--nopreprocess", "--batch=3", "--format=savedmodel")
    again = refused(f"--workdir={digits_run()}", f"--out={tmp_path}/a.savedmodel", module="common.export")
    assert "a.savedmodel' exists; choose another --out" in again


def test_without_tensorflow_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match=r"SavedModels need tensorflow: pip install -e '\.\[savedmodel\]'"):
        savedmodel.check_installed()


@pytest.mark.slow
def test_a_program_that_fails_leaves_no_folder(monkeypatch, tmp_path):
    def half_written(made, path, facts):
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"half")
        raise UserError("no more room")

    monkeypatch.setattr(savedmodel, "check_installed", lambda: None)
    monkeypatch.setattr(savedmodel, "write", half_written)
    flags.FLAGS.mark_as_parsed()
    with pytest.raises(UserError, match="no more room"):
        export.export(tmp_path / "a.savedmodel", "savedmodel", digits_run(), None)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--nopreprocess", "--dtype=bfloat16"])
def test_a_program_of_logits_or_of_another_type(option, tmp_path):
    exported("a.stablehlo", tmp_path, option)


def check_example(card, monkeypatch, capsys):
    [example] = re.findall(r"```python\n(.*?)```", card.read_text(), re.DOTALL)
    assert len(example.splitlines()) == 5
    monkeypatch.chdir(card.parent)
    capsys.readouterr()
    exec(example, {})
    assert re.fullmatch(r"\[\d\]\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected --workdir=DIR --out=FILE"),
        (["--workdir=x", "--out=a.onx"], "did you mean '.onnx'"),
        (["--workdir=x", "--out=a.onnx", "--format=savdmodel"], "did you mean 'savedmodel'"),
        (["--workdir=x", "--out=a.onnx", "--format=savedmodel"], "expected the ending .savedmodel"),
        (["--workdir=x", "--out=a.onnx", "--batch=0"], "--batch=0: expected dynamic"),
        (["--workdir=x", "--out=/dev/null/a.stablehlo"], "cannot write /dev/null/a.stablehlo: Not a directory"),
        (["--workdir=/no-such-run", "--out=/tmp/no-such.stablehlo"], "no run in /no-such-run"),
        (["--workdir=/no-such-run", "--out=/tmp/no-such-folder/a.stablehlo"], "no run in /no-such-run"),
    ],
)
def test_a_mistake_is_answered_in_one_line(arguments, expected):
    assert expected in refused(*arguments, module="common.export")
