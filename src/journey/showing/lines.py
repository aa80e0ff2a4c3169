"""Examples and numbers for a terminal: tokens in colour where it has some, else marks around what is trained on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from journey.report.format import columns
from journey.showing.examples import Example, Part, Token, tokens, turns
from journey.showing.summary import Summary

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

# Two shades in turn, so that a token is told from its neighbour.
READ = ("grey62 on grey11", "grey62 on grey23")
TRAINED = ("bold black on bright_green", "bold black on green3")
REJECTED = ("bold black on bright_red", "bold black on red3")
SPECIAL, SPECIAL_TRAINED = "bold bright_magenta", "bold white on dark_green"
OPEN, CLOSE = "⟦", "⟧"
BAR = 40  # characters of the longest bar


def heading(number: int, of: int, example: Example) -> str:
    """What stands above an example."""
    said = [f"example {number} of {of}"] + ([example.where] if example.where else [])
    roles = ", ".join(message["role"] for message in example.messages)
    said += [roles, f"{example.trained:,} of {example.tokens:,} tokens trained on"]
    if example.left_out:
        said.append(f"LEFT OUT, {example.left_out}: {example.length:,} tokens")
    elif example.cut:
        said.append(f"shortened from {example.length:,} tokens: {example.cut}")
    return " · ".join(said)


def drawn(example: Example, tokenizer: "Tokenizer", colour: bool, ids: bool, width: int) -> Iterator[Text]:
    """An example's tokens, a line for each message; with `ids` the ids stand below, in lines of `width` cells."""
    for part in example.parts:
        if part.name:
            yield Text(f"{part.name}:", "bold")
        for line in turns(tokens(part, tokenizer)):
            yield from _grid(line, part, colour, width) if ids else [_line(line, part, colour)]


def _style(token: Token, number: int, part: Part) -> str:
    if token.special:
        return SPECIAL_TRAINED if token.trained else SPECIAL
    shades = READ if not token.trained else REJECTED if part.name == "rejected" else TRAINED
    return shades[number % 2]


def _line(line: Sequence[Token], part: Part, colour: bool) -> Text:
    if colour:
        return Text.assemble(*((token.text, _style(token, i, part)) for i, token in enumerate(line)))
    read = "".join(token.text for token in line if not token.trained)
    trained = "".join(token.text for token in line if token.trained)  # the rest of a message: its answer and its end
    return Text(f"{read}{OPEN}{trained}{CLOSE}" if trained else read)


def _grid(line: Sequence[Token], part: Part, colour: bool, width: int) -> Iterator[Text]:
    above, below, used = Text(), Text(), 0
    for i, token in enumerate(line):
        said = f"{OPEN}{token.text}{CLOSE}" if token.trained and not colour else token.text
        wide = max(cell_len(said), len(str(token.id)))
        if used and used + wide > width:
            yield from (above, below)
            above, below, used = Text(), Text(), 0
        above.append(said, _style(token, i, part) if colour else "")
        above.append(" " * (wide - cell_len(said) + 1))
        below.append(f"{token.id:<{wide}} ", "dim" if colour else "")
        used += wide + 1
    yield from (above, below)


def legend(pairs: bool, colour: bool) -> Text:
    """What colours or marks mean."""
    if not colour:
        return Text(f"{OPEN}…{CLOSE} is trained on; the rest is read only")
    said = {"trained on": TRAINED[0], "read only": READ[1], "special": SPECIAL} | (
        {"rejected": REJECTED[0]} if pairs else {}
    )
    return Text("  ").join(Text(name, style) for name, style in said.items())


def summary(found: Summary, what: str) -> Iterator[str]:
    """The numbers, as lines of plain text."""
    lengths = ", ".join(f"{name} {n:,}" for name, n in found.quantiles().items())
    yield f"{found.n:,} {what}; tokens: {lengths}"
    for low, high, n in found.histogram():
        bar = "█" * -(-BAR * n // max(count for _, _, count in found.histogram()))
        yield f"  {f'{low:,}–{high:,}':>15}  {bar:<{BAR}} {n:,} ({n / found.n:.1%})"
    whole = found.n - found.unfit.total() - found.shortened
    context = f"the context of {found.limit:,}" if found.limit else "no limit"
    yield f"{context}: {_share(whole, found.n)} fit, {_share(found.shortened, found.n)} are shortened" + "".join(
        f", {_share(n, found.n)} left out ({why})" for why, n in found.unfit.items()
    )
    if found.tokens:
        yield f"trained on: {found.trained:,} of {found.tokens:,} tokens ({found.trained / found.tokens:.1%})"
    again = f"{_share(found.duplicates, found.n)} equal another, {_share(found.repeated, found.n)} ask the same first"
    yield f"repeated: {again}"
    yield from columns(
        "turns of the user", ["rows"], [[str(n), f"{count:,}"] for n, count in sorted(found.turns.items())]
    )
    by = "as the rows say" if found.told == found.n else "by script and commonest words"
    if 0 < found.told < found.n:
        by = f"{found.told:,} as the rows say, the others by script and commonest words"
    yield from _counts(f"languages ({by})", found.languages)
    yield from _counts("schemas", found.schemas)
    if found.left_out:
        yield from _counts("rows that cannot be read", found.left_out)


def _share(n: int, of: int) -> str:
    return f"{n:,} ({n / of:.1%})"


def _counts(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    most = sorted(counts.items(), key=lambda item: -item[1])
    rest = sum(n for _, n in most[12:])
    rows = [[name, f"{n:,}"] for name, n in most[:12]] + ([["others", f"{rest:,}"]] if rest else [])
    return columns(title, ["rows"], rows)
