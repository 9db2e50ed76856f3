"""Weights from files and into files, as a user moves them: `python -m common.weights import|export`."""

import json
import pathlib
import re

import jax
import numpy as np
import pytest
from flax import traverse_util

from common import config as config_lib
from common import models, weights
from common.errors import UserError
from common.pretrained import adopted, initial, libraries, named, weight_files
from common.protocols import measure
from common.run import trained, workdir
from configs import resnet_digits
from resnet import weights as resnet_weights
from tests import networks, torch_saved
from tests.digits_run import digits_run
from tests.runs import refused, run
from tests.slow import rest_slow

# A network of each kind of names: PyTorch's, the paper's, and, where nobody published any, our own.
NETWORKS = {
    "resnet": ("resnet20", {"stage_sizes": (1, 3, 1), "width": 4, "scan": "on"}, "layer2.2.bn1.running_var"),
    "lenet": ("lenet5", {}, "params/C1/kernel"),
    "vit": ("nano4", {"depth": 2}, "Transformer/encoderblock_1/LayerNorm_2/scale"),
    "alexnet": ("small", {"widths": (4, 4, 4, 4, 4), "fc_width": 8}, "features.3.weight"),
    "alexnet's author": ("fig1_cifar10", {}, "params/conv3/kernel"),
    "vgg": ("vgg11_bn", {"width": 1, "fc_width": 4}, "classifier.6.bias"),
    "googlenet": ("googlenet_small", {"width": 0.0625}, "inception3a.branch1.bn.running_mean"),
}


def random_variables(module, classifier):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype), named.shapes(module, classifier)
    )


@pytest.mark.parametrize("name", rest_slow(NETWORKS, quick=2))
def test_every_family_reads_what_it_writes(name, tmp_path):
    (variant, changes, array), family = NETWORKS[name], name.partition("'")[0]
    section = models.section(family, variant, **changes)
    facts = networks.facts(10, (32, 32, 1 if family == "lenet" else 3))
    classifier = models.make_classifier(section, facts)
    variables = random_variables(classifier.module, classifier)
    arrays, names = initial.published(family, variables, classifier.module)
    assert array in arrays
    assert (names == "our") == array.startswith("params/")
    weight_files.write(tmp_path / "net.npz", arrays)
    config = config_lib.base(section)
    config.init.checkpoint = str(tmp_path / "net.npz")
    given = initial.given_weights(config, classifier)
    found, _ = initial.initial_arrays(given, classifier, config)
    wanted = traverse_util.flatten_dict(variables, sep="/")
    assert found.keys() == wanted.keys()
    for array_name, array in wanted.items():
        np.testing.assert_array_equal(found[array_name], array)


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pth", ".NPZ"])
def test_every_format_is_read_as_it_was_written(ending, tmp_path):
    arrays = {"layer1.0.weight": np.float32([[1.5, -2.0, 3.0]]), "a/b": np.arange(3), "c": np.array(True)}
    weight_files.write(tmp_path / f"new/net{ending}", arrays)
    found = weight_files.read(tmp_path / f"new/net{ending}")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"net{ending}"]


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pth"])
def test_a_file_cut_short_is_refused_in_one_line(ending, tmp_path):
    path = tmp_path / f"net{ending}"
    weight_files.write(path, {"a": np.zeros((20, 20), np.float32), "b": np.arange(3)})
    whole = path.read_bytes()
    for part in (0, 4, 20, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:part])
        with pytest.raises(UserError, match="is not a checkpoint of arrays"):
            weight_files.read(path)


def test_pytorch_loads_an_exported_network(tmp_path):
    torch = pytest.importorskip("torch")
    layer = torch.nn.BatchNorm2d(2)
    arrays = {name: np.float32([2, 3]) for name in ("weight", "bias", "running_mean", "running_var")}
    weight_files.write(tmp_path / "bn.pth", arrays)
    layer.load_state_dict(torch.load(tmp_path / "bn.pth", weights_only=True))
    np.testing.assert_array_equal(layer.running_var, [2, 3])


