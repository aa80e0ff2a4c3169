"""Blocks as pages: well-formed, alone, and true to whatever text and numbers they hold."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from journey.evaluate.statistics import Estimate
from journey.report.axes import tick, ticks
from journey.report.blocks import (
    Block,
    Box,
    Cell,
    Changes,
    Curves,
    Dot,
    Dots,
    Facts,
    Fold,
    Heading,
    Heat,
    Lanes,
    Line,
    Mark,
    Merges,
    Page,
    Pieces,
    Place,
    Points,
    Prose,
    Row,
    Sample,
    Samples,
    Section,
    Shares,
    Shown,
    Step,
    Table,
    Text,
    plain,
)
from journey.report.curves import MOST, curves
from journey.report.dots import dots, lanes
from journey.report.format import big, duration, estimate, interval, number, numbers, places, power, si
from journey.report.render import LONGEST, VERDICTS, render

from .test_browser import CHROMIUM, DESKTOP, PHONE, Browser

VOID = {"meta", "br", "wbr"}
NASTY = "</style></pre><script>alert(1)</script>\"'&<b onclick=x> \x00\x1b[31m\ud800\u202e\ufffe *em* **st** `co` \\* "
NASTY += "{{ 7 * 7 }} {% for %} {# no #}"
SEEN = NASTY.replace("\x00", "␀").replace("\x1b", "␛").replace("\ud800", "\ufffd").replace("\ufffe", "\ufffd")


class Html(HTMLParser):
    """Checks that elements nest, and keeps tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, text: str) -> None:
        if "style" not in self.open:
            self.text += text

    def all(self, tag: str, style: str | None = None) -> list[dict[str, str | None]]:
        """The attributes of every element of this tag, and class where one is asked for."""
        return [found for name, found in self.tags if name == tag and style in (None, found.get("class"))]


def some(
    value: float = 2.13, half: float = 0.02, unit: str = "bits/byte", convention: str = "", n: int = 150
) -> Estimate:
    return Estimate(value, value - half, value + half, n, unit, convention)


def every(t: str) -> list[Block]:
    """Every block with this text wherever a block may have one."""
    shown = Shown(t, some(-3.0, 1.0, "%", t), "clear", t)
    dot = Dot(t, some(), 1)
    line = Line(t, [Place(1, 2.0, 1.9, 2.1, t, t, "best", [2.0, 2.1]), (2, 3.0)], failed=[(2, t)])
    return [
        *(Text(t, style) for style in ("", "nothing", "caption", "given")),
        Heading(t),
        *(Points([t, t], style) for style in ("", "numbered", "sources", "findings")),
        Facts([(t, t)]),
        Facts([(t, t)], columns=True),
        *(
            Table(t, [t, t, t], [[t, t, some()], [Cell(t, colour=1, small=t), None, Cell(t, code=True)]], style)
            for style in ("numbers", "grid", "record", "plain")
        ),
        Table(t, [t, t], [[Cell(t), Cell(None, pieces=[t, t])], [t, Cell(t, heat=0.3)]]),
        Dots(t, t, [dot, Dot(t + "2", some(3), 0)], [Mark(2.0, t)], t, t),
        Dots(t, t, [Dot(t, some(), 0, t), Dot(t, some(), 1, t + "2")]),
        Curves(
            t,
            t,
            t,
            [line, Line(t, [(1, 2.0), (2, 2.5)], 1, True)],
            [Mark(2.0, t)],
            t,
            t,
            name=t,
            meanings={"best": t, "failed": t, "seed": t},
        ),
        Curves(t, t, t, [Line(t, [Place(t, 2.0), Place("b", 3.0)])], values=[t, "b"]),
        Lanes(t, t, [Box(t, 5.0, {t: 2.0}, 4, t), Box(t, 2.0, {}, 1, t)], [t], [(4, t)], t, t),
        Heat(t, t, t, [t, "b"], [t], [[0.2, 0.8]], t, t),
        Shares([(t, 9.0), (t, 1.0)]),
        Pieces([t, t], [t, t], [t, t], t),
        Samples([Sample(t, t, 1, t), Sample(t, "", None, "", [t])], t, t),
        Samples([Sample(t, t)]),
        Changes([shown, Shown(t, some(), "a size", sign=False)]),
        Merges([(t, [t, t], 1, (3, 4)), (t, [t], -1, (0, 0))]),
        Fold(t, [Text(t)], small=t),
        Row([Dots(t, t, [dot]), Points([t])]),
        Row([Table(t, [t], [[t]]), Table(t, [t], [[t]])]),
    ]


