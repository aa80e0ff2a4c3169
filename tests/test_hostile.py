"""What people and programs hand over by mistake or on purpose: a verb answers in one line, with exit code 0, 1 or 2.

A traceback at a user is a fault of ours by definition, and so is a wait without an end.
"""

import errno
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from journey import cli
from journey.errors import JourneyError
from journey.verbs import life as life_verbs

FUZZ = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"
# What each verb is given, BAD standing for the hostile path.
READS = {
    "text": ["text", "--source", "BAD", "--out", "OUT"],
    "tokenizer": ["tokenizer", "train", "--data", "BAD", "--vocab-size", "300", "--out", "OUT"],
    "explain": ["tokenizer", "explain", "--tokenizer", "BAD", "text"],
    "compare": ["tokenizer", "compare", "gpt2", "--on", "BAD"],
    "pretrain": ["pretrain", "TOKENIZER", "--data", "BAD", "--tokens", "300", "--out", "OUT"],
    "pretrain's mixture": ["pretrain", "TOKENIZER", "--data", "PROSE=1,BAD=2", "--tokens", "300", "--out", "OUT"],
    "pretrain's parent": ["pretrain", "BAD", "--data", "PROSE", "--out", "OUT"],
    "continue": ["continue", "BASE", "--data", "BAD", "--replay", "0", "--replay-data", "", "--out", "OUT"],
    "sft": ["sft", "BASE", "--data", "BAD", "--out", "OUT"],
    "sft's parent": ["sft", "BAD", "--data", "ASKED", "--out", "OUT"],
    "pairs": ["pairs", "BASE", "--data", "BAD", "--out", "OUT"],
    "dpo": ["dpo", "BASE", "--data", "BAD", "--out", "OUT"],
    "lora": ["lora", "BAD", "--data", "ASKED", "--out", "OUT"],
    "merge": ["merge", "BAD", "--out", "OUT"],
    "ptq": ["ptq", "BAD", "--out", "OUT"],
    "ptq's text": ["ptq", "BASE", "--method", "awq", "--group", "32", "--data", "BAD", "--out", "OUT"],
    "quantize": ["quantize", "BAD", "--out", "OUT"],
    "index": ["index", "BASE", "--data", "BAD", "--out", "OUT"],
    "prepare": ["data", "prepare", "TOKENIZER", "--data", "BAD", "--out", "OUT"],
    "show": ["data", "show", "BAD", "--model", "TOKENIZER", "--stats"],
    "show's model": ["data", "show", "ASKED", "--model", "BAD"],
    "translations": ["translations", "--source", "BAD", "--out", "OUT"],
    "translations' target": ["translations", "--source", "ASKED", "--target", "BAD", "--out", "OUT"],
    "seq2seq": ["seq2seq", "TOKENIZER", "--data", "BAD", "--out", "OUT"],
    "import": ["import", "BAD", "--out", "OUT"],
    "import's tokenizer": ["import", "BASE", "--tokenizer", "BAD", "--out", "OUT"],
    "generate": ["generate", "BAD", "text"],
    "chat": ["chat", "BAD"],
    "ask": ["ask", "what?", "--index", "BAD"],
    "eval": ["eval", "BAD", "--out", "OUT"],
    "eval's text": ["eval", "BASE", "--text", "BAD", "--out", "OUT"],
    "bench": ["bench", "BAD", "--out", "OUT"],
    "diff": ["diff", "BAD", "BASE", "--workspace", "LIFE"],
    "verify": ["verify", "BAD"],
    "tree": ["tree", "--workspace", "BAD"],
    "watch": ["watch", "BAD"],
    "watch's workspace": ["watch", "--workspace", "BAD"],
    "report": ["report", "--workspace", "BAD"],
    "run": ["run", "BAD", "--workspace", "OUT"],
    "run's text": ["run", "RECIPE", "--set", "stages.prose.source=BAD", "--workspace", "OUT", "--dry-run"],
    "sweep": ["sweep", "BAD", "--workspace", "OUT", "--dry-run"],
    "plan": ["plan", "--flops", "1e17", "--law", "BAD"],
}
WRITES = {
    name: [*words[: words.index("OUT")], "BAD"]
    for name, words in {
        "text": ["text", "--source", "PROSE", "--out", "OUT"],
        "sft": ["sft", "BASE", "--data", "ASKED", "--out", "OUT"],
        "import": ["import", "BASE", "--out", "OUT"],
        "quantize": ["quantize", "BASE", "--out", "OUT"],
        "run": ["run", "RECIPE", "--workspace", "OUT"],
        "plan": ["plan", "--flops", "1e17", "--out", "OUT"],
    }.items()
}


