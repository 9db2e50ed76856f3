"""PyTorch's files of arrays, read and written without PyTorch.

`torch.save` pickles the objects and keeps the numbers of arrays outside the pickle, in storages. Since PyTorch 1.6 the
file is a zip archive of NAME/data.pkl and a member NAME/data/KEY for each storage. Before, it was five pickles (a magic
number, a version, facts of the machine, the objects and the keys of the storages) and the storages one after the other.
"""

import contextlib
import io
import mmap
import pathlib
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from common.pretrained import pickles
from common.pretrained.torch_pickles import KINDS, KNOWN, STORAGES, Kind, Storage, Tensor, itemsize, storage_of

_MAGIC = pickle.LONG1 + b"\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # in an old file's first pickle

_MOST_PICKLED = 2**26  # bytes of an archive's pickle
_CHUNK = 2**24  # bytes read at once


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[tuple[Any, Callable[[Tensor], np.ndarray]]]:
    """The object in a PyTorch file, with `Tensor`s in the place of arrays, and the function that reads one.

    Arrays that share a storage share its memory. Raises ValueError, or an error of `zipfile`, for a file that is
    damaged or asks for more than arrays and plain data.
    """
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            with zipfile.ZipFile(file) as archive:
                content, read = _opened_archive(archive, path.stat().st_size)
                yield content, _reader(read)
        else:
            content, read = _opened_legacy(file, path.stat().st_size)
            yield content, _reader(read)


def is_legacy(start: bytes) -> bool:
    """True if these first 64 bytes are those of an old PyTorch file."""
    return start.startswith(pickle.PROTO) and _MAGIC in start


def is_archive(names: list[str]) -> bool:
    """True if these are the names of a PyTorch archive's members."""
    return any(name.rpartition("/")[2] == "data.pkl" for name in names)


