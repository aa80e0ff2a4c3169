"""The page, the terminal table and the figure of a sweep: what they conclude, and that they hold whatever was swept."""

import re
from math import log2, nan
from xml.etree import ElementTree

import pytest

from journey.errors import JourneyError
from journey.report.axes import compact, compacted, is_wide, log_ticks, values_axis, y_axis
from journey.report.drawing import short, width
from journey.report.format import numbers, typed
from journey.sweep.content import Sweep
from journey.sweep.lines import lines
from journey.sweep.overall import Overall, headline
from journey.sweep.page import figure, page

from .sweeps import BITS, SIZES, bowl, falling, sweep
from .test_browser import CHROMIUM, DESKTOP, PHONE, Browser
from .test_explained import Page

HOSTILE = "</style><script>alert(1)</script>\"'& <img src=x onerror=y> \x00\x1b[31m\u202e\ufffe"
KEY = "stages.<script>base</script>.lr"
HIGHER = {**BITS, "name": "f1", "label": "F1", "unit": "%", "better": "higher"}


def named(values):
    return 2 + 0.01 * len(str(values))


GRID = {"schedule": ["wsd", "cosine", "linear", "constant", "a", "b"], "warmup": [0.01, 0.1, 0.4]}


def schedules(values):
    """Best: wsd with 0.1; cosine is level with it, the others are not."""
    return 2 + 0.01 * GRID["schedule"].index(values["schedule"]) * 1.5 + 0.2 * abs(values["warmup"] - 0.1)


def partly(values):
    """What a replay records: of the old text nothing where none of it is read."""
    found = falling(values)
    return found | ({"dev_bits_per_byte_replay": found["dev_bits_per_byte"]} if values["replay"] else {})


OTHER = {**BITS, "name": "bits_per_byte.old", "label": "bits per byte, old"}
REPLAY = {"replay": [0, 0.25, 0.5]}
RESULTS = {
    "schedules": lambda: sweep(GRID, schedules, facts=None, trails=falling, between=True),
    "replay": lambda: sweep(
        REPLAY, lambda v: 3 + v["replay"], metrics=[BITS, OTHER], facts=None, trails=partly, before=3.2
    ),
    "traded names": lambda: sweep(
        {"data": ["a", "b", HOSTILE]}, named, metrics=[BITS, HIGHER], facts=None, before=2.0, failed={1: "lost"}
    ),
    "curves of seven": lambda: sweep({"n": [*range(7)]}, lambda v: 2.0, facts=None, trails=falling),
    "curves and one failed": lambda: sweep(
        GRID, schedules, facts=None, trails=falling, between=True, failed={0: "lost"}
    ),
    "no differences": lambda: sweep(GRID, lambda v: 2.0, facts=None, between=True),
    "two budgets": lambda: sweep(),
    "one point": lambda: sweep({"vocab_size": [512]}, seeds=1),
    "two values": lambda: sweep({"vocab_size": [512, 1024]}, facts=None),
    "forty values": lambda: sweep({"vocab_size": [*range(1, 41)]}, facts=None),
    "forty names": lambda: sweep({"n": [f"data-{i}.txt" for i in range(40)]}, named, facts=None),
    "switches": lambda: sweep({"tied": [True, False]}, named, facts=None),
    "numbers and names": lambda: sweep({"lr": [0.1, "auto", 1]}, named, facts=None),
    "hostile": lambda: sweep({KEY: [HOSTILE, "b"], "c": [HOSTILE, "d"]}, named, facts=None, failed={1: HOSTILE}),
    "six groups": lambda: sweep({"vocab_size": SIZES, "lr": [1e-5 * 2**i for i in range(6)]}),
    "three metrics": lambda: sweep(metrics=[BITS, HIGHER, {**BITS, "name": "x", "label": "長い名前" * 20}]),
    "huge": lambda: sweep({"n": [10**6, 10**9, 10**14]}, lambda v: 1e3 * v["n"], facts=None, width=1e6),
    "tiny": lambda: sweep({"lr": [1e-9, 3e-5]}, lambda v: 1e-7 + v["lr"], facts=None, width=1e-9),
    "flat": lambda: sweep({"n": [1, 2, 3]}, lambda v: 2.0, facts=None, width=0.0),
    "below zero": lambda: sweep({"n": [-2, 0, 2]}, lambda v: v["n"] - 1.0, facts=None),
    "all failed": lambda: sweep({"n": [1, 2]}, failed={0: "out of memory", 1: "no text"}),
    "one group failed": lambda: sweep(failed=dict.fromkeys(range(0, 12, 2), "out of memory")),
    "no facts of some": lambda: sweep(facts=lambda v: {"flops_per_byte": 2e6} if v["vocab_size"] > 999 else {}),
}


