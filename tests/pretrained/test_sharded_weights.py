"""Tests that weights in several files with an index are read as one, and an index that lies is one line."""

import json
import tracemalloc

import numpy as np
import pytest

from common.errors import UserError
from common.pretrained import hugging_face, weight_files
from tests.runs import refused

A, B = {"a": np.float32([1, 2]), "b": np.arange(3)}, {"c": np.full((2, 2), 7, np.float16)}


def saved(folder, parts, ending=".safetensors", index=None):
    """The index of a folder with these arrays in its parts, as transformers names them."""
    start = {".safetensors": "model", ".bin": "pytorch_model"}[ending]
    names = [f"{start}-{number:05}-of-{len(parts):05}{ending}" for number in range(1, len(parts) + 1)]
    for name, arrays in zip(names, parts, strict=True):
        written = folder / (name if ending == ".safetensors" else f"{name}.pth")
        weight_files.write(written, arrays)
        written.rename(folder / name)
    if index is None:
        index = {array: name for name, arrays in zip(names, parts, strict=True) for array in arrays}
    path = folder / f"{start}{ending}.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 44}, "weight_map": index}))
    return path


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_a_folder_in_parts_is_read_as_one_file(ending, tmp_path):
    index = saved(tmp_path, [A, B], ending)
    assert hugging_face.is_folder(tmp_path)
    assert hugging_face.file_of(tmp_path) == index
    (tmp_path / "config.json").write_text('{"image_size": 96}')
    assert hugging_face.facts(tmp_path) == hugging_face.facts(index) == {"image_size": 96}
    found = weight_files.read(index)
    assert found.keys() == A.keys() | B.keys()
    for name, array in (A | B).items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with pytest.raises(UserError, match="is one of several parts; give their folder"):
        weight_files.read(tmp_path / next(iter(json.loads(index.read_text())["weight_map"].values())))


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_reading_takes_the_memory_of_the_arrays_once(ending, tmp_path):
    parts = [{f"{number}": np.full(2**18, number, np.float32)} for number in range(4)]
    index = saved(tmp_path, parts, ending)
    weight_files.read(index)  # whose imports take memory too
    tracemalloc.start()
    found = weight_files.read(index)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = sum(array.nbytes for array in found.values())
    assert size == 2**22
    assert size < most < 1.5 * size


ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"a": ONE, "b": ONE, "c": "model-00003-of-00003.safetensors"}, "which 'model-00003-of-00003.* is missing"),
        ({"a": f"../{ONE}"}, "'../model-00001-of-00002.safetensors' is not in the index's folder"),
        ({"a": "/etc/passwd"}, "'/etc/passwd' is not in the index's folder"),
        ({"a": f"sub/{ONE}"}, "is not in the index's folder"),
        ({"a": r"C:\model.safetensors"}, "is not in the index's folder"),
        ({"a": ".."}, "'..' is not in the index's folder"),
        ({"a": "model.safetensors.index.json"}, "is an index again"),
        ({"a": ONE, "b": TWO, "c": TWO}, f"'b' is in '{ONE}' and, by the index, in '{TWO}'"),
        ({"a": ONE, "c": TWO}, f"its part '{ONE}' also has 'b'"),
        ({"a": ONE, "b": ONE, "c": TWO, "d": TWO}, f"its part '{TWO}' lacks 'd'"),
        ({"a": ONE, "b": ONE}, None),  # the other part is not asked for
        ({"a": 1}, "names 1 as a part; expected a file"),
        ({}, "no 'weight_map'"),
        ([], "no 'weight_map'"),
    ],
)
def test_an_index_that_does_not_fit_its_parts_is_refused_in_one_line(index, said, tmp_path):
    path = saved(tmp_path, [A, B], index=index)
    if said is None:
        assert weight_files.read(path).keys() == A.keys()
        return
    with pytest.raises(UserError, match=said) as error:
        weight_files.read(path)
    assert "\n" not in str(error.value)


def test_an_array_in_two_parts_is_refused(tmp_path):
    path = saved(tmp_path, [A, {**B, "a": A["a"]}])
    with pytest.raises(UserError, match=f"'a' is in '{ONE}' and, by the index, in '{TWO}'"):
        weight_files.read(path)
    path = saved(tmp_path, [A, B])
    path.write_text(f'{{"weight_map": {{"a": "{ONE}", "a": "{TWO}"}}}}')
    with pytest.raises(UserError, match="'a' is in it twice"):
        weight_files.read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"weight_map": 3}', "[" * 100000])
def test_an_invalid_index_is_refused_in_one_line(text, tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not a checkpoint of arrays"):
        weight_files.read(path)


def test_a_part_that_is_damaged_is_named_and_leaves_no_run(tmp_path):
    saved(tmp_path, [A, B])
    (tmp_path / TWO).write_bytes((tmp_path / TWO).read_bytes()[:-3])
    line = refused("import", tmp_path, f"--workdir={tmp_path}/run", module="common.weights")
    assert f"its part '{TWO}' is not read" in line
    assert not (tmp_path / "run").exists()
