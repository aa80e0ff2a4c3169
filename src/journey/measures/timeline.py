"""How one question was answered: the search, the prompt read at once, and a token a step, to the scale of time."""

from collections.abc import Mapping
from statistics import median
from typing import TypedDict, cast

from journey.measure import Bench, NoSettings, Seen, measure
from journey.report.blocks import Block, Box, Cell, Fold, Lanes, Pieces, Points, Prose, Row, Table, TableRow, Text
from journey.report.format import bytes_, number, si
from journey.scores import JSON, Taken

SEARCH, PREFILL, DECODE = 4, 0, 1  # colours
ARITHMETIC, MEMORY, CACHE = "arithmetic, GFLOP/s", "memory, GB/s", "key/value cache after each pass, kB"


class Pass(TypedDict):
    """One pass through the model; `text` is the token that it wrote."""

    ms: float
    flops: float
    bytes: float
    cache_bytes: float
    tokens: int
    text: str


@measure(
    of="index",
    title="How it answered",
    why="One question of this run, from the search to the last token, to the scale of time. Reading the prompt "
    "(*prefill*) and writing the answer (*decode*) are two kinds of work: a prompt is known as a whole, "
    "so all of it goes through the model at once; each new token has to wait for the one before.",
    reads=("questions", "parent"),
    version=1,
    first=True,
)
def timeline(bench: Bench, config: NoSettings) -> Taken:
    """One held-out question, answered and timed pass by pass."""
    from journey.infer.timeline import timeline as timed
    from journey.lineage import surroundings
    from journey.retrieve import evaluate
    from journey.retrieve.answer import ask
    from journey.retrieve.index import Index

    if not bench.questions or bench.before is None:
        return Taken()
    model, tokenizer = bench.before
    question = next((q for q in bench.questions if q.named), bench.questions[0]).question
    limit = evaluate.new_tokens(model)
    index = Index(bench.node.path, model, tokenizer)
    ask(question, index, model, tokenizer, max_new_tokens=limit)  # a first search also reads the files
    reply = ask(question, index, model, tokenizer, max_new_tokens=limit)
    answered = timed(model, tokenizer, reply.prompt, max_new_tokens=limit, stop=tokenizer.stop)
    asked = {
        "question": question,
        "sources": [hit.passage.title for hit in reply.sources],
        "used": reply.used,
        "search_ms": reply.milliseconds,
        "machine": surroundings()["machine"]["cpu"],
    }
    return Taken(facts=asked | answered)


@timeline.chapter
def draw(seen: Seen) -> list[Block]:
    """The question, the answer token by token, the drawing, three sentences and every pass in numbers."""
    made = list(seen.values())[-1].facts
    passes = _passes(made)
    written = [p for p in passes if p["text"]]
    pieces = Pieces([p["text"].replace(" ", "·") for p in written], [number(p["ms"], "ms") for p in written])
    sources = cast(list[str], made["sources"])
    found: list[Block] = [Text(_used(made), "caption"), Points(sources, "sources")] if sources else []
    return [
        Text(str(made["question"]), "given"),
        *found,
        pieces,
        Row([_drawing(made), Points([Prose(sentence) for sentence in sentences(made)], "numbered")]),
        Fold("Every pass in numbers", [_table(made)]),
    ]


def sentences(made: Mapping[str, JSON]) -> list[str]:
    """What the numbers of a timeline say: of prefill, of decoding, and of the cache."""
    prefill, *steps = _passes(made)
    n = prefill["tokens"]
    said = [
        f"**Prefill** read all {n:,} tokens of the prompt at once: {si(prefill['flops'], 'FLOP')} in "
        f"{ms(prefill['ms'])}, which is {_rate(prefill['flops'], prefill, 'FLOP/s')}, or {ms(prefill['ms'] / n)} a "
        "token."
    ]
    if not steps:
        return [*said, "**Decoding** took no step: the first token already ended the answer."]
    typical = median(s["ms"] for s in steps)
    middle = min(steps, key=lambda s: abs(s["ms"] - typical))
    ratio = typical / (prefill["ms"] / n)
    times = f"{ratio:.0f} times" if ratio >= 9.5 else f"{ratio:.1f} times"
    said.append(
        f"**Decoding** took {len(steps):,} step{'s' if len(steps) > 1 else ''}, one token each, because each token "
        f"needs the one before: in the median {ms(typical)} a token, {times} what a token of the prompt took. Each "
        f"has all weights to read, as prefill has, but for one token: {bytes_(middle['bytes'])} for "
        f"{si(middle['flops'], 'FLOP')}, at {_rate(middle['bytes'], middle, 'B/s')} and "
        f"{_rate(middle['flops'], middle, 'FLOP/s')}."
    )
    first, last = prefill["cache_bytes"], steps[-1]["cache_bytes"]
    said.append(
        f"**The key/value cache** grew from {bytes_(first)} after the prompt to {bytes_(last)}, "
        f"{bytes_((last - first) / len(steps))} a token; the last step read it for "
        f"{100 * last / steps[-1]['bytes']:.0f} % of its bytes. Without it every step would read the whole text again: "
        f"the last one at least {si(prefill['flops'], 'FLOP')} instead of {si(steps[-1]['flops'], 'FLOP')}."
    )
    return said