@pytest.fixture(params=RESULTS)
def result(request):
    return RESULTS[request.param]()


def findings(result):
    made = Sweep(result)
    return [made.finding(group).replace("\u00a0", " ") for group in made.groups]


def test_the_best_and_what_is_level_with_it_are_said():
    said = findings(sweep())
    assert said[0].startswith(
        "Best on dev: vocab_size 2,048 under equal FLOPs, 2.301 bits/byte [2.281, 2.321] on test."
    )
    assert "1,024 is level with it" in said[0] and "end of the range" not in said[0]
    assert Sweep(sweep()).title() == "Best vocab_size on dev: 2,048 under equal FLOPs and equal text"


def test_neighbours_on_both_sides_are_a_range():
    assert "1,024 to 4,096 are level" in findings(sweep(width=0.04))[0]


def test_values_that_are_not_neighbours_are_listed():
    two_bowls = {512: 2.0, 1024: 2.5, 2048: 2.01, 4096: 2.6, 8192: 2.015, 16384: 2.9}
    said = findings(sweep({"vocab_size": SIZES}, lambda v: two_bowls[v["vocab_size"]]))[0]
    assert "2,048 and 8,192 are level with it" in said


@pytest.mark.parametrize("turn", [1, -1])
def test_a_best_at_an_end_says_that_the_optimum_may_lie_beyond(turn):
    said = findings(sweep({"lr": [1e-4, 1e-3, 1e-2]}, lambda v: 5 + turn * 100 * v["lr"], facts=None))[0]
    assert f"lr {'0.0001' if turn == 1 else '0.01'}," in said and "Every other" in said[: said.index("The best is at")]
    assert "the optimum may lie beyond it" in said


def test_the_order_of_the_list_does_not_hide_an_end():
    said = findings(sweep({"lr": [1e-3, 1e-4, 1e-2]}, lambda v: 5 + 100 * v["lr"], facts=None))[0]
    assert "The best is at the end of the range" in said


def test_level_points_at_an_end_leave_the_optimum_open():
    said = findings(sweep({"n": [1, 2, 3, 4]}, lambda v: [2.0, 1.99, 3, 4][v["n"] - 1], facts=None))[0]
    assert "n 2," in said and "reaches the end of the range" in said


def test_with_one_point_a_group_nothing_is_best():
    assert Sweep(sweep({"vocab_size": [512]})).title() == "One point: nothing to compare"
    result = sweep({"vocab_size": [512], "budget": ["a", "b"]})
    assert Sweep(result).title() == "One point a group: nothing to compare"
    assert "nothing to compare it with" in findings(result)[1]
    failed = sweep(failed=dict.fromkeys(range(0, 12, 2), "out of memory"))
    assert Sweep(failed).title() == "Best vocab_size on dev: 2,048 under equal text"


def test_names_have_no_end():
    assert "end of the range" not in findings(sweep({"n": ["a", "bb"]}, named, facts=None))[0]


def test_when_nothing_is_told_apart_no_winner_is_claimed():
    result = sweep(loss=lambda v: 2.3)
    assert Sweep(result).title() == "No vocab_size is distinguishable from the best"
    assert all("All 6 are level" in said for said in findings(result))


def test_groups_that_differ_are_told_apart_in_the_title():
    def loss(v):
        return bowl(v) if v["budget"] == "equal FLOPs" else 2.3 + 0.1 * abs(log2(v["vocab_size"]) - 13)

    assert Sweep(sweep(loss=loss)).title() == (
        "Best vocab_size on dev: 2,048 under equal FLOPs; 8,192 under equal text"
    )


def test_a_point_that_beats_the_best_of_dev_on_test_is_not_hidden():
    result = sweep({"vocab_size": SIZES})
    against = result["points"][3]["metrics"][BITS["name"]]["against_best"]
    against.update(value=-0.05, low=-0.07, high=-0.03)
    assert "4,096 is clearly better on test, though not on dev" in findings(result)[0]
    assert ">✓ better</td>" in page(result)


