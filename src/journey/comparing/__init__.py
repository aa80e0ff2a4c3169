"""`journey tokenizer compare`: finds tokenizers and texts, measures, and shows it in a terminal and as a page."""

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from journey import runner
from journey.checkpoint import LINEAGE, Node, made_nodes, open_node, open_tokenizer
from journey.console import clock
from journey.errors import JourneyError, nearest

if TYPE_CHECKING:
    from journey.data.corpus import Corpus
    from journey.tokenizer.foreign import Vocabulary
    from journey.tokenizer.partners import Partner

PARTNERS = "partners"  # the folder beside a workspace's nodes where trained partners are kept
MOST_BYTES = 20_000_000  # of text that a partner learns from: EM goes over all of it again and again
Say = Callable[[str], None]


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
    partners: tuple[Literal["unigram", "sentencepiece"], ...] = ()
    """Train these, too: as large as the first tokenizer, a node, and on the text that it learned from."""


def compare(names: list[str], options: Options, home: Callable[[], Path]) -> dict[str, Any]:
    """Compare, print, and return what `--json` says: `metrics` and `more`. `home` finds the workspace, for nodes.

    Errors: JourneyError for a tokenizer or text that is not there, and for options that do not go together.
    """
    from journey.comparing import counts
    from journey.comparing.lines import lines, pieces, show_text
    from journey.comparing.page import page
    from journey.data import samples
    from journey.files import write_text
    from journey.metrics import metric

    if not (names and (options.on or options.text is not None)):
        raise JourneyError("name tokenizers and what to compare them on: --on FILES, --on xquad or --text TEXT")
    if options.html and not options.html.resolve().parent.is_dir():
        raise JourneyError(f"--html {options.html}: there is no folder {options.html.parent}")
    parallel = options.on == ("xquad",)
    if not parallel and ("xquad" in options.on or options.data):
        raise JourneyError("xquad is compared alone, and --data says where it is: --on xquad --data DIR")
    found = samples.parallel(options.data) if parallel else samples.of_files(options.on)
    opened = open_all([*names, *options.partners], options, home)
    trained, note = train_partners(names[0], options.partners, home, _say) if options.partners else ([], "")
    opened += trained
    compared = counts.compare(opened, found, parallel, _say)
    if options.text is not None:
        show_text(opened, options.text)
    if found:
        print("\n".join(lines(compared)))
    if note:
        print(f"\n{note}")
    if options.html:
        write_text(options.html, page(compared, [] if options.text is None else [options.text], note))
    about = {"partners": note} if note else {}
    numbers = {k: metric(e.value, e.unit, e.convention, *counts.ends(e), e.n) for k, e in compared.metrics().items()}
    return {"metrics": numbers, "more": pieces(opened, options.text) | about}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def open_all(names: list[str], options: Options, home: Callable[[], Path]) -> list["Vocabulary"]:
    """The tokenizers of these names, under names short enough for the head of a column; partners are not opened."""
    from journey.data import vocabularies
    from journey.tokenizer import foreign

    if twice := next((name for name in names if names.count(name) > 1), None):
        raise JourneyError(f'"{twice}" is named twice')
    labels = [vocabularies.label(name) for name in names]
    opened = []
    for name, label in zip(names, labels, strict=True):
        if name in options.partners:
            continue
        label = name if labels.count(label) > 1 else label
        known = vocabularies.foreign_vocabulary(name, label, options.pattern)
        opened.append(known or foreign.load(_node(name, home, vocabularies.NAMED).path, label))
    return opened