def a_file(path: Path, data: bytes = b"") -> Path:
    path.write_bytes(data)
    return path


def a_folder_of(path: Path, name: str, make) -> Path:
    path.mkdir()
    make(path / name)
    return path


PATHS = {
    "nothing": lambda at: at / "nothing",
    "too long": lambda at: at / ("x" * 300),
    "too deep": lambda at: at.joinpath(*["deep"] * 2000),
    "below a file": lambda at: a_file(at / "file", b"x") / "sub",
    "empty file": lambda at: a_file(at / "empty.jsonl"),
    "noise": lambda at: a_file(at / "noise.parquet", bytes(range(256)) * 40),
    "not utf-8": lambda at: a_file(Path(os.fsdecode(os.fsencode(at) + b"/caf\xe9.txt")), b"a text\n\nanother\n"),
    "empty folder": lambda at: at,
    "pipe": lambda at: os.mkfifo(at / "pipe.txt") or at / "pipe.txt",
    "folder of a pipe": lambda at: a_folder_of(at / "folder", "lineage.json", os.mkfifo),
    "pipe as config": lambda at: a_folder_of(at / "folder", "config.json", os.mkfifo),
    "loop": lambda at: (at / "loop.txt").symlink_to(at / "loop.txt") or at / "loop.txt",
    "device": lambda at: Path("/dev/zero"),
    "proc": lambda at: Path("/proc/self/mem"),
    "line end": lambda at: at / "a\nb",
    "deep json": lambda at: a_file(at / "deep.jsonl", b"[" * 100_000 + b"]" * 100_000),
    "markup": lambda at: at / "[bold]x[/nothing]",
}


