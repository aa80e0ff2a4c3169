"""The files that `torch.save` writes, read without torch's unpickler: tensors, plain values, and nothing run.

The tensors stay in the file (a private memory map) until they are used: an optimizer's state costs nothing.
"""

import io
import math
import mmap
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from journey.errors import JourneyError
from journey.model.foreign import pickles
from journey.model.foreign.pickles import PERSISTENT, Record
from journey.model.weights import check_weights

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch before 1.6, and OpenAI's GPT-2 on the Hub
TYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_FEW = 1000  # instructions; before the value of a legacy file stand a number, another, and a small dict


class TorchFile:
    """A file of torch.save: `root` is what was saved, with a Record where a tensor or any other object was."""

    def __init__(self, path: Path) -> None:
        """Raises JourneyError naming the file when it is cut off, compressed, or no file of torch.save."""
        self.path = path
        self.places: dict[str, tuple[int, int]] = {}  # a storage's key -> where its bytes begin, how many there are
        check_weights(path)
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise JourneyError(f"{path} is empty: copy or save it again")
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        try:
            self.root = self._zip() if self.bytes[:2] == b"PK" else self._legacy()
        except JourneyError as error:
            raise JourneyError(f"{path}: {error}") from None

    def _zip(self) -> Any:
        try:
            with zipfile.ZipFile(self.path) as archive:
                entries = {entry.filename: entry for entry in archive.infolist()}
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error) as error:
            raise JourneyError(f"cut off or damaged ({error}): copy or save it again") from None
        pickled = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
        if len(pickled) != 1:
            raise JourneyError("a zip archive, but not one of torch.save: it should hold one data.pkl")
        prefix = pickled[0].removesuffix("data.pkl")
        if f"{prefix}constants.pkl" in entries:
            raise JourneyError("a TorchScript program: save the model's state_dict() instead")
        for name, entry in entries.items():
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                raise JourneyError(f"{name} is compressed, which torch.save never does")
            self.places[name.removeprefix(f"{prefix}data/")] = self._place(entry)
        if self._content(f"{prefix}byteorder") == b"big":
            raise JourneyError("saved on a big-endian machine: save it again on this one")
        start, size = self.places[pickled[0]]
        if size > pickles.LONGEST:
            raise JourneyError(f"its data.pkl has {size:,} bytes: a checkpoint's has some thousands")
        return pickles.load(io.BytesIO(self.bytes[start : start + size]))

    def _content(self, name: str) -> bytes:
        start, size = self.places.get(name, (0, 0))
        return self.bytes[start : start + min(size, 16)]

    def _place(self, entry: zipfile.ZipInfo) -> tuple[int, int]:
        """Where an entry's content begins (after its own header, which has names of its own length), and its size."""
        at = entry.header_offset
        header = self.bytes[at : at + 30]
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise JourneyError("cut off or damaged (an entry is not where it should be): copy or save it again")
        start = at + 30 + sum(struct.unpack("<HH", header[26:]))
        if start + entry.file_size > len(self.bytes):
            raise JourneyError("cut off or damaged (an entry is longer than the file): copy or save it again")
        return start, entry.file_size

    def _legacy(self) -> Any:
        """Pickles one after the other (a magic number, a version, the machine, the value, the keys), then storages."""
        if self.bytes[:1] != b"\x80" or self._next(_FEW) != LEGACY_MAGIC:
            raise JourneyError("no file of torch.save: save the model's state_dict() by torch.save or safetensors")
        _version, machine = self._next(_FEW), self._next(_FEW)
        if not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise JourneyError("saved on a big-endian machine: save it again on this one")
        root, keys = self._next(), self._next()
        types = dict(_storages(root))
        at, end = self.bytes.tell(), len(self.bytes)
        for key in keys if isinstance(keys, list) else []:
            if not isinstance(key, str) or key not in types or at + 8 > end:
                raise JourneyError("cut off or damaged (a storage is missing): copy it again, or load and save it")
            size = struct.unpack("<q", self.bytes[at : at + 8])[0] * types[key].itemsize
            self.places[key] = at + 8, size
            at += 8 + size
            if size < 0 or at > end:
                raise JourneyError("cut off or damaged (a tensor is longer than the file): copy or save it again")
        return root

    def _next(self, steps: int = pickles.STEPS) -> Any:
        """The value of the pickle that begins here; no more is looked at than a pickle may be long."""
        at = self.bytes.tell()
        stream = io.BytesIO(self.bytes[at : at + pickles.LONGEST])
        value = pickles.load(stream, steps)
        self.bytes.seek(at + stream.tell())
        return value

    def tensor(self, value: Any) -> Tensor | None:
        """The tensor that a value of `root` stands for, None when it is none. The data is still in the file.

        Raises JourneyError for one that does not lie inside its storage, or whose storage is not as long as it says.
        """
        record = _tensor_record(value)
        if record is None:
            return None
        try:
            (pid,), offset, size, stride = record.args[0].args, record.args[1], *map(tuple, record.args[2:4])
            _, kind, key, _, n = pid[:5]
            dtype = TYPES[kind]
            numbers = (n, offset, *size, *stride)
            # Of Python's own integers, none of them long: nothing overflows, and nothing takes for ever.
            fits = len(size) <= 8 and all(type(x) is int and 0 <= x < 1 << 62 for x in numbers)
            if fits:
                last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
                fits = math.prod(size) <= n and (0 in size or last < n)
            start, n_bytes = self.places[key]
        except (AttributeError, KeyError, IndexError, TypeError, ValueError):
            raise JourneyError(f"{self.path}: a tensor of a kind that is not read, or damaged") from None
        if not fits or n_bytes != n * dtype.itemsize:
            raise JourneyError(f"{self.path}: a tensor does not fit in its storage of {n_bytes:,} bytes: it is damaged")
        if not math.prod(size):
            return torch.empty(size, dtype=dtype)
        storage = torch.frombuffer(self.bytes, dtype=dtype, count=n, offset=start)
        return storage.as_strided(size, stride, offset)


def is_tensor(value: Any) -> bool:
    """Whether a value of `root` stands for a tensor."""
    return _tensor_record(value) is not None


def _tensor_record(value: Any) -> Record | None:
    while isinstance(value, Record) and value.name in _PARAMETERS and value.args:
        value = value.args[0]
    return value if isinstance(value, Record) and value.name in _TENSORS else None


def _storages(root: Any) -> list[tuple[str, torch.dtype]]:
    """(key, type) of each storage that a legacy file's value names, each container looked into once."""
    found, waiting, seen = [], [root], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, Record):
            pid = value.args[0] if value.name == PERSISTENT else None
            if isinstance(pid, tuple) and len(pid) >= 5 and all(isinstance(part, str) for part in pid[1:3]):
                found += [(pid[2], TYPES[pid[1]])] if pid[1] in TYPES else []
            waiting += [value.args, value.state, value.items]
    return found