def test_higher_can_be_better():
    result = sweep({"n": [1, 2, 3]}, lambda v: 50 - (v["n"] - 2) ** 2, metrics=[HIGHER], facts=None)
    assert "n 2," in findings(result)[0] and "Every other is clearly worse" in findings(result)[0]
    assert "highest mean F1" in page(result) and "F1 (%); higher is better" in page(result)


def test_another_metric_says_chosen_and_not_best():
    result = sweep({"vocab_size": SIZES}, metrics=[BITS, HIGHER])
    body = page(result)
    assert body.count(">◉ best</td>") == 1 and body.count(">◉ chosen</td>") == 1
    assert "Ringed: the best on dev by bits per byte, docs" in body


def test_the_bests_of_groups_are_compared_where_they_can_be():
    result = sweep(GRID, schedules, facts=None, between=True)
    overall = Overall.of(Sweep(result))
    assert headline(Sweep(result)) == "Best on dev: wsd (warmup 0.1); level with it: cosine (warmup 0.1)"
    assert overall.finding().replace("\u00a0", " ") == (
        "Best of all on dev: wsd (warmup 0.1), 2.000 bits/byte [1.980, 2.020] on test. cosine (warmup 0.1) is level "
        "with it: not distinguishable on test. linear (warmup 0.1), constant (warmup 0.1), a (warmup 0.1) and b "
        "(warmup 0.1) are clearly worse on test. Each schedule is taken at its own best warmup."
    )
    assert overall.finding().replace("\u00a0", " ") in lines(result) and "Each at its best warmup" in page(result)
    assert headline(Sweep(RESULTS["no differences"]())) == (
        "No schedule, at its best warmup, is distinguishable from the best"
    )
    result["between"]["against_best"][1].update(value=-0.5, low=-0.6, high=-0.4)
    assert "cosine (warmup 0.1) is clearly better on test, though not on dev" in Overall.of(Sweep(result)).finding()
    assert Overall.of(Sweep(sweep())) is None


def test_what_one_metric_wins_and_another_loses_is_said():
    result = sweep(REPLAY, lambda v: 3 + v["replay"], metrics=[BITS, OTHER], facts=None, before=3.2)
    for p in result["points"]:
        p["metrics"][OTHER["name"]]["dev"]["value"] = -p["values"]["replay"]
    said = [line.replace("\u00a0", " ") for line in lines(result)]
    assert said[0] == "Best replay on dev: 0, by bits per byte, docs"
    assert "Best on dev: replay 0 by bits per byte, docs and replay 0.5 by bits per byte, old." in said
    assert (
        "From base to replay 0 on test: −0.200 [−0.205, −0.195] bits per byte, docs (before: 3.200); "
        "−0.400 [−0.405, −0.395] bits per byte, old (before: 6.400)."
    ) in said
    assert sum(line.startswith("From base") for line in said) == 2  # the ends of the range
    assert not any("From" in line for line in lines(sweep(metrics=[BITS, OTHER])))


def section(result, name):
    return re.search(rf'<section id="{name}">.*?</section>', page(result), re.DOTALL)[0]


@pytest.mark.parametrize(
    ("better", "words"),
    [(("lower", "lower"), "↙ better"), (("lower", "higher"), "↖ better"), (("higher", "higher"), "better ↗")],
)
def test_the_ideal_corner_of_a_trade_is_marked(better, words):
    metrics = [{**m, "better": b} for m, b in zip([BITS, OTHER], better, strict=True)]
    assert f">{words}</text>" in section(sweep({"n": [1, 2]}, named, metrics=metrics, facts=None), "trade")


def test_a_trade_has_a_cross_of_intervals_at_every_value():
    """Three strokes upright and three lying; and two dashed lines through the model that all went on from."""
    drawn = section(RESULTS["replay"](), "trade")
    assert drawn.count('class="whisker"') == 3 * 2 * 3 and drawn.count('class="mark"') == 2
    assert all(f">{value}</text>" in drawn for value in ("0", "0.25", "0.5"))
    assert "where the dashed lines cross" in drawn and "Moved from base" in drawn
    alone = section(sweep(REPLAY, named, metrics=[BITS, OTHER], facts=None), "trade")
    assert 'class="mark"' not in alone and "<table" not in alone
    assert 'id="trade"' not in page(sweep(REPLAY, named, facts=None))


