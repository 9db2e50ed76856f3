"""Files of weights, which hold arrays by name: .npz, .safetensors and PyTorch's .pth.

A file to read is recognised by its content; a file to write has the format of its ending. Several files with an index
are read as one.
"""

import pathlib
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from common.data import decode
from common.errors import UserError, first_line, listed, unknown
from common.files import user_path, whole_file
from common.pretrained import shards, torch_files
from common.pretrained.torch_pickles import Tensor

# Arrays may take this many times the size of their file, or this many bytes. Trained weights hardly compress.
_LARGEST_RATIO, _ANY_RATIO_BYTES = 100, 2**26

_EXPECTED = "expected .npz, .safetensors or PyTorch's .pth"
_OTHER_FILES = {  # by their first bytes
    b"version https://git-lfs": "it is a pointer of Git LFS, without the file it stands for",
    b"<": "it is a web page or XML",
    b"\x1f\x8b": "it is packed by gzip; unpack it",
    b"\x89HDF": "it is an HDF5 file",
    b"\x93NUMPY": "it is a single .npy array, without a name",
    b"\x80": "it is a pickle, but not PyTorch's",
}
_SAFETENSORS = frozenset(
    ("F64", "F32", "F16", "BF16", "BOOL", *(f"{sign}{bits}" for sign in "IU" for bits in (8, 16, 32, 64)))
)
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module", "params")  # names of the network in a file
_CHOICE = "config.init.entry (--entry of common.weights)"
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")  # of DataParallel, torch.compile, Lightning and others


def read(path: str | pathlib.Path, entry: str = "") -> dict[str, np.ndarray]:
    """The arrays of a file, by the names they have there.

    A PyTorch file may hold more than the network, and several versions of it, such as averaged parameters. `entry`
    names the one to take, as 'state_dict_ema'; '' is the network as it was trained, and the others are printed. A
    prefix that every name has (`module.`, `_orig_mod.`, `model.`, `net.`) is left out. Raises UserError when the file
    is missing or cannot be read, and for arrays that hold NaN, infinite values or negative variances.
    """
    path = user_path(path)
    if not path.is_file():
        raise UserError(f"no file '{path}'{decode.similar_name(path)}")
    if shards.is_part(path):
        raise UserError(f"'{path}' is one of several parts; give their folder, or the file *{shards.ENDING} in it")
    kind = ""
    try:
        kind, reader = _format(path)
        arrays = reader(path, entry)
        _check_numbers(arrays)
    except UserError:
        raise
    except Exception as error:  # readers promise no class for a file that was cut short, changed, or is of another kind
        said = f"{first_line(error)}{kind and f' (read as {kind})'}"
        raise UserError(f"'{path}' is not a checkpoint of arrays: {said}") from error
    _check_values(path, arrays)
    return _without_prefixes(arrays)