def whole(t: str) -> Page:
    inner = Section("inner", t, [Text(t)], t, t, t)
    shown = Shown(t, some(-3.0, 1.0, "%"), "worse", t)
    return Page(
        title=t,
        heading=t,
        sections=[Section("one", t, every(t), t, t, t), Section("two", t, [], sections=[inner]), Section("how", t, [])],
        made_by=t,
        kicker=t,
        lede=t,
        steps=[Step(t, "1.35 M", t, some(), [shown] * 3, kind=t, colour=2, link="one"), Step(t, "", t, said=t)],
        head=[Text(t)],
        contents=True,
        notes="how",
        footer=t,
    )


def one(*blocks: Block, notes: str = "") -> str:
    """A page of these blocks."""
    return render(Page("t", "h", [Section("s", "S", blocks)], "journey x", notes=notes))


def test_every_block_is_in_the_trial() -> None:
    assert {type(block) for block in every("x")} == set(Block.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["words", NASTY, Prose("*em*"), ""])
def test_a_whole_page_is_well_formed_and_alone(text: str) -> None:
    made = render(whole(text))
    page = Html(made)
    assert not {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe", "object"}
    assert not any(key.startswith("on") or key in ("src", "action") for _, found in page.tags for key in found)
    assert all(outside not in made for outside in ("http://", "https://", "@import", "url("))
    assert "prefers-color-scheme: dark" in made and 'name="viewport"' in made and "@media print" in made
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids)) and {"one", "inner", "how"} <= set(ids)
    assert all(str(found["href"])[1:] in ids for found in page.all("a"))
    assert len(page.all("h1")) == 1
    for svg in page.all("svg"):
        assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and svg["aria-label"])
    assert all(found.get("scope") for found in page.all("th"))
    assert all(found["tabindex"] == "0" and found["role"] == "region" for found in page.all("div", "scroll"))
    for drawing in re.findall("<svg.*?</svg>", made, re.DOTALL):
        ElementTree.fromstring(drawing)


def test_hostile_text_is_text() -> None:
    made = render(whole(NASTY))
    page = Html(made)
    assert "<script" not in made and "49" not in page.text
    assert "em" not in {tag for tag, _ in page.tags} and "<strong>st" not in made
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe]", made)
    made.encode()
    for text in ("p", "h4", "li", "caption", "th", "dd", "dt", "td", "summary", "figcaption", "title", "h1"):
        assert re.search(f"<{text}[^>]*>[^<]*{re.escape(_html(SEEN))}", made), text
    for attribute in ("aria-label", "title"):
        assert any(SEEN in str(found.get(attribute)) for _, found in page.tags), attribute
    assert page.text.count("alert(1)") > 60


def _html(text: str) -> str:
    for char, name in {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}.items():
        text = text.replace(char, name)
    return text


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a *b* c", "a <em>b</em> c"),
        ("**b** and `c`", "<strong>b</strong> and <code>c</code>"),
        ("**a `b*` c**", "<strong>a <code>b*</code> c</strong>"),
        ("**a *b* c**", "<strong>a <em>b</em> c</strong>"),
        ("2 * 3", "2 * 3"),
        (r"\*a\* \`b\` \\", "*a* `b` \\"),
        (r"`\xE2`", r"<code>\xE2</code>"),
        ("`<b>`", "<code>&lt;b&gt;</code>"),
        ("*<b>*", "<em>&lt;b&gt;</em>"),
    ],
)
def test_marks_of_prose(text: str, html: str) -> None:
    assert f"<p>{html}</p>" in one(Text(Prose(text)))
    assert f"<p>{_html(text)}</p>" in one(Text(text))  # which has none


