"""What a pickle would import, from its opcodes: nothing is unpickled.

The stack is simulated, because STACK_GLOBAL takes its names from there, and because joblib puts raw arrays between two
opcodes: the next opcode is found only with dtype and shape. Opcodes: PEP 3154 and `pickletools`.
"""

from __future__ import annotations

# It names opcodes and loads nothing.
import pickletools  # nosec B403
import re
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn, cast

from gauntlet.assurance.scan.models.objects import rule_of
from gauntlet.assurance.scan.models.rules import Look

UNKNOWN, MARK = object(), object()
SPECULATIVE_OPCODES = 10_000
"""How far the raw bytes of an array are read as opcodes."""
LONGEST_LINE = 1 << 20
_NAME = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
"""What numbers hardly spell when they are taken for opcodes."""


class BadPickleError(Exception):
    """The bytes are no pickle, or one that cannot be followed."""


@dataclass(frozen=True)
class Named:
    """An imported object."""

    module: str
    name: str


@dataclass
class Made:
    """What calling something would have made."""

    what: Any
    args: Any
    state: Any = None


class Bounded:
    """A stream that allocates no more than it holds: an opcode may say that eight exabytes follow."""

    def __init__(self, stream: BinaryIO) -> None:
        at = stream.tell()
        self._stream, self._size = stream, stream.seek(0, 2)
        stream.seek(at)
        self.tell, self.seek = stream.tell, stream.seek

    def read(self, size: int) -> bytes:
        """Exactly as much as is there."""
        return self._stream.read(min(size, self._size - self._stream.tell()))

    def readline(self) -> bytes:
        """A line; names and numbers are short."""
        return self._stream.readline(LONGEST_LINE)


def scan_pickles(stream: BinaryIO, file: str, look: Look) -> None:
    """Note what the pickles of a stream import; raises BadPickleError where they cannot be followed."""
    left = look.limits.opcodes
    bounded = Bounded(stream)
    while True:
        left = Machine(bounded, file, look, left).run()
        following = stream.read(1)
        if not following:
            return
        stream.seek(-1, 1)
        if following != b"\x80":
            raise BadPickleError("bytes after the pickle were not inspected")


def scan_as_pickle(stream: BinaryIO, file: str, look: Look) -> None:
    """Note what unpickling a file would import that is one of another format: `pickle.load` does not ask for it."""
    stream.seek(0)
    Machine(Bounded(stream), file, look, 0).speculate(0)