def _passes(made: Mapping[str, JSON]) -> list[Pass]:
    return cast(list[Pass], [made["prefill"], *cast(list[JSON], made["steps"])])


def _drawing(made: Mapping[str, JSON]) -> Lanes:
    """The passes one after the other: what ran, FLOPs and bytes each as rates, and the size of the cache."""
    passes, search = _passes(made), cast(float, made["search_ms"])
    boxes = [Box("search", search, {}, SEARCH, f"search: {ms(search)}")] if search else []
    for i, p in enumerate(passes):
        said = f"{ms(p['ms'])}, {si(p['flops'], 'FLOP')}, {bytes_(p['bytes'])}, cache {bytes_(p['cache_bytes'])}"
        numbers = p["ms"], p["flops"], p["bytes"], p["cache_bytes"]
        boxes.append(box(_name(i), *numbers, DECODE if i else PREFILL, f"{_name(i)}: {said}"))
    prefill, *steps = passes
    legend = [(SEARCH, f"search, {ms(search)}")] if search else []
    legend.append((PREFILL, f"prefill, {prefill['tokens']:,} tokens, {ms(prefill['ms'])}"))
    if steps:
        legend.append((DECODE, f"{len(steps):,} decode steps, {ms(sum(s['ms'] for s in steps))}"))
    caption = (
        "A box is as wide as its pass took time. The second and third lane show rates: a box's area is the work "
        f"itself. The last shows how the cache grows. Measured on {made['machine']}."
    )
    title = f"How one answer was made. {'; '.join(said for _, said in legend)}"
    return Lanes(title, "milliseconds", boxes, (ARITHMETIC, MEMORY, CACHE), legend, caption, str(made["convention"]))


def _used(made: Mapping[str, JSON]) -> str:
    """How many of the sources, from the first, were in the prompt."""
    used, found = cast(int, made["used"]), len(cast(list[str], made["sources"]))
    if used == found:
        return "Found, and put before the question:"
    first = {0: "none", 1: "the first"}.get(used, f"the first {used}")
    return f"Found; {first} of them stood before the question in the prompt:"


def _table(made: Mapping[str, JSON]) -> Table:
    rows: list[TableRow] = [
        [
            Cell(_name(i)),
            Cell(p["text"], code=True),
            number(p["ms"]),
            si(p["flops"], "FLOP"),
            _rate(p["flops"], p, "FLOP/s"),
            bytes_(p["bytes"]),
            _rate(p["bytes"], p, "B/s"),
            bytes_(p["cache_bytes"]),
        ]
        for i, p in enumerate(_passes(made))
    ]
    head = ["Pass", "wrote", "ms", "work", "rate", "moved", "rate", "cache after"]
    return Table(f"{si(cast(float, made['parameters']), '').strip()} parameters in fp32", head, rows)


def _name(i: int) -> str:
    return f"step {i}" if i else "prefill"


def box(label: str, time: float, flops: float, moved: float, cache: float, colour: int, said: str) -> Box:
    """A pass as wide as its milliseconds: in the lanes what it computed and moved, as rates, and what the cache holds
    after it."""
    heights = {ARITHMETIC: 1e-6 * flops / time, MEMORY: 1e-6 * moved / time, CACHE: 1e-3 * cache}
    return Box(label, time, heights, colour, said)


def ms(value: float) -> str:
    """Milliseconds, in decimals that tell passes apart."""
    return number(value, "ms", decimals=1 if value >= 10 else 2 if value >= 0.1 else 3)


def _rate(amount: float, p: Pass, unit: str) -> str:
    return si(1000 * amount / p["ms"], unit)