@pytest.mark.parametrize("text", [NASTY, "*", "**", "`", "\\", "a\\", "**a", "*a*b*", "``", "\\\\*", "***"])
@pytest.mark.parametrize("around", ["{}", "**{}**", "*{}*", "`{}`"])
def test_what_is_plain_carries_no_marks(text: str, around: str) -> None:
    made = one(Text(Prose("x" + around.format(f"a{plain(text)}a") + "x")))
    page = Html(made)
    tag = {"{}": "p", "**{}**": "strong", "*{}*": "em", "`{}`": "code"}[around]
    assert _html(f"a{text}a".replace(NASTY, SEEN)) in made
    assert [name for name, _ in page.tags if name in ("em", "strong")] == ([tag] if tag in ("em", "strong") else [])
    assert len(page.all("code")) == 1 + (tag == "code")  # the footer's


def test_prose_in_an_attribute_has_no_marks() -> None:
    found = Html(one(Table(Prose("the **text** <b>"), ["a"], [["b"]]))).all("div", "scroll")
    assert found[0]["aria-label"] == "the text <b>"


def test_notes_are_numbered_once_in_the_order_of_use() -> None:
    first = Changes([Shown("q", some(convention="A"), "clear"), Shown("q", some(convention="B"), "clear")])
    folded = Fold(
        "more", [Row([Dots("t", "u", [Dot("a", some())], note="C"), Dots("t", "u", [Dot("a", some())], note="A")])]
    )
    sections = [
        Section("how", "How", [Text("words")]),
        Section("x", "X", [first], sections=[Section("y", "Y", [folded, Changes([Shown("q", some(), "clear")])])]),
    ]
    made = render(Page("t", "h", sections, "m", notes="how"))
    assert re.findall(r'href="#note-(\d)"', made) == ["1", "2", "3", "1"]
    assert re.findall(r'<li id="note-(\d)">(.)</li>', made) == [("1", "A"), ("2", "B"), ("3", "C")]
    assert made.index("words") < made.index('id="note-1"') < made.index('id="x"')
    silent = render(Page("t", "h", sections, "m"))
    assert "note-" not in silent and "Conventions" not in silent


def test_every_verdict_has_a_sign_and_its_word() -> None:
    rows = [Shown("q", some(), verdict) for verdict in VERDICTS]
    page = Html(one(Changes(rows)))
    assert all(word in page.text for word in VERDICTS)
    steps = [Step("n", "1", "w", changes=[row]) for row in rows]
    head = Html(render(Page("t", "h", [], "m", steps=steps)))
    signs = [found for _, found in head.tags if str(found.get("class")).startswith("sign")]
    assert [found["aria-label"] for found in signs] == [found["title"] for found in signs] == list(VERDICTS)


def test_a_step_shows_two_changes_or_what_it_says() -> None:
    changes = [Shown("q", some(value), "clear", f"beside {value}") for value in (1, 2, 3)]
    steps = [Step("a", "1.5", "w", some(1.5), changes), Step("b", "2", "w", changes=changes, said="instead")]
    page = Html(render(Page("t", "h", [], "m", steps=steps)))
    assert "beside 2" in page.text and "beside 3" not in page.text and page.text.count("beside 1") == 1
    assert "[1.480, 1.520]" in page.text and "instead" in page.text


def test_changes_of_one_unit_share_an_axis_and_a_size_has_no_picture() -> None:
    rows = [Shown("a", some(10, 1, "%"), "clear"), Shown("b", some(5, 1, "%"), "clear")]
    rows += [Shown("c", some(0.1, 0.01, "nats/token"), "worse"), Shown("d", some(1, 0.1), "a size", sign=False)]
    made = one(Changes(rows))
    at = [float(x) - 60 for x in re.findall(r'<circle cx="([\d.]+)"', made)]
    assert len(at) == 3 and at[0] == pytest.approx(2 * at[1], abs=0.2) and at[2] > 40
    assert re.findall(r'class="mini (\w+)"', made) == ["good", "good", "bad"]
    judged = one(Changes([Shown("a", some(10, 1, "%"), "not surely", tone="clear")]))
    assert 'class="mini good"' in judged and "chip unsure" in judged


