"""The page: self-contained, well-formed, escaped, whole with parts missing, and true to the files it is made from."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from journey.report.chapters.answering import drawing, sentences
from journey.report.chapters.inside import induction
from journey.report.claims import CAME_OUT, DID_NOT, PARTLY, STATED, claims
from journey.report.effects import alone, compare, effects
from journey.report.life import Life
from journey.report.markup import big, duration, escape, interval, number, places, power, si

from journey import report
from journey.errors import JourneyError
from journey.evaluate.statistics import Estimate
from journey.report import charts

VOID = {"meta", "br", "wbr", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """Checks that elements nest, and collects what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.outside: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key == "href":
                self.links.append(value or "")
            if key in ("src", "href", "srcset", "action", "data") and not (value or "").startswith("#"):
                self.outside.append((key, value or ""))
            assert not key.startswith("on"), key

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def read(workspace: Path) -> tuple[str, Page]:
    path = report.build(workspace)
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 5e6
    return text, Page(text)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, make: Callable[..., Path]) -> tuple[str, Page]:
    return read(make(tmp_path_factory.mktemp("whole")))


def test_self_contained_and_well_formed(whole: tuple[str, Page]) -> None:
    text, page = whole
    assert page.outside == [] and "script" not in page.tags
    assert "http://" not in text and "https://" not in text and "@import" not in text and "url(" not in text
    assert len(page.ids) == len(set(page.ids))
    assert [link for link in page.links if link[1:] not in page.ids] == []
    assert {"header", "nav", "main", "footer", "h1"} <= set(page.tags) and page.tags.count("h1") == 1
    assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text) == []


def test_every_picture_says_what_it_shows(whole: tuple[str, Page]) -> None:
    for svg in re.findall("<svg[^>]*>", whole[0]):
        assert 'aria-hidden="true"' in svg or re.search('role="img" aria-label="[^"]{20,}"', svg), svg
    assert "nan" not in whole[0].lower().replace("finance", "") and "None" not in re.sub(
        "ord=None|encoding=None", "", whole[1].text
    )


def test_model_text_is_text(whole: tuple[str, Page], nasty: str) -> None:
    text, page = whole
    assert "<script" not in text and "&lt;script&gt;alert(&quot;x&quot;)" in text
    assert "<script>alert" in page.text and "<|end|>" in page.text and "\u2400" in page.text and "\ufffd" in page.text
    assert escape(nasty).isprintable() is False  # the bidi mark stays, inside an isolated block
    assert "unicode-bidi: isolate" in text


def test_the_headline_holds_the_numbers_and_their_verdicts(
    whole: tuple[str, Page], make_workspace: Callable[..., Path]
) -> None:
    life = Life.read(make_workspace())
    found = effects([s.measurement for s in life.measured], {s.lineage["id"]: s.lineage for s in life.done})
    head = whole[0][: whole[0].index("<nav")]
    for stage, name in [
        ("base", "bits per byte, docs, against a bigram"),
        ("base", "bits per byte, docs, against a trigram"),
        ("coder", "bits per byte, code"),
        ("coder", "bits per byte, docs"),
        ("chat", "answers that end by themselves"),
        ("preferred", "preferences, against chance"),
        ("preferred", "KL, own answers"),
        ("gguf", "bits per byte, q8_0"),
        ("gguf", "bits per byte, q4_0"),
        ("index", "recall@5, not named"),
        ("index", "answer loss, retrieved passage against none"),
    ]:
        (effect,) = [e for e in found if (e.stage, e.name) == (stage, name)]
        decimals = places(effect.low, effect.high, effect.unit)
        assert number(effect.value, effect.unit, sign=effect.signed, decimals=decimals) in head
        assert interval(effect.low, effect.high, effect.unit, sign=effect.signed) in head
    assert head.count('title="clear"') == 6 and head.count('title="worse"') == 4
    assert re.findall(r"<i>(\d+)</i>", head) == [str(i) for i in range(1, 11)]  # a row a stage