def test_a_user_moves_a_trained_run_through_a_file(tmp_path):
    file, copy = tmp_path / "lenet.npz", tmp_path / "copy"
    assert "under our names" in weights.export_file(file, digits_run())
    options = ("--config=configs/lenet5_mnist_modern.py", "--config.data.source=digits", "--config.data.resize=28")
    options = (*options, "--config.data.limit=600", "--config.data.holdout=0.1")
    given = ("import", file, *options, "--config.mesh.devices=1", f"--workdir={copy}")
    code, output, errors = run(*given, module="common.weights")
    assert code == 0, errors
    assert f"python -m common.main --mode=evaluate --workdir={copy}" in output
    expected, found = (measure.measure([folder], "single") for folder in (digits_run(), copy))
    assert found["members"][0]["step"] == 0
    for name in ("top1_error", "cross_entropy"):
        assert found[name] == expected[name]
    with pytest.raises(UserError, match="there is a run in"):
        weights.import_file(file, workdir.load_config(copy), copy)


@pytest.mark.parametrize(
    ("family", "variant", "publisher", "said"),
    [
        ("resnet", "resnet50", "torchvision", "bottlenecks have their stride in the 3x3 convolution"),
        ("resnet", "resnet50_modern", "", ""),
        ("resnet", "plain20", "cifar", "the CIFAR port's networks are residual"),
        ("resnet", "resnet20", "", ""),
        ("lenet", "lenet5", "", ""),
    ],
)
def test_names_of_a_network_that_computes_something_else_are_warned_of(family, variant, publisher, said):
    # An import without a config would take such a file for the publisher's network.
    classifier = networks.classifier(family, variant, image=(32, 32, 1 if family == "lenet" else 3))
    like = named.shapes(classifier.module, classifier)
    variables = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(1), leaf.shape), like)
    arrays, _ = initial.published(family, variables, classifier.module)
    found = libraries.differences(family, arrays, classifier.module)
    assert found[0] == publisher
    assert said in found[1]
    assert bool(found[1]) == bool(said)


def test_an_export_under_the_names_of_another_network_says_so_and_how_to_import_it(monkeypatch, tmp_path):
    monkeypatch.setattr(libraries, "differences", lambda *_: ("timm", "timm's LeNets have wings"))
    said = weights.export_file(tmp_path / "net.npz", digits_run()).splitlines()
    assert said[1].startswith("warning: timm's own network computes something else with these weights: timm's LeNets")
    assert said[1].endswith("have wings. To import them as this network, give --source=own and its --config")


@pytest.mark.slow
def test_one_of_several_networks_is_imported_without_a_config(tmp_path):
    classifier = networks.classifier("resnet", "resnet20")
    variables = networks.drawn(named.shapes(classifier.module, classifier))
    arrays = resnet_weights.to_published(variables, classifier.module)
    both = {
        name: {key: torch_saved.tensor(np.asarray(array) + add) for key, array in arrays.items()}
        for name, add in (("student", 0), ("teacher", 1))
    }
    torch_saved.save(tmp_path / "dino.pth", both)
    with pytest.raises(UserError, match="several networks: 'student', 'teacher'; choose one by .*--entry of common.w"):
        weights.import_published(tmp_path / "dino.pth", tmp_path / "run")
    given = ("import", tmp_path / "dino.pth", f"--workdir={tmp_path}/run", "--entry=teacher")
    code, _, errors = run(*given, module="common.weights")
    assert code == 0, errors
    found = trained.load(tmp_path / "run")
    np.testing.assert_array_equal(found.variables["params"]["fc"]["bias"], arrays["linear.bias"] + 1)
    assert found.config.init.entry == "teacher"


