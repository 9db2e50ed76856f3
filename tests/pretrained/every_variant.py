"""Every published network against its library: `make parity-all`, which pytest does not collect by itself.

Weights and batch statistics are random. The file is identified as a user's would be, with no config, and logits agree
to 1e-5 of the largest. The original ViT files and the CIFAR-10 ports come in no package: `tests/vit` and `tests/resnet`
compare them with implementations of their own.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from common import models
from common.pretrained import identify, initial, weight_files
from tests import networks

pytestmark = pytest.mark.parity

_DEPTHS = (18, 34, 50, 101, 152)
_RESNETS = {f"resnet{depth}": ("resnet", f"resnet{depth}_modern") for depth in _DEPTHS}
_VGGS = {f"vgg{depth}{norm}": ("vgg", f"vgg{depth}{norm}") for depth in (11, 13, 16, 19) for norm in ("", "_bn")}
_TIMMS = {"ti": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge"}
_VITS = ("ti16", "s16", "s32", "b16", "b32", "l16", "l32", "h14")
_BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
NETWORKS = {
    ("torchvision", "alexnet"): ("alexnet", "one_column"),
    ("torchvision", "googlenet"): ("googlenet", "googlenet_torchvision"),
    **{("torchvision", name): ours for name, ours in {**_VGGS, **_RESNETS}.items()},
    **{("timm", name): ours for name, ours in {**_VGGS, **_RESNETS}.items()},
    **{("huggingface", name): ours for name, ours in _RESNETS.items()},
    **{("torchvision", f"vit_{name[0]}_{name[1:]}"): ("vit", name) for name in _VITS if name[0] in "blh"},
    **{("timm", f"vit_{_TIMMS[name[:-2]]}_patch{name[-2:]}_224"): ("vit", name) for name in _VITS},
    **{("huggingface", f"vit {name}"): ("vit", name) for name in _VITS},
    ("timm", "deit_small_patch16_224"): ("vit", "s16"),
}


def network(library, name):
    """The library's network, with random weights and batch statistics that keep signals at their size."""
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("transformers" if library == "huggingface" else library)
    torch.manual_seed(0)
    if library == "timm":
        net = module.create_model(name, num_classes=1000)
    elif library == "torchvision":
        options = {"transform_input": False, "init_weights": True} if name == "googlenet" else {}
        net = module.models.get_model(name, **options)
    elif name.startswith("vit "):
        has = models.family_module("vit").VARIANTS[name.split()[1]]
        config = module.ViTConfig(
            hidden_size=has["hidden_size"],
            intermediate_size=has["mlp_dim"],
            num_hidden_layers=has["depth"],
            num_attention_heads=has["num_heads"],
            patch_size=has["patch_size"],
            num_labels=1000,
        )
        net = module.ViTForImageClassification(config)
    else:
        depth = int(name.removeprefix("resnet"))
        kind = "basic" if depth in _BASIC else "bottleneck"
        sizes = _BASIC.get(depth, {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}.get(depth))
        width = 1 if kind == "basic" else 4
        config = module.ResNetConfig(
            depths=list(sizes),
            layer_type=kind,
            hidden_sizes=[64 * width * 2**stage for stage in range(4)],
            num_labels=1000,
        )
        net = module.ResNetForImageClassification(config)
    with torch.no_grad():
        for array in net.state_dict().values():
            if array.is_floating_point() and array.ndim == 1:
                array.copy_(torch.rand(array.shape) + 0.5)
            elif array.is_floating_point() and not array.any():  # heads and tokens that start at zero
                array.copy_(torch.randn(array.shape) * 0.02)
    return net.eval()


@pytest.mark.parametrize(("library", "name"), NETWORKS, ids=[" ".join(key) for key in NETWORKS])
def test_logits_are_the_librarys(library, name, tmp_path):
    torch = pytest.importorskip("torch")
    net, (family, variant) = network(library, name), NETWORKS[library, name]
    if library == "huggingface":
        net.save_pretrained(tmp_path)
        arrays, path = weight_files.read(tmp_path / "model.safetensors"), tmp_path
    else:
        arrays, path = {key: array.numpy() for key, array in net.state_dict().items()}, tmp_path / "net.pth"
        path.touch()  # the arrays are given
    found = identify.identify(path, arrays, library)
    assert (found.config.model.family, found.config.model.variant) == (family, variant)
    side = found.config.data.crop
    ours = models.make_classifier(found.config.model, networks.facts(1000, (side, side, 3)))
    flat, _ = initial.initial_arrays(initial.given_weights(found.config, ours, arrays), ours, found.config)
    variables = traverse_util.unflatten_dict(jax.tree.map(jnp.asarray, flat), sep="/")
    images = np.random.default_rng(0).normal(size=(1, side, side, 3)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.tensor(images).permute(0, 3, 1, 2))
    expected = getattr(expected, "logits", expected).numpy()
    with jax.default_matmul_precision("highest"):
        logits = ours.logits(ours.module.apply(variables, jnp.asarray(images), train=False))
    assert np.abs(logits - expected).max() / np.abs(expected).max() < 1e-5