def test_cells() -> None:
    rows: list[Sequence[str | Estimate | Cell | None]] = [
        ["a", None, Cell(None), some(), Cell(some(-2, 1, "%"), sign=True, heat=0.5, tone="good")],
        [
            Cell("b", colour=3),
            Cell(some(0.1, 0.3, "%"), sign=True, tone="unsure"),
            Cell("✓ better", tone="good"),
            "c",
            "d",
        ],
        ["e", Cell("failed", tone="bad")],
    ]
    made = one(Table("t", ["1", "2", "3", "4", "5"], rows))
    assert '<th scope="row" class="s3"><b>b</b></th>' in made and made.count("<td>–</td>") == 2
    assert '<td>2.130 <span class="ci">[2.110, 2.150]</span></td>' in made
    assert '<td class="unsure">≈ +0.1 <span class="ci">[−0.2, +0.4]</span></td>' in made
    assert '<td class="good">✓ better</td>' in made and '<td class="bad" colspan="4">failed</td>' in made
    assert 'class="hot" style="background:color-mix(in srgb, var(--good-heat) 40%, var(--card))">−2.0 ' in made


def test_a_long_sample_is_cut_and_an_empty_one_is_said_to_be_empty() -> None:
    page = Html(one(Samples([Sample("a", "x" * (LONGEST + 1)), Sample("b", " \n")])))
    assert "x" * LONGEST + " … (cut here)" in page.text and "(nothing: it ended at once)" in page.text
    assert "cut here" not in Html(one(Samples([Sample("a", "x" * LONGEST)]))).text


def test_pieces_stand_without_white_space_between_them() -> None:
    page = Html(one(Pieces(["to", "·ken", "\n"], ["1 ms", "", "2 ms"])))
    assert "to·ken\n" in page.text
    assert [found.get("title") for found in page.all("span")] == ["1 ms", None, "2 ms"]


def test_the_contents_lead_to_sections_and_to_those_inside() -> None:
    sections = [Section("a", "A long title", [], short="A"), Section("b", "B", [], sections=[Section("b1", "B1", [])])]
    links = Html(render(Page("t", "h", sections, "m", contents=True))).all("a")
    assert [found["href"] for found in links] == ["#a", "#b1"]


EXTREME = [[2.0], [2.0, 2.0 + 2e-15], [1e12, 3e15], [-5.0, -3.0], [0.0], [1e-9, 3e-8], [-1e-7, 1e7]]


@pytest.mark.parametrize("values", EXTREME)
@pytest.mark.parametrize("log", [False, True])
def test_any_numbers_are_drawn_inside_their_frame(values: list[float], log: bool) -> None:
    few = [Place(i, v, v, v) for i, v in enumerate(values, 1)]
    blocks = [
        curves(Curves("t", "x", "y", [Line("a", few)], log=log)),
        curves(Curves("t", "x", "y", [Line("a", [(v, v) for v in values])], log=log)),
        curves(Curves("t", "x", "y", [Line("a", few), Line("b", few)], values=range(1, len(values) + 1), log=log)),
        dots(Dots("t", "u", [Dot(str(i), some(v, 0.0)) for i, v in enumerate(values)])),
        dots(
            Dots(
                "t",
                "u",
                [Dot("a", Estimate(v, float("nan"), float("inf"), 1), i, str(i)) for i, v in enumerate(values)],
            )
        ),
    ]
    if min(values) > 0:
        blocks.append(lanes(Lanes("t", "ms", [Box("a", v, {"l": v}, 0, "s") for v in values], ["l"])))
    for drawing in blocks:
        assert drawing and not re.search(r"\b(nan|inf)\b", drawing.svg())
        for e in ElementTree.fromstring(drawing.svg()).iter():
            for key, most in (("cx", 440), ("cy", drawing.height), ("x1", 440), ("y2", drawing.height), ("x", 440)):
                assert -0.1 <= float(e.get(key, 0)) <= most + 1, (key, ElementTree.tostring(e))


def test_what_has_no_numbers_is_not_drawn() -> None:
    empty = [Dots("t", "u", []), Curves("t", "x", "y", [Line("a", [])]), Lanes("t", "ms", [], [])]
    assert all("<figure" not in one(block) for block in empty)
    assert dots(Dots("t", "u", [Dot("a", Estimate(float("nan"), 0, 0, 0))])) is None
    assert curves(Curves("t", "x", "y", [Line("a", [(1, float("nan"))])])) is None


