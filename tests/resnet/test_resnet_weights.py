"""ResNet's weights in the names of other libraries."""

import io
import pathlib
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from common import models
from common.errors import UserError
from common.pretrained import weight_files
from resnet import weights
from resnet.model import ResNet, network
from tests import networks
from tests.slow import rest_slow

SHARED = pathlib.Path(__file__).parents[2].parent / "shared"
CHECKPOINT = SHARED / "weights" / "resnet20-12fca82f.th"
CIFAR = SHARED / "data" / "cifar10-jpeg" / "cifar10-jpeg.tar.gz"
# Every kind of block and shortcut, and two identical blocks in the stages that are scanned.
NETS = {
    "basic": ResNet(num_classes=5, stage_sizes=(1, 3), block="basic", width=8, stem="imagenet", shortcut="B"),
    "bottleneck": ResNet(num_classes=5, stage_sizes=(3, 1), width=4, stem="imagenet", stride_in="3x3"),
    "cifar": ResNet(num_classes=5, stage_sizes=(1, 3), block="basic", width=4, stem="cifar", shortcut="A"),
}


def random_variables(module):
    """Random variables everywhere, so that swapped arrays are noticed."""
    shapes = networks.shapes(module)
    leaves, structure = jax.tree.flatten(shapes)
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(structure, [jnp.float32(rng.uniform(0.1, 0.5, leaf.shape)) for leaf in leaves])


@pytest.mark.parametrize("scan", ["on", "off"])
@pytest.mark.parametrize("name", NETS)
def test_export_and_import_are_inverse(name, scan):
    module = NETS[name].clone(scan=scan)
    variables = random_variables(module)
    again = weights.from_published(weights.to_published(variables, module), module)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_names_are_those_of_each_port():
    torchvision = set(weights.to_published(random_variables(NETS["basic"]), NETS["basic"]))
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.running_var", "fc.weight"} <= torchvision
    cifar = NETS["cifar"].clone(shortcut="B")
    assert {"layer2.0.shortcut.0.weight", "linear.bias"} <= set(weights.to_published(random_variables(cifar), cifar))


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_a_checkpoint_that_does_not_fit_is_refused_in_one_line(change):
    state = weights.to_published(random_variables(NETS["basic"]), NETS["basic"])
    if change == "missing":
        del state["layer2.0.bn1.bias"]
    elif change == "extra":
        state["layer9.0.bn1.bias"] = np.zeros(3)
    else:
        state["layer2.0.bn1.bias"] = np.zeros(3)
    with pytest.raises(UserError, match=r"layer\d.0.bn1.bias") as error:
        weights.from_published(state, NETS["basic"])
    assert "\n" not in str(error.value)


def test_npz_files_and_counters_are_read(tmp_path):
    variables = random_variables(NETS["cifar"])
    state = weights.to_published(variables, NETS["cifar"])
    prefixed = {f"module.{name}": array for name, array in state.items()}
    np.savez(tmp_path / "net.npz", **prefixed, **{"module.bn1.num_batches_tracked": np.array(7)})
    again = weights.from_published(weight_files.read(tmp_path / "net.npz"), NETS["cifar"])
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_files_that_are_not_checkpoints_are_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no file"):
        weight_files.read(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(UserError, match="not a checkpoint"):
        weight_files.read(tmp_path / "text.npz")


def torch_forward(module, state, images):
    """The same network in PyTorch, from the paper's description."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    state = {name: torch.tensor(array) for name, array in state.items()}
    fc = "linear" if "linear.weight" in state else "fc"

    def conv(x, name, strides=1):
        kernel = state[f"{name}.weight"]
        return functional.conv2d(x, kernel, stride=strides, padding=kernel.shape[-1] // 2)

    def norm(x, name):
        arrays = (state[f"{name}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *arrays, eps=1e-5)

    x = torch.tensor(np.asarray(images)).permute(0, 3, 1, 2)
    x = torch.relu(norm(conv(x, "conv1", 2 if module.stem == "imagenet" else 1), "bn1"))
    if module.stem == "imagenet":
        x = functional.max_pool2d(x, 3, 2, 1)
    last = 3 if module.block == "bottleneck" else 2
    strided = 2 if (module.block, module.stride_in) == ("bottleneck", "3x3") else 1
    for stage, size in enumerate(module.stage_sizes):
        for block in range(size):
            name, strides = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            y = x
            for layer in range(1, last + 1):
                y = norm(conv(y, f"{name}.conv{layer}", strides if layer == strided else 1), f"{name}.bn{layer}")
                y = torch.relu(y) if layer < last else y
            if f"{name}.downsample.0.weight" in state:
                x = norm(conv(x, f"{name}.downsample.0", strides), f"{name}.downsample.1")
            elif x.shape != y.shape:
                side = (y.shape[1] - x.shape[1]) // 2
                x = functional.pad(x[:, :, ::strides, ::strides], (0, 0, 0, 0, side, side))
            x = torch.relu(x + y)
    return functional.linear(x.mean((2, 3)), state[f"{fc}.weight"], state[f"{fc}.bias"]).numpy()


@pytest.mark.parametrize("name", rest_slow(NETS))
def test_outputs_are_those_of_pytorch(name):
    pytest.importorskip("torch")
    module = NETS[name]
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    variables = {**variables, "batch_stats": random_variables(module)["batch_stats"]}
    images = jax.random.normal(jax.random.key(1), (3, 45, 45, 3))
    expected = torch_forward(module, weights.to_published(variables, module), images)
    with jax.default_matmul_precision("highest"):
        found = jax.jit(module.apply)(variables, images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def cifar_test_images(each):
    """The first `each` test images of each class, and their labels."""
    if not CIFAR.exists():
        pytest.skip(f"{CIFAR} is not there")
    images, labels = [], []
    with tarfile.open(CIFAR) as archive:
        for member in archive:
            parts = pathlib.PurePath(member.name).parts
            if parts[0] == "test" and member.isfile() and int(pathlib.PurePath(member.name).stem) < each:
                images.append(np.asarray(Image.open(io.BytesIO(archive.extractfile(member).read()))))
                labels.append(parts[1])
    names = sorted(set(labels))
    return np.stack(images), np.array([names.index(label) for label in labels])


def test_the_published_resnet20_classifies_cifar10():
    pytest.importorskip("torch")
    if not CHECKPOINT.exists():
        pytest.skip(f"{CHECKPOINT} is not there")
    module = network(models.section("resnet", "resnet20"), 10)
    variables = weights.from_published(weight_files.read(CHECKPOINT), module)
    images, labels = cifar_test_images(each=100)
    assert len(labels) == 1000
    normalised = (images / np.float32(255) - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    logits = jax.jit(module.apply)(variables, normalised)
    # 81.0% on all 10,000 images; a sample of 1,000 varies by about 1.2 points.
    assert abs(np.mean(np.argmax(logits, -1) == labels) - 0.81) < 0.04
