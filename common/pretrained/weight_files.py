"""Files of weights, which hold arrays by name: .npz, .safetensors and PyTorch's .pth."""

import json
import pathlib
import zipfile
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from common.errors import UserError, unknown, user_path, whole_file

_SAFETENSORS = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}

# A compressed file may unpack to so many times its size; those of trained weights hardly shrink.
_LARGEST_RATIO, _ANY_RATIO_BYTES = 100, 2**26

_PICKLED = (b"PK", b"\x80")  # first bytes of PyTorch's files: a zip archive, or in old ones a pickle


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a file, by the names they have there.

    A PyTorch checkpoint (.pth, .pt, .th; needs torch) may hold more than the network, which is then its `state_dict`,
    and may come from several GPUs (`module.` before each name). UserError when the file is missing or cannot be read.
    """
    path = user_path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint '{path}'")
    reader = {".npz": _read_npz, ".safetensors": _read_safetensors}.get(path.suffix, _read_torch)
    try:
        arrays = reader(path)
        _check_numbers(arrays)
    except UserError:
        raise
    except Exception as error:  # readers promise no class for a file that was cut short, changed, or is of another kind
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise UserError(f"'{path}' is not a checkpoint of arrays: {reason}") from error
    return {name.removeprefix("module."): array for name, array in arrays.items()}


def _check_numbers(arrays: Mapping[str, np.ndarray]) -> None:
    """ValueError for an array of anything but real numbers."""
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub" and array.dtype != ml_dtypes.bfloat16:
            raise ValueError(f"'{name}' is of type {array.dtype}, not of real numbers")


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(_ANY_RATIO_BYTES, _LARGEST_RATIO * path.stat().st_size):
        raise ValueError(f"it would unpack to {unpacked / 1e6:,.0f} MB, {_LARGEST_RATIO} times its size and more")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file: eight bytes with the length of a JSON header, the header, and the data."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    data = memoryview(content)[start:]
    arrays = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            if not 0 <= first <= last <= len(data) or min(entry["shape"], default=0) < 0:
                raise ValueError(f"'{name}' does not lie in the file")
            arrays[name] = np.frombuffer(data[first:last], _SAFETENSORS[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def _torch(what: str) -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise UserError(f"{what} needs PyTorch: pip install torch==2.13.0, or use .npz") from error
    return torch


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        if not file.read(4).startswith(_PICKLED):  # whether or not PyTorch is installed
            raise ValueError("it is no .npz, .safetensors or PyTorch file")
    torch = _torch(f"reading '{path}'")
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    arrays = {name: value.numpy() for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not arrays:
        raise ValueError("it holds no state_dict")
    return arrays


def write(path: str | pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a file, whole or not at all, in the format of its ending.

    UserError for an ending that is not in `WRITERS`, and where the file cannot be written.
    """
    path = user_path(path)
    check_format(path)
    with whole_file(path) as fresh:
        WRITERS[path.suffix](fresh, arrays)


def check_format(path: pathlib.Path) -> None:
    """UserError unless the file's ending is a format that can be written."""
    if path.suffix not in WRITERS:
        raise unknown(f"ending of '{path}'", path.suffix, WRITERS)


def _write_npz(path: pathlib.Path, arrays: Mapping[str, Any]) -> None:
    np.savez(path, **arrays)


def _write_safetensors(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    kinds = {np.dtype(kind): name for name, kind in _SAFETENSORS.items()}
    header, end = {}, 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": kinds[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays are aligned
    content = (np.ascontiguousarray(array).tobytes() for array in arrays.values())
    path.write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *content]))


def _write_torch(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    torch = _torch(f"writing '{path}'")
    torch.save({name: torch.tensor(array) for name, array in arrays.items()}, path)


WRITERS = {
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
    **dict.fromkeys((".pth", ".pt", ".th"), _write_torch),
}