@pytest.mark.slow
def test_an_imported_run_is_tested_with_its_files_batch_statistics(tmp_path, capsys):
    config = resnet_digits.get_config()
    config.model.update({"stage_sizes": (1, 1, 1), "width": 4})
    config.data.normalize, config.data.pixel_range = "pixels", (0.0, 1.0)  # the mean image is the training set's
    classifier = models.make_classifier(config.model, networks.facts(10, (32, 32, 1)))
    variables = random_variables(classifier.module, classifier)
    weight_files.write(tmp_path / "net.npz", resnet_weights.to_published(variables, classifier.module))
    weights.import_file(tmp_path / "net.npz", config, tmp_path / "run")
    assert "as cifar tests most of its networks: config.data.normalize=channels" in capsys.readouterr().out
    found = trained.load(tmp_path / "run")
    assert found.statistics is not None
    jax.tree.map(np.testing.assert_array_equal, found.variables, variables)
    assert json.loads((tmp_path / "run/config.json").read_text())["init"]["checkpoint"].endswith("net.npz")


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ("resnet50.a1_in1k/", "runs/resnet50.a1_in1k"),
        ("resnet50.a1_in1k/.", "runs/resnet50.a1_in1k"),
        ("resnet50.a1_in1k/model.safetensors", "runs/model"),
        ("resnet50.a1_in1k.safetensors", "runs/resnet50.a1_in1k"),
    ],
)
def test_a_run_is_named_after_the_whole_folder_or_the_file_without_its_ending(tmp_path, monkeypatch, given, folder):
    (tmp_path / "resnet50.a1_in1k").mkdir()
    assert weights.usual_folder(tmp_path / given) == pathlib.Path(folder)
    monkeypatch.chdir(tmp_path / "resnet50.a1_in1k")
    assert weights.usual_folder(pathlib.Path(".")) == pathlib.Path("runs/resnet50.a1_in1k")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected: import FILE [--workdir=DIR]"),
        (("exprot", "net.npz"), "did you mean 'export'"),
        (("export", "net.npz"), "--workdir is missing"),
        (("export", "net.onnx", "--workdir=nowhere"), "unknown ending of 'net.onnx' '.onnx'"),
        (("export", "net.npz", "--workdir=nowhere"), "no run in nowhere"),
        (("export", "/dev/null/net.npz", "--workdir=nowhere"), "cannot write /dev/null/net.npz: Not a directory"),
        (("import", "net.npz"), "no file 'net.npz'"),
        (("import", "net.npz", "--checkpoint=best"), "import does not use --checkpoint"),
        (("export", "net.npz", "--workdir=nowhere", "--entry=ema"), "export does not use --entry"),
        (("import", "net.npz", "--config=configs/resnet_digits.py"), "no file 'net.npz'"),
    ],
)
def test_mistakes_are_answered_in_one_line(arguments, message):
    assert message in refused(*arguments, module="common.weights")


def test_a_misspelt_file_of_weights_names_its_neighbour(tmp_path):
    np.savez(tmp_path / "resnet20.npz", a=np.zeros(1))
    meant = f"did you mean '{tmp_path / 'resnet20.npz'}'?"
    assert meant in refused("import", f"{tmp_path}/resnet2.npz", module="common.weights")
    with pytest.raises(UserError, match=re.escape(meant)):
        weight_files.read(tmp_path / "resnet2.npz")
    config = resnet_digits.get_config()
    config.init.checkpoint = str(tmp_path / "resnet2.npz")
    classifier = models.make_classifier(config.model, networks.facts(10, (32, 32, 1)))
    for use in (lambda: adopted.adopt(config), lambda: initial.given_weights(config, classifier)):
        with pytest.raises(UserError, match="which does not exist; .*" + re.escape(meant)):
            use()
    assert "no weights in" in refused("import", tmp_path, module="common.weights")


def test_a_file_of_another_network_is_refused_in_one_line_and_leaves_nothing(tmp_path):
    np.savez(tmp_path / "net.npz", **{"conv1.weight": np.zeros((4, 1, 3, 3), np.float32), "surplus": np.zeros(3)})
    config = resnet_digits.get_config()
    with pytest.raises(UserError, match="lacks .* more and also has 'surplus'; choose its variant") as error:
        weights.import_file(tmp_path / "net.npz", config, tmp_path / "run")
    assert len(str(error.value)) < 250
    assert not (tmp_path / "run").exists()


def test_an_export_takes_the_place_of_no_file(tmp_path):
    (tmp_path / "net.npz").write_text("mine")
    with pytest.raises(UserError, match=r"net\.npz' exists; choose another FILE, or remove it"):
        weights.export_file(tmp_path / "net.npz", digits_run())
    assert (tmp_path / "net.npz").read_text() == "mine"


def test_an_option_that_is_given_under_both_its_names_is_refused(tmp_path):
    np.savez(tmp_path / "net.npz", a=np.zeros(1))
    command = ("import", tmp_path / "net.npz", "--config=configs/resnet_digits.py")
    for name, value in (("source", "own"), ("entry", "ema")):
        twice = (*command, f"--{name}={value}", f"--config.init.{name}=other")
        said = refused(*twice, module="common.weights")
        assert f"--{name} and --config.init.{name} are the same option; leave one out" in said
