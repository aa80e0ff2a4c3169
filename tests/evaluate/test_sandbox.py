"""Hostile completions: none passes, none survives, none leaves a file. HumanEval's own solutions all pass."""

import functools
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journey.errors import JourneyError
from journey.evaluate import room, sandbox
from journey.evaluate.sandbox import Limits, Problem, isolation, run, run_all

HUMANEVAL = Path(os.environ.get("JOURNEY_DATA", "absent")) / "bench" / "humaneval.jsonl.gz"
PROBLEM = Problem(
    prompt='def double(x):\n    """Twice x."""\n',
    test="SECRET = 'xyzzy plugh'\n\ndef check(f):\n    assert f(21) == 42\n    assert f(-1) == -2\n",
    entry_point="double",
)
RIGHT = "    return 2 * x\n"

# Each is the body of `double`. MARK is a word by which the test finds what is left of it afterwards, HOME and PLACE are
# folders outside, PORT is a listening socket. They bound themselves: should the sandbox fail, the machine survives.
HOSTILE = {
    "a fork bomb": """
        import os, time
        for _ in range(7):
            os.fork()
        time.sleep(20)
    """,
    "a fork bomb that minds no error": """
        import os, time
        for _ in range(7):
            try:
                os.fork()
            except OSError:
                pass
        time.sleep(20)
    """,
    "a daemon that leaves its session": """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execv("/bin/sleep", ["MARK", "20"])
        os._exit(0)
    """,
    "leaving the process group, then waiting": """
        import os, time
        try:
            os.setsid()
        except OSError:
            os.setpgid(0, 0)
        time.sleep(20)
    """,
    "another program": "import subprocess; subprocess.run(['/bin/sleep', '20'])",
    "a shell": "import os; os.system('sleep 20; : MARK')",
    "becoming another program": "import os; os.execv('/bin/sleep', ['MARK', '20'])",
    "a program by the C function that nobody is told of": """
        import _posixsubprocess as p, os
        fds = (-1,) * 6
        p.fork_exec([b"MARK", b"20"], [b"/bin/sleep"], True, (), None, None, *fds, *os.pipe(), True, False, -1, None,
                    None, None, -1, None, False)
    """,
    "killing the parent": "import os; os.kill(os.getppid(), 9)",
    "killing all one can": "import os; os.setpgid(0, 0); os.killpg(0, 9)",
    "killing the parent by native code": "import ctypes, os; ctypes.CDLL(None).kill(os.getppid(), 9)",
    "a 10 GB list": "return [0] * (10 * 2**30 // 8)",
    "a 10 GB list, again and again": """
        while True:
            try:
                held = [0] * (10 * 2**30 // 8)
            except MemoryError:
                pass
    """,
    "endless output": "while True: print('x' * 1000)",
    "endless output past Python": """
        import os
        while True:
            os.write(2, b'x' * 4096)
    """,
    "an endless answer": """
        import os
        while True:
            for fd in range(3, 32):
                try:
                    os.write(fd, b'[' * 4096)
                except OSError:
                    pass
    """,
    "an endless iterator": "import itertools; return itertools.count()",
    "an answer nested without end": """
        answer = []
        for _ in range(100_000):
            answer = [answer]
        return answer
    """,
    "an answer that holds itself": "answer = []; answer.append(answer); return answer",
    "an endless loop": "while True: pass",
    "sleeping": "import time; time.sleep(20)",
    "signal handlers, then a loop": """
        import signal
        for number in range(1, 32):
            try:
                signal.signal(number, lambda *_: None)
            except (OSError, ValueError):
                pass
        while True:
            pass
    """,
    "an alarm that exits": """
        import signal, sys
        signal.signal(signal.SIGALRM, lambda *_: sys.exit(0))
        signal.alarm(1)
        while True:
            pass
    """,
    "recursion without a limit": "import sys; sys.setrecursionlimit(10**9); return double(x)",
    "a crash": "import ctypes; ctypes.string_at(0)",
    "raising its limits": """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    """,
    "a file beside": "open('MARK', 'w').write('here')",
    "a file in the folder above": "open('../MARK', 'w').write('here')",
    "a file at home": "open('HOME/MARK', 'w').write('here')",
    "a file in /tmp": "open('/tmp/MARK', 'w').write('here')",
    "a file in memory": "open('/dev/shm/MARK', 'w').write('here')",
    "a file where it may write": "open('PLACE/MARK', 'w').write('here')",
    "a file past Python": "import ctypes; ctypes.CDLL(None).creat(b'PLACE/MARK', 0o600)",
    "a folder": "import os; os.mkdir('PLACE/MARK')",
    "a link": "import os; os.symlink('/', 'PLACE/MARK')",
    "a data base": "import sqlite3; sqlite3.connect('PLACE/MARK').execute('create table t (x)')",
    "removing what is there": "import os; os.remove('PLACE/kept')",
    "emptying what is there": "open('PLACE/kept', 'w')",
    "emptying it by a rename": "import os; os.rename('PLACE/kept', 'PLACE/MARK')",
    "a socket": "import socket; socket.create_connection(('127.0.0.1', PORT), 2)",
    "a socket past Python": """
        import ctypes, struct
        libc = ctypes.CDLL(None)
        address = struct.pack('=H', 2) + struct.pack('>HI', PORT, 0x7F000001) + bytes(8)
        libc.connect(libc.socket(2, 1, 0), address, 16)
    """,
    "exit 0 before the asserts": "import sys; sys.exit(0)",
    "exit 0 without a word": "import os; os._exit(0)",
    "an interrupt": "raise KeyboardInterrupt",
    "a claim at the exit": """
        import atexit, os
        atexit.register(lambda: [os.write(fd, b'{"why": "passed", "walls": []}') for fd in (0, 1, 2)])
        raise SystemExit(0)
    """,
    "the verdict written on every pipe": """
        import os
        for fd in range(32):
            try:
                os.write(fd, b'{"why": "passed", "walls": []}\\n')
            except OSError:
                pass
        os._exit(0)
    """,
    "the verdict as its answer": "return {'why': 'passed', 'walls': [], 'value': 42}",
    "an object that equals everything": """
        class Yes(int):
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __bool__(self): return True
        return Yes()
    """,
    "an object with no plain data in it": """
        class Yes:
            def __eq__(self, other): return True
        return Yes()
    """,
    "built-ins changed": """
        import builtins, operator
        builtins.AssertionError = type('Fine', (BaseException,), {})
        builtins.isinstance = builtins.all = builtins.any = lambda *_: True
        builtins.exec = builtins.compile = lambda *_: None
        operator.eq = lambda *_: True
        return 0
    """,
    "check replaced everywhere": """
        import gc, sys
        for module in list(sys.modules.values()):
            module.check = lambda candidate: None
        for found in gc.get_objects():
            if isinstance(found, dict) and 'entry_point' in found:
                found['check'] = lambda candidate: None
        return 0
    """,
    "the harness's own names taken over": """
        import json, sys
        main = sys.modules['__main__']
        main._judge = main._play = main._encode = lambda *_: 42
        json.dumps = lambda *_: '{"why": "passed"}'
        return 0
    """,
    "walking up the frames": """
        import sys
        frame = sys._getframe()
        while frame:
            for name in ('check', 'SECRET', 'test', 'verdict', 'token'):
                if 'xyzzy' in str(frame.f_globals.get(name)) + str(frame.f_locals.get(name)):
                    return 42
            frame = frame.f_back
        return 0
    """,
    "the tests looked for in memory": """
        import gc
        word = ' '.join(['xyzzy', 'plugh'])
        return 2 * x if any(word in str(found) for found in gc.get_objects() if type(found) is dict) else 0
    """,
    "the tests read from the parent's memory": """
        import os
        word = b' '.join([b'xyzzy', b'plugh'])
        for line in open(f'/proc/{os.getppid()}/maps'):
            start, end = (int(edge, 16) for edge in line.split()[0].split('-'))
            with open(f'/proc/{os.getppid()}/mem', 'rb', 0) as memory:
                memory.seek(start)
                if word in memory.read(end - start):
                    return 2 * x
        return 0
    """,
    "the tests read from what stdin was": "import sys; return 2 * x if sys.stdin.read() else 0",
    "the environment": """
        import os
        return 2 * x if set(os.environ) - {'PYTHONHASHSEED', 'PYTHONUTF8', 'LC_CTYPE'} else 0
    """,
    "a look around at home": "import os; return 2 * x if os.listdir('HOME') else 0",
    "the passwords": "return 2 * x if open('/etc/passwd').read() else 0",
    "a packages folder": "import numpy; return 2 * x",
    "no Python": "return ((",
    "a debugger for the parent": """
        import ctypes, os
        return 0 if ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) else 2 * x
    """,
}
# It announces nothing to Python's audit hook, and root has no limit of processes: only the kernel's filter stops it.
SILENT = "a program by the C function that nobody is told of"


