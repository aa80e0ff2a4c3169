"""The verbs beside `journey tokenizer train`: how a text becomes ids, and what other tokenizers make of it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from journey import comparing, runner
from journey.verbs.common import Result, Workspace, check_page, home


def open_tokenizer(name: str | None, workspace: Path | None, ask: str = "give --tokenizer,") -> tuple[str, Any]:
    """What it is called, and the tokenizer: of a node or a path, GPT-2's for "gpt2".

    Without a name the journey's own, and GPT-2's where there is no journey. Errors: JourneyError when there is none;
    `ask` is how it is given then.
    """
    from journey.data import vocabularies
    from journey.tokenizer.formats import Tokenizer

    place = home(workspace, must=False)
    if name and Path(name).exists():
        return name, vocabularies.find(None, name)[0]
    if name == "gpt2" or (not name and not (place / runner.PLAN).exists()):
        tokenizer, where = vocabularies.find(None, ask=ask)
        return f"GPT-2 ({where})", tokenizer
    node = runner.find_node(name or runner.last("tokenizer", place), place)
    return node.name, Tokenizer.load(node.path)


def explain(
    text: Annotated[Positional[str], tyro.conf.arg(metavar="TEXT")],
    /,
    tokenizer: Annotated[
        str | None,
        tyro.conf.arg(metavar="NODE|PATH", help="whose; gpt2 is GPT-2's (default: the journey's, without one GPT-2's)"),
    ] = None,
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help="also as a page: one file, no network")] = None,
    workspace: Workspace = None,
) -> Result:
    """Show how a text becomes ids: cut into words, then each merge as it happens.

    journey tokenizer explain "tokenization"
    journey tokenizer explain "naïve 👩‍👩‍👧" --tokenizer gpt2 --html naive.html
    """
    from rich.console import Console

    from journey.files import write_text
    from journey.tokenizer import explain as merges

    name, opened = open_tokenizer(tokenizer, workspace)
    check_page(html)
    words = merges.explain(text, opened)
    note = merges.spelled_specials(text, opened)
    terminal = Console(highlight=False)
    terminal.print(f"{name}: {opened.pattern} pattern, {opened.vocab_size:,} tokens", markup=False, soft_wrap=True)
    for line in [*merges.draw(words), *filter(None, [note])]:
        terminal.print(line, markup=False, soft_wrap=True)
    if html:
        from journey.verbs import explained

        write_text(html, explained.page(words, name, opened.pattern, note))
        print(f"page: {html}", file=sys.stderr)
    return Result(path=html, more={"text": text, "tokenizer": name, **merges.as_json(words)})


def compare(
    names: Annotated[Positional[list[str]], tyro.conf.arg(metavar="TOKENIZER")],
    /,
    options: OmitArgPrefixes[comparing.Options],
    workspace: Workspace = None,
) -> Result:
    """Compare tokenizers on the same texts: nodes, gpt2, mistral-spm, tekken, llama3, or any tokenizer's file.

    journey tokenizer compare gpt2 mistral-spm tekken --on xquad --html tokenizers.html
    journey tokenizer compare tokenizer gpt2 --on my-texts/ my-code/
    journey tokenizer compare gpt2 my/tokenizer.json --text "naïve 12345"
    journey tokenizer compare tokenizer --partners unigram sentencepiece --on my-texts/
    """
    found = comparing.compare(names, options, lambda: home(workspace))
    return Result(path=options.html, **found)
