"""Files as `torch.save` makes them, written without PyTorch."""

import contextlib
import pickle
import sys
import types
import zipfile

import numpy as np

STORAGES = {
    "f4": "FloatStorage",
    "f8": "DoubleStorage",
    "f2": "HalfStorage",
    "i8": "LongStorage",
    "V2": "BFloat16Storage",
}


class Tensor:
    """An array that is pickled as PyTorch pickles one: where it lies in a storage, which may be that of others."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, {})

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Storage:
    """Numbers that are kept outside the pickle."""

    def __init__(self, numbers):
        self.numbers = np.ascontiguousarray(numbers)


def tensor(array):
    """An array with a storage of its own."""
    strides = tuple(stride // array.itemsize for stride in np.asarray(array, order="C").strides)
    return Tensor(Storage(array), 0, array.shape, strides)


def save(path, content):
    """Writes an archive with the `Tensor`s in `content`."""
    storages = []
    with _torch() as torch, zipfile.ZipFile(path, "w") as archive:

        class Pickler(pickle.Pickler):
            def persistent_id(self, thing):
                if not isinstance(thing, Storage):
                    return None
                if thing not in storages:
                    storages.append(thing)
                kind = torch[STORAGES[thing.numbers.dtype.str[1:]]]
                return "storage", kind, str(storages.index(thing)), "cpu", thing.numbers.size

        with archive.open("net/data.pkl", "w") as file:
            Pickler(file, protocol=2).dump(content)
        for key, storage in enumerate(storages):
            archive.writestr(f"net/data/{key}", storage.numbers.tobytes())
        archive.writestr("net/version", "3")


@contextlib.contextmanager
def _torch():
    """The classes of storages by name, while modules called torch have what pickles name."""
    kinds = {name: type(name, (), {"__module__": "torch"}) for name in STORAGES.values()}
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.__dict__.update(kinds)

    def _rebuild_tensor_v2():
        raise NotImplementedError

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    kept = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield kinds
    finally:
        for name, module in kept.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