def body(code):
    lines = code.strip("\n").splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "".join(f"    {line[margin:]}\n" if line[margin:] else "\n" for line in lines)


@pytest.fixture(params=["kernel", "audit hook alone"])
def walls(request, monkeypatch):
    """With all that this machine has, and as on one whose kernel has nothing."""
    if request.param != "kernel":
        monkeypatch.setattr(sandbox, "_KERNEL", False)
    elif not sandbox._KERNEL:
        pytest.skip("no walls in this kernel")
    isolation.cache_clear()
    yield request.param
    isolation.cache_clear()


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """What hostile code aims at: a folder with a file, a socket that listens, and a word for all that it leaves."""
    mark = f"hostile-{uuid.uuid4().hex}"
    place, rooms = tmp_path / "place", tmp_path / mark
    place.mkdir()
    rooms.mkdir()
    (place / "kept").write_text("kept")
    monkeypatch.setattr(tempfile, "tempdir", str(rooms))  # so that every process of theirs works in a folder so named
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield SimpleNamespace(mark=mark, place=place, rooms=rooms, server=server, port=server.getsockname()[1])
    for path in left_files(mark):
        path.unlink()
    for process in living(mark):
        os.kill(process, signal.SIGKILL)


def aimed(code, outside):
    meant = {"MARK": outside.mark, "PLACE": outside.place, "PORT": outside.port, "HOME": Path.home()}
    return functools.reduce(lambda text, name: text.replace(name, str(meant[name])), meant, code)