def test_what_is_no_model_stands_in_no_chapter_on_models(make_workspace: Callable[..., Path]) -> None:
    life = Life.read(make_workspace())
    assert [s.name for s in life.models] == ["base", "coder", "chat", "preferred"]
    assert [s.name for s in life.measured if s not in life.models] == ["gguf", "index"]
    assert life.parent(life.stages[-1]).name == "preferred"  # type: ignore[union-attr]


def test_claims_are_judged_by_the_whole_interval(make_workspace: Callable[..., Path]) -> None:
    workspace = make_workspace()

    life = Life.read(workspace)
    _, coder, chat, _ = (stage.measurement for stage in life.models)

    def outcomes() -> dict[str, str]:
        return {c.effect.name: c.outcome for c in claims(life, compare(coder, chat))}

    assert set(outcomes().values()) == {CAME_OUT}
    for ended, expected in ((140, PARTLY), (100, DID_NOT)):  # 93 % of 150: Wilson's interval reaches below 90 %
        for i, item in enumerate(chat["endings"]["items"]):
            item["ended"] = i < ended
        assert outcomes()["answers that end by themselves"] == expected
    for item in chat["answers"]["items"]:
        item["right"] *= 3
    assert outcomes()["answer loss, right passage"] == DID_NOT


def test_later_claims_can_fail(make_workspace: Callable[..., Path]) -> None:
    life = Life.read(make_workspace())
    preferred, gguf, index = (s.measurement for s in life.measured[3:])

    def outcomes() -> dict[str, str]:
        found = [e for m in (preferred, gguf, index) for e in alone(m)]
        return {c.effect.name: c.outcome for c in claims(life, found)}

    judged = {
        "preferences, against chance": CAME_OUT,
        "KL, own answers": STATED,
        "bits per byte, q8_0": CAME_OUT,
        "bits per byte, q4_0": STATED,
        "recall@5, named": CAME_OUT,
        "answer loss, retrieved passage against none": CAME_OUT,
        "answer loss, retrieved passage against shuffled": CAME_OUT,
    }
    assert judged.items() <= outcomes().items()
    for item in preferred["preferences"]["items"]:
        item["margin"] *= -1
    for item in gguf["quantized"]["types"]["q8_0"]["items"]:
        item["nats"] *= 0.99  # better by a percent is no faithful copy either
    for i, item in enumerate(index["retrieval"]["items"]):
        item["rank"]["hybrid"] = 1 if i % 7 else None  # 86 % of 60: Wilson's interval reaches below 80 %
        item["retrieved"] = item["none"]
    failed = outcomes()
    assert failed["preferences, against chance"] == failed["bits per byte, q8_0"] == DID_NOT
    assert failed["recall@5, named"] == PARTLY
    assert failed["answer loss, retrieved passage against none"] == DID_NOT


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"measured": ()}, "No model has been measured yet"),
        ({"measured": ("base",)}, "No stage has gone on from a measured model yet"),
        ({"until": "base"}, "has not run yet"),
        ({"until": "docs"}, "1 of 10 have run"),
        ({"until": "docs", "planned": "chat"}, "1 of 6 have run"),
        ({"until": "chat"}, "No preferences have been measured yet"),
        ({"until": "pairs"}, "pairs of answers, ranked"),
        ({"until": "preferred"}, "No answer has been timed yet"),
        ({"measured": ("base", "coder", "chat", "preferred", "gguf")}, "No index has been measured yet"),
    ],
)
def test_a_life_in_the_middle(make_workspace: Callable[..., Path], options: dict, said: str) -> None:
    _, page = read(make_workspace(**options))
    assert said in page.text


def test_a_life_without_later_stages_has_no_chapters_on_them(make_workspace: Callable[..., Path]) -> None:
    _, page = read(make_workspace(planned="chat"))
    later = {"answering", "preferences", "quantized", "retrieval"}
    assert not later & set(page.ids) and {"forgetting", "bits", "samples", "stage-chat"} <= set(page.ids)
    assert "to a chat model" in page.text


