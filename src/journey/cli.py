"""`journey`: finds the verb, reads its arguments, and turns every failure that a user can meet into one line.

The verbs are in `verbs/`, imported only when one is called: `journey --help` answers in a fraction of a second.
"""

import errno
import functools
import importlib
import inspect
import io
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from journey import fields, machine
from journey.errors import JourneyError, nearest
from journey.stages import STAGES

if TYPE_CHECKING:
    from journey.verbs.common import Result

# verb -> the module of `verbs/` that it is in, and its line in `journey --help`; those of stages follow below
VERBS = {
    "run": ("life", "run a recipe: what has not changed is skipped, a killed run goes on"),
    "watch": ("watch", "a training live, from another window: loss, rates, speed, MFU, norms by layer"),
    "tree": ("life", "draw the lineage of this workspace"),
    "verify": ("life", "compare every file of every node with the hash that it was made with"),
    "report": ("life", "write the page that shows what each stage changed"),
    "eval": ("measured", "show what was measured at a node, each number with its interval"),
    "diff": ("measured", "what changed from one node to another, each effect with its interval"),
    "sweep": ("sweep", "run a recipe over lists of values and several seeds, and compare"),
    "plan": ("plan", "what to train with so many FLOPs, by a scaling law"),
    "generate": ("talk", "continue a text"),
    "chat": ("talk", "talk with a node"),
    "ask": ("talk", "answer a question from an index, and show the sources"),
    "bench": ("bench", "how fast, large and good a model is in each runtime and precision"),
    "doctor": ("measured", "versions, machine, a numerical self-check, what is missing"),
}
_LONGEST_PATH, _LONGEST_LINE = 100, 1000  # characters of a path that the system refuses, and of an error
_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}  # in the name of a file, say
# Verbs of two words: the second -> the stage that it is, or nothing where it is a function.
SECOND = {"tokenizer": {"train": "tokenizer", "explain": "", "compare": ""}, "data": {"prepare": "prepare", "show": ""}}


def _verb_of(stage: str, line: str) -> tuple[str, tuple[str, str]]:
    """The verb of a stage, as it stands in VERBS."""
    for verb, seconds in SECOND.items():
        if stage in seconds.values():
            own = next(second for second, of in seconds.items() if of == stage)
            others = [second for second, of in seconds.items() if not of]
            said = f"stage: {line} ({verb} {own})" + (f"; {', '.join(others)}" if others else "")
            return verb, (verb if others else "stage", said)
    return stage, ("stage", f"stage: {line}")


VERBS |= dict(_verb_of(*stage) for stage in STAGES.items())


def entry() -> None:
    """The installed command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an ASCII terminal, and the name of a file that is not UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # `journey --help | head -1`: what is left to write goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def main(arguments: list[str]) -> int:
    """Run one command line. Returns 0, 1 when the work stopped or failed, 2 when the input was bad."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        import importlib.metadata

        print("journey", importlib.metadata.version("journey-gpt"))
        return 0
    verb, *rest = arguments
    as_json = "--json" in rest
    result = _call(verb, [a for a in rest if a != "--json"], as_json)
    if isinstance(result, int):
        return result
    if result.error:
        print(f"journey {verb}: {result.error}", file=sys.stderr)
    if as_json:
        print(result.json(verb, sys.stdout.encoding or "utf-8"))
    if result.ok:
        return 0
    return 2 if result.bad_input else 1


def _call(verb: str, rest: list[str], as_json: bool) -> "Result | int":
    from journey.stages.run import Stopped
    from journey.verbs.common import Result

    def failed(message: str, bad_input: bool = False) -> Result:
        return Result(ok=False, error=_a_line(message), bad_input=bad_input)

    try:
        if verb not in VERBS:
            raise JourneyError(f"unknown verb{nearest(verb, VERBS)} (see `journey --help`)")
        with _stdout_for_people(as_json):
            return _parse(verb, rest)
    except SystemExit as exit:  # tyro printed a help page or a complaint about the arguments
        if exit.code and as_json:
            return failed("the arguments do not fit: see --help", bad_input=True)
        return int(exit.code or 0)
    except JourneyError as error:
        return failed(str(error), bad_input=True)
    except Stopped:
        return failed(f"stopped, and all work is saved: `{shlex.join(['journey', verb, *rest])}` goes on from here")
    except KeyboardInterrupt:
        return failed("stopped at once: the same command goes on from the last saved state")
    except BrokenPipeError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of a library in Rust
            raise
        if _is_full_disk(error):
            return failed("the disk is full: free some space, and the same command goes on", bad_input=True)
        if machine.is_out_of_memory(error):
            return failed("there is not enough memory for this: ask for less, or free some", bad_input=True)
        if isinstance(error, OSError) and error.errno:
            return failed(_refused_by_system(error), bad_input=True)
        return failed(_our_fault(error))


