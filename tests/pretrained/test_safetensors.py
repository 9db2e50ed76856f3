"""Tests that a file of safetensors, written here byte by byte, is read, and that another one is refused."""

import json

import ml_dtypes
import numpy as np
import pytest

from common.errors import UserError
from common.pretrained import weight_files


def test_safetensors_are_read(tmp_path):
    arrays = {"a": np.float32([[1.5, -2.0, 3.0]]), "b.c": np.array([1.0, 2.5], ml_dtypes.bfloat16)}
    header, content, names = {"__metadata__": {"format": "pt"}}, b"", {"a": "F32", "b.c": "BF16"}
    for name, array in arrays.items():
        offsets = [len(content), len(content) + array.nbytes]
        header[name] = {"dtype": names[name], "shape": list(array.shape), "data_offsets": offsets}
        content += array.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "net.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + content)
    read = weight_files.read(tmp_path / "net.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
    (tmp_path / "net.safetensors").write_bytes(b"text")
    with pytest.raises(UserError, match="is not a checkpoint of arrays"):
        weight_files.read(tmp_path / "net.safetensors")
