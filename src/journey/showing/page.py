"""Examples and numbers as a page that needs no network and no script."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from journey.report.blocks import Block, Facts, Heading, Page, Pieces, Prose, Section, Table, Text
from journey.report.render import render
from journey.showing.examples import Example, tokens, turns
from journey.showing.lines import heading
from journey.showing.summary import Summary

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

SIGNS = "A coloured token is trained on, a pale one is read only. ␣ at an edge is a space, `\\n` a line's end."


def page(
    data: str,
    what: str,
    examples: Sequence[Example],
    tokenizer: "Tokenizer",
    model: str,
    ids: bool,
    said: Sequence[str],
    summary: Summary | None,
) -> str:
    """The HTML of `journey data show`: `said` are the lines about what was read, `model` says whose tokens it has."""
    sections = [Section("read", "What was read", [Text(line, "caption") for line in said])]
    if summary:
        sections.append(Section("numbers", "All of them", _numbers(summary)))
    shown: list[Block] = []
    for number, example in enumerate(examples, 1):
        shown.append(Heading(heading(number, len(examples), example)))
        for part in example.parts:
            if part.name:
                shown.append(Text(part.name, "caption"))
            for line in turns(tokens(part, tokenizer)):
                tones = [_tone(token.trained, token.special, part.name) for token in line]
                numbers = [str(token.id) for token in line]
                pieces = [token.text for token in line]
                shown.append(Pieces(pieces, titles=numbers, notes=numbers if ids else (), tones=tones))
    if shown:
        sections.append(Section("examples", "As the model sees them", shown))
    return render(
        Page(
            title=f"{data}: as the model sees it",
            heading=data,
            kicker=f"Tokens: {model}",
            lede=f"{summary.n:,} {what}." if summary else f"{len(examples)} {what}.",
            sections=sections,
            made_by="journey data show",
            footer=Prose(SIGNS),
        )
    )


def _tone(trained: bool, special: bool, part: str) -> str:
    said = "rejected" if trained and part == "rejected" else "trained" if trained else "read"
    return f"{said} special" if special else said


def _numbers(found: Summary) -> list[Block]:
    share = f"{found.trained / found.tokens:.1%} of {found.tokens:,} tokens" if found.tokens else "–"
    whole = found.n - found.unfit.total() - found.shortened
    facts = {f"tokens, {name}": f"{n:,}" for name, n in found.quantiles().items()}
    facts |= {"fit": f"{whole:,}", "shortened": f"{found.shortened:,}"}
    facts |= {why: f"{n:,}" for why, n in found.unfit.items()}
    facts |= {
        "trained on": share,
        "equal another": f"{found.duplicates:,}",
        "ask the same first": f"{found.repeated:,}",
    }
    counts = {
        "Turns of the user": {str(n): count for n, count in sorted(found.turns.items())},
        "Languages": dict(found.languages.most_common(12)),
        "Schemas": dict(found.schemas.most_common()),
        "Rows that cannot be read": dict(found.left_out),
    }
    lengths = [[f"{low:,}–{high:,}", f"{n:,}"] for low, high, n in found.histogram()]
    return [
        Facts(list(facts.items())),
        Table("Tokens of a row", ["tokens", "rows"], lengths),
        *(
            Table(title, ["", "rows"], [[name, f"{n:,}"] for name, n in rows.items()])
            for title, rows in counts.items()
            if rows
        ),
    ]