def test_curves_show_every_point_and_thin_by_means() -> None:
    steep = curves(Curves("t", "tokens", "y", [Line("loss", [(0, 9.0), (1, 2.0), (2, 1.9)])]))
    assert steep
    heights = [float(y) for y in re.findall(r'class="hit" cx="[\d.]+" cy="([\d.-]+)"', steep.svg())]
    assert len(heights) == 3 and min(heights) >= 28 and heights == sorted(heights)  # falling, none cut off at the top
    assert (
        "loss: 2.00 y at 1 tokens" in steep.svg().replace("\u00a0", " ")
        and steep.label == "t. loss ends at 1.90\u00a0y"
    )
    thin = curves(Curves("t", "x", "y", [Line("a", [(float(i), float(i % 2)) for i in range(1001)])], y_range=(0, 1)))
    assert thin
    points = [p.split(",") for p in re.findall(r'points="([^"]+)"', thin.svg())[0].split()]
    heights = [float(y) for _, y in points]
    assert len(points) == MOST and max(heights) - min(heights) < 0.4 * 210  # means, so near the middle


def test_an_axis_begins_at_zero_unless_it_may_be_logarithmic() -> None:
    def written(log: bool) -> list[str]:
        line = Line("a", [Place(v, v) for v in (100.0, 1000.0, 10_000.0)])
        drawing = curves(Curves("t", "x", "y", [line], log=log))
        assert drawing
        return re.findall(r'class="tick"[^>]*text-anchor="middle">([^<]*)', drawing.svg())

    assert written(False)[0] == "0" and written(True) == ["100", "200", "500", "1k", "2k", "5k", "10k"]


@pytest.mark.parametrize("ends", [(1e-9, 3e-8), (0.1, 0.7), (-3.0, 5.0), (1e12, 3e15)])
def test_round_numbers_enclose_what_is_drawn(ends: tuple[float, float]) -> None:
    found = ticks(*ends, 4)
    assert found[0] <= ends[0] and found[-1] >= ends[1] and 4 <= len(found) <= 7
    assert len({tick(v, found) for v in found}) == len(found)


def test_dots_of_one_label_share_a_row() -> None:
    rows = [Dot(label, some(v + k), k, s) for label, v in (("fr", 1.0), ("th", 2.0)) for k, s in enumerate(("a", "b"))]
    drawing = dots(Dots("t", "u", rows, [Mark(1.0, "as English")]))
    assert drawing
    assert drawing.svg().count(">fr</text>") == drawing.svg().count(">a</text>") == 1
    assert len(re.findall("<circle", drawing.svg())) == 4 and "as English" in drawing.svg()
    assert "b, th: 3.000 bits/byte, 95 % [2.980, 3.020], n = 150" in drawing.svg()
    alone = dots(Dots("t", "u", [Dot("fr", some(), 0), Dot("th", some(), 1)]))
    assert alone and alone.svg().count('class="value"') == 2


def test_boxes_are_drawn_to_scale() -> None:
    boxes = [Box("search", 5.0, {}, 4, "s"), *(Box(f"step {i}", 2.0 * i, {"rate": 6.0 / i}, 1, "s") for i in (1, 2))]
    drawing = lanes(Lanes("t", "milliseconds", boxes, ["rate"], [(4, "search, 5 ms")]))
    assert drawing
    found = re.findall(r'<rect class="(s\d)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="([\d.]+)"', drawing.svg())
    one_after_the_other, rate = found[:3], found[3:]
    assert [style for style, *_ in found] == ["s4", "s1", "s1", "s1", "s1"]
    widths = [float(box[2]) for box in one_after_the_other]
    assert widths == pytest.approx([widths[0] * ms / 5 for ms in (5, 2, 4)], rel=0.02)
    starts = [float(box[1]) for box in one_after_the_other]
    assert starts[1] == pytest.approx(starts[0] + widths[0], abs=0.7)
    areas = [float(box[2]) * float(box[3]) for box in rate]
    assert areas[0] == pytest.approx(areas[1], rel=0.02)  # a box's area is the work
    assert "<title>step 1: s</title>" in drawing.svg() and drawing.label == "t. search, 5 ms"


