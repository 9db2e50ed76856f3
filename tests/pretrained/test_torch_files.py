"""Tests that PyTorch's files are read without PyTorch, and that nothing in them runs."""

import argparse
import io
import os
import pathlib
import pickle
import pickletools
import zipfile

import ml_dtypes
import numpy as np
import pytest

from common.errors import UserError
from common.pretrained import weight_files
from tests import torch_saved

ARRAYS = {"conv.weight": np.float32([[1.5, -2, 3]]), "bn.running_var": np.float32([4, 5])}
PUBLISHED = pathlib.Path(__file__).parents[3] / "shared/weights/resnet20-12fca82f.th"


def tensors(prefix="", arrays=ARRAYS):
    return {prefix + name: torch_saved.tensor(array) for name, array in arrays.items()}


@pytest.mark.parametrize(
    "content",
    [
        tensors(),
        tensors("module."),
        tensors("_orig_mod.module."),
        {"state_dict": tensors("model."), "hyper_parameters": {"lr": 0.1}, "epoch": 3, "callbacks": {}},
        {"model": tensors("module."), "optimizer": {"state": {0: {"step": 7}}}, "args": argparse.Namespace(lr=0.1)},
        {"net": tensors(), "acc": 92.1},
        {"model_state_dict": tensors(), "loss": np.float64(0.1)},
    ],
    ids=["plain", "DataParallel", "compiled", "Lightning", "model", "net", "model_state_dict"],
)
def test_the_network_is_found_in_what_people_save_around_it(content, tmp_path):
    torch_saved.save(tmp_path / "NET.PTH", content)
    found = weight_files.read(tmp_path / "NET.PTH")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


def test_averaged_parameters_are_named_and_chosen(tmp_path, capsys):
    averaged = {name: array + 1 for name, array in ARRAYS.items()}
    torch_saved.save(tmp_path / "net", {"state_dict": tensors(), "state_dict_ema": tensors(arrays=averaged)})
    np.testing.assert_array_equal(weight_files.read(tmp_path / "net")["bn.running_var"], [4, 5])
    assert "'state_dict' is read, 'state_dict_ema' is not; choose by config.init.entry" in capsys.readouterr().out
    np.testing.assert_array_equal(weight_files.read(tmp_path / "net", "state_dict_ema")["bn.running_var"], [5, 6])
    with pytest.raises(UserError, match="did you mean 'state_dict_ema'"):
        weight_files.read(tmp_path / "net", "state_dict_em")


def test_views_types_and_shared_numbers(tmp_path):
    storage = torch_saved.Storage(np.arange(12, dtype=np.float32))
    brain = np.float32([1.5, -2]).astype(ml_dtypes.bfloat16)
    torch_saved.save(
        tmp_path / "net.pt",
        {
            "transposed": torch_saved.Tensor(storage, 0, (4, 3), (1, 4)),
            "middle": torch_saved.Tensor(storage, 5, (2,), (1,)),
            "repeated": torch_saved.Tensor(storage, 7, (2, 2), (0, 1)),
            "brain": torch_saved.Tensor(torch_saved.Storage(brain.view("V2")), 0, (2,), (1,)),
            "half": torch_saved.tensor(np.float16([0.5])),
            "count": torch_saved.tensor(np.array(7)),
        },
    )
    found = weight_files.read(tmp_path / "net.pt")
    np.testing.assert_array_equal(found["transposed"], np.arange(12).reshape(3, 4).T)
    np.testing.assert_array_equal(found["middle"], [5, 6])
    np.testing.assert_array_equal(found["repeated"], [[7, 8], [7, 8]])
    assert found["brain"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found["brain"].astype(np.float32), [1.5, -2])
    assert (found["half"].dtype, found["count"].dtype, found["count"].shape) == (np.float16, np.int64, ())


def test_an_array_outside_its_storage_is_refused(tmp_path):
    storage = torch_saved.Storage(np.arange(4, dtype=np.float32))
    for offset, shape, strides in ((0, (5,), (1,)), (3, (2,), (1,)), (0, (2, 2), (3, 1)), (0, (2**60,), (2**60,))):
        torch_saved.save(tmp_path / "net.pt", {"a": torch_saved.Tensor(storage, offset, shape, strides)})
        with pytest.raises(UserError, match="is not a checkpoint of arrays: an array asks for number|unpack"):
            weight_files.read(tmp_path / "net.pt")


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.system, eval, getattr, __import__, pathlib.Path.touch, pickle.loads])
def test_a_pickle_that_names_anything_else_runs_nothing(function, protocol, tmp_path):
    mark = tmp_path / "mark"
    content = pickle.dumps({"state_dict": Calls(function, f"touch {mark}")}, protocol)
    for name, whole in (("a.pth", archive(content)), ("b.pth", content)):
        (tmp_path / name).write_bytes(whole)
        with pytest.raises(UserError) as refused:
            weight_files.read(tmp_path / name)
        assert "weights_only" not in str(refused.value)
        assert "\n" not in str(refused.value)
    (tmp_path / "a.pth").write_bytes(archive(content))
    with pytest.raises(UserError, match="it asks for .*, which is not read: only arrays are"):
        weight_files.read(tmp_path / "a.pth")
    assert not mark.exists()