def test_an_imported_checkpoint_begins_a_life(make_workspace: Callable[..., Path]) -> None:
    workspace = make_workspace(planned="base")
    plan = json.loads((workspace / "plan.json").read_text())
    plan["stages"][-1] |= {"stage": "import", "parents": [], "data": []}
    (workspace / "plan.json").write_text(json.dumps(plan))
    node = workspace / plan["stages"][-1]["path"]
    lineage = json.loads((node / "lineage.json").read_text()) | {"stage": "import", "tokens": None, "data": {}}
    lineage["metrics"]["logits_difference"] = {"value": 2.4e-5, "unit": "", "convention": "largest difference"}
    (node / "lineage.json").write_text(json.dumps(lineage))
    facts = {
        "format": "nanoGPT's ckpt.pt",
        "changed": ["the padded vocabulary was cut"],
        "check": {"unchecked": "no <b>"},
    }
    (node / "import.json").write_text(json.dumps(facts))
    text, page = read(workspace)
    assert (
        "From an imported checkpoint" in page.text and "random weights" not in page.text[: page.text.index("Expected")]
    )
    assert "logits within 2.4\u00a0×\u00a010\u22125 of the source's" in page.text
    assert "The padded vocabulary was cut." in page.text and "no &lt;b&gt;" in text


def test_the_answer_is_drawn_to_scale(make_workspace: Callable[..., Path]) -> None:
    made = Life.read(make_workspace()).last("timeline").measurement["timeline"]  # type: ignore[union-attr]
    made["steps"][1]["ms"] = 6.0
    boxes = re.findall(r'<rect class="(s\d)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="([\d.]+)"', drawing(made))
    lanes = [[(style, *map(float, box)) for style, *box in boxes[i:j]] for i, j in ((0, 5), (5, 9), (9, 13), (13, 17))]
    assert [box[0] for box in lanes[0]] == ["s4", "s0", "s1", "s1", "s1"]
    widths = [box[2] for box in lanes[0]]
    assert widths == pytest.approx([widths[0] * ms / 5 for ms in (5, 10, 2, 6, 2)], rel=0.06)  # less a hair between
    starts = [box[1] for box in lanes[0]]
    assert all(b == pytest.approx(a + w, abs=0.7) for a, w, b in zip(starts, widths, starts[1:], strict=False))
    for lane, key in ((1, "flops"), (2, "bytes")):
        passes = [made["prefill"], *made["steps"]]
        areas = [box[2] * box[3] / p[key] for box, p in zip(lanes[lane], passes, strict=True)]
        assert areas == pytest.approx([areas[0]] * 4, rel=0.08)  # a box's area is the work
    heights = [box[3] for box in lanes[3]]
    assert heights == pytest.approx([heights[0] * (120 + i) / 120 for i in range(4)], rel=0.01)


def test_the_sentences_are_computed_from_the_numbers(make_workspace: Callable[..., Path]) -> None:
    made = Life.read(make_workspace()).last("timeline").measurement["timeline"]  # type: ignore[union-attr]
    prefill, decode, cache = (re.sub("<[^>]+>", "", said).replace("\u00a0", " ") for said in sentences(made))
    assert "all 120 tokens" in prefill and "240 MFLOP in 10.0 ms" in prefill and "24.0 GFLOP/s" in prefill
    assert "took 3 steps" in decode and "24 times what a token of the prompt took" in decode
    assert "6.00 MB for 3.00 MFLOP, at 3.00 GB/s and 1.50 GFLOP/s" in decode
    assert "from 492 kB after the prompt to 504 kB, 4.10 kB a token" in cache and "8 % of its bytes" in cache
    made["prefill"]["ms"] = 600.0  # a prefill that is no faster a token is not praised
    assert "0.4 times what" in sentences(made)[1]
    made["steps"] = []
    assert len(sentences(made)) == 2 and "took no step" in sentences(made)[1]


def test_a_node_of_another_plan_has_not_run(make_workspace: Callable[..., Path]) -> None:
    workspace = make_workspace()
    plan = json.loads((workspace / "plan.json").read_text())
    plan["stages"][-1]["id"] = "ff" * 32
    (workspace / "plan.json").write_text(json.dumps(plan))
    last = Life.read(workspace).stages[-1]
    assert not last.lineage and not last.measurement and not last.history


