"""Inside the sandbox's room: a script that an interpreter without site-packages runs, and that imports nothing of ours.

Reads a job from stdin, forks the player off, judges it, and reports once. `sandbox` says what this is for.
"""

import builtins
import ctypes
import json
import os
import random
import resource
import signal
import struct
import sys
import types
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, BinaryIO

EARLY = "ended before its tests did"


def _main() -> None:
    """Fork the player off, before a byte of the job is read, and become the judge."""
    kernel = sys.argv[1:] == ["kernel"]
    # Own namespaces for the player (CLONE_NEWUSER, NEWNET, NEWPID, NEWIPC): the judge's process is not in its world.
    apart = kernel and ctypes.CDLL(None).unshare(0x10000000 | 0x40000000 | 0x20000000 | 0x08000000) == 0
    walls = ["own user, network, process and IPC namespaces"] if apart else []
    _control(4, 0)  # PR_SET_DUMPABLE: no process but root's reads another's memory
    _control(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: the judge ends with whoever wants to know, were it by kill -9 …
    random.seed(0)  # the tests that draw their cases draw the same ones each time
    report = os.dup(1)
    os.dup2(2, 1)
    asked, ask = os.pipe()
    answers, answer = os.pipe()
    if player := os.fork():
        os.close(asked)
        os.close(answer)
        _judge(os.fdopen(ask, "wb"), os.fdopen(answers, "rb"), os.fdopen(report, "w"), player, kernel, walls)
    else:
        for end in (ask, answers, report):
            os.close(end)
        _control(1, signal.SIGKILL)  # … and the player with the judge, whatever group it moved to
        _play(os.fdopen(asked, "rb"), os.fdopen(answer, "wb"), kernel)


def _play(asked: BinaryIO, answers: BinaryIO, kernel: bool) -> None:
    """The player: run the program once, then its function for each call. What it says is data to the judge."""
    job = json.loads(asked.readline())  # sent when the judge has read all of stdin: the tests are no longer in there
    _limit(job)
    _say(answers, {"walls": _lock(kernel)})
    module = sys.modules["program"] = types.ModuleType("program")  # a real one: dataclasses look it up
    try:
        exec(compile(job["program"], "program.py", "exec"), module.__dict__)
        candidate = module.__dict__[job["entry_point"]]
        _say(answers, {})
    except Exception as error:
        _say(answers, {"raised": type(error).__name__, "text": str(error)})
    for call in map(json.loads, asked):
        try:
            found = _encode(candidate(*_decode(call["args"]), **_decode(call["kwargs"])))
            print(end="", flush=True)  # nobody flushes a process that is killed
            _say(answers, {"value": found})
        except Exception as error:
            _say(answers, {"raised": type(error).__name__, "text": str(error)})


class _Over(BaseException):
    """The end, as ("why", …) or, by the tests' own fault, ("unfit", …). No test may catch it as an `Exception`."""


def _judge(ask: BinaryIO, answers: BinaryIO, report: Any, player: int, kernel: bool, walls: list[str]) -> None:
    """The judge: run the tests on a stand-in that asks the player, and report once."""
    job = json.load(sys.stdin)
    if os.getppid() != job["parent"]:  # it was gone before the signal of its death was asked for
        return
    _limit(job)

    def hear() -> dict[str, Any]:
        line = answers.readline(job["output"])
        if line.endswith(b"\n"):
            said = json.loads(line)
            if "raised" in said:
                kind = getattr(builtins, said["raised"], None)
                if isinstance(kind, type) and issubclass(kind, Exception):
                    raise kind.__new__(kind, said["text"])  # without __init__: some want more than a text
                raise RuntimeError(f"{said['raised']}: {said['text']}")
            return said
        if line:
            raise _Over("why", "answered too much")
        status = os.waitpid(player, 0)[1]
        raise _Over("why", f"was killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else EARLY)

    def candidate(*args: Any, **kwargs: Any) -> Any:
        try:
            call = {"args": _encode(args), "kwargs": _encode(kwargs)}
        except TypeError as error:
            raise _Over("unfit", str(error)) from None
        with suppress(BrokenPipeError):
            _say(ask, call)
        return _decode(hear()["value"])

    try:
        program = {"program": job["prompt"] + job["completion"]}
        _say(ask, program | {name: job[name] for name in ("entry_point", "seconds", "memory")})
        walls += hear()["walls"]
        _lock(kernel)  # the tests are a stranger's too
        names: dict[str, Any] = {"__name__": "tests"}
        try:
            exec(job["prompt"], names)
            names[job["entry_point"]] = candidate
            exec(job["test"], names)
            check = names["check"]
        except Exception as error:
            raise _Over("unfit", repr(error)) from None
        hear()
        check(candidate)
        key, text = "why", "passed"
    except _Over as error:
        key, text = error.args
    except BaseException as error:
        short = {"AssertionError": "assertion", "MemoryError": "ran out of memory"}.get(type(error).__name__)
        key, text = "why", short or f"{type(error).__name__}: {' '.join(map(str, error.args))}"[:200]
    print(json.dumps({key: text, "walls": walls}), file=report, flush=True)


def _say(to: BinaryIO, message: dict[str, Any]) -> None:
    to.write(json.dumps(message).encode() + b"\n")
    to.flush()


def _encode(value: Any) -> Any:
    """Plain data as JSON that keeps Python's types apart. An iterator arrives as one, as it would without a sandbox."""
    if value is None or isinstance(value, bool | float | str) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if isinstance(value, int):
        return {"int": hex(value)}  # Python reads no more than 4300 decimal digits
    if isinstance(value, dict):
        return {"dict": [[_encode(key), _encode(item)] for key, item in value.items()]}
    for kind in (list, tuple, set, frozenset, bytes, Iterable):
        if isinstance(value, kind):
            return {kind.__name__: list(map(_encode, value))}
    raise TypeError(f"{type(value).__name__} is not plain data")


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "int":
        return int(inner, 16)
    if kind == "dict":
        return {_decode(key): _decode(item) for key, item in inner}
    makers: dict[str, Any] = {kind.__name__: kind for kind in (list, tuple, set, frozenset, bytes)}
    return makers.get(kind, iter)([_decode(item) for item in inner])


def _limit(job: dict[str, Any]) -> None:
    """The hard limits. The clock outside comes first; a second later the processor's ends what outlived it."""
    limits = {
        "AS": job["memory"],
        "CPU": int(job["seconds"]) + 2,
        "NPROC": 0,
        "FSIZE": 0,
        "CORE": 0,
        "NOFILE": 32,
    }
    for name, most in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        already = resource.getrlimit(kind)[1]
        most = most if already == resource.RLIM_INFINITY else min(most, already)
        resource.setrlimit(kind, (most, most))


def _control(option: int, first: int = 0, second: int = 0) -> bool:
    """prctl(2), which Linux alone has. It looks at all of its arguments, in full width."""
    words = map(ctypes.c_ulong, (first, second, 0, 0))
    return sys.platform == "linux" and ctypes.CDLL(None).prctl(option, *words) == 0


def _lock(kernel: bool) -> list[str]:
    """Give up, for good, what code that only computes does not need; the walls that stand, in words."""
    if kernel:
        _control(38, 1)  # PR_SET_NO_NEW_PRIVS, which both walls ask for
        hidden = ["no file to be seen but Python's own (Landlock)"] if _hide() else []
        if _filter():
            return ["no network, process, signal or written file (seccomp)", *hidden]
    sys.addaudithook(_refuse)
    return ["network, processes, signals and files refused by Python alone (audit hook), not by the kernel"]


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    """The wall where the kernel gives none: Python's own word about what it is going to do."""
    if event in ("open", "os.listdir", "os.scandir"):
        path = args[0]
        seen = isinstance(path, int) or (type(path) is str and path.startswith(_SEEN) and ".." not in path)
        refused = not seen or (event == "open" and bool(args[2] & _WRITING))
    else:
        refused = event.split(".")[0] in _REFUSED
    if refused:
        raise PermissionError(f"{event} is refused in the sandbox")


_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_SEEN = tuple({sys.base_prefix, sys.base_exec_prefix, "/usr", "/lib", "/lib64"})
_REFUSED = ("os", "socket", "subprocess", "ctypes", "shutil", "signal", "fcntl", "resource", "sqlite3")


def _hide() -> bool:
    """Landlock: of the file system, only the folders that Python is loaded from can be read."""
    libc = ctypes.CDLL(None)
    access = struct.pack("Q", 2**13 - 1)  # every right of Landlock's first version is asked for …
    rules = libc.syscall(444, access, len(access), 0)
    for folder in _SEEN:
        if rules >= 0 and os.path.isdir(folder):
            beneath = os.open(folder, os.O_PATH)
            libc.syscall(445, rules, 1, struct.pack("=Qi", 4 | 8, beneath), 0)  # … and READ_FILE, READ_DIR given
            os.close(beneath)
    return rules >= 0 and libc.syscall(446, rules, 0) == 0


# System calls of code that computes, loads modules and ends: their numbers on x86_64 and on aarch64.
_CALLS = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62), "pread64": (17, 67),
    "newfstatat": (262, 79), "statx": (332, 291), "readlinkat": (267, 78), "getcwd": (79, 17), "getdents64": (217, 61),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "madvise": (28, 233),
    "brk": (12, 214), "futex": (202, 98), "sched_yield": (24, 124), "getrandom": (318, 278), "sysinfo": (99, 179),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "getrusage": (98, 165),
    "getpid": (39, 172), "getuid": (102, 174), "wait4": (61, 260), "exit": (60, 93), "exit_group": (231, 94),
    "stat": (4, 79), "lstat": (6, 79), "readlink": (89, 78), "getppid": (110, 173),
}  # fmt: skip
_OPENAT = (257, 56)