def test_between_names_there_is_no_line():
    assert "<polyline" not in section(RESULTS["traded names"](), "trade")
    assert "<polyline" in section(RESULTS["replay"](), "trade")


def drawings(result):
    return re.findall(r'<svg class="chart".*?</svg>', section(result, "training"), re.DOTALL)


def test_curves_are_drawn_over_each_other_and_by_value():
    """A colour a schedule, a stroke a warm-up; then the trainings of each warm-up, and the rates beside them."""
    overlay, rates, *panels = drawings(RESULTS["schedules"]())
    for drawn in (overlay, rates):
        assert [drawn.count(f'<polyline class="curve {stroke}"') for stroke in ("plain", "dashed", "faint")] == [6] * 3
        assert all(f">{words}</text>" in drawn for words in ("wsd", "b", "warmup 0.01", "warmup 0.1", "warmup 0.4"))
        assert drawn.count(">wsd</text>") == 1
    assert len(panels) == 6 and [drawn.count('class="band"') for drawn in panels] == [6, 0] * 3
    assert {drawn.count("<polyline") for drawn in panels} == {6}
    ticks = {tuple(re.findall(r'class="tick"[^>]*text-anchor="end">([^<]*)', drawn)) for drawn in panels[::2]}
    assert len(ticks) == 1  # one height for all


def test_the_steep_beginning_is_left_out_of_the_scores_and_not_of_the_rates():
    overlay, rates, *_ = drawings(RESULTS["schedules"]())
    starts = [re.search(r'<polyline[^>]*points="([^"]*)"', drawn)[1].split() for drawn in (overlay, rates)]
    assert [len(points) for points in starts] == [11, 20]
    assert "The first half, where most is learned, is left out." in section(RESULTS["schedules"](), "training")

    def slow(values):
        trail = falling(values)["dev_bits_per_byte"]
        return {"dev_bits_per_byte": {"tokens": trail["tokens"], "mean": [9.0 - 0.1 * i for i in range(20)]}}

    def between(values):
        trail = falling(values)["dev_bits_per_byte"]
        return {
            "dev_bits_per_byte": {
                "tokens": trail["tokens"],
                "mean": [max(9 - 1.05 * i, 4.8 - 3.8 * (i - 4) / 15) for i in range(20)],
            }
        }

    for trails, shown in ((slow, 20), (between, 16)):
        (drawn,) = drawings(sweep(REPLAY, named, facts=None, trails=trails))
        assert len(re.search(r'<polyline[^>]*points="([^"]*)"', drawn)[1].split()) == shown


def test_who_is_ahead_halfway_and_at_the_end_is_said():
    def crossing(values):
        mean = [values["n"] + (5 - 2 * values["n"]) * i / 19 for i in range(20)]  # 1, 2 and 3 cross at the middle
        return {"dev_bits_per_byte": {"tokens": [100 * (i + 1) for i in range(20)], "mean": mean}}

    said = section(sweep({"n": [1, 2, 3]}, named, facts=None, trails=crossing), "training")
    assert "Lowest halfway, at 1k tokens: n 1; at the end: n 3." in said


def test_what_was_not_recorded_or_cannot_be_told_apart_is_said():
    assert "Not recorded of replay 0." in section(RESULTS["replay"](), "training")
    assert "more curves than can be told apart" in section(RESULTS["curves of seven"](), "training")
    assert 'id="training"' not in page(sweep())


def test_a_cost_that_is_the_same_everywhere_is_not_drawn():
    assert 'id="cost"' not in page(sweep(facts=lambda v: {"flops_per_byte": 2e6, "weights_read_per_byte": 1e6}))


def test_every_result_is_a_whole_page(result):
    text = page(result)
    shown = Page(text)
    assert not {tag for tag, _ in shown.tags} & {"script", "img", "link", "iframe", "b0"}
    assert not any(name.startswith("on") or name == "src" for _, found in shown.tags for name in found)
    assert not any(char in text for char in "\x00\x1b\ufffe")
    assert all(outside not in text for outside in ("http://", "https://", "@import", "url("))
    assert not re.search(r"(?<![a-z])(nan|inf|None)(?![a-z])", re.sub(r"<style>.*?</style>", "", text))
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text