def test_numbers_as_people_write_them() -> None:
    assert number(-12.34, "%", sign=True) == "−12.3\u00a0%" and number(-0.001, "%", sign=True) == "0.0\u00a0%"
    assert number(None) == number(float("nan")) == "–"
    assert (duration(4.26), duration(42), duration(521), duration(3900)) == (
        "4.3\u00a0s",
        "42\u00a0s",
        "8\u00a0min\u00a041\u00a0s",
        "1\u00a0h\u00a005\u00a0min",
    )
    assert big(1_350_144) == "1.35\u00a0million" and big(18_200) == "18,200" and big(9.33e12) == "9.33\u00a0trillion"
    assert power(3.1e-6) == "3.1\u00a0×\u00a010⁻⁶" and power(-2e12) == "−2.0\u00a0×\u00a010¹²"
    assert (si(5.53e6, "FLOP"), si(999, "B/s"), si(0, "FLOP")) == ("5.53\u00a0MFLOP", "999\u00a0B/s", "0\u00a0FLOP")


def test_an_interval_is_never_rounded_away() -> None:
    assert interval(0.012, 0.018, "%", sign=True) == "[+0.012, +0.018]" and places(0.012, 0.018, "%") == 3
    assert interval(-21.34, -19.2, "%") == "[−21.3, −19.2]" and places(0.0, 0.0, "%") == 1
    assert estimate(some()) == "2.130\u00a0bits/byte [2.110, 2.150]" and estimate(None) == "–"
    assert numbers(Estimate(2.0, float("nan"), float("nan"), 1)) == ("2.00", "")
    assert numbers(some(0.00021, 0.00001, "nats/token")) == ("0.00021", "[0.00020, 0.00022]")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_in_a_browser_a_whole_page_is_silent_and_fits(tmp_path: Path, screen: dict[str, Any]) -> None:
    browser = Browser(tmp_path / "profile")
    try:
        for i, text in enumerate(
            ("some words that explain", NASTY, "unbroken" * 30, "長い名前" * 20, "\u202e\u2067right to left")
        ):
            path = tmp_path / f"{i}.html"
            path.write_text(render(whole(text)), encoding="utf-8")
            browser.open(path, screen)
            methods = {e.get("method") for e in browser.events}
            assert not methods & {"Runtime.consoleAPICalled", "Log.entryAdded", "Runtime.exceptionThrown"}, text
            assert sum(e.get("method") == "Network.requestWillBeSent" for e in browser.events) == 1
            browser.value("document.querySelectorAll('details').forEach(d => { d.open = true })")
            assert browser.value("document.documentElement.scrollWidth") <= screen["width"], text
            beyond = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && "
            beyond += f"e.getBoundingClientRect().right > {screen['width']} + 1).map(e => e.outerHTML.slice(0, 120))"
            assert browser.value(beyond) == [], text
    finally:
        browser.close()


def test_a_field_of_squares_is_as_strong_as_its_numbers() -> None:
    values = [[0.0, 0.25, 1.0], [float("nan"), 7.0, -1.0]]
    html = one(Heat("t", "read", "written", ["four", "hundred", "and"], ["4", "1"], values))
    assert re.findall(r'fill-opacity="([\d.]+)"', html) == ["0.000", "0.250", "1.000", "0.000", "1.000", "0.000"]
    assert "<title>4 ← and: 1.00</title>" in html and html.count('class="square"') == 6
    ends = [float(x) + float(w) for x, w in re.findall(r'class="square"[^>]* x="([\d.]+)"[^>]* width="([\d.]+)"', html)]
    assert max(ends) <= 440


def test_a_large_field_stays_within_the_picture_and_an_empty_one_is_none() -> None:
    words = [f"token{i}" for i in range(60)]
    html = one(Heat("t", "read", "written", words, words, [[0.5] * 60] * 60))
    ends = [float(x) + float(w) for x, w in re.findall(r'class="square"[^>]* x="([\d.]+)"[^>]* width="([\d.]+)"', html)]
    assert max(ends) <= 440 and len(ends) == 3600
    assert "<figure>" not in one(Heat("t", "read", "written", [], [], []))
