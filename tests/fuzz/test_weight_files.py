"""Random files of weights: bytes of every kind, and sound files that hold the wrong things."""

import functools
import io
import json
import pathlib
import pickle
import pickletools
import tempfile
import zipfile

import jax
import numpy as np
import pytest
from flax import traverse_util
from hypothesis import given
from hypothesis import strategies as st

from common import config as config_lib
from common import models
from common.pretrained import initial, named, weight_files
from tests import networks
from tests.fuzz.bytes_of_files import damaged
from tests.fuzz.endings import ends_well, tried

ARRAYS = {"module.a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.int64), "c": np.float16(2.0)}


class RunsCode:
    """An object whose pickle leaves a mark when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.mark),)


def npz(arrays, compressed=False):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def legacy():
    """An old PyTorch file of one array."""
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x01kU\x03cpuK\x03NtQ"
        b"K\x00K\x03\x85K\x01\x85\x89}tR"
    )
    begin = [pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    arrays = b"\x80\x02}U\x01a" + tensor + b"s."
    numbers = np.arange(3, dtype=np.float32).tobytes()
    return b"".join([*begin, arrays, pickle.dumps(["k"], protocol=2), (3).to_bytes(8, "little"), numbers])


def test_the_sound_pytorch_files_are_read():
    for content in valid()[".pth"][:2]:
        assert read(".pth", content)


@functools.cache
def valid():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "a.safetensors")
        weight_files.write(path, {name: np.asarray(array) for name, array in ARRAYS.items()})
        tensors = path.read_bytes()
        weight_files.write(path.with_suffix(".pth"), {name: np.asarray(array) for name, array in ARRAYS.items()})
        torch = path.with_suffix(".pth").read_bytes()
    return {
        ".npz": (npz(ARRAYS), npz(ARRAYS, compressed=True), npz({})),
        ".safetensors": (tensors, safetensors({})),
        ".pth": (torch, legacy(), npz(ARRAYS), pickle.dumps({"state_dict": ARRAYS}), pickle.dumps([1, 2])),
    }


def read(suffix, content):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, f"weights{suffix}")
        path.write_bytes(content)
        return ends_well("weight file", weight_files.read, path)


@tried(60)
@given(st.data(), st.sampled_from([".npz", ".safetensors", ".pth"]))
def test_a_damaged_file_is_read_or_refused(data, suffix):
    read(suffix, data.draw(damaged(valid()[suffix])))


OPERATIONS = st.one_of(
    st.sampled_from([bytes([operation.code.encode("latin-1")[0]]) for operation in pickletools.opcodes]),
    st.sampled_from([b"U\x01a", b"K\x02", b"q\x00", b"h\x00", b"cos\nsystem\n", b"ctorch\nFloatStorage\n"]),
    st.sampled_from([b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b")R", b"}", b"(", b"Q"]),
)


@tried(60)
@given(st.lists(OPERATIONS, max_size=30))
def test_any_pickle_of_a_pytorch_file_is_read_or_refused(operations):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + b"".join(operations) + b".")
        archive.writestr("a/data/a", b"\0" * 8)
    read(".pth", file.getvalue())


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.one_of(JSON, st.sampled_from(["F32", "I64", "BF16", "BOOL"])),
        "shape": st.one_of(JSON, st.lists(st.one_of(st.integers(-2, 4), st.integers(2**31, 2**66)), max_size=3)),
        "data_offsets": st.one_of(JSON, st.lists(st.integers(-9, 70), max_size=3)),
    },
)


@tried(30)
@given(
    st.one_of(JSON, st.dictionaries(st.text(max_size=5), st.one_of(JSON, ENTRY), max_size=3)), st.binary(max_size=64)
)
def test_any_header_of_safetensors_is_read_or_refused(header, data):
    read(".safetensors", safetensors(header, data))


HEADERS = st.one_of(
    st.tuples(
        st.sampled_from(["<f4", "<f8", "|O", "<U3", "<c8", "<M8[s]", "|V7", "<f99", "|S0", "<i8", [("a", "<f4")], 3]),
        st.booleans(),
        st.lists(st.one_of(st.integers(-2, 4), st.integers(2**30, 2**66)), max_size=4).map(tuple),
    ).map(lambda facts: repr({"descr": facts[0], "fortran_order": facts[1], "shape": facts[2]})),
    st.text(max_size=40),
    st.just("(" * 5000),
    st.just("9" * 5000),
)


@tried(30)
@given(HEADERS, st.binary(max_size=64))
def test_any_header_of_an_array_in_npz_is_read_or_refused(header, data):
    text = header.encode(errors="replace")
    array = b"\x93NUMPY\x02\0" + len(text).to_bytes(4, "little") + text + data
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", array)
    read(".npz", file.getvalue())


def test_files_that_would_fill_the_memory_are_refused(tmp_path):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array_header_2_0(member, {"descr": "|u1", "fortran_order": False, "shape": (2**27,)})
        for _ in range(2**3):
            member.write(bytes(2**24))
    assert read(".npz", bomb.getvalue()) is None
    whole = {"a": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}}
    assert read(".safetensors", safetensors(whole)) is None
    assert read(".safetensors", (2**62).to_bytes(8, "little")) is None


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth", ".pt", ".th", ""])
def test_no_file_of_weights_runs_code(suffix, tmp_path):
    mark = tmp_path / "mark"
    content = pickle.dumps({"state_dict": RunsCode(mark)})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("a.npy", content)
    objects = npz({"a": np.array([RunsCode(mark)], object)})
    for attack in (content, archive.getvalue(), objects, safetensors(content)):
        assert read(suffix, attack) is None
    assert not mark.exists()


@functools.cache
def network(family, variant, changes):
    section = models.section(family, variant, **dict(changes))
    channels = 1 if family == "lenet" else 3
    classifier = models.make_classifier(section, networks.facts(10, (32, 32, channels)))
    like = named.shapes(classifier.module, classifier)
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), like)
    arrays, _ = initial.published(family, variables, classifier.module)
    return classifier, config_lib.base(section), traverse_util.flatten_dict(arrays, sep="/")


NETWORKS = (
    ("lenet", "lenet5_modern", ()),
    ("vgg", "vgg11_bn", (("width", 1), ("fc_width", 4))),
    ("vit", "nano4", (("depth", 1),)),
)
SHAPES = st.lists(st.integers(0, 3), max_size=5).map(tuple)
DTYPES = st.sampled_from(["float32", "float64", "float16", "int8", "bool", "complex64", "U3", "S2", "datetime64[s]"])


@tried(5)
@given(st.data(), st.sampled_from(NETWORKS))
def test_arrays_that_do_not_fit_are_named(data, names):
    classifier, config, arrays = network(*names)
    arrays = dict(arrays)
    for name in data.draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=2, unique=True)):
        arrays[name] = data.draw(
            st.one_of(
                st.builds(np.zeros, SHAPES, DTYPES),
                DTYPES.map(lambda kind, array=arrays[name]: np.zeros(array.shape, kind)),
            )
        )
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "weights.npz")
        np.savez(path, **arrays)
        with config.unlocked():
            config.init.checkpoint = str(path)
        given_weights = ends_well("weight file", initial.given_weights, config, classifier)
        if given_weights is not None:
            ends_well("weight file", initial.initial_arrays, given_weights, classifier, config)
