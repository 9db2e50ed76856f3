"""The files that the authors of a dataset publish: found in a folder, checked, or downloaded.

A dataset may be published as several sets of files with the same images, any one of which is enough.
"""

import gzip
import hashlib
import http.client
import math
import pathlib
import shutil
import ssl
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import tqdm

from common.errors import UserError, listed
from common.files import writing

# The magic numbers of MNIST's idx files and of those named like them (Fashion-MNIST, KMNIST).
_IDX_MAGIC = {"images-idx3": 2051, "labels-idx1": 2049}
_READ_BYTES = 2**20
_SILENCE_SECONDS = 30.0  # after which to give up on a server
_NETWORK = (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException)
_RANGE_REFUSED = 416  # the HTTP status for a part that the server's file does not have


class Original(NamedTuple):
    """A published file.

    checksum: 'sha256:HEX' or 'md5:HEX'; empty if none is published, so that only the content is checked.
    addresses: URLs that have the file, in the order to try them.
    """

    name: str
    checksum: str = ""
    addresses: tuple[str, ...] = ()


Files = tuple[Original, ...]


def published(checksums: dict[str, str], mirrors: Sequence[str] = ()) -> Files:
    """Files by name and checksum; every mirror (a URL that ends in '/') has all of them."""
    return tuple(
        Original(name, checksum, tuple(mirror + name for mirror in mirrors)) for name, checksum in checksums.items()
    )


def find(folder: pathlib.Path, sets: Sequence[Files]) -> Files:
    """The first set whose files are all in the folder. Raises UserError naming what the fullest one lacks."""
    missing = [[file.name for file in files if not (folder / file.name).is_file()] for files in sets]
    for files, names in zip(sets, missing, strict=True):
        if not names:
            return files
    expected = " or ".join(", ".join(file.name for file in files) for files in sets)
    raise UserError(f"'{folder}' (--manual_dir) lacks {listed(min(missing, key=len))}; expected {expected}")


def check(path: pathlib.Path, checksum: str = "") -> None:
    """Raises UserError if a file is cut short or damaged, or does not have the checksum."""
    if checksum and _checksum(path, checksum) == checksum:
        return
    if path.suffix == ".gz":
        _check_gzip(path)  # says more about a damaged file than its checksum does
    if checksum:
        found = _checksum(path, checksum)
        raise UserError(f"'{path}' is not the published file: its checksum is {found}, expected {checksum}")


def download(original: Original, folder: pathlib.Path) -> pathlib.Path:
    """The file in the folder, from the first of its addresses that has it, unless it is there already.

    A broken connection leaves NAME.part, which the next address or the next call continues; the file gets its name
    once its checksum is right. Raises a UserError with each address's fault if all fail.
    """
    path, part = folder / original.name, folder / f"{original.name}.part"
    if path.exists() and _checksum(path, original.checksum) == original.checksum:
        return path
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    faults = []
    for address in original.addresses:
        if fault := _fetch(address, part):
            faults.append(f"{address}: {fault}")
        elif (found := _checksum(part, original.checksum)) == original.checksum:
            return part.replace(path)
        else:
            part.unlink()
            faults.append(f"{address}: not the published file, its checksum is {found}")
    raise UserError(
        f"'{original.name}' cannot be downloaded ({'; '.join(faults)}); fetch it in another way and give its folder as "
        "--manual_dir"
    )


def _checksum(path: pathlib.Path, like: str) -> str:
    """The checksum of a file, by the algorithm of the checksum `like`."""
    algorithm = like.partition(":")[0]
    with open(path, "rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def _fetch(address: str, part: pathlib.Path) -> str:
    """Downloads the rest of the file at an address into `part`; returns the reason if that fails, else ''."""
    fault, before = "", -1
    while (size := part.stat().st_size if part.exists() else 0) != before:  # as long as each attempt gets further
        before = size
        try:
            _append(address, part, size)
            return ""
        except urllib.error.HTTPError as error:
            if error.code != _RANGE_REFUSED or not size:
                return f"{error.code} {error.reason}"
            part.unlink()  # it is part of another file, or all of this one
            before = -1
        except _NETWORK as error:
            fault = str(getattr(error, "reason", error)) or type(error).__name__
        except OSError as error:
            raise UserError(f"cannot write {part}: {error.strerror or error}") from error
    return fault


def _append(address: str, part: pathlib.Path, size: int) -> None:
    """Downloads an address into `part`, which has the first `size` bytes already."""
    headers = {"User-Agent": "lineage"} | ({"Range": f"bytes={size}-"} if size else {})
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=_SILENCE_SECONDS) as reply:
        goes_on = reply.status == http.HTTPStatus.PARTIAL_CONTENT
        start, length = size if goes_on else 0, reply.headers.get("Content-Length")
        total = start + int(length) if length else None
        mode = "ab" if goes_on else "wb"
        bar = {"total": total, "initial": start, "unit": "B", "unit_scale": True, "disable": None}
        with tqdm.tqdm.wrapattr(reply, "read", desc=part.stem, **bar) as read, open(part, mode) as to:
            shutil.copyfileobj(read, to, _READ_BYTES)
    if total is not None and (now := part.stat().st_size) < total:
        raise ConnectionError(f"the connection broke after {now:,} of {total:,} bytes")


def _check_gzip(path: pathlib.Path) -> None:
    try:
        with gzip.open(path, "rb") as file:
            header = file.read(16)
            size = len(header)
            while chunk := file.read(_READ_BYTES):  # to the end, where gzip has its checksum
                size += len(chunk)
    except EOFError as error:
        raise UserError(f"'{path}' is cut short: the gzip file ends too early") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"'{path}' is not a sound gzip file: {error}") from error
    _check_idx(path, header, size)


def _check_idx(path: pathlib.Path, header: bytes, size: int) -> None:
    """Raises UserError unless an idx file has the magic number of its name and the size that its header gives."""
    for part, expected in _IDX_MAGIC.items():
        if part not in path.name:
            continue
        magic = int.from_bytes(header[:4])
        if magic != expected:
            raise UserError(f"'{path}' starts with magic number {magic}, expected {expected}")
        axes = 1 if expected == _IDX_MAGIC["labels-idx1"] else 3
        shape = [int.from_bytes(header[4 * i : 4 * i + 4]) for i in range(1, axes + 1)]
        if size != 4 + 4 * axes + math.prod(shape):
            raise UserError(f"'{path}' has {size} bytes, expected {4 + 4 * axes + math.prod(shape)} for shape {shape}")
