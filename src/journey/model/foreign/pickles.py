"""Reading a pickle without running it.

A pickle is a program for a small stack machine, and some of its instructions import a name or call what is on the
stack: that is how a checkpoint can run anything. The machine here carries out the instructions that make numbers, texts
and containers, and for the others it writes down what was asked for, in a `Record`. It has no way to import or to call.
"""

import io
import pickletools
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from journey.errors import JourneyError
from journey.files import check_file

LONGEST = 64 << 20  # bytes; the pickle of a checkpoint without its tensors has some thousands


class Name(str):
    """A class or function that the pickle wanted to import: `module.name`."""


@dataclass(eq=False, slots=True)
class Record:
    """Something that the pickle wanted to call or to build: it was not."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


PERSISTENT = "persistent id"  # the name of a Record that stands for data kept outside the pickle
STEPS = 2_000_000  # some seconds; a checkpoint's pickle has thirty instructions a tensor
_PLAIN = (str, float, bytes, type(None))
_LONGEST_NAME = 1000  # characters of a class and its module


def load(stream: Any, steps: int = STEPS) -> Any:
    """The value of the pickle that begins here in a stream of bytes, which is then read to the pickle's end.

    dict (OrderedDict too), list, tuple and plain values are themselves; all else is a Record or a Name. Raises
    JourneyError for what is not a whole pickle of at most so many instructions.
    """
    return _Machine().run(stream, steps)


def read(path: Path) -> Any:
    """The value of the pickle in a file. Raises JourneyError naming the file."""
    check_file(path)
    if (size := path.stat().st_size) > LONGEST:
        raise JourneyError(f"{path} has {size:,} bytes, and a pickle of more than {LONGEST:,} is not read")
    try:
        return load(io.BytesIO(path.read_bytes()))
    except JourneyError as error:
        raise JourneyError(f"{path}: {error}") from None


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each open mark
        self.memo: dict[int, Any] = {}

    def run(self, stream: IO[bytes], steps: int) -> Any:
        try:
            for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
                if opcode.name == "STOP":
                    return self.stack.pop()
                if step == steps:
                    raise JourneyError(f"a pickle of more than {steps:,} instructions")
                self.step(opcode.name, argument)
        except (ValueError, IndexError, KeyError) as error:
            raise JourneyError(f"a damaged or cut off pickle ({type(error).__name__})") from None
        raise JourneyError("a pickle without an end")

    def step(self, opcode: str, argument: Any) -> None:
        stack, pop = self.stack, self.stack.pop
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.below.append(stack)
                self.stack = []
            case "POP":
                if stack:
                    pop()
                else:
                    self.marked()
            case "POP_MARK":
                self.marked()
            case "DUP":
                stack.append(stack[-1])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode == "NEWTRUE")
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self.last(int(opcode[-1]))))
            case "TUPLE":
                self.push_marked(tuple)
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                self.push_marked(list)
            case "APPEND":
                self.extend(self.last(1))
            case "APPENDS":
                self.extend(self.marked())
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = self.marked()
                self.stack.append({})
                self.set(items)
            case "SETITEM":
                self.set(self.last(2))
            case "SETITEMS":
                self.set(self.marked())
            case "EMPTY_SET":
                stack.append(Record("builtins.set"))
            case "ADDITEMS":
                self.marked()
            case "FROZENSET":
                self.marked()
                self.stack.append(Record("builtins.frozenset"))
            case "GLOBAL":  # "module name" in one text
                stack.append(Name(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                module, name = self.last(2)
                texts = isinstance(module, str) and isinstance(name, str)
                short = texts and len(module) + len(name) < _LONGEST_NAME  # else one that is memorized, times a million
                stack.append(Name(f"{module}.{name}" if short else "?"))
            case "EXT1" | "EXT2" | "EXT4":
                stack.append(Name(f"copyreg extension {argument}"))
            case "INST":
                args = self.marked()
                self.stack.append(_called(Name(argument.replace(" ", ".")), tuple(args)))
            case "OBJ":
                what, *args = self.marked()
                self.stack.append(_called(what, tuple(args)))
            case "REDUCE" | "NEWOBJ":
                stack.append(_called(*self.last(2)))
            case "NEWOBJ_EX":
                what, args, _ = self.last(3)
                stack.append(_called(what, args))
            case "BUILD":
                state = pop()
                if isinstance(stack[-1], Record):
                    stack[-1].state = state
            case "PERSID" | "BINPERSID":
                stack.append(Record(PERSISTENT, (pop() if opcode == "BINPERSID" else argument,)))
            case "NEXT_BUFFER" | "READONLY_BUFFER":
                raise ValueError("a buffer outside the pickle")
            case _:  # a number or a text, which genops has read
                stack.append(argument)

    def last(self, n: int) -> list[Any]:
        """Take n values off the stack, in the order they were put there."""
        if len(self.stack) < n:
            raise IndexError
        taken = self.stack[-n:]
        del self.stack[-n:]
        return taken

    def marked(self) -> list[Any]:
        """Take off all since the last mark."""
        taken, self.stack = self.stack, self.below.pop()
        return taken

    def push_marked(self, kind: type) -> None:
        items = self.marked()
        self.stack.append(kind(items))

    def extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def set(self, flat: list[Any]) -> None:
        """Put keys and values, one after the other, into the dict on top."""
        target = self.stack[-1]
        items = target.items if isinstance(target, Record) else target
        if len(flat) % 2 or not isinstance(items, dict):
            raise ValueError("not a dict")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            # A tuple of tuples of …, or a number of a million digits, would take for ever to hash: those are Records,
            # each of which is equal to itself alone.
            plain = isinstance(key, _PLAIN) or (isinstance(key, int) and abs(key) < 1 << 63)
            items[key if plain else Record("key", (key,))] = value


def _called(what: Any, args: Any) -> Any:
    """What stands for a call: an empty dict for OrderedDict(), else a note of it."""
    args = args if isinstance(args, tuple) else (args,)
    if what == "collections.OrderedDict" and not args:
        return {}
    return Record(what if isinstance(what, Name) else "?", args)
