"""The race: both sides run the same network, and the numbers are what they say."""

import types

import jax
import numpy as np
import pytest

from common import models
from common.training.state import num_parameters
from tests.runs import refused, run

NETWORKS = [
    *("alexnet:two_column", "alexnet:one_column", "vgg:vgg16", "vgg:vgg11_bn", "googlenet:googlenet"),
    *("googlenet:googlenet_bn", "resnet:resnet34", "resnet:resnet50", "resnet:resnet50_modern", "resnet:plain18"),
    *("vit:ti16", "vit:s16", "vit:b32"),
]


@pytest.mark.parametrize("name", NETWORKS)
def test_both_sides_have_the_same_parameters(name):
    torch = pytest.importorskip("torch")
    from benchmarks import torch_networks

    family, _, variant = name.partition(":")
    info = types.SimpleNamespace(num_classes=1000, class_names=(), image_shape=(224, 224, 3))
    module = models.make_classifier(models.section(family, variant), info).module
    ours = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 224, 224, 3), np.float32))["params"]
    theirs = _meta(torch, torch_networks, module)
    assert num_parameters(ours) == sum(parameter.numel() for parameter in theirs.parameters())


def _meta(torch, torch_networks, module):
    """The network without its numbers, which for some are half a gigabyte."""
    with torch.device("meta"):
        return torch_networks.torch_network(module, 224)


@pytest.mark.slow  # a benchmark from end to end
@pytest.mark.timeout(240)
def test_a_race_on_small_images(tmp_path):
    peer = ""
    try:
        import torch  # noqa: F401

        peer = "torch"
    except ImportError:
        pass
    code, output, errors = run(
        *("--models=resnet:resnet20", f"--peers={peer}", "--batch_size=4", "--image_size=32", "--rounds=2"),
        *("--seconds=0", f"--out={tmp_path}"),
        module="benchmarks.throughput",
    )
    assert code == 0, errors
    assert "share of the rate of matrix products" in output
    assert ("ours over torch" in output) == (peer == "torch")
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_network_that_does_not_exist_is_refused_before_anything_runs():
    assert "resnet50" in refused("--models=resnet:resnet51", module="benchmarks.throughput")
