"""The names that the pickle of a PyTorch file may use: those that rebuild arrays, and those of ordinary metadata.

The functions of torch get stand-ins, which check what they are given and keep it; nothing is imported by name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from common.pretrained.pickles import Inert

_MOST_DIMENSIONS = 64  # as in NumPy


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of numbers by PyTorch's name, with NumPy's; None where they are not read."""

    name: str
    dtype: np.dtype | None


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers outside the pickle: `total` of a kind under a key, of which it has `count` from `start` on."""

    key: str
    kind: Kind
    total: int
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array that is not yet read: where in its storage its numbers are, counted in numbers of its kind."""

    storage: Storage
    kind: Kind
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """NumPy's type of its numbers. Raises ValueError if it is None."""
        if self.kind.dtype is None:
            raise ValueError(f"an array is of type {self.kind.name}, which is not read")
        return self.kind.dtype

    @property
    def nbytes(self) -> int:
        """The size of the array, bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def itemsize(kind: Kind) -> int:
    """The bytes of one number."""
    return _SIZES.get(kind.name, 1) if kind.dtype is None else kind.dtype.itemsize


def storage_of(identity: Any) -> Storage:
    """The storage that a pickle names: 'storage', type, key, device, size and, in old files, the part that it has."""
    if not (isinstance(identity, tuple) and len(identity) in (5, 6) and identity[0] == "storage"):
        raise ValueError("its pickle names something outside that is not a storage")
    _, kind, key, _, total, *view = identity
    if not (isinstance(kind, Kind) and isinstance(key, str) and _is_count(total)):
        raise ValueError("its pickle names a storage without type, key or size")
    start, count = 0, total
    if view and view[0] is not None:
        _, start, count = view[0] if isinstance(view[0], tuple) and len(view[0]) == 3 else ("", -1, -1)
        if not (_is_count(start) and _is_count(count) and start + count <= total):
            raise ValueError(f"a part of storage '{key[:40]}' does not lie in it")
    return Storage(key, kind, total, start, count)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    return _checked(storage, storage.kind if isinstance(storage, Storage) else None, offset, shape, strides)


def _tensor_of_kind(
    storage: Any, offset: Any, shape: Any, strides: Any, _: Any, __: Any, kind: Any, *___: Any
) -> Tensor:
    return _checked(storage, kind, offset, shape, strides)


def _checked(storage: Any, kind: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    if not (isinstance(storage, Storage) and isinstance(kind, Kind) and _is_count(offset)):
        raise ValueError("its pickle has an array without storage, type or place")
    for numbers in (shape, strides):
        if not (isinstance(numbers, tuple) and len(numbers) <= _MOST_DIMENSIONS and all(map(_is_count, numbers))):
            raise ValueError("its pickle has an array without shape or strides")
    if len(shape) != len(strides):
        raise ValueError("its pickle has an array with more axes than strides, or fewer")
    return Tensor(storage, kind, offset, shape, strides)


def _itself(value: Any = (), *_: Any) -> Any:
    """The value that a parameter or a size has."""
    return value


def _of_class(function: Any, _: Any, arguments: Any, *__: Any) -> Any:
    """An array of a class of its own, or with attributes, which are dropped."""
    if function not in (_tensor, _tensor_of_kind, _itself) or not isinstance(arguments, tuple):
        raise ValueError("its pickle has an array of a class that is not read")
    return function(*arguments)


def _ordered_dict(items: Any = (), *_: Any) -> dict[str, Any]:
    """An empty dict, or in files of Python 2 one of pairs."""
    pairs = items if isinstance(items, list) else []
    entries = {pair[0]: pair[1] for pair in pairs if isinstance(pair, list | tuple) and isinstance(pair[0], str)}
    pairs.clear()  # so that a pickle cannot ask for many copies of a long list
    return entries


_DTYPES: dict[str, Any] = {
    **{name: np.dtype(name) for name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8")},
    **{name: np.dtype(name) for name in ("uint16", "uint32", "uint64", "bool", "complex64", "complex128")},
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    **dict.fromkeys(("complex32", "quint8", "qint8", "qint32", "quint4x2", "quint2x4")),
    **dict.fromkeys(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu")),
}
KINDS = {name: Kind(name, dtype) for name, dtype in _DTYPES.items()}
STORAGES = {
    **{"DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16"},
    **{"LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8"},
    **{"ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8", "ComplexFloatStorage": "complex64"},
    **{"ComplexDoubleStorage": "complex128", "QUInt8Storage": "quint8", "QInt8Storage": "qint8"},
    **{"QInt32Storage": "qint32", "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4"},
}
_SIZES = {"qint32": 4, "complex32": 4}  # of those that NumPy lacks; the others take one byte
_BUILTINS = (
    *("set", "frozenset", "complex", "slice", "range", "xrange", "bytearray", "bytes"),
    *("int", "float", "str", "bool", "list", "tuple", "dict", "object"),
)
_METADATA = (  # of which nothing is kept
    *("argparse.Namespace", "types.SimpleNamespace", "collections.Counter", "_codecs.encode"),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _BUILTINS),
    *("datetime.date", "datetime.datetime", "datetime.timedelta"),
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer", "numpy.dtype", "numpy.ndarray"),
    *("copyreg._reconstructor", "copy_reg._reconstructor"),
    *("torch.device", "torch.Generator", "torch.Tensor"),
    *("pytorch_lightning.utilities.parsing.AttributeDict", "lightning.pytorch.utilities.parsing.AttributeDict"),
    *("lightning_fabric.utilities.data.AttributeDict", "lightning.fabric.utilities.data.AttributeDict"),
)

KNOWN: Mapping[str, Any] = {
    **dict.fromkeys(_METADATA, Inert),
    **{f"torch.{name}": kind for name, kind in KINDS.items()},
    **{f"torch.{name}": KINDS[kind] for name, kind in STORAGES.items()},
    **{f"torch.storage.{name}": KINDS[kind] for name, kind in STORAGES.items()},
    **{f"torch.cuda.{name}": KINDS[kind] for name, kind in STORAGES.items()},
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": lambda *_: {},
    "torch.Size": _itself,
    "torch.nn.parameter.Parameter": _itself,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_kind,
    "torch._utils._rebuild_parameter": _itself,
    "torch._utils._rebuild_parameter_with_state": _itself,
    "torch._tensor._rebuild_from_type_v2": _of_class,
}