def test_every_drawing_stays_in_its_frame(result):
    drawn = re.findall(r"<svg.*?</svg>", page(result), re.DOTALL)
    for drawing in drawn:
        found = ElementTree.fromstring(drawing)
        width, height = map(float, found.get("viewBox").split()[2:])
        for e in found.iter():
            for key, most in (("cx", width), ("cy", height), ("x1", width), ("y2", height), ("y", height)):
                assert -0.1 <= float(e.get(key, 0)) <= most + 0.1, (key, ElementTree.tostring(e))


def test_every_metric_is_a_figure_that_stands_alone(result):
    for metric in result["metrics"]:
        found = ElementTree.fromstring(figure(result, metric["name"]))
        assert found.tag == "{http://www.w3.org/2000/svg}svg" and found.get("aria-label")
        style = found.find("{http://www.w3.org/2000/svg}style").text
        assert "prefers-color-scheme: dark" in style and "--paper" in style and "body" not in style


def test_a_figure_of_what_was_not_measured_is_refused():
    with pytest.raises(JourneyError, match=r"did not measure loss; it has bits_per_byte\.docs"):
        figure(sweep(), "loss")


def test_the_terminal_shows_every_point_and_obeys_no_value(result):
    said = lines(result)
    assert not any(char in line for line in said for char in "\x00\x1b\u202e")
    values = next(a["values"] for a in result["axes"] if a["name"] == result["x"])
    if result["name"] and all(isinstance(v, int | float) for v in values):
        starts = [line.split("  ")[0] for line in said]
        assert all(starts.count(typed(v)) == len(result["groups"]) for v in values)


def test_the_terminal_table():
    said = lines(sweep({"vocab_size": SIZES}, failed={1: "out of\nmemory"}))
    assert "512     2.365 [2.345, 2.385]             +0.064 [+0.044, +0.084]  worse" in said
    assert "2,048   2.301 [2.281, 2.321]             –                        best" in said
    assert "1,024   failed" in said and "1,024 failed: out of memory" in said


def marks(svg):
    """Fill and hover text of each point of a plot."""
    return re.findall(r'<g><title>([^<]*)</title>(?:(?!</g>).)*?class="(solid|hollow)"', svg)


def test_what_is_level_is_filled_and_the_best_is_ringed():
    drawn = figure(sweep({"vocab_size": SIZES}), BITS["name"])
    found = {said.split(":")[0]: style for said, style in marks(drawn)}
    assert [found[f"vocab_size {typed(v)}"] for v in SIZES] == [
        "hollow",
        "solid",
        "solid",
        "hollow",
        "hollow",
        "hollow",
    ]
    assert len(re.findall(r'class="ring"', drawn)) == 2  # the point and the legend


def test_each_seed_is_a_dot_but_one_alone_is_the_point_itself():
    drawn = figure(sweep({"vocab_size": SIZES}), BITS["name"])
    assert drawn.count('class="seed"') == 3 * len(SIZES) + 1
    assert 'class="seed"' not in figure(sweep({"vocab_size": SIZES}, seeds=1), BITS["name"])


def test_one_seed_is_said_to_be_one():
    assert "over the documents of test alone" in page(sweep(seeds=1))
    assert "over 3 seeds (0, 1 and 2) and the documents of test" in page(sweep())


def test_failures_and_lost_seeds_are_shown():
    result = sweep({"vocab_size": SIZES}, failed={5: "out of <memory>\n at step 3"})
    result["points"][0]["runs"].pop()
    text = page(result)
    assert "failed: out of &lt;memory&gt; at step 3" in text and "2 of 3 seeds" in text
    assert 'class="cross"' in text and "1 of 6 failed." in text
    assert Page(page(RESULTS["all failed"]())).text.count("every run failed") == 1


def test_many_groups_are_drawn_apart_over_the_same_range():
    drawn = re.findall(r'<svg class="chart".*?</svg>', page(RESULTS["six groups"]()), re.DOTALL)
    apart = [d for d in drawn if 'class="title"' in d]
    grids = {tuple(re.findall(r'class="tick"[^>]*text-anchor="end">([^<]*)', d)) for d in apart}
    assert len(apart) == 6 and len(grids) == 1


def test_costs_that_groups_share_are_one_line():
    one = re.search(r'<section id="cost">.*?</section>', page(sweep()), re.DOTALL)[0]
    assert one.count("<polyline") == 2
    apart = page(sweep(facts=lambda v: {"flops_per_byte": v["vocab_size"] + 9.0 * len(v["budget"])}))
    assert re.search(r'<section id="cost">.*?</section>', apart, re.DOTALL)[0].count("<polyline") == 2
    assert 'id="cost"' not in page(sweep(facts=None))


