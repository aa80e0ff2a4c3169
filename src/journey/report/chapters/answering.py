"""How one question was answered: the search, the prompt read at once, and a token a step, to the scale of time."""

from statistics import median
from typing import Any

from journey.report.chapters.parts import nothing
from journey.report.life import Life
from journey.report.lists import Notes
from journey.report.markup import bytes_, escape, folded, number, si, table
from journey.report.svg import WIDTH, line, rect, scale, svg, text, tick, ticks

SEARCH, PREFILL, DECODE = "s4", "s0", "s1"  # colours
LEFT, RIGHT, LANE, GAP = 48.0, 12.0, 64.0, 30.0

Pass = dict[str, Any]  # {"ms", "flops", "bytes", "cache_bytes", "text" of the token it wrote}


def answering(life: Life, notes: Notes) -> str:
    """The question, the answer token by token, the drawing, three sentences and every pass in numbers."""
    stage = life.last("timeline")
    if stage is None:
        return nothing("No answer has been timed yet.")
    made: dict[str, Any] = stage.measurement["timeline"]
    passes: list[Pass] = [made["prefill"], *made["steps"]]
    tokens = "".join(
        f'<span title="{number(p["ms"], "ms")}">{escape(p["text"]).replace(" ", "·")}</span><wbr>'
        for p in passes
        if p.get("text")
    )
    sources = "".join(f"<li>{escape(source)}</li>" for source in made.get("sources", []))
    found = f'<p class="caption">{_used(made)}</p><ol class="sources">{sources}</ol>'
    said = "".join(f"<li>{sentence}</li>" for sentence in sentences(made))
    machine = f" Measured on {escape(made['machine'])}." if made.get("machine") else ""
    caption = (
        "A box is as wide as its pass took time. The second and third lane show rates: a box's area is the work "
        f"itself. The last shows how the cache grows.{machine}{notes.mark(made.get('convention', ''))}"
    )
    return (
        f'<pre class="given" dir="auto">{escape(made["question"])}</pre>{found if sources else ""}'
        f'<p class="pieces">{tokens}</p>'
        f'<div class="timed"><figure>{_legend(made)}{drawing(made)}<figcaption>{caption}</figcaption></figure>'
        f'<ol class="plain">{said}</ol></div>{folded("Every pass in numbers", _passes(made))}'
    )


def sentences(made: dict[str, Any]) -> list[str]:
    """What the numbers of a timeline say: of prefill, of decoding, and of the cache."""
    prefill, steps = made["prefill"], made["steps"]
    n = prefill["tokens"]
    said = [
        f"<b>Prefill</b> read all {n:,} tokens of the prompt at once: {si(prefill['flops'], 'FLOP')} in "
        f"{_ms(prefill['ms'])}, which is {_rate(prefill, 'flops', 'FLOP/s')}, or {_ms(prefill['ms'] / n)} a token."
    ]
    if not steps:
        return [*said, "<b>Decoding</b> took no step: the first token already ended the answer."]
    typical = median(s["ms"] for s in steps)
    middle = min(steps, key=lambda s: abs(s["ms"] - typical))
    ratio = typical / (prefill["ms"] / n)
    times = f"{ratio:.0f} times" if ratio >= 9.5 else f"{ratio:.1f} times"
    said.append(
        f"<b>Decoding</b> took {len(steps):,} step{'s' if len(steps) > 1 else ''}, one token each, because each token "
        f"needs the one before: in the median {_ms(typical)} a token, {times} what a token of the prompt took. Each "
        f"has all weights to read, as prefill has, but for one token: {bytes_(middle['bytes'])} for "
        f"{si(middle['flops'], 'FLOP')}, at {_rate(middle, 'bytes', 'B/s')} and {_rate(middle, 'flops', 'FLOP/s')}."
    )
    first, last = prefill["cache_bytes"], steps[-1]["cache_bytes"]
    said.append(
        f"<b>The key/value cache</b> grew from {bytes_(first)} after the prompt to {bytes_(last)}, "
        f"{bytes_((last - first) / len(steps))} a token; the last step read it for "
        f"{100 * last / steps[-1]['bytes']:.0f} % of its bytes. Without it every step would read the whole text again: "
        f"the last one at least {si(prefill['flops'], 'FLOP')} instead of {si(steps[-1]['flops'], 'FLOP')}."
    )
    return said