def write(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as a state_dict that `torch.load` opens, also with `weights_only=True`.

    Raises ValueError for an array of a type that PyTorch lacks.
    """
    order = sys.byteorder
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", _pickled(arrays))
        archive.writestr("archive/byteorder", order)
        for key, array in enumerate(arrays.values()):
            with archive.open(f"archive/data/{key}", "w", force_zip64=True) as member:
                member.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        archive.writestr("archive/version", "3\n")


def _opened_archive(archive: zipfile.ZipFile, size: int) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    members = {member.filename: member for member in archive.infolist()}
    top = min((name for name in members if is_archive([name])), key=len).removesuffix("data.pkl")
    if top + "constants.pkl" in members:
        raise ValueError("it is a TorchScript program, which is not read; save the state_dict() of its network")
    pickled = members[top + "data.pkl"]
    if pickled.file_size > _MOST_PICKLED:
        raise ValueError(f"its pickle has {pickled.file_size / 2**20:.0f} MiB, more than {_MOST_PICKLED / 2**20:.0f}")
    order = "little"
    if top + "byteorder" in members:
        with archive.open(top + "byteorder") as stream:
            order = stream.read(20).decode()
    with archive.open(pickled) as stream:
        content = pickles.load(io.BytesIO(stream.read(pickled.file_size)), KNOWN, storage_of)

    def read(storage: Storage) -> np.ndarray:
        member = members.get(f"{top}data/{storage.key}")
        if member is None:
            raise ValueError(f"the numbers of storage '{storage.key}' are missing")
        expected = storage.total * itemsize(storage.kind)
        if member.file_size != expected:
            raise ValueError(f"storage '{storage.key}' has {member.file_size:,} bytes, not {expected:,} as announced")
        if member.compress_type == zipfile.ZIP_STORED and member.file_size > size:
            raise ValueError(f"storage '{storage.key}' is larger than the file")
        with archive.open(member) as stream:
            return _native(_filled(stream, expected), storage.kind, order)

    return content, read


def _opened_legacy(file: BinaryIO, size: int) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    named: dict[str, Storage] = {}

    def noted(identity: Any) -> Storage:
        storage = storage_of(identity)
        first = named.setdefault(storage.key, storage)
        if (first.kind, first.total) != (storage.kind, storage.total):
            raise ValueError(f"storage '{storage.key}' has two types or sizes")
        return storage

    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:  # reads no further than the file goes
        for _ in ("the magic number", "the version", "the machine"):
            pickles.load(stream, KNOWN, storage_of)
        content = pickles.load(stream, KNOWN, noted)
        keys = pickles.load(stream, {}, storage_of)
        place, places = stream.tell(), {}
        for key in keys if isinstance(keys, list) else ():
            if not isinstance(key, str) or key not in named:
                raise ValueError("it has storages that no array uses")
            count = int.from_bytes(stream[place : place + 8], "little")
            if count != named[key].total:
                raise ValueError(f"storage '{key}' has {count:,} numbers, not {named[key].total:,} as announced")
            places[key] = place + 8
            place += 8 + count * itemsize(named[key].kind)
            if place > size:
                raise ValueError("it ends before its arrays do")

    def read(storage: Storage) -> np.ndarray:
        if storage.key not in places:
            raise ValueError(f"the numbers of storage '{storage.key}' are missing")
        file.seek(places[storage.key])
        return _native(_filled(file, storage.total * itemsize(storage.kind)), storage.kind, "little")

    return content, read


def _reader(read: Callable[[Storage], np.ndarray]) -> Callable[[Tensor], np.ndarray]:
    """The function from a tensor to its array, which reads every storage once."""
    buffers: dict[tuple[str, Kind, int], np.ndarray] = {}

    def array(tensor: Tensor) -> np.ndarray:
        storage, dtype = tensor.storage, tensor.dtype
        if 0 in tensor.shape:
            return np.empty(tensor.shape, dtype)
        numbers = storage.count * itemsize(storage.kind) // dtype.itemsize
        last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
        if last >= numbers:
            raise ValueError(f"an array asks for number {last + 1:,} of a storage that has {numbers:,}")
        identity = storage.key, storage.kind, storage.total
        if identity not in buffers:
            buffers[identity] = read(storage)
        start = storage.start * itemsize(storage.kind) + tensor.offset * dtype.itemsize
        strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
        return np.ndarray(tensor.shape, dtype, buffers[identity].data, start, strides)

    return array


def _filled(stream: Any, size: int) -> np.ndarray:
    """The next bytes of a file or member, in parts, so that a member takes its memory only once."""
    content = np.empty(size, np.uint8)
    for start in range(0, size, _CHUNK):
        part = content[start : start + _CHUNK]
        if stream.readinto(part.data) < len(part):
            raise ValueError("it ends before its arrays do")
    return content


def _native(content: np.ndarray, kind: Kind, order: str) -> np.ndarray:
    """Bytes in the order of this machine."""
    if order not in ("little", "big"):
        raise ValueError(f"its byte order is '{order}', not 'little' or 'big'")
    size = itemsize(kind)
    if order == sys.byteorder or size == 1:
        return content
    return content.view(f"u{min(size, 8)}").byteswap().view(np.uint8)


def _pickled(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of a dict of tensors; written by hand, as `pickle` names only functions that it can import."""
    kinds = {
        KINDS[kind].dtype: name for name, kind in STORAGES.items() if name != "UntypedStorage" and KINDS[kind].dtype
    }
    parts = [pickle.PROTO, b"\x02", pickle.EMPTY_DICT, pickle.MARK]
    for key, (name, array) in enumerate(arrays.items()):
        if array.dtype not in kinds:
            raise ValueError(f"'{name}' is of type {array.dtype}, which a PyTorch file does not hold")
        strides = np.empty(array.shape, np.uint8).strides if array.size else (1,) * array.ndim
        storage = [_plain("storage"), _named("torch", kinds[array.dtype]), *map(_plain, (str(key), "cpu", array.size))]
        hooks = _named("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
        tensor = [_tuple(storage) + pickle.BINPERSID, _plain(0), *map(_numbers, (array.shape, strides)), _plain(False)]
        parts += [_plain(name), _named("torch._utils", "_rebuild_tensor_v2"), _tuple([*tensor, hooks])]
        parts += [pickle.REDUCE]
    return b"".join([*parts, pickle.SETITEMS, pickle.STOP])


def _plain(value: Any) -> bytes:
    """The operations that push a plain value, without those that begin and end a pickle."""
    if isinstance(value, bool):
        return pickle.NEWTRUE if value else pickle.NEWFALSE
    if isinstance(value, int):
        content = pickle.encode_long(value)
        return pickle.LONG1 + bytes([len(content)]) + content
    content = value.encode()
    return pickle.BINUNICODE + len(content).to_bytes(4, "little") + content


def _named(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _numbers(values: tuple[int, ...]) -> bytes:
    return _tuple([_plain(int(value)) for value in values])


def _tuple(items: list[bytes]) -> bytes:
    return b"".join([pickle.MARK, *items, pickle.TUPLE])