def _format(path: pathlib.Path) -> tuple[str, Callable[[pathlib.Path, str], dict[str, np.ndarray]]]:
    """The format of a file and its reader."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"it is empty; {_EXPECTED}")
    if path.name.endswith(shards.ENDING):
        return "an index of several files", _read_parts
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if torch_files.is_archive(names):
            return "a PyTorch file", _read_torch
        if all(name.endswith(".npy") for name in names):
            return "an .npz file", _read_npz
        raise ValueError(f"it is a zip archive of {listed(names)}; {_EXPECTED}")
    if torch_files.is_legacy(start):
        return "a PyTorch file", _read_torch
    if path.suffix.lower() == ".safetensors" or start[8:9] == b"{" and start[5:8] == b"\0\0\0":
        return "a .safetensors file", _read_safetensors
    known = [what for first, what in _OTHER_FILES.items() if start.startswith(first)]
    raise ValueError(f"{known[0] if known else 'its content is of no known format'}; {_EXPECTED}")


def _read_parts(path: pathlib.Path, entry: str) -> dict[str, np.ndarray]:
    def part(file: pathlib.Path) -> dict[str, np.ndarray]:
        try:
            return _format(file)[1](file, entry)
        except UserError:
            raise
        except Exception as error:
            raise ValueError(f"its part '{file.name}' is not read: {first_line(error)}") from error

    return shards.read(path, part)


def _read_npz(path: pathlib.Path, entry: str) -> dict[str, np.ndarray]:
    _check_no_entry(path, entry)
    with zipfile.ZipFile(path) as archive:
        _check_size(path, (member.file_size for member in archive.infolist()))
    with np.load(path, allow_pickle=False) as file:
        try:
            arrays = dict(file)
        except ValueError as error:
            if "allow_pickle" in str(error):  # advice that nobody should follow
                raise ValueError("it holds arrays of Python objects, which are not read") from None
            raise
    # NumPy stores bfloat16 as two bytes without a type.
    two_bytes = {name: array.dtype == np.dtype("V2") for name, array in arrays.items() if isinstance(array, np.ndarray)}
    if stray := [name for name in arrays if name not in two_bytes]:
        raise ValueError(f"its member {listed(stray)} is not an array")
    return {name: array.view(ml_dtypes.bfloat16) if two_bytes[name] else array for name, array in arrays.items()}


def _read_safetensors(path: pathlib.Path, entry: str) -> dict[str, np.ndarray]:
    _check_no_entry(path, entry)
    with safetensors.safe_open(path, framework="np") as file:
        arrays = {}
        for name in file.keys():  # noqa: SIM118 - not a dict
            dtype = file.get_slice(name).get_dtype()
            if dtype not in _SAFETENSORS:
                raise ValueError(f"'{name}' is of type {dtype}, which is not read")
            arrays[name] = file.get_tensor(name)
    return arrays


def _read_torch(path: pathlib.Path, entry: str) -> dict[str, np.ndarray]:
    with torch_files.opened(path) as (content, array):
        found = _entries(content)
        if not found:
            raise ValueError(f"it holds no arrays by name, as a state_dict does, but {_described(content)}")
        chosen = _chosen(path, found, entry)
        for name, tensor in found[chosen].items():
            if tensor.kind.dtype is None:
                raise ValueError(f"'{name}' is of type {tensor.kind.name}, which is not read")
        _check_size(path, (tensor.nbytes for tensor in found[chosen].values()))
        return {name: array(tensor) for name, tensor in found[chosen].items()}


def _entries(content: Any) -> dict[str, dict[str, Tensor]]:
    """The dicts of arrays in a PyTorch file, by their name there; '' is the file itself."""
    if not isinstance(content, dict):
        return {}
    dicts = {name: value for name, value in {**content, "": content}.items() if isinstance(value, dict)}
    found = {
        name: {key: tensor for key, tensor in value.items() if isinstance(tensor, Tensor)}
        for name, value in dicts.items()
    }
    return {name: tensors for name, tensors in found.items() if tensors}


def _chosen(path: pathlib.Path, found: Mapping[str, Any], entry: str) -> str:
    """The entry to read; prints those that are left."""
    named = sorted(name for name in found if name)
    if entry and entry not in named:
        raise unknown(f"entry of '{path}' in config.init.entry", entry, named)
    by_default = [name for name in (*_WRAPPERS, "") if name in found] or named
    if not entry and by_default == named and len(named) > 1:
        raise UserError(f"'{path}' holds several networks: {listed(named, 9)}; choose one by {_CHOICE}")
    chosen = entry or by_default[0]
    if others := [name for name in named if name != chosen]:
        taken = f"'{chosen}'" if chosen else "the arrays at its top"
        print(f"{path}: {taken} is read, {listed(others, 9)} is not; choose by {_CHOICE}")
    return chosen


def _described(content: Any) -> str:
    """The kind of an object, and what it holds where it is a dict."""
    names = [f"{name} ({type(value).__name__})" for name, value in content.items()] if isinstance(content, dict) else []
    return type(content).__name__.lower() + (f" of {listed(names)}" if names else "")


def _without_prefixes(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays without the prefixes that all names share, in whatever order they come."""
    while shared := [prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in arrays)]:
        arrays = {name.removeprefix(shared[0]): array for name, array in arrays.items()}
    return arrays


def _check_no_entry(path: pathlib.Path, entry: str) -> None:
    if entry:
        raise UserError(f"config.init.entry is '{entry}', but '{path}' is not a PyTorch file and has no entries")


def _check_size(path: pathlib.Path, sizes: Iterable[int]) -> None:
    """Raises ValueError for arrays that would take far more memory than the file, before any is read."""
    if (unpacked := sum(sizes)) > max(_ANY_RATIO_BYTES, _LARGEST_RATIO * path.stat().st_size):
        raise ValueError(f"it would unpack to {unpacked / 1e6:,.0f} MB, {_LARGEST_RATIO} times its size and more")


def _check_numbers(arrays: Mapping[str, Any]) -> None:
    """Raises ValueError for anything but arrays of real numbers."""
    if not arrays:
        raise ValueError("it holds no arrays")
    for name, array in arrays.items():
        if not _is_float(array) and array.dtype.kind not in "iub":
            raise ValueError(f"'{name}' is of type {array.dtype}, not of real numbers")


def _check_values(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises UserError for values that no trained network has."""
    infinite = [name for name, array in arrays.items() if _is_float(array) and not np.isfinite(array).all()]
    if infinite:
        raise UserError(f"'{path}' holds NaN or infinite values: in {listed(infinite)}")
    negative = [name for name, array in arrays.items() if _is_variance(name) and (array < 0).any()]
    if negative:
        raise UserError(f"'{path}' holds negative variances: in {listed(negative)}")


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16


def _is_variance(name: str) -> bool:
    """True for a running variance of batch normalisation, by PyTorch's name or ours."""
    return name.endswith("running_var") or ("batch_stats/" in name and name.endswith("/var"))


def write(path: str | pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a file, whole or not at all, in the format of its ending.

    Raises UserError for an ending that is not in `WRITERS`, and where the file cannot be written.
    """
    path = user_path(path)
    check_format(path)
    with whole_file(path) as fresh:
        WRITERS[path.suffix.lower()](fresh, arrays)


def check_format(path: pathlib.Path) -> None:
    """Raises UserError unless the file's ending is a format that can be written."""
    if path.suffix.lower() not in WRITERS:
        raise unknown(f"ending of '{path}'", path.suffix, WRITERS)


def _write_npz(path: pathlib.Path, arrays: Mapping[str, Any]) -> None:
    with path.open("wb") as file:  # NumPy appends .npz to other names, such as net.NPZ
        np.savez(file, **arrays)


def _write_safetensors(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    safetensors.numpy.save_file(contiguous, path)


WRITERS: dict[str, Callable[[pathlib.Path, Mapping[str, np.ndarray]], None]] = {
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
    **dict.fromkeys((".pth", ".pt", ".th"), torch_files.write),
}
