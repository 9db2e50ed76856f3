"""The plain data of a pickle, read without running any of its code.

`pickle.Unpickler` calls whatever a pickle names, and trusts its sizes. Here lists, tuples, dicts, text and numbers are
built, functions are called only from a fixed table, and everything else is refused. The state that a pickle gives to an
object is dropped. Dicts keep only the entries whose keys are text: hashing a deep tuple may take forever.
"""

import io
import mmap
import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any, cast

MOST_OPERATIONS = 2**22  # about ten seconds; a checkpoint of a thousand arrays takes fifty thousand


class Inert:
    """An object that is not read and keeps nothing."""

    def __init__(self, *_: Any) -> None: ...


def load(stream: io.BytesIO | mmap.mmap, known: Mapping[str, Any], persistent: Callable[[Any], Any]) -> Any:
    """The object of the pickle at the place of `stream`, which is left behind the pickle.

    known: by 'module.name', the functions that may be called and the values that may be named. persistent: turns the
    identity of an outside object into the object. Raises ValueError for a pickle that asks for anything else, is
    damaged, or has more than `MOST_OPERATIONS`.
    """
    machine = _Machine(known, persistent)
    for count, (operation, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], stream))):
        if count >= MOST_OPERATIONS:
            raise ValueError(f"its pickle has more than {MOST_OPERATIONS:,} operations")
        try:
            machine.run(operation.name, argument)
        except (IndexError, KeyError) as error:
            raise ValueError(f"its pickle is damaged at {operation.name}") from error
    return machine.pop()


_PUSHED = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    )
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_MADE: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": Inert}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_IGNORED = frozenset(("PROTO", "FRAME", "STOP"))


class _Machine:
    """The stack on which a pickle's operations work."""

    def __init__(self, known: Mapping[str, Any], persistent: Callable[[Any], Any]) -> None:
        self._known, self._persistent = known, persistent
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []  # the stacks below each mark
        self._memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _MADE:
            self._stack.append(_MADE[name]())
        elif name in _TUPLES:
            self._stack.append(tuple([self.pop() for _ in range(_TUPLES[name])][::-1]))
        elif name in _PUTS:
            self._memo[argument] = self._stack[-1]
        elif name in _GETS:
            self._stack.append(self._memo[argument])
        elif (act := _OPERATIONS.get(name)) is not None:
            act(self, argument)
        elif name not in _IGNORED:
            raise ValueError(f"its pickle uses the operation {name}, which no file of arrays needs")

    def pop(self) -> Any:
        if not self._stack:
            raise ValueError("its pickle takes more than it has given")
        return self._stack.pop()

    def _mark(self, _: Any) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _since_mark(self, _: Any = None) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _duplicate(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _discard(self, _: Any) -> None:
        self.pop()

    def _list(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(items)

    def _tuple(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(tuple(items))

    def _dict(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append({})
        self._put(items)

    def _frozenset(self, _: Any) -> None:
        self._since_mark()
        self._stack.append(Inert())

    def _append(self, _: Any) -> None:
        self._extend([self.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(items)

    def _set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._put([key, value])

    def _set_items(self, _: Any) -> None:
        self._put(self._since_mark())

    def _put(self, items: list[Any]) -> None:
        if isinstance(self._stack[-1], dict):
            pairs = zip(items[::2], items[1::2], strict=True)
            self._stack[-1].update((key, value) for key, value in pairs if isinstance(key, str))

    def _global(self, names: str) -> None:
        module, _, name = names.partition(" ")
        self._find(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self._find(module, name)

    def _find(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("its pickle asks for something that is not a name")
        if (path := f"{module}.{name}") not in self._known:
            raise ValueError(f"it asks for {path[:80]!r}, which is not read: only arrays are, as in a state_dict")
        self._stack.append(self._known[path])

    def _call(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if not (callable(function) and isinstance(arguments, tuple)):
            raise ValueError("its pickle calls something that is not a function")
        try:
            self._stack.append(function(*arguments))
        except TypeError as error:
            raise ValueError("its pickle calls a function with other arguments than it takes") from error

    def _call_named(self, _: Any) -> None:
        self.pop()  # arguments by name, which nothing in the table has
        self._call(None)

    def _persistent_object(self, _: Any) -> None:
        self._stack.append(self._persistent(self.pop()))


_OPERATIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "MARK": _Machine._mark,
    "POP": _Machine._discard,
    "POP_MARK": _Machine._since_mark,
    "DUP": _Machine._duplicate,
    "MEMOIZE": _Machine._memoize,
    "LIST": _Machine._list,
    "TUPLE": _Machine._tuple,
    "DICT": _Machine._dict,
    "FROZENSET": _Machine._frozenset,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "ADDITEMS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._call,
    "NEWOBJ": _Machine._call,
    "NEWOBJ_EX": _Machine._call_named,
    "BUILD": _Machine._discard,  # the state of an object
    "BINPERSID": _Machine._persistent_object,
}
