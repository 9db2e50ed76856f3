"""AlexNet under torchvision's names: the round trip, and the same outputs as PyTorch's layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet import weights
from common.anatomy import layer_table
from common.errors import UserError
from tests import networks


def _one_column(size, **changes):
    fields = {"widths": (4, 6, 8, 6, 5), "fc_width": 16, **changes}
    return networks.classifier("alexnet", "one_column", 7, (size, size, 3), **fields).module


def _variables(module, size):
    drawn = networks.drawn(networks.shapes(module, (size, size, 3)))
    return jax.tree.map(np.array, drawn)  # PyTorch asks for arrays that can be written to


def test_round_trip_and_published_names():
    module = _one_column(80)
    variables = _variables(module, 80)
    state = weights.to_torchvision(variables, module)
    features = [f"features.{index}" for index in (0, 3, 6, 8, 10)]
    classifier = [f"classifier.{index}" for index in (1, 4, 6)]
    assert set(state) == {f"{layer}.{array}" for layer in features + classifier for array in ("weight", "bias")}
    np.testing.assert_equal(weights.from_torchvision(state, module, variables), variables)


def test_published_shapes_fit_the_one_column_network():
    module = networks.classifier("alexnet", "one_column", 1000, (224, 224, 3)).module
    shapes = layer_table.variable_shapes(module, (224, 224, 3))["params"]
    assert shapes["conv1"]["kernel"].shape == (11, 11, 3, 64)
    assert shapes["fc6"]["kernel"].shape == (9216, 4096)


def test_a_checkpoint_of_other_classes_is_refused():
    module = _one_column(80)
    variables = _variables(module, 80)
    state = weights.to_torchvision(variables, module)
    state["classifier.6.weight"] = np.zeros((1000, 16), np.float32)
    with pytest.raises(UserError, match=r"'classifier.6.weight' has shape \(1000, 16\)"):
        weights.from_torchvision(state, module, variables)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("lrn", True, "no local response normalisation: set config.model.lrn=False"),
        ("activation", "tanh", "ReLUs: set config.model.activation=relu"),
        ("overlapping_pooling", False, "overlapping pooling: set config.model.overlapping_pooling=True"),
        ("stem", (11, 3), r"a first convolution of stride 4: set config.model.stem=(11, 4)"),
        ("stem_padding", (0, 3), "its images padded by two pixels on both sides: set config.model.stem_padding=(2, 2)"),
        (
            "dropout_form",
            "2012",
            "dropout that scales units in training, not in testing: set config.model.dropout_form=",
        ),
    ],
)
def test_what_torchvisions_network_computes_otherwise_is_named(field, value, said):
    assert weights.mismatch("torchvision", {}, _one_column(80), {}) == ""
    assert said in weights.mismatch("torchvision", {}, _one_column(80, **{field: value}), {})


@pytest.mark.parametrize("size", [224, 150])
def test_pytorch_computes_the_same(size):
    torch = pytest.importorskip("torch")
    module = _one_column(size)
    variables = _variables(module, size)
    state = weights.to_torchvision(variables, module)
    nn, widths = torch.nn, module.widths
    features = nn.Sequential(
        nn.Conv2d(3, widths[0], 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(widths[0], widths[1], 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(widths[1], widths[2], 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(widths[2], widths[3], 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(widths[3], widths[4], 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(6),
    )
    classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(36 * widths[4], 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16), nn.ReLU(),
        nn.Linear(16, 7),
    )  # fmt: skip
    net = nn.Sequential()
    net.add_module("features", features)
    net.add_module("flatten", nn.Flatten())
    net.add_module("classifier", classifier)
    net.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    images = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = net.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    ours = jax.jit(module.apply)(variables, images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_pytorchs_normalisation_is_ours_divided_by_the_size():
    torch = pytest.importorskip("torch")
    from common.nn.layers import local_response_norm

    x = np.random.default_rng(0).normal(scale=100, size=(2, 4, 4, 9)).astype(np.float32)
    theirs = torch.nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)(torch.from_numpy(x.transpose(0, 3, 1, 2)))
    ours = local_response_norm(jnp.asarray(x), divide_by_size=True)
    np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 3, 1), rtol=1e-5)
