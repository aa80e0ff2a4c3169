"""`journey tokenizer compare`: finds tokenizers and texts, measures, and shows it in a terminal and as a page."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from journey import runner
from journey.errors import JourneyError, nearest

if TYPE_CHECKING:
    from journey.tokenizer.foreign import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Options:
    """On what tokenizers are compared, and what is made of it."""

    on: tuple[str, ...] = ()
    """Files and folders of text or code, or xquad: the same paragraphs in 12 languages."""
    data: Path | None = None
    """Where the files of xquad are (default: under JOURNEY_DATA)."""
    text: str | None = None
    """A text, to be shown under all of them side by side."""
    html: Path | None = None
    """Write a page, too: one file."""
    pattern: Literal["gpt2", "llama3", "qwen2"] | None = None
    """How .tiktoken files split text, where their length does not tell."""


def compare(names: list[str], options: Options, home: Callable[[], Path]) -> dict[str, Any]:
    """Compare, print, and return what `--json` says: `metrics` and `more`. `home` finds the workspace, for nodes.

    Errors: JourneyError for a tokenizer or text that is not there, and for options that do not go together.
    """
    from journey.data import samples
    from journey.evaluate import vocabularies
    from journey.files import write_text
    from journey.report import vocabulary_lines
    from journey.report.vocabularies import page
    from journey.stages.run import metric

    if not (names and (options.on or options.text is not None)):
        raise JourneyError("name tokenizers and what to compare them on: --on FILES, --on xquad or --text TEXT")
    if options.html and not options.html.resolve().parent.is_dir():
        raise JourneyError(f"--html {options.html}: there is no folder {options.html.parent}")
    parallel = options.on == ("xquad",)
    if not parallel and ("xquad" in options.on or options.data):
        raise JourneyError("xquad is compared alone, and --data says where it is: --on xquad --data DIR")
    opened = open_all(names, options.pattern, home)
    found = samples.parallel(options.data) if parallel else samples.of_files(options.on)
    compared = vocabularies.compare(opened, found, parallel, lambda line: print(line, file=sys.stderr, flush=True))
    if options.text is not None:
        vocabulary_lines.show_text(opened, options.text)
    if found:
        print("\n".join(vocabulary_lines.lines(compared)))
    if options.html:
        write_text(options.html, page(compared, [] if options.text is None else [options.text]))
    numbers = {
        k: metric(e.value, e.unit, e.convention, *vocabularies.ends(e), e.n) for k, e in compared.metrics().items()
    }
    return {"metrics": numbers, "more": vocabulary_lines.pieces(opened, options.text)}


def open_all(names: list[str], pattern: str | None, home: Callable[[], Path]) -> list["Vocabulary"]:
    """The tokenizers of these names, under names short enough for the head of a column."""
    from journey.data import vocabularies
    from journey.tokenizer import foreign

    if twice := next((name for name in names if names.count(name) > 1), None):
        raise JourneyError(f'"{twice}" is named twice')
    labels = [vocabularies.label(name) for name in names]
    opened = []
    for name, label in zip(names, labels, strict=True):
        label = name if labels.count(label) > 1 else label
        known = vocabularies.foreign_vocabulary(name, label, pattern)
        opened.append(known or foreign.load(_node(name, home, vocabularies.NAMED), label))
    return opened


def _node(name: str, home: Callable[[], Path], named: Sequence[str]) -> Path:
    """The folder of a node; the error for a name that is no node's says which tokenizers there are."""
    try:
        place, nothing = home(), ""
        nodes = [entry["name"] for entry in runner.read_plan(place)["stages"]]
    except JourneyError as error:
        place, nothing, nodes = Path(), f"; {error}", []
    near = nearest(name, [*named, *nodes])
    if not nothing and not any(f'"{known}"' in near for known in named):
        return runner.find_node(name, place).path
    raise JourneyError(f'no tokenizer "{name}"{near} (known: {", ".join(named)}, a path, or a node{nothing})')
