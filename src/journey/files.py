"""Writing so that a kill at any instant leaves either the old file or the new one, and hashing what was written."""

import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from journey.errors import JourneyError

_UMASK = os.umask(0o077)  # it can be read only by setting it: once, before there are threads
os.umask(_UMASK)
_HALVES = "backslashreplace"  # the name of a file that is not UTF-8 reaches Python with such halves of characters


def check_file(path: Path) -> None:
    """Raises JourneyError where there is no ordinary file: opening a pipe would wait for ever, a device not end."""
    if not path.is_file():
        raise JourneyError(f"{path} is " + ("no ordinary file" if path.exists() else "missing"))


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes. Errors: JourneyError for what is no ordinary file."""
    if path.exists():
        check_file(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value, the same for the same value whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", _HALVES)).hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write beside, fsync, rename: a reader sees the whole old file or the whole new one. Raises JourneyError for what
    is there and no ordinary file: a device or a pipe would be replaced."""
    if path.exists():
        check_file(path)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text; half a character, which has no bytes, is spelled out as JSON spells it."""
    write_bytes(path, text.encode("utf-8", _HALVES))


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of indented JSON; NaN and infinity are refused because other tools cannot read them."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """`write_bytes` of dataclasses, a JSON object a line."""
    write_text(path, "".join(json.dumps(dataclasses.asdict(row), ensure_ascii=False) + "\n" for row in rows))


def parse_json(text: str | bytes, where: str, of: str = "line") -> Any:
    """The JSON value of a text, whose byte order mark is no part of it.

    `where` opens the message of a JourneyError for what is no JSON, is no UTF-8, or is nested or written out beyond
    what Python reads; `of` is what the text is: a "line", or a "file", whose line is then named too.
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if of == "file" else ""
        raise JourneyError(f"{where}{line}: not JSON ({error.msg} at column {error.colno})") from None
    except UnicodeDecodeError as error:
        raise JourneyError(f"{where}: not JSON (byte {error.start} is not UTF-8)") from None
    except RecursionError:
        raise JourneyError(f"{where}: JSON that is nested too deeply to be read") from None
    except ValueError:  # Python reads no integer of more than 4,300 digits: the time grows with their square
        raise JourneyError(f"{where}: JSON with an integer of thousands of digits") from None


def read_json(path: Path) -> Any:
    """The JSON value in a file. Errors: JourneyError naming the file, when it is missing or is not JSON."""
    if path.exists():
        check_file(path)
    try:
        return parse_json(path.read_bytes(), str(path), "file")
    except FileNotFoundError:
        raise JourneyError(f"{path} does not exist") from None
    except JourneyError as error:
        raise JourneyError(f"{error}: it is damaged, restore or delete it") from None


def read_object(path: Path, longest: int) -> dict[str, Any]:
    """The JSON object in a file of at most so many bytes. Errors: JourneyError for any other."""
    check_file(path)
    if path.stat().st_size > longest:
        raise JourneyError(f"{path} has {path.stat().st_size:,} bytes, and more than {longest:,} are not read")
    saved = read_json(path)
    if not isinstance(saved, dict):
        raise JourneyError(f"{path} is no object: it is damaged")
    return saved


def holds(value: Any, kinds: Mapping[str, type]) -> bool:
    """Whether a JSON value is an object with at least these keys, each of its kind."""
    return isinstance(value, dict) and all(isinstance(value.get(key), kind) for key, kind in kinds.items())


def publish(folder: Path, final: Path) -> None:
    """Make a finished folder appear at `final` in one step: fsync every file, then rename. Its files may be read by
    whom the umask lets read.

    What stood at `final` is moved aside first and deleted last, so that no kill can lose both.
    """
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            _sync_folder(path)
        else:
            path.chmod(0o666 & ~_UMASK)  # safetensors gives its files to their owner alone
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    old = final.with_name(f".old-{final.name}-{uuid.uuid4().hex[:8]}")
    if final.exists():
        os.replace(final, old)
    os.replace(folder, final)
    _sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """A rename is on disk only once the folder that holds the name is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
