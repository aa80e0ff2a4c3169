"""The verb beside `journey data prepare`: instruction data as a model will see it."""

import itertools
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro
from tyro.conf import FlagCreatePairsOff, Positional

from journey import runner
from journey.errors import JourneyError
from journey.fields import Amount, Count, Seed
from journey.verbs.common import Result, Workspace, check_page, home
from journey.verbs.tokenizer import open_tokenizer

if TYPE_CHECKING:
    from journey.checkpoint import Node
    from journey.data.rows import Say


def show(
    data: Annotated[Positional[str], tyro.conf.arg(metavar="DATA")],
    /,
    model: Annotated[
        str | None,
        tyro.conf.arg(metavar="NODE", help="whose tokens and context (default: the journey's tokenizer, else GPT-2's)"),
    ] = None,
    examples: Annotated[Amount, tyro.conf.arg(aliases=["-n"], help="how many, drawn at random")] = 3,
    ids: Annotated[bool, FlagCreatePairsOff, tyro.conf.arg(help="each token's id below it")] = False,
    stats: Annotated[bool, FlagCreatePairsOff, tyro.conf.arg(help="lengths, languages, repetitions of all")] = False,
    max_length: Annotated[Count | None, tyro.conf.arg(help="longest in tokens (default: the model's context)")] = None,
    strict: Annotated[
        bool, FlagCreatePairsOff, tyro.conf.arg(help="refuse a file with a row that is not right")
    ] = False,
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help="also as a page: one file, no network")] = None,
    seed: Seed = 0,
    workspace: Workspace = None,
) -> Result:
    """Show conversations or preferences exactly as training will see them: tokens, what is trained on, what was cut.

    DATA is what sft or dpo take: a file, a set's name (dolly-15k, oasst1:en, hh-rlhf), a text with questions, pairs.

    journey data show dolly-15k.jsonl.gz --model base
    journey data show oasst1:en --stats -n 0
    journey data show pairs.jsonl --model chat --ids --html pairs.html
    """
    import numpy as np
    from rich.console import Console

    from journey.files import write_text
    from journey.showing import examples as made
    from journey.showing import lines, page, summary

    check_page(html)
    name, tokenizer, limit = _opened(model, max_length, workspace)
    terminal = Console(highlight=False)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        terminal.print(line, markup=False, soft_wrap=True)

    found = _read(data, workspace, strict, say)
    if limit:
        say(f"{name}: {tokenizer.vocab_size:,} tokens, at most {limit:,} in a row")
    longest = limit or sys.maxsize

    def example(one: Any) -> made.Example:
        of = made.of_pair if found.pairs else made.of_conversation
        return of(one, tokenizer, longest)

    drawn = np.random.default_rng((seed, 5)).permutation(len(found.items))[:examples]
    shown = [example(found.items[i]) for i in sorted(drawn)]
    colour = bool(terminal.color_system)
    for number, one in enumerate(shown, 1):
        terminal.print(f"\n{lines.heading(number, len(shown), one)}", style="bold", markup=False, soft_wrap=True)
        for line in lines.drawn(one, tokenizer, colour, ids, terminal.width):
            terminal.print(line, soft_wrap=True)
    if shown:
        terminal.print(lines.legend(found.pairs, colour), soft_wrap=True)
    counted = summary.summarize(map(example, found.items), limit, found.left_out) if stats else None
    what = "preferences" if found.pairs else "conversations"
    for text in lines.summary(counted, what) if counted else ():
        terminal.print(text, markup=False, soft_wrap=True)
    if html:
        write_text(html, page.page(data, what, shown, tokenizer, name, ids, said, counted))
        print(f"page: {html}", file=sys.stderr)
    more = {"data": data, "tokenizer": name, "examples": [made.as_json(one, tokenizer) for one in shown]}
    more |= summary.as_json(counted) if counted else {}
    return Result(path=html, metrics=summary.metrics(counted) if counted else {}, more=more)


