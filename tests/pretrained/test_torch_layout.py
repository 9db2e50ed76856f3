"""Names and axes between PyTorch's state dictionaries and our variables."""

import numpy as np
import pytest

from common.errors import UserError
from common.pretrained import torch_layout
from common.pretrained.torch_layout import Entry

ENTRIES = [
    *torch_layout.convolution("conv", "features.0"),
    *torch_layout.batch_norm("bn", "features.1"),
    *torch_layout.dense("fc", "classifier", map_channels=3),
]


def _ours():
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {
        "params": {
            "conv": {"kernel": draw(5, 5, 2, 3), "bias": draw(3)},
            "bn": {"scale": draw(3), "bias": draw(3)},
            "fc": {"kernel": draw(2 * 2 * 3, 7), "bias": draw(7)},
        },
        "batch_stats": {"bn": {"mean": draw(3), "var": draw(3)}},
    }


def test_arrays_converted_there_and_back_are_the_same():
    ours = _ours()
    theirs = torch_layout.to_theirs(ours, ENTRIES)
    assert theirs["features.0.weight"].shape == (3, 2, 5, 5)
    assert theirs["classifier.weight"].shape == (7, 12)
    back = torch_layout.to_ours({**theirs, "features.1.num_batches_tracked": np.zeros(())}, ENTRIES, ours)
    np.testing.assert_equal(back, ours)


def test_a_flattened_map_is_channel_by_channel_there_and_pixel_by_pixel_here():
    ours = _ours()
    weight = torch_layout.to_theirs(ours, ENTRIES)["classifier.weight"]
    maps = np.random.default_rng(1).normal(size=(2, 2, 3)).astype(np.float32)
    here = maps.reshape(-1) @ ours["params"]["fc"]["kernel"]
    np.testing.assert_allclose(weight @ maps.transpose(2, 0, 1).reshape(-1), here, rtol=1e-5)


def test_arrays_that_do_not_fit_are_named():
    ours = _ours()
    theirs = torch_layout.to_theirs(ours, ENTRIES)
    without = {name: array for name, array in theirs.items() if name != "features.0.weight"}
    with pytest.raises(UserError, match="lacks 'features.0.weight'; choose its variant"):
        torch_layout.to_ours(without, ENTRIES, ours)
    with pytest.raises(UserError, match="also has 'aux.bias'"):
        torch_layout.to_ours({**theirs, "aux.bias": np.zeros(2)}, ENTRIES, ours)
    torch_layout.to_ours({**theirs, "aux.bias": np.zeros(2)}, ENTRIES, ours, unused=("aux",))
    with pytest.raises(UserError, match=r"'classifier.bias' has shape \(9,\), which does not fit 'params/fc/bias'"):
        torch_layout.to_ours({**theirs, "classifier.bias": np.zeros(9)}, ENTRIES, ours)
    entry = Entry("params/fc/kernel", "classifier.weight", "dense", 5)
    with pytest.raises(UserError, match="reads 12 numbers, which are not a square map of 5"):
        torch_layout.to_ours(theirs, [entry], ours, unused=("",))