def train_partners(
    name: str, partners: Sequence["Partner"], home: Callable[[], Path], say: Say
) -> tuple[list["Vocabulary"], str]:
    """Partners of the tokenizer of this name, trained or as they were kept, and a line that says on what.

    Errors: JourneyError for a tokenizer that is no node, or whose text is gone, and for a library that is missing.
    """
    from journey.data.corpus import Corpus
    from journey.files import digest, write_bytes
    from journey.lineage import source_version
    from journey.tokenizer import foreign
    from journey.tokenizer import partners as training

    node = _own(name, home)
    text = _text_of(node)
    corpus, mine = Corpus(text.path), open_tokenizer(node.path)
    n_bytes = corpus.facts["splits"]["train"]["bytes"]
    some = f"about {MOST_BYTES / 1e6:,.0f} MB, in random documents, of " if n_bytes > MOST_BYTES else ""
    learned = f"{some}the {n_bytes / 1e6:,.1f} MB of {text.name} that {node.name} learned from"
    folder = (node.path.parent.parent if node.path.parent.name == "nodes" else node.path.parent) / PARTNERS
    by = training.library()
    opened, texts = [], list[str]()
    for partner in partners:
        made_of = [text.id, MOST_BYTES, mine.vocab_size, mine.pattern, by, source_version(training.__name__)]
        file = folder / f"{partner}-{digest(made_of)[:16]}{training.ENDINGS[partner]}"
        if file.exists():
            say(f"{partner}: as trained before ({file})")
        else:
            say(f"{partner}: {by} learns {mine.vocab_size:,} entries from {learned}")
            begun = time.monotonic()
            texts = texts or _training_texts(corpus, n_bytes)
            data = training.train(partner, texts, mine.vocab_size, mine.pattern)
            folder.mkdir(exist_ok=True)
            write_bytes(file, data)
            say(f"{partner}: trained in {clock(time.monotonic() - begun)}, kept as {file}")
        opened.append(foreign.load(file, partner))
    return opened, f"{' and '.join(partners)}: {mine.vocab_size:,} entries learned from {learned}."


def _training_texts(corpus: "Corpus", n_bytes: int) -> list[str]:
    """The training split, or where that is long documents of it drawn at random: each time the same ones."""
    rng = random.Random(0)
    return [text for text in corpus.stream("train") if n_bytes <= MOST_BYTES or rng.random() < MOST_BYTES / n_bytes]


def _own(name: str, home: Callable[[], Path]) -> Node:
    """The tokenizer node that a name means, or that the model of this name was made from."""
    from journey.data import vocabularies

    folder = Path(name).expanduser()
    if name not in vocabularies.NAMED and (not folder.exists() or (folder / LINEAGE).exists()):
        node = open_node(folder) if folder.exists() else _node(name, home, vocabularies.NAMED)
        if made := next((other for other in runner.ancestors(node) if other.stage == "tokenizer"), None):
            return made
    raise JourneyError(
        f'"{name}" was not trained by journey, so there is no text to train --partners on: name a tokenizer node first'
    )


def _text_of(node: Node) -> Node:
    """The text that a tokenizer learned from: beside it, or where its config names a text's folder."""
    said = node.lineage["data"]["data"]
    named = Path(node.lineage["config"]["data"])
    beside = made_nodes(node.path.parent)
    for other in [*beside, *([open_node(named)] if (named / LINEAGE).exists() else [])]:
        if other.id == said["id"]:
            return other
    raise JourneyError(
        f'the text that "{node.name}" learned from ({said["name"]}-{said["id"][:10]}) no longer stands beside it in '
        f"{node.path.parent}: make it again there, as it was made, to train --partners on it"
    )


def _node(name: str, home: Callable[[], Path], named: Sequence[str]) -> Node:
    """The node of a name or path; the error for a name that is no node's says which tokenizers there are."""
    try:
        place, nothing = home(), ""
        nodes = [entry["name"] for entry in runner.read_plan(place)["stages"]]
    except JourneyError as error:
        place, nothing, nodes = Path(), f"; {error}", []
    near = nearest(name, [*named, *nodes])
    if not nothing and not any(f'"{known}"' in near for known in named):
        return runner.find_node(name, place)
    raise JourneyError(f'no tokenizer "{name}"{near} (known: {", ".join(named)}, a path, or a node{nothing})')