def archive(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("net/data.pkl", content)
    return file.getvalue()


# Instances made by INST and OBJ, and functions by number from the registry of extensions.
@pytest.mark.parametrize(
    "content", [b"(S'touch mark'\nios\nsystem\n.", b"(cos\nsystem\nS'touch mark'\no.", b"\x82\x01."]
)
def test_rare_operations_are_refused(content, tmp_path):
    assert list(pickletools.genops(content))
    (tmp_path / "net.pth").write_bytes(archive(content))
    with pytest.raises(UserError, match="uses the operation|asks for"):
        weight_files.read(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state_dict": [1]}, "holds no arrays by name, as a state_dict does, but dict of 'state_dict \\(list\\)'"),
        ([1, 2], "holds no arrays by name"),
        (tensors(arrays={"fc.weight": np.float32([1, np.nan])}), "holds NaN or infinite values: in 'fc.weight'"),
        (tensors(arrays={"bn.running_var": np.float32([-1])}), "holds negative variances: in 'bn.running_var'"),
        ({"first": tensors(), "second": tensors()}, "holds several networks: 'first', 'second'; choose one"),
    ],
)
def test_a_file_without_a_network_is_refused_in_one_line(content, said, tmp_path):
    torch_saved.save(tmp_path / "net.pth", content)
    with pytest.raises(UserError, match=said):
        weight_files.read(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\0\0\0a]sb.", "holds no arrays"),  # state of a function
        (b"\x80\x02}q\0X\x0a\0\0\0state_dicth\0s.", "holds no arrays"),  # a dict that holds itself
        (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x3f.", "is not a checkpoint"),  # a text of many exabytes
    ],
)
def test_a_hostile_pickle_takes_no_time_and_no_memory(pickled, said, tmp_path):
    (tmp_path / "net.pth").write_bytes(archive(pickled))
    with pytest.raises(UserError, match=said):
        weight_files.read(tmp_path / "net.pth")


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pth"])
def test_the_content_tells_the_format(ending, tmp_path):
    arrays = {**ARRAYS, "brain": np.array([1, 2.5], ml_dtypes.bfloat16)}
    weight_files.write(tmp_path / f"net{ending}", arrays)
    found = weight_files.read((tmp_path / f"net{ending}").rename(tmp_path / "net"))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_other_files_are_named(tmp_path):
    for content, said in ((b"", "it is empty"), (b"<html>", "a web page"), (b"version https://git-lfs.x", "Git LFS")):
        (tmp_path / "net.pth").write_bytes(content)
        with pytest.raises(UserError, match=f"{said}.*expected .npz, .safetensors or PyTorch's .pth"):
            weight_files.read(tmp_path / "net.pth")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published file is not here")
def test_the_published_resnet_of_2018_is_read():
    found = weight_files.read(PUBLISHED)
    weights = {name: array for name, array in found.items() if not name.endswith(("running_mean", "running_var"))}
    assert found["conv1.weight"].shape == (16, 3, 3, 3)
    assert found["linear.weight"].shape == (10, 64)
    # 0.27 million, as Table 6 of the paper says.
    assert 0.265e6 < sum(array.size for array in weights.values() if array.ndim) < 0.275e6


def test_pytorch_opens_what_is_written_and_both_of_its_formats_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(12.0).reshape(3, 4)
    content = {
        "a": base.t(),
        "b": base[1:, 2:],
        **{str(kind): torch.ones(3).to(kind) for kind in (torch.float16, torch.bfloat16, torch.float64, torch.int8)},
        "p": torch.nn.Parameter(torch.zeros(2, 1)),
    }
    for zipped in (True, False):
        torch.save({"state_dict": content, "epoch": 3}, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
        found = weight_files.read(tmp_path / "net.pth")
        assert found.keys() == content.keys()
        for name, array in content.items():
            np.testing.assert_array_equal(found[name].astype(np.float64), array.detach().double().numpy())
    weight_files.write(tmp_path / "ours.pth", found)
    for name, array in torch.load(tmp_path / "ours.pth", weights_only=True).items():
        assert array.dtype == content[name].dtype
        assert torch.equal(array, content[name])