class Machine:
    """A pickle machine that imports and calls nothing; it knows texts, numbers, tuples and dicts only."""

    def __init__(self, stream: Bounded, file: str, look: Look, opcodes: int) -> None:
        """`opcodes` is how many may still be read."""
        self.stream, self.file, self.look, self.left = stream, file, look, opcodes
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.speculative = self.exhausted = False

    def run(self) -> int:
        """Read up to STOP; returns the number of opcodes that may still be read."""
        try:
            for opcode, argument, _ in pickletools.genops(cast(BinaryIO, self.stream)):
                self.left -= 1
                if self.left < 0:
                    self.exhausted = True
                    raise BadPickleError(f"more than {self.look.limits.opcodes:,} opcodes")
                self._step(opcode, argument)
        except (ValueError, IndexError, KeyError, AttributeError, OverflowError, TypeError, UnicodeError) as error:
            raise BadPickleError(f"not a whole pickle: {error}") from error
        return self.left

    def _step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        if WRAPPER in [each for each in self.stack[-2:] if isinstance(each, Named)] and opcode.name not in _AT_WRAPPER:
            self._unusual()
        special = getattr(self, f"_op_{opcode.name.lower()}", None)
        if special:
            special(argument)
            return
        if pickletools.markobject in opcode.stack_before:
            self._slice()
        for _ in opcode.stack_before[: _before_mark(opcode)]:
            self.stack.pop()
        for result in opcode.stack_after:
            is_mark = result is pickletools.markobject
            self.stack.append(MARK if is_mark else _literal(opcode, argument))

    def _slice(self) -> list[Any]:
        """Take everything down to the last mark, and the mark."""
        taken: list[Any] = []
        while (top := self.stack.pop()) is not MARK:
            taken.append(top)
        return taken[::-1]

    def _import(self, module: Any, name: Any) -> None:
        if isinstance(module, str) and isinstance(name, str):
            rule = rule_of(module, name)
            if rule and (not self.speculative or _NAME.fullmatch(f"{module}.{name}")):
                self.look.hit(rule, self.file, f"{module}.{name}")
            self.stack.append(Named(module, name))
        else:
            self.look.hit("GM012", self.file, "STACK_GLOBAL without two plain strings")
            self.stack.append(UNKNOWN)

    def _op_global(self, argument: str) -> None:
        self._import(*argument.split(" ", 1))

    def _op_stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._import(module, name)

    def _op_inst(self, argument: str) -> None:
        self._slice()
        self._import(*argument.split(" ", 1))
        self._make(self.stack.pop(), UNKNOWN)

    def _extension(self, code: int) -> None:
        self.look.hit("GM012", self.file, f"extension code {code} of copyreg")
        self.stack.append(UNKNOWN)

    _op_ext1 = _op_ext2 = _op_ext4 = _extension

    def _op_obj(self, _: None) -> None:
        what, *args = self._slice()
        self._make(what, tuple(args))

    def _op_reduce(self, _: None) -> None:
        args, what = self.stack.pop(), self.stack.pop()
        self._make(what, args)

    def _make(self, what: Any, args: Any) -> None:
        """A call."""
        if what == WRAPPER:
            self._unusual()
        self.stack.append(Made(what, args))

    def _unusual(self) -> NoReturn:
        """Where it is not certain which bytes are an array, readers may take others for opcodes."""
        self.look.hit("GM012", self.file, "an array of joblib's that is described in an unusual way")
        raise BadPickleError("what follows cannot be distinguished from an array")

    def _op_newobj(self, _: None) -> None:
        args, what = self.stack.pop(), self.stack.pop()
        if what == WRAPPER and args == ():
            self.stack.append(Made(what, args))
        else:
            self._make(what, args)

    def _op_newobj_ex(self, _: None) -> None:
        self.stack.pop()
        self._op_reduce(None)

    def _op_build(self, _: None) -> None:
        state, top = self.stack.pop(), self.stack[-1]
        if isinstance(top, Named):
            self.look.hit("GM012", self.file, f"attributes of {top.module}.{top.name} itself are set")
        if isinstance(top, Made):
            if top.what == WRAPPER and top.state is not None:
                self._unusual()  # what was said of it before still holds
            top.state = state
            if top.what == WRAPPER:
                self.stack[-1] = UNKNOWN
                self._array(top)

    def _array(self, wrapper: Made) -> None:
        """Go past an array that joblib wrote between two opcodes (joblib.numpy_pickle.NumpyArrayWrapper)."""
        state = wrapper.state if isinstance(wrapper.state, dict) else {}
        dtype, count = _plain_dtype(state.get("dtype")), _count(state.get("shape"))
        aligned = state.get("numpy_array_alignment_bytes")
        if UNKNOWN in state or not isinstance(aligned, int | None):
            self._unusual()
        if wrapper.args != () or dtype is None or count is None:
            raise BadPickleError("an array of joblib's whose size is unknown")
        if dtype.hasobject:
            self.left = Machine(self.stream, self.file, self.look, self.left).run()
            return
        start = self.stream.tell()
        if aligned is not None:
            self.stream.seek(self.stream.read(1)[0], 1)
        end = self.stream.tell() + count * dtype.itemsize
        if end > self.stream.seek(0, 2):
            raise BadPickleError("the file ends within an array")
        self.speculate(start)
        self.stream.seek(end)

    def speculate(self, start: int) -> None:
        """`pickle.load` knows nothing of joblib's arrays: to it these bytes are opcodes, so look for imports there."""
        if self.speculative:
            return
        other = Machine(self.stream, self.file, self.look, SPECULATIVE_OPCODES)
        other.speculative, other.stack, other.memo = True, self.stack.copy(), self.memo.copy()
        self.stream.seek(start)
        try:
            other.run()
        except BadPickleError:  # as numbers, taken for opcodes, should
            if other.exhausted:
                self.look.error(self.file, f"numbers that read as more than {SPECULATIVE_OPCODES:,} opcodes")

    def _op_dup(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def _op_pop_mark(self, _: None) -> None:
        self._slice()

    def _put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    _op_put = _op_binput = _op_long_binput = _put

    def _op_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _op_get = _op_binget = _op_long_binget = _get

    def _op_tuple(self, _: None) -> None:
        self.stack.append(tuple(self._slice()))

    def _op_empty_tuple(self, _: None) -> None:
        self.stack.append(())

    def _tuple_of(self, size: int) -> None:
        items = [self.stack.pop() for _ in range(size)]
        self.stack.append(tuple(items[::-1]))

    def _op_tuple1(self, _: None) -> None:
        self._tuple_of(1)

    def _op_tuple2(self, _: None) -> None:
        self._tuple_of(2)

    def _op_tuple3(self, _: None) -> None:
        self._tuple_of(3)

    def _op_empty_dict(self, _: None) -> None:
        self.stack.append({})

    def _op_dict(self, _: None) -> None:
        items = self._slice()
        self.stack.append({})
        self._set(items)

    def _op_setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _op_setitems(self, _: None) -> None:
        self._set(self._slice())

    def _set(self, items: list[Any]) -> None:
        """Keep entries by their texts; one whose key is no plain text may be any of them."""
        target = self.stack[-1]
        if isinstance(target, dict):
            target.update(
                {k if isinstance(k, str) else UNKNOWN: v for k, v in zip(items[::2], items[1::2], strict=False)}
            )


WRAPPER = Named("joblib.numpy_pickle", "NumpyArrayWrapper")
DTYPE = Named("numpy", "dtype")
_AT_WRAPPER = {"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "FRAME", "EMPTY_TUPLE", "NEWOBJ"}
"""What joblib writes from the name of its description of an array on until there is one."""


def _before_mark(opcode: pickletools.OpcodeInfo) -> int:
    """How many values an opcode takes, those above a mark not counted."""
    before = list(opcode.stack_before)
    return before.index(pickletools.markobject) if pickletools.markobject in before else len(before)


def _literal(opcode: pickletools.OpcodeInfo, argument: Any) -> Any:
    if opcode.name in ("NONE", "NEWTRUE", "NEWFALSE"):
        return {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name]
    return argument if isinstance(argument, str | int) else UNKNOWN


def _plain_dtype(made: Any) -> Any:
    """The NumPy dtype of a pickled one, if it is what it says; None for all others.

    The loader reads a pickle wherever a dtype has objects, so one that hides them must not pass for numbers.
    """
    import numpy as np

    if not (isinstance(made, Made) and made.what == DTYPE and isinstance(made.args, tuple) and made.args):
        return None
    code = made.args[0]
    if not (isinstance(code, str) and code[:1] in tuple("biufcSUOV") and code[1:].isdigit()):
        return None
    if code[0] == "O":
        return np.dtype(object)
    plain = _is_record(made.state, int(code[1:])) if code[0] == "V" else _is_plain(made.state)
    return np.dtype(code) if plain else None


def _is_plain(state: Any) -> bool:
    """Only byte order and size: of the last number, bit 1 says that there are objects inside."""
    return state is None or (_is_state(state) and state[2:5] == (None, None, None))


def _is_record(state: Any, size: int) -> bool:
    """Named fields, each of a plain dtype."""
    if not (_is_state(state) and state[2] is None and state[5] == size and isinstance(state[4], dict)):
        return False
    return all(isinstance(field, tuple) and field and _is_plain_field(field[0]) for field in state[4].values())


def _is_plain_field(made: Any) -> bool:
    """Records within records are not followed: the depth is untrusted."""
    code = made.args[0] if isinstance(made, Made) and isinstance(made.args, tuple) and made.args else ""
    return isinstance(code, str) and code[:1] in tuple("biufcSU") and _plain_dtype(made) is not None


def _is_state(state: Any) -> bool:
    """`numpy.dtype.__reduce__`: version, byte order, subarray, names, fields, size, alignment, flags."""
    sound = isinstance(state, tuple) and len(state) == 8 and state[0] == 3 and state[1] in ("<", ">", "=", "|")
    return sound and all(isinstance(part, int) for part in state[5:]) and not state[7] & 1


def _count(shape: Any) -> int | None:
    """The number of elements of a shape."""
    if not (isinstance(shape, tuple) and all(isinstance(size, int) and 0 <= size < 1 << 40 for size in shape)):
        return None
    count = 1
    for size in shape:
        count *= size
    return count
