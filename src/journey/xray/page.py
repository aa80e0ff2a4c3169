"""A run as a page that needs no network and no script: its passes, the machine's roof above them, what was saved."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from journey.infer.blocks import BLOCK
from journey.measures.timeline import ARITHMETIC, CACHE, DECODE, MEMORY, PREFILL, box, ms
from journey.report.blocks import (
    Block,
    Cell,
    Curves,
    Fold,
    Heat,
    Lanes,
    Line,
    Page,
    Pieces,
    Place,
    Points,
    Prose,
    Section,
    Table,
    TableRow,
    plain,
)
from journey.report.format import bytes_, number, si
from journey.report.render import render
from journey.xray.record import Pass, Run, Saved

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

ROOF = 4  # a colour
_PIECES = 400  # tokens shown one by one


def facts(run: Run) -> list[dict[str, Any]]:
    """Every pass in numbers, as xray.json has them."""
    return [
        {
            "kind": "prefill" if each.prefill else "decode",
            "read": [vars(one) for one in each.read],
            "wrote": [list(one) for one in each.wrote],
            "ms": 1000 * each.seconds,
            "flops": each.flops(run.model),
            "bytes": each.bytes(run.model),
            "cache_bytes": held,
        }
        for each, held in zip(run.passes, run.cache_bytes(), strict=True)
    ]


def page(
    run: Run,
    saved: Saved,
    tokenizer: "Tokenizer",
    prompt: list[int],
    texts: Sequence[list[int]],
    *,
    name: str,
    roof: tuple[float, float],
    machine: Mapping[str, str],
) -> str:
    """The HTML. `roof`: the machine's measured GFLOP/s and GB/s, and `machine` says how each was measured."""
    model = run.model
    decode = [each for each in run.passes if not each.prefill]
    written = sum(len(text) for text in texts)
    took = f"{_ms(median(each.seconds for each in decode))} each in the median" if decode else "none was needed"
    lede = (
        f"{len(prompt):,} tokens were read, {written:,} written, in {len(run.passes):,} passes over {name}'s "
        f"{si(model.config.n_params, '').strip()} parameters: {len(run.passes) - len(decode)} with tokens of the "
        f"prompt, {len(decode):,} that only wrote, {took}."
    )
    sections = [
        Section("run", "What ran when", _ran(run, tokenizer, prompt, texts), Prose(WHEN)),
        Section("roof", "Against what the machine can do", _roofline(run, roof, machine), Prose(WHY_ROOF)),
        Section(
            "saved", "What the engine saves", _savings(saved), "The same prompt, with one thing changed at a time."
        ),
    ]
    return render(
        Page(
            title=f"{name}: a text from inside",
            heading="How a text is written",
            kicker=f"X-ray of {name}",
            lede=lede,
            sections=sections,
            made_by="journey generate --xray",
            footer=Prose(plain(machine["cpu"])),
        )
    )


WHEN = (
    "A prompt is known as a whole, so all its tokens go through the model in one pass: that is *prefill*. What is "
    "written is not: each token needs the one before, so each is a pass of its own: that is *decode*. Several texts "
    "share their passes."
)
WHY_ROOF = (
    "A pass has to move bytes, at least all weights once, and to compute. How many FLOPs there are for each byte "
    "(*arithmetic intensity*) says which of the two it waits for: left of the bend it is memory, right of it "
    "arithmetic."
)


def _ran(run: Run, tokenizer: "Tokenizer", prompt: list[int], texts: Sequence[list[int]]) -> list[Block]:
    model, passes, held = run.model, run.passes, run.cache_bytes()
    boxes = []
    for i, (each, cache) in enumerate(zip(passes, held, strict=True), 1):
        said = f"{_what(each)}: {_ms(each.seconds)}, {si(each.flops(model), 'FLOP')}, {bytes_(each.bytes(model))}"
        numbers = 1000 * each.seconds, each.flops(model), each.bytes(model), cache
        boxes.append(box(f"pass {i}", *numbers, PREFILL if each.prefill else DECODE, said))
    sums = [sum(e.seconds for e in passes if e.prefill == kind) for kind in (True, False)]
    legend = [(PREFILL, f"prefill, {_ms(sums[0])}"), (DECODE, f"decode, {_ms(sums[1])}")]
    drawing = Lanes(
        "The passes in the order of time", "milliseconds", boxes, (ARITHMETIC, MEMORY, CACHE), legend, LANES
    )
    blocks: list[Block] = [
        Pieces([_token(tokenizer, id) for id in prompt[-_PIECES:]], caption="The prompt"),
        *(_text(run, tokenizer, i, text, len(texts)) for i, text in enumerate(texts)),
        drawing,
        Points([Prose(sentence) for sentence in _sentences(run)], "numbered"),
    ]
    if len(texts) > 1:
        blocks.append(_together(run, len(texts)))
    return [*blocks, Fold("Every pass in numbers", [_table(run, tokenizer)])]


