"""VGG under torchvision's names: round trip, and the same outputs as PyTorch's layers."""

import jax
import numpy as np
import pytest

from tests import networks
from vgg import weights
from vgg.model import CONFIGURATIONS, STAGE_WIDTHS


def _module(variant, size):
    return networks.classifier("vgg", variant, 6, (size, size, 3), width=4, fc_width=16, adaptive_pool=7).module


def _variables(module, size):
    drawn = networks.drawn(networks.shapes(module, (size, size, 3)), scale=0.2)
    return jax.tree.map(np.array, drawn)  # PyTorch asks for arrays that can be written to


@pytest.mark.parametrize("variant", ["vgg11", "vgg16_bn", "vgg16_c"])
def test_export_and_import_are_inverse(variant):
    module = _module(variant, 32)
    variables = _variables(module, 32)
    state = weights.to_torchvision(variables, module)
    np.testing.assert_equal(weights.from_torchvision(state, module, variables), variables)


def test_published_names():
    d = weights.to_torchvision(_variables(_module("vgg16", 32), 32), _module("vgg16", 32))
    layers = [int(name.split(".")[1]) for name in d if name.startswith("features") and name.endswith("weight")]
    assert layers == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    a = weights.to_torchvision(_variables(_module("vgg11_bn", 32), 32), _module("vgg11_bn", 32))
    layers = [int(name.split(".")[1]) for name in a if name.startswith("features") and name.endswith("running_var")]
    assert layers == [1, 5, 9, 12, 16, 19, 23, 26]


@pytest.mark.parametrize(("variant", "size"), [("vgg11", 224), ("vgg13_bn", 72)])
def test_pytorch_computes_the_same(variant, size):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    module = _module(variant, size)
    variables = _variables(module, size)
    features, channels = [], 3
    for multiple, kernel_sizes in zip(STAGE_WIDTHS, CONFIGURATIONS[module.configuration], strict=True):
        for kernel_size in kernel_sizes:
            width = multiple * module.width
            features += [nn.Conv2d(channels, width, kernel_size, padding=kernel_size // 2)]
            features += [nn.BatchNorm2d(width), nn.ReLU()] if module.batch_norm else [nn.ReLU()]
            channels = width
        features += [nn.MaxPool2d(2, 2)]
    classifier = [nn.Linear(49 * channels, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout()]
    net = nn.Sequential()
    net.add_module("features", nn.Sequential(*features))
    net.add_module("avgpool", nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten()))
    net.add_module("classifier", nn.Sequential(*classifier, nn.Linear(16, 6)))
    state = weights.to_torchvision(variables, module)
    net.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=False)
    images = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = net.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    ours = jax.jit(module.apply)(variables, images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