def test_missing_ends_of_an_interval_are_left_out():
    result = sweep({"vocab_size": SIZES})
    for p in result["points"]:
        p["metrics"][BITS["name"]]["test"].update(low=None, high=nan)
    assert "2.301" in page(result) and '"whisker"' not in figure(result, BITS["name"])
    assert "vocab_size 2,048, 2.301 bits/byte on test." in findings(result)[0]


def test_axes_are_logarithmic_where_values_span_eight_times():
    at, ticks = values_axis([512, 1024, 4096], True, 0, 300)
    assert at(1024) == pytest.approx(100) and [name for _, name in ticks] == ["512", "1k", "4k"]
    at, _ = values_axis([1, 2, 7], True, 0, 300)
    assert at(2) == pytest.approx(50)
    assert is_wide(1.0, 8.0) and not is_wide(1.0, 7.0) and not is_wide(-1.0, 8.0)
    at, _ = y_axis([1.0, 10.0], True, True, 300, 0)
    assert at(10**0.5) == pytest.approx(150)


def test_ticks_that_would_touch_are_left_out_but_the_ends_stay():
    _, ticks = values_axis([*range(1000, 1040)], True, 0, 300)
    names = [name for _, name in ticks]
    assert names[0] == "1,000" and names[-1] == "1,039" and 3 < len(names) < 10


def test_logarithmic_ticks_enclose_what_is_drawn():
    for low, high in ((1e-9, 1e9), (0.3, 9.9), (7, 7000), (1, 8), (2.0, 2e17), (99.9, 1000.1)):
        found = log_ticks(low, high)
        assert found[0] <= low * 1.001 and found[-1] >= high * 0.999 and 2 <= len(found) <= 12


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, "true"),
        (None, "null"),
        (2048, "2,048"),
        (3e-5, "3e-5"),
        (0.1, "0.1"),
        (10**18, "1e18"),
        (-5, "−5"),
        (1.0, "1"),
    ],
)
def test_values_are_written_as_one_would_type_them(value, said):
    assert typed(value) == said


def test_short_numbers():
    assert compacted([512, 1024, 1048576]) == ["512", "1k", "1M"]
    assert compacted([500, 1000, 1500, 2e6]) == ["500", "1k", "1.5k", "2M"]
    assert compacted([1000, 1001]) == ["1,000", "1,001"]
    assert [compact(v) for v in (0, 500, 1.5e6, 2e10, 1e-5)] == ["0", "500", "1.5M", "20G", "1e-5"]


def test_words_are_cut_by_their_width():
    assert short("bits per byte", 13) == "bits per byte" and short("bits per byte", 9) == "bits per…"
    assert width(short("長" * 10**6, 20)) <= 20 * 7.5


def test_digits_follow_the_interval():
    point = Sweep(RESULTS["tiny"]()).points[0]
    assert numbers(point.estimate(Sweep(RESULTS["tiny"]()).metrics[0])) == (
        "1.010\u00a0×\u00a010⁻⁷",
        "[1.000\u00a0×\u00a010⁻⁷, 1.020\u00a0×\u00a010⁻⁷]",
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_in_a_browser_every_page_is_silent_and_fits(tmp_path, screen):
    browser = Browser(tmp_path / "profile")
    try:
        for i, (name, made) in enumerate(RESULTS.items()):
            path = tmp_path / f"{i}.html"
            path.write_text(page(made()), encoding="utf-8")
            browser.open(path, screen)
            methods = {e.get("method") for e in browser.events}
            assert not methods & {"Runtime.consoleAPICalled", "Log.entryAdded", "Runtime.exceptionThrown"}, name
            assert sum(e.get("method") == "Network.requestWillBeSent" for e in browser.events) == 1
            browser.value("document.querySelectorAll('details').forEach(d => { d.open = true })")
            assert browser.value("document.documentElement.scrollWidth") <= screen["width"], name
            beyond = "[...document.querySelectorAll('svg text')].filter(e => { const a = e.getBoundingClientRect(), "
            beyond += (
                "b = e.closest('svg').getBoundingClientRect(); return a.left < b.left - 1 || a.right > b.right + 1 "
            )
            beyond += "|| a.bottom > b.bottom + 1 }).map(e => e.textContent)"
            assert browser.value(beyond) == [], name
    finally:
        browser.close()
