"""GoogLeNet under torchvision's names: the round trip, and the same outputs as PyTorch's layers."""

import jax
import numpy as np
import pytest

from common.errors import UserError
from googlenet import weights
from googlenet.model import MODULES
from tests import networks
from tests.slow import rest_slow

WIDTH = 1 / 16


def _module(variant="googlenet_torchvision", size=224, **changes):
    return networks.classifier("googlenet", variant, 6, (size, size, 3), width=WIDTH, **changes).module


def _variables(module, size=224):
    drawn = networks.drawn(networks.shapes(module, (size, size, 3)), scale=0.2)
    return jax.tree.map(np.array, drawn)  # PyTorch asks for arrays that can be written to


@pytest.mark.parametrize("variant", rest_slow(["googlenet_small", "googlenet", "googlenet_torchvision"]))
def test_export_and_import_are_inverse(variant):
    module = _module(variant)
    variables = _variables(module)
    state = weights.to_torchvision(variables, module)
    np.testing.assert_equal(weights.from_torchvision(state, module, variables), variables)


def test_published_names():
    module = _module()
    state = weights.to_torchvision(_variables(module), module)
    for name in ("conv1.conv.weight", "conv3.bn.running_var", "inception3a.branch2.1.conv.weight", "aux2.fc1.weight",
                 "inception5b.branch4.1.bn.bias", "aux1.conv.bn.weight", "fc.bias"):  # fmt: skip
        assert name in state
    assert len(state) == 57 * 5 + 2 * (5 + 4) + 2


def test_auxiliary_classifiers_are_dropped_where_the_network_has_none():
    module = _module()
    variables = _variables(module)
    state = weights.to_torchvision(variables, module)
    without = _module(auxiliary=False)
    imported = weights.from_torchvision(state, without, variables)
    assert "aux1" not in imported["params"]
    with pytest.raises(UserError, match="also has .*'fc2.bias'.*"):
        weights.from_torchvision({**state, "fc2.bias": np.zeros(3)}, without, variables)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"last_pool": 3}, "a last max pooling of 2x2 windows: set config.model.last_pool=2"),
        ({"lrn": True}, "no local response normalisation: set config.model.lrn=False"),
        (
            {"auxiliary_pool": "5x5"},
            "classifiers on an average of 4x4 pixels: set config.model.auxiliary_pool=adaptive",
        ),
    ],
)
def test_what_torchvisions_network_computes_otherwise_is_named(changes, said):
    module, heads = _module(**changes), {"aux1.fc1.bias": np.zeros(1)}
    assert weights.mismatch("torchvision", heads, _module(), {}) == ""
    assert said in weights.mismatch("torchvision", heads, module, {})
    without = weights.mismatch("torchvision", {}, module, {})  # the heads then start untrained
    assert bool(without) == ("auxiliary_pool" not in changes)


@pytest.mark.parametrize("size", [224, 101])
def test_pytorch_computes_the_same(size):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    def unit(inputs, outputs, kernel_size, stride=1):
        layers = nn.Sequential()
        layers.add_module("conv", nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, bias=False))
        layers.add_module("bn", nn.BatchNorm2d(outputs, eps=1e-3))
        layers.add_module("relu", nn.ReLU())
        return layers

    class Inception(nn.Module):
        def __init__(self, inputs, one, reduce3, three, reduce5, five, proj):
            super().__init__()
            self.branch1 = unit(inputs, one, 1)
            self.branch2 = nn.Sequential(unit(inputs, reduce3, 1), unit(reduce3, three, 3))
            self.branch3 = nn.Sequential(unit(inputs, reduce5, 1), unit(reduce5, five, 3))
            self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), unit(inputs, proj, 1))

        def forward(self, x):
            return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)

    scaled = lambda maps: max(round(WIDTH * maps), 1)  # noqa: E731
    module = _module(size=size)
    variables = _variables(module, size)
    net = nn.Sequential()
    net.add_module("conv1", unit(3, scaled(64), 7, 2))
    net.add_module("maxpool1", nn.MaxPool2d(3, 2, ceil_mode=True))
    net.add_module("conv2", unit(scaled(64), scaled(64), 1))
    net.add_module("conv3", unit(scaled(64), scaled(192), 3))
    net.add_module("maxpool2", nn.MaxPool2d(3, 2, ceil_mode=True))
    channels = scaled(192)
    for name, widths in MODULES.items():
        if name == "4a":
            net.add_module("maxpool3", nn.MaxPool2d(3, 2, ceil_mode=True))
        if name == "5a":
            net.add_module("maxpool4", nn.MaxPool2d(2, 2, ceil_mode=True))
        widths = [scaled(width) for width in widths]
        net.add_module(f"inception{name}", Inception(channels, *widths))
        channels = widths[0] + widths[2] + widths[4] + widths[5]
    net.add_module("avgpool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    net.add_module("fc", nn.Linear(channels, 6))
    state = weights.to_torchvision(variables, module)
    state = {name: torch.from_numpy(array) for name, array in state.items() if not name.startswith("aux")}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all(name.endswith("num_batches_tracked") for name in missing)
    images = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = net.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    ours = jax.jit(module.apply)(variables, images).logits
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())