def test_missing_measurements_are_missing_chapters_only(make_workspace: Callable[..., Path]) -> None:
    """A recipe on plain text has no questions, so none of what needs them."""
    workspace = make_workspace()
    for path in workspace.glob("measurements/*/measurement.json"):
        found = json.loads(path.read_text())
        for key in ("choices", "answers", "endings", "retrieval", "timeline"):
            found.pop(key, None)
        if found.get("against_parent"):
            found["against_parent"] |= {"skipped": "they have different tokenizers", "weights": [], "kl": {}, "cka": []}
        path.write_text(json.dumps(found))
    _, page = read(workspace)
    assert "No answers were measured" in page.text and "No multiple-choice items were measured" in page.text
    assert "they have different tokenizers" in page.text


def test_no_plan_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match=r"no plan\.json"):
        report.build(tmp_path)


@pytest.mark.parametrize(
    ("verdict", "best", "said"),
    [
        ("clear", 0.7, "has an induction head"),
        ("clear", 0.1, "too little to call it"),
        ("worse", 0.7, "shows no induction"),
    ],
)
def test_induction_is_claimed_only_with_both_signs(verdict: str, best: float, said: str) -> None:
    stage = SimpleNamespace(name="base", measurement={"heads": {"induction": [[0.0, best], [0.0, 0.0]]}})
    effect = SimpleNamespace(verdict=verdict, value=-1.0, low=-1.2, high=-0.8, unit="nats/token")
    sentence = induction(stage, effect)  # type: ignore[arg-type]
    assert said in sentence and "layer 0, head 1" in sentence


def test_numbers_as_people_write_them() -> None:
    assert number(-12.34, "%", sign=True) == "\u221212.3\u00a0%" and number(-0.001, "%", sign=True) == "0.0\u00a0%"
    assert number(None) == number(float("nan")) == "\u2013"
    assert (duration(4.26), duration(42), duration(521), duration(3900)) == (
        "4.3\u00a0s",
        "42\u00a0s",
        "8\u00a0min\u00a041\u00a0s",
        "1\u00a0h\u00a005\u00a0min",
    )
    assert big(1_350_144) == "1.35\u00a0million" and big(18_200) == "18,200" and big(9.33e12) == "9.33\u00a0trillion"


def test_an_interval_is_never_rounded_away() -> None:
    assert interval(0.012, 0.018, "%", sign=True) == "[+0.012, +0.018]" and places(0.012, 0.018, "%") == 3
    assert interval(-21.34, -19.2, "%") == "[\u221221.3, \u221219.2]" and places(0.0, 0.0, "%") == 1
    assert power(3.1e-6) == "3.1\u00a0×\u00a010<sup>\u22126</sup>"
    assert (si(5.53e6, "FLOP"), si(999, "B/s"), si(0, "FLOP")) == ("5.53\u00a0MFLOP", "999\u00a0B/s", "0\u00a0FLOP")


def test_equal_numbers_are_drawn() -> None:
    same = [charts.Dot(name, Estimate(10.0, 10.0, 10.0 + 2e-15, 9), 0) for name in "ab"]
    assert charts.dots(same, title="t", unit="u").count("<circle") == 2


def test_curves_show_every_point_and_thin_by_means() -> None:
    steep = charts.curves([charts.Curve("loss", [(0, 9.0), (1, 2.0), (2, 1.9)], 0)], title="t", x_unit="x", y_unit="y")
    heights = [float(y) for y in re.findall(r'class="hit" cx="[\d.]+" cy="([\d.-]+)"', steep)]
    assert len(heights) == 3 and min(heights) >= 30 and heights == sorted(heights)  # falling, none cut off at the top
    many = [(float(i), float(i % 2)) for i in range(1001)]
    thin = charts._thin(many)
    assert len(thin) == charts.MAX_POINTS and all(0.3 < y < 0.7 for _, y in thin)