def _filter() -> bool:
    """seccomp: a small program in the kernel that lets `_CALLS` and opening for reading through. All else is EPERM."""
    arm = os.uname().machine == "aarch64"
    load, equal, any_bit, give = 0x20, 0x15, 0x45, 0x06  # BPF: LD|W|ABS, JMP|JEQ|K, JMP|JSET|K, RET|K
    allow, refuse, kill = 0x7FFF0000, 0x00050001, 0x80000000  # SECCOMP_RET_ALLOW, ERRNO|EPERM, KILL_PROCESS
    # Words of seccomp_data: the call's number at 0, the architecture at 4, the flags of openat at 32.
    steps = [(load, 0, 0, 4), (equal, 1, 0, 0xC00000B7 if arm else 0xC000003E), (give, 0, 0, kill), (load, 0, 0, 0)]
    for numbers in _CALLS.values():
        steps += [(equal, 0, 1, numbers[arm]), (give, 0, 0, allow)]
    steps += [(equal, 1, 0, _OPENAT[arm]), (give, 0, 0, refuse)]
    steps += [(load, 0, 0, 32), (any_bit, 0, 1, _WRITING), (give, 0, 0, refuse), (give, 0, 0, allow)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    header = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(program)))
    return _control(22, 2, ctypes.addressof(header))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


if __name__ == "__main__":
    _main()