@pytest.fixture
def within_seconds():
    """A test that waits for a pipe would wait for ever."""

    def late(*said):
        raise TimeoutError("more than 20 seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def words(life, template, bad, out):
    place = {"BAD": bad, "OUT": out, "LIFE": life.workspace, "RECIPE": life.recipe}
    place |= {"PROSE": life.texts / "prose.jsonl", "ASKED": life.texts / "asked.jsonl"}
    place |= {"BASE": life.node("base").path, "TOKENIZER": life.node("tokenizer").path}
    return [re.sub("|".join(place), lambda found: str(place[found[0]]), word) for word in template]


def assert_a_line(output):
    assert output.code in (0, 1, 2)
    assert "Traceback" not in output.err and "a fault of Journey" not in output.err, output.err
    said = [line for line in output.err.splitlines() if line.startswith("journey ")]
    assert len(said) == (output.code != 0) or "usage" in output.err, output.err
    assert all(len(line) < 1500 for line in said)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("verb", READS)
def test_a_hostile_path_is_a_line(life, journey, tmp_path, within_seconds, verb, path):
    bad = PATHS[path](tmp_path)
    assert_a_line(journey(*words(life, READS[verb], bad, tmp_path / "out")))


HUB = (
    "hub:", "hub:x", "hub:../..", "hub:o/n/../../../etc", "hub:o/n@", "hub:o/n:", "hub:o/n:c:s:t", "hub:o/\u2028n",
    "hub:" + "o/" * 500, "hub:o/" + "n" * 300, "hub:o/n@" + "r" * 300, "hub://", "hub:o/n/[", "hub:-/-", "the-pile:x",
)  # fmt: skip


@pytest.mark.parametrize("source", HUB)
def test_a_hostile_name_of_the_hub_is_a_line(journey, tmp_path, within_seconds, source):
    """With HF_HUB_OFFLINE, as all tests: what is well spelled is not on this machine."""
    output = journey("text", "--source", source, "--out", tmp_path / "out")
    assert output.code == 2
    assert_a_line(output)


# A folder that holds something is no place for a node, and a fine one for a workspace.
CAN_BE_MADE = ("nothing", "empty folder", "markup", "line end", "folder of a pipe", "pipe as config")


@pytest.mark.parametrize("path", [path for path in PATHS if path not in CAN_BE_MADE])
@pytest.mark.parametrize("verb", WRITES)
def test_a_place_that_cannot_be_written_is_a_line(life, journey, tmp_path, within_seconds, verb, path):
    bad = PATHS[path](tmp_path)
    output = journey(*words(life, WRITES[verb], bad, None))
    assert output.code in (1, 2)
    assert_a_line(output)


def fuzz():
    found = importlib.util.spec_from_file_location("fuzz", FUZZ)
    module = importlib.util.module_from_spec(found)
    sys.modules["fuzz"] = module  # dataclasses look their module up
    found.loader.exec_module(module)
    return module


def test_every_reader_reads_or_refuses_files_that_were_damaged_at_random(tmp_path):
    """A short fuzz, the same each time; benchmarks/fuzz.py goes on for minutes."""
    module, read = fuzz(), 0
    (tmp_path / "seeds").mkdir()
    for name, reader in list(module.readers(tmp_path / "seeds")):
        reader.read(reader.seed)  # as it is, it can be read
        found = module.fuzz(name, reader, tmp_path / "scratch", 40, 60)
        assert not found.faults, found.faults[0]
        assert found.counts["read"] + found.counts["refused"] == 40
        read += found.counts["read"]
    assert read > 100  # else only what is refused at once was tried


@pytest.mark.parametrize(
    "number", [errno.ENAMETOOLONG, errno.EIO, errno.ELOOP, errno.ENOTDIR, errno.EMFILE, errno.ESTALE]
)
def test_what_the_system_refuses_is_a_line_that_names_the_path(journey, monkeypatch, number):
    def fail(*arguments, **more):
        raise OSError(number, os.strerror(number), "some/" + "long" * 100)

    monkeypatch.setattr(life_verbs, "home", fail)
    said = journey("tree")
    assert said.code == 2 and said.err.startswith("journey tree: some/long") and "…" in said.err
    assert os.strerror(number).lower() in said.err and len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_too_little_memory_is_a_line(journey, monkeypatch, error):
    def fail(*arguments, **more):
        raise error

    monkeypatch.setattr(life_verbs, "home", fail)
    assert journey("tree").err == "journey tree: there is not enough memory for this: ask for less, or free some\n"


def shell(command, **environment):
    return subprocess.run(
        ["bash", "-c", command.replace("journey", f"{sys.executable} -m journey")],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def test_a_reader_that_wants_one_line_gets_it_and_nothing_is_said():
    done = shell("journey --help | head -1; echo ${PIPESTATUS[0]}")
    assert done.stderr == "" and done.stdout.splitlines()[0].startswith("journey: a GPT-2-class model")
    assert done.stdout.splitlines()[1] in ("0", "1")


def test_an_ascii_terminal_shows_what_it_can(life, tmp_path):
    done = shell(f"journey tree --workspace {life.workspace}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "\\u2514" in done.stdout and done.stderr == ""
    done = shell(f"journey tree --json --workspace {life.workspace}", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout.splitlines()[-1])["ok"]
    done = shell(f"journey text --source {tmp_path}/é --out {tmp_path}/o", PYTHONIOENCODING="ascii")
    assert done.returncode == 2 and "\\xe9" in done.stderr and "Traceback" not in done.stderr


def test_the_command_that_goes_on_can_be_pasted(journey, monkeypatch):
    from journey.stages.run import Stopped

    def fail(*arguments, **more):
        raise Stopped

    monkeypatch.setattr(life_verbs, "home", fail)
    said = journey("tree", "--workspace", "my texts #1/it's").err
    assert shlex.split(said.partition("`")[2].partition("`")[0]) == [
        "journey",
        "tree",
        "--workspace",
        "my texts #1/it's",
    ]


def test_a_fault_names_its_file_and_interrupts_do_not(journey, monkeypatch):
    class PanicException(BaseException):
        """As a library in Rust raises it."""

    for raised, code in ((PanicException("panicked"), 1), (JourneyError("bad"), 2)):

        def fail(*arguments, raised=raised, **more):
            raise raised

        monkeypatch.setattr(life_verbs, "home", fail)
        said = journey("tree")
        assert said.code == code and len(said.err.splitlines()) == 1
        if code == 1:
            Path(said.err.split()[-1]).unlink()
    assert set(cli.VERBS) - {"doctor"} <= {template[0] for template in READS.values()}