def drawing(made: dict[str, Any]) -> str:
    """The passes one after the other: what ran, FLOPs and bytes each as rates, and the size of the cache."""
    search = (made.get("retrieval") or {}).get("ms", 0.0)
    passes: list[Pass] = [made["prefill"], *made["steps"]]
    total = search + sum(p["ms"] for p in passes)
    xs = ticks(0.0, total, 4)
    x = scale(0.0, total, LEFT, WIDTH - RIGHT)
    starts = [search + sum(p["ms"] for p in passes[:i]) for i in range(len(passes))]
    top = 16.0
    parts = [text(LEFT, top - 5, "one after the other", "axis", "start")]
    parts += [rect(x(0), top, x(search) - x(0), 26, SEARCH, f"search: {_ms(search)}")] if search else []
    parts += [_box(x, at, p, i, top, 26) for i, (at, p) in enumerate(zip(starts, passes, strict=True))]
    top += 26 + GAP
    for key, title, unit in (
        ("flops", "arithmetic, GFLOP/s", 1e-6),
        ("bytes", "memory, GB/s", 1e-6),
        ("cache_bytes", "key/value cache after each pass, kB", 1e-3),
    ):
        heights = [p[key] * unit / (1.0 if key == "cache_bytes" else p["ms"]) for p in passes]
        ys = ticks(0.0, max(heights), 2)
        y = scale(0.0, ys[-1], top + LANE, top)
        parts += [line(LEFT, y(t), WIDTH - RIGHT, y(t), "grid") for t in ys]
        parts += [text(LEFT - 6, y(t) + 4, tick(t, ys), "tick", "end") for t in ys]
        parts.append(text(LEFT, top - 9, title, "axis", "start"))
        parts += [
            _box(x, at, p, i, y(height), top + LANE - y(height))
            for i, (at, p, height) in enumerate(zip(starts, passes, heights, strict=True))
        ]
        top += LANE + GAP
    bottom = top - GAP
    parts += [text(x(t), bottom + 17, tick(t, xs), "tick", "middle") for t in xs if t <= total]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, bottom + 34, "milliseconds", "axis", "middle"))
    spoken = f"How one answer was made. Search {_ms(search)}; " if search else "How one answer was made. "
    spoken += f"prefill {_ms(made['prefill']['ms'])}; {len(made['steps'])} decode steps"
    return svg(spoken, bottom + 42, parts)


def _used(made: dict[str, Any]) -> str:
    """How many of the sources, from the first, were in the prompt: all of them where the measurement does not say."""
    used, found = made.get("used"), len(made["sources"])
    if used is None or used == found:
        return "Found, and put before the question:"
    first = {0: "none", 1: "the first"}.get(used, f"the first {used}")
    return f"Found; {first} of them stood before the question in the prompt:"


def _box(x: Any, at: float, p: Pass, i: int, top: float, height: float) -> str:
    """A pass as a box over its time, with a hair between neighbours."""
    width = x(at + p["ms"]) - x(at)
    said = (
        f"{_name(i)} {_ms(p['ms'])}, {si(p['flops'], 'FLOP')}, {bytes_(p['bytes'])}, cache {bytes_(p['cache_bytes'])}"
    )
    return rect(x(at), top, width - min(0.6, 0.2 * width), height, DECODE if i else PREFILL, said)


def _legend(made: dict[str, Any]) -> str:
    keys = []
    if made.get("retrieval"):
        keys.append((SEARCH, f"search, {_ms(made['retrieval']['ms'])}"))
    keys.append((PREFILL, f"prefill, {made['prefill']['tokens']:,} tokens, {_ms(made['prefill']['ms'])}"))
    if steps := made["steps"]:
        keys.append((DECODE, f"{len(steps):,} decode steps, {_ms(sum(s['ms'] for s in steps))}"))
    listed = "".join(f'<li class="{colour}"><i></i>{said}</li>' for colour, said in keys)
    return f'<ul class="legend">{listed}</ul>'


def _passes(made: dict[str, Any]) -> str:
    rows = [
        [
            _name(i),
            f"<code>{escape(p.get('text', ''))}</code>",
            number(p["ms"]),
            si(p["flops"], "FLOP"),
            _rate(p, "flops", "FLOP/s"),
            bytes_(p["bytes"]),
            _rate(p, "bytes", "B/s"),
            bytes_(p["cache_bytes"]),
        ]
        for i, p in enumerate([made["prefill"], *made["steps"]])
    ]
    head = ["Pass", "wrote", "ms", "work", "rate", "moved", "rate", "cache after"]
    return table(f"{si(made['parameters'], '').strip()} parameters in fp32", head, rows, style="numbers")


def _name(i: int) -> str:
    return f"step {i}:" if i else "prefill:"


def _ms(value: float) -> str:
    return number(value, "ms", decimals=1 if value >= 10 else 2 if value >= 0.1 else 3)


def _rate(p: Pass, key: str, unit: str) -> str:
    return si(1000 * p[key] / p["ms"], unit)