def living(mark):
    """The processes that have the mark in their command line or in the folder they work in."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "cmdline").read_bytes() or mark in os.readlink(process / "cwd"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def left_files(mark):
    folders = [Path("/tmp"), Path("/dev/shm"), Path.home()]
    return [path for folder in folders if (path := folder / mark).exists()]


def left_living(mark):
    deadline = time.monotonic() + 3  # who is killed needs a moment to go
    while (left := living(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def test_no_hostile_completion_passes_survives_or_reaches_outside(walls, outside):
    names = [name for name in HOSTILE if walls == "kernel" or name != SILENT]
    answers = [(PROBLEM, body(aimed(HOSTILE[name], outside))) for name in names]
    outcomes = dict(zip(names, run_all(answers, Limits(seconds=1.5), workers=8), strict=True))
    assert len(outcomes) >= 30
    assert {name: outcome for name, outcome in outcomes.items() if outcome.passed} == {}
    assert left_living(outside.mark) == []
    assert left_files(outside.mark) == []
    assert [path.name for path in outside.place.iterdir()] == ["kept"]
    assert (outside.place / "kept").read_text() == "kept"
    assert list(outside.rooms.iterdir()) == []
    with pytest.raises(BlockingIOError):  # nobody called
        outside.server.accept()


@pytest.mark.parametrize("name", ["a file where it may write", "a socket", "a daemon that leaves its session"])
def test_without_the_sandbox_the_same_code_does_its_harm(name, outside):
    """Or the test above would show nothing."""
    program = PROBLEM.prompt + body(aimed(HOSTILE[name], outside)) + "\ndouble(21)\n"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, timeout=20)
    outside.server.settimeout(1)
    if name == "a socket":
        outside.server.accept()[0].close()
    else:
        deadline = time.monotonic() + 5
        while not (outside.place / outside.mark).exists() and not living(outside.mark):
            assert time.monotonic() < deadline


WHY = {
    RIGHT: "passed",
    "    return x + 21\n": "assertion",
    "    return y\n": "NameError: name 'y' is not defined",
    "    return {}['a']\n": "KeyError: 'a'",
    "    return b''.decode('utf-8') + b'\\xff'.decode()\n": "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff",
    "    class Odd(Exception): pass\n    raise Odd('so')\n": "RuntimeError: Odd: so",
    "  return 1\n": "IndentationError: unindent does not match",
    "    held = bytes(2**31)\n    return 2 * x\n": "ran out of memory",
    "    while True: pass\n": "ran out of time",
    "    while True: print('x' * 1000)\n": "printed too much",
    "    return 'x' * 2**21\n": "answered too much",
    "    raise SystemExit(0)\n": "ended before its tests did",
    "    return object()\n": "TypeError: object is not plain data",
}


@pytest.mark.parametrize("completion", WHY)
def test_an_outcome_says_why(completion):
    seconds = 1 if "pass" in completion and "while" in completion else 10
    outcome = run(PROBLEM, completion, Limits(seconds=seconds))
    assert outcome.why.startswith(WHY[completion])
    assert outcome.passed == (completion == RIGHT)


def test_a_crash_is_told_by_its_signal():
    assert run(PROBLEM, "    import ctypes; ctypes.string_at(0)\n").why == "was killed by signal 11"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers(), st.text()), inner)
        | st.sets(st.integers() | st.text())
        | st.frozensets(st.integers())
    ),
    max_leaves=10,
)


@given(VALUES)
@example(10**5000)
@example([True, 1, 1.0, "1", b"1", (1,), {1}, -0.0, 2**63, -(2**64)])
def test_data_arrive_as_what_they_were(value):
    arrived = room._decode(json.loads(json.dumps(room._encode(value))))
    assert same(arrived, value)


def same(a, b):
    """Equal in value and in type all the way down (`1 == True == 1.0` is not enough)."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    return (a != a and b != b) if isinstance(a, float) and a != a else a == b