LANES = (
    "A box is as wide as its pass took time. The second and third lane are rates, so a box's area is its FLOPs and its "
    "bytes; the last is what the cache of keys and values holds."
)


def _text(run: Run, tokenizer: "Tokenizer", request: int, text: list[int], n: int) -> Block:
    """What was written, each token with the time of its pass."""
    times = [each.seconds for each in run.passes for who, _ in each.wrote if who == request]
    caption = (
        f"Text {request + 1}" if n > 1 else "The text: beside each token the milliseconds of the pass that wrote it"
    )
    shown = text[:_PIECES]
    notes = [number(1000 * seconds, decimals=1) for seconds in times[: len(shown)]]
    return Pieces([_token(tokenizer, id) for id in shown], notes=notes, caption=caption)


def _sentences(run: Run) -> list[str]:
    """What the numbers say, one sentence each."""
    model, passes = run.model, run.passes
    reading, writing = ([e for e in passes if e.prefill == kind] for kind in (True, False))
    tokens, seconds = sum(e.tokens for e in reading), sum(e.seconds for e in reading)
    work = sum(e.flops(model) for e in reading)
    said = [
        f"**Prefill** read {tokens:,} tokens in {len(reading)} pass{'es' * (len(reading) > 1)}: {si(work, 'FLOP')} in "
        f"{_ms(seconds)}, {_ms(seconds / tokens)} a token."
    ]
    if run.reused:
        said.append(f"**Shared beginnings**: {run.reused:,} further tokens of prompts were in the cache already.")
    if not writing:
        return said
    middle = sorted(writing, key=lambda e: e.seconds)[len(writing) // 2]
    a_token = middle.seconds / max(1, len(middle.wrote))
    said.append(
        f"**Decode** took {len(writing):,} passes of {_ms(middle.seconds)} in the median, which is "
        f"{a_token * tokens / seconds:.1f} times what a token of the prompt took: each pass has "
        f"{bytes_(middle.bytes(model))} to move, as prefill has, but for {len(middle.wrote)} token"
        f"{'s' * (len(middle.wrote) > 1)}."
    )
    last, held = writing[-1], run.cache_bytes()
    said.append(
        f"**The key/value cache** grew to {bytes_(max(held))}, "
        f"{bytes_(max(held) / max(1, max(e.seen for e in passes)))} a token; the last pass read it for "
        f"{100 * held[-1] / last.bytes(model):.0f} % of its bytes, and without it would have read all "
        f"{last.seen:,} tokens anew."
    )
    return said


def _together(run: Run, texts: int) -> Heat:
    """Who was in which pass."""
    passes = run.passes[:60]
    values = [[0.0] * len(passes) for _ in range(texts)]
    for i, each in enumerate(passes):
        for one in each.read:
            values[one.request][i] = 1.0 if one.prompt else 0.35
    return Heat(
        "Which text was in which pass",
        "pass",
        "text",
        [str(i) if i == 1 or i % 10 == 0 else "" for i in range(1, len(passes) + 1)],
        [f"text {i}" for i in range(1, texts + 1)],
        values,
        "Dark: tokens of its prompt were read. Pale: a token of its own was read and the next written.",
    )


def _roofline(run: Run, roof: tuple[float, float], machine: Mapping[str, str]) -> list[Block]:
    model, (peak, bandwidth) = run.model, roof
    points: dict[bool, list[Place]] = {True: [], False: []}
    for i, each in enumerate(run.passes, 1):
        x, y = each.flops(model) / each.bytes(model), 1e-9 * each.flops(model) / each.seconds
        points[each.prefill].append(Place(x, y, said=f"pass {i}, {_what(each)}: {x:.2f} FLOP a byte, {y:.1f} GFLOP/s"))
    bend = peak / bandwidth
    xs = [p.x for some in points.values() for p in some if isinstance(p.x, float)]
    left, right = min([*xs, bend / 4]), max([*xs, bend * 4])
    lines = [
        Line("what the machine can do", [(left, left * bandwidth), (bend, peak), (right, peak)], ROOF, dashed=True),
        Line("prefill", points[True], PREFILL, joined=False),
        Line("decode", points[False][:: max(1, len(points[False]) // 60)], DECODE, joined=False),
    ]
    chart = Curves(
        "Each pass below the machine's roof",
        "FLOP a byte",
        "GFLOP/s",
        [line for line in lines if line.points],
        caption="A point is a pass. The dashed roof is the measured read bandwidth times the intensity, and the "
        "measured speed of a large matrix product where that is less.",
        log=True,
    )
    rows: list[TableRow] = []
    for kind, name in ((True, "prefill"), (False, "decode")):
        some = [each for each in run.passes if each.prefill == kind]
        if some:
            middle = sorted(some, key=lambda e: e.seconds)[len(some) // 2]
            work, moved = middle.flops(model), middle.bytes(model)
            limit = min(peak, bandwidth * work / moved)
            rows.append(
                [
                    Cell(name),
                    number(work / moved),
                    "memory" if work / moved < bend else "arithmetic",
                    number(1e-9 * work / middle.seconds, decimals=1),
                    f"{100 * 1e-9 * work / middle.seconds / limit:.0f} %",
                    number(1e-9 * moved / middle.seconds, decimals=1),
                ]
            )
    head = ["Median pass", "FLOP a byte", "waits for", "GFLOP/s", "of the roof", "GB/s"]
    said = [
        f"The roof's flat part is {peak:,.0f} GFLOP/s: {machine['matmul']}.",
        f"Its slope is {bandwidth:,.1f} GB/s: {machine['reading']}. What fits the processor's cache can be read "
        "faster.",
        f"They meet at {bend:.1f} FLOP a byte. *Of the roof* is how much of what it could reach at its intensity a "
        "pass reached.",
    ]
    return [chart, Table("", head, rows), Points([Prose(sentence) for sentence in said])]


def _savings(saved: Saved) -> list[Block]:
    one = saved.together[1]
    most = max(saved.together)
    curve = Curves(
        "Tokens a second against texts at once",
        "texts at once",
        "tokens/s",
        [Line("all texts together", [Place(float(n), n / s) for n, s in saved.together.items()], DECODE)],
        values=[float(n) for n in saved.together],
        lower_is_better=False,
        caption="The weights are read once a pass, whoever uses them.",
    )
    rows: list[TableRow] = [
        [f"{n}", _ms(seconds), number(n / seconds, decimals=0), f"{n * one / seconds:.1f} ×"]
        for n, seconds in saved.together.items()
    ]
    batching = Table("Batching", ["Texts at once", "a pass", "tokens/s", "against one"], rows)
    full = saved.precisions["fp32"]
    smaller: list[TableRow] = [
        [Cell(name), bytes_(weights), _ms(seconds), number(1 / seconds, decimals=0), f"{full[0] / seconds:.2f} ×"]
        for name, (seconds, weights) in saved.precisions.items()
    ]
    bits = Table("Weights in fewer bits", ["Weights", "read a pass", "a pass", "tokens/s", "against fp32"], smaller)
    tokens, passes, with_guesses, without = saved.guessed
    said = [
        f"**Batching**: {most} texts at once wrote {most * one / saved.together[most]:.1f} times as many tokens a "
        f"second as one.",
        f"**A shared beginning**: the prompt's first token took {_ms(saved.first)}; asked again, with {saved.reused:,} "
        f"of its tokens in the cache, {_ms(saved.again)}, {saved.again / saved.first:.2f} of the time. Whole blocks of "
        f"{BLOCK} tokens are shared.",
        "**Fewer bits**: a decode pass that waits for memory gets faster as its weights shrink; what the rounding "
        "costs in quality is not measured here.",
        f"**Guessing** (what followed last time, checked in one pass): {tokens:,} tokens took {passes:,} passes and "
        f"{_ms(with_guesses)} instead of {_ms(without)}, and are the same tokens.",
    ]
    return [curve, batching, bits, Points([Prose(sentence) for sentence in said])]


def _table(run: Run, tokenizer: "Tokenizer") -> Table:
    model = run.model
    rows: list[TableRow] = []
    for i, (each, held) in enumerate(zip(run.passes, run.cache_bytes(), strict=True), 1):
        wrote = "".join(_token(tokenizer, id) for _, id in each.wrote)
        work, moved = each.flops(model), each.bytes(model)
        rows.append(
            [
                Cell(f"{i}, {'prefill' if each.prefill else 'decode'}"),
                f"{each.tokens:,} of {len(each.read)}",
                Cell(wrote[:40], code=True),
                number(1000 * each.seconds),
                si(work, "FLOP"),
                bytes_(moved),
                number(work / moved),
                bytes_(held),
            ]
        )
    head = ["Pass", "tokens of texts", "wrote", "ms", "work", "moved", "FLOP a byte", "cache after"]
    return Table("", head, rows)


def _what(each: Pass) -> str:
    texts = f" of {len(each.read)} texts" if len(each.read) > 1 else ""
    return f"{'prefill' if each.prefill else 'decode'}, {each.tokens:,} token{'s' * (each.tokens > 1)}{texts}"


def _token(tokenizer: "Tokenizer", id: int) -> str:
    return tokenizer.decode([id]).replace(" ", "·").replace("\n", "\\n")


def _ms(seconds: float) -> str:
    return ms(1000 * seconds)