class _Found(NamedTuple):
    """Placed conversations, or pairs, and how many rows could not be used for which reason."""

    items: Sequence[Any]
    left_out: Counter[str]
    pairs: bool = False


def _opened(model: str | None, max_length: int | None, workspace: Path | None) -> tuple[str, Any, int | None]:
    """What the tokenizer is called, the tokenizer with the marks of a chat, and the most tokens of a row, if there is a
    limit."""
    if model is None:
        name, tokenizer = open_tokenizer(None, workspace, "give --model NODE,")
        return name, tokenizer.with_chat_tokens(), max_length
    from journey import checkpoint
    from journey.model.huggingface import load_config
    from journey.train.trl import longest

    node = runner.find_node(model, home(workspace, must=False))
    tokenizer = checkpoint.open_tokenizer(node.path).with_chat_tokens()
    context = load_config(node.path).n_ctx if (node.path / "config.json").exists() else None
    return node.name, tokenizer, longest(max_length, context) if context else max_length


def _read(data: str, workspace: Path | None, strict: bool, say: "Say") -> _Found:
    """The rows that DATA names: files, a node, or a source of text."""
    from journey.data import conversations, instructions, preferences

    if instructions.named(data) is not None:
        if _holds_pairs(data):
            pairs, left_out = preferences.placed(data, strict, say)
            return _Found(pairs, left_out, pairs=True)
        found, left_out = conversations.placed(data, strict, say)
        return _Found(found, left_out)
    node = _node(data, workspace)
    if node is not None and (file := node.path / "pairs-train.jsonl").exists():
        of = f"{node.name}, {file.name}"
        made = [
            preferences.Placed(pair, f"{of}, line {i}", of, "") for i, pair in enumerate(preferences.saved(file), 1)
        ]
        say(f"{of}: {len(made):,} preferences")
        return _Found(made, Counter(), pairs=True)
    if node is not None:
        return _questions(node, say)
    with tempfile.TemporaryDirectory() as folder:
        return _questions(_made(data, Path(folder)), say)


def _holds_pairs(data: str) -> bool:
    """Whether the first row is of preferences."""
    from journey.data import instructions
    from journey.data.openassistant import gathered
    from journey.data.rows import Unusable, records
    from journey.data.schemas import columns, is_preference

    (path, *_), _ = instructions.named(data) or ((data,), "")
    for _, record in itertools.islice(gathered(records(Path(path))), 100):
        try:
            return is_preference(columns(record, path))
        except Unusable:
            continue
    return False


def _node(data: str, workspace: Path | None) -> "Node | None":
    """The node that DATA names, or the text of the journey that was made of this source."""
    from journey.checkpoint import LINEAGE, open_node
    from journey.stages.inputs import source_of

    if (Path(data) / LINEAGE).exists():
        return open_node(data)
    place = home(workspace, must=False)
    if not (place / runner.PLAN).exists():
        return None
    if node := runner.stage_node(data, place):
        return node
    texts = (node for node in runner.texts(place) if node.lineage["config"].get("source") == source_of(data))
    return next(texts, None)


def _made(data: str, folder: Path) -> "Node":
    from journey.console import make_console
    from journey.stages.inputs import source_of
    from journey.stages.run import text_of

    return text_of(source_of(data), folder, 0, make_console())


def _questions(node: "Node", say: "Callable[[str], None]") -> _Found:
    """The questions of a text's training split, both ways in which sft asks them."""
    from journey.data.conversations import Placed, question_both_ways
    from journey.data.corpus import Corpus

    if not (node.path / "corpus.json").exists():
        raise JourneyError(f"{node.path} is a {node.stage} node: give conversations, preferences, or a text")
    of = f"questions of {node.name}"
    found = [Placed(messages, "", of, "") for messages in question_both_ways(Corpus(node.path).questions("train"))]
    if not found:
        raise JourneyError(f"{node.name} has no questions: give documentation, or a file of conversations")
    say(f"{of}: each with its passage and without: {len(found):,} conversations")
    return _Found(found, Counter())