def _a_line(message: str) -> str:
    """What is said of bad input, whatever names and values of it stand in that: one line, and no long one."""
    said = message.translate(_ESCAPED)
    return said if len(said) <= _LONGEST_LINE else f"{said[: _LONGEST_LINE // 2]} … {said[-_LONGEST_LINE // 2 :]}"


def _refused_by_system(error: OSError) -> str:
    """A path that the system does not take, in a line."""
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    named = f"{path[:_LONGEST_PATH]}…" if len(path) > _LONGEST_PATH else path
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"not allowed to read or write {named}: choose another place"
    return f"{named or 'a file'}: {os.strerror(error.errno or 0).lower()}: give another path"


def _our_fault(error: BaseException) -> str:
    """A mistake of ours, in a line too; where it happened is kept in a file, to be reported with it."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", prefix="journey-fault-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    said = str(error).partition("\n")[0]
    return f"a fault of Journey's own ({type(error).__name__}: {said[:200]}): please report it with {file.name}"


def _is_full_disk(error: BaseException) -> bool:
    """Also where a library written in Rust met it: safetensors' error has no number, it says `(os error 28)`."""
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return getattr(error, "errno", None) in numbers or any(f"(os error {n})" in str(error) for n in numbers)


@contextmanager
def _stdout_for_people(as_json: bool) -> Iterator[None]:
    """With --json, stdout carries the object alone; what is for people goes to stderr."""
    stdout = sys.stdout
    if as_json:
        sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = stdout


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {line}" for verb, (_, line) in VERBS.items()]
    return "\n".join(
        [
            "journey: a GPT-2-class model through its whole life, and what each stage changed",
            "",
            *lines,
            "",
            "A NODE is a stage's name, the beginning of an id, or a folder. Every verb has --help and --json.",
            "",
            "  journey run                         the pocket life, on text that is on this machine",
            "  journey run --dry-run               what that would do, how long, how much disk",
            "  journey run --set stages.base.data=my-texts/",
            '  journey generate base "numpy.mean(a, axis=None)"',
            "  journey chat chat",
            '  journey ask "What does numpy.mean do?"',
            "  journey import ckpt.pt --out mine   a GPT-2 of your own; `journey run my-gpt2` goes on from it",
        ]
    )


def _parse(verb: str, rest: list[str]) -> "Result":
    import tyro

    words = [verb]
    if verb in SECOND:
        first = next(iter(SECOND[verb]))
        if rest[:1] in (["-h"], ["--help"]):
            words.append(first)
        elif rest and rest[0] in SECOND[verb]:
            words.append(rest[0])
            rest = rest[1:]
        else:
            known = "|".join(SECOND[verb])
            raise JourneyError(f"say what to do with it: `journey {verb} {known} …`, each with --help")
    function, stage = function_of(*words)
    if stage and rest and not rest[0].startswith("-"):
        rest = ["--path" if verb == "import" else "--parent", *rest]  # `journey quantize NODE`, `journey import PATH`
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_number)
    return tyro.cli(
        _checked(function),
        prog=" ".join(["journey", *words]),
        args=rest,
        description=_manual(function),
        registry=registry,
    )


def _number(info: Any) -> Any:
    """How tyro reads a number: as a recipe does, so that 1e6 is a million tokens here too."""
    import tyro

    if info.type not in (int, float):
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=info.type.__name__.upper(),
        instance_from_str=lambda texts: fields.fit(texts[0], info.type),
        is_instance=lambda value: isinstance(value, info.type),
        str_from_instance=lambda value: [str(value)],
    )


def _checked(function: Callable[..., "Result"]) -> Callable[..., "Result"]:
    """The function of a verb, which refuses numbers outside the ranges that it declares."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> "Result":
        fields.check(inspect.signature(function).bind(*arguments, **named).arguments, function)
        return function(*arguments, **named)

    return call


def function_of(verb: str, second: str = "") -> tuple[Callable[..., "Result"], str]:
    """What a verb calls, and the stage that it is, if it is one."""
    module, _ = VERBS[verb]
    if name := SECOND.get(verb, {}).get(second, verb if module == "stage" else ""):
        from journey.verbs.stage import stage_verb

        return stage_verb(name), name
    return getattr(importlib.import_module(f"journey.verbs.{module}"), second or verb), ""


def _manual(function: Callable[..., Any]) -> str:
    """The docstring, each line a paragraph: else its examples would be filled into one."""
    lines = (inspect.getdoc(function) or "").splitlines()
    lines.append("--json: the result as one JSON object, on the last line of stdout.")
    return "\n\n".join(line for line in lines if line)