def test_a_generator_answers_as_one():
    """`tuple(candidate(…))` is right with it and `candidate(…) == [1, 2]` is wrong, as without a sandbox."""
    for test, passes in {"tuple(candidate(2)) == (0, 1)": True, "candidate(2) == [0, 1]": False}.items():
        problem = Problem(PROBLEM.prompt, f"def check(candidate):\n    assert {test}\n", "double")
        assert run(problem, "    yield from range(x)\n").passed == passes


def test_exceptions_that_the_tests_ask_for_arrive_as_their_kind():
    test = """
def check(candidate):
    try:
        candidate(-1)
    except ValueError as error:
        assert error.args == ("negative",)
    else:
        assert False
"""
    problem = Problem(PROBLEM.prompt, test, "double")
    assert run(problem, "    raise ValueError('negative')\n").passed
    assert not run(problem, "    raise TypeError('negative')\n").passed


def test_no_test_takes_a_players_end_for_an_exception():
    test = """
def check(candidate):
    try:
        candidate(-1)
    except Exception:
        pass
"""
    problem = Problem(PROBLEM.prompt, test, "double")
    assert run(problem, "    raise ValueError\n").passed
    assert run(problem, "    import os; os._exit(0)\n").why == "ended before its tests did"


def test_a_judge_that_ends_without_a_word_is_no_pass(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/true")
    outcome = run(PROBLEM, RIGHT)
    assert (outcome.passed, outcome.why) == (False, "ended before its tests did")


@pytest.mark.skipif(not sandbox._KERNEL, reason="no walls in this kernel")
@pytest.mark.parametrize(
    "code",
    ["os.fork()", "os.pipe()", "os.kill(os.getpid(), 0)", "socket.socket()", "open('x', 'w')", "os.truncate('x', 0)"],
)
def test_the_filter_alone_refuses(code):
    """EPERM is the filter's own word: Landlock says EACCES, and namespaces let these through."""
    assert run(PROBLEM, f"    import os, socket\n    {code}\n").why.startswith("PermissionError: [Errno 1]")


def test_the_hard_limits_are_set(monkeypatch):
    monkeypatch.setattr(sandbox, "_KERNEL", False)  # the filter refuses to tell
    code = """
        import resource
        print([resource.getrlimit(getattr(resource, "RLIMIT_" + name))[1] for name in ("CPU", "AS", "NPROC", "FSIZE")])
        print([resource.getrlimit(getattr(resource, "RLIMIT_" + name))[1] for name in ("CORE", "NOFILE")])
    """
    assert run(PROBLEM, body(code), Limits(7, 2**28)).output.splitlines()[:2] == [f"[9, {2**28}, 0, 0]", "[0, 32]"]


def test_the_tests_use_the_prompts_helpers_and_not_the_completions():
    prompt = 'def half(x):\n    return x / 2\n\ndef double(x):\n    """Twice x."""\n'
    problem = Problem(prompt, "def check(candidate):\n    assert half(candidate(3)) == 3\n", "double")
    assert run(problem, RIGHT).passed
    assert not run(problem, "    return 0\n\ndef half(x):\n    return 3\n").passed


def test_the_same_completion_has_the_same_verdict():
    """The order of a set is drawn by each Python anew, and so are random cases."""
    test = "import random\ndef check(candidate):\n    assert candidate(random.random()) == 0\n"
    problem = Problem(PROBLEM.prompt, test, "double")
    completion = "    print(x, list({'a', 'b', 'c', 'd', 'e'}))\n"
    assert len({run(problem, completion).output for _ in range(4)}) == 1


@pytest.mark.parametrize("test", ["def check(candidate:\n", "x = 1\n", "def check(candidate):\n    candidate(len)\n"])
def test_tests_that_cannot_run_are_an_error_and_no_wrong_answer(test):
    with pytest.raises(JourneyError, match=r"the tests of double cannot run in the sandbox: .+"):
        run(Problem(PROBLEM.prompt, test, "double"), RIGHT)


def test_what_is_printed_is_kept_and_cut():
    assert run(PROBLEM, "    print('here', x)\n" + RIGHT).output == "here 21\nhere -1\n"
    assert len(run(PROBLEM, "    print('é' * 10_000)\n" + RIGHT).output) == 2000


def test_many_run_side_by_side_and_come_in_order():
    heard = []
    answers = [(PROBLEM, RIGHT if number % 3 else "    return 0\n") for number in range(12)]
    outcomes = run_all(answers, workers=3, progress=heard.append)
    assert [outcome.passed for outcome in outcomes] == [bool(number % 3) for number in range(12)]
    assert heard == list(range(1, 13))


def test_the_walls_are_told(walls):
    assert ("by Python alone" in isolation()) == (walls != "kernel")
    assert ("seccomp" in isolation()) == (walls == "kernel")


def test_a_machine_that_runs_nothing_is_an_error(monkeypatch):
    """Or every completion would count as wrong."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    isolation.cache_clear()
    with pytest.raises(JourneyError, match="the sandbox does not run on this machine, so no code can be judged"):
        run_all([(PROBLEM, RIGHT)])


@pytest.mark.parametrize("processes", [2, 3], ids=["as the judge starts", "as the completion runs"])
def test_nothing_runs_on_after_the_evaluation_was_killed(walls, processes, outside):
    code = f"""
import tempfile
from journey.evaluate import room, sandbox
tempfile.tempdir, sandbox._KERNEL = {str(outside.rooms)!r}, {walls == "kernel"}
sandbox.run(sandbox.{PROBLEM!r}, "    import time; time.sleep(20)\\n", sandbox.Limits(seconds=20))
"""
    with subprocess.Popen([sys.executable, "-c", code]) as evaluation:
        deadline = time.monotonic() + 10
        while len(living(outside.mark)) < processes and time.monotonic() < deadline:
            pass
        assert len(living(outside.mark)) >= processes  # the evaluation itself, the judge, the player
        evaluation.kill()
    assert left_living(outside.mark) == []


def humaneval():
    with gzip.open(HUMANEVAL, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [(Problem(row["prompt"], row["test"], row["entry_point"]), row["canonical_solution"]) for row in rows]


@pytest.mark.slow
@pytest.mark.skipif(not HUMANEVAL.is_file(), reason="JOURNEY_DATA is not set")
def test_humanevals_own_solutions_pass_and_none_passes_that_returns_nothing(walls):
    problems = humaneval()
    assert len(problems) == 164
    assert {outcome.why for outcome in run_all(problems, workers=2)} == {"passed"}
    nothing = run_all([(problem, "    return None\n") for problem, _ in problems], workers=2)
    assert [outcome for outcome in nothing if outcome.passed] == []
