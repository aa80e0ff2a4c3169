"""The page of a life: self-contained, well-formed, whole with parts missing, and true to the files it is made from."""

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from journey import life, measuring
from journey.errors import JourneyError
from journey.expected import COST, DID_NOT, judged
from journey.life.workspace import Life
from journey.measures import MEASURES, load
from journey.report.format import number, numbers
from journey.scores import SIZE, Effect, estimates

from ..conftest import call
from ..report.test_blocks import Html
from .scorers import MODELS, NASTY

Make = Callable[..., Path]


def read(workspace: Path) -> tuple[str, Html]:
    path = life.build(workspace)
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 5e6
    return text, Html(text)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, make: Make) -> Path:
    """A whole life, of which tests only read."""
    return make(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def whole(workspace: Path) -> tuple[str, Html]:
    return read(workspace)


def ids(page: Html) -> list[str]:
    return [str(found["id"]) for _, found in page.tags if "id" in found]


def section(text: str, id: str) -> str:
    """The HTML of a section, to where the next of its level begins."""
    level = {"1": "2"}.get(id, "3" if id.startswith("stage-") else "2")
    start = text.index(f'<section id="{id}">')
    ends = [m.start() for m in re.finditer(rf'<section id="[^"]*"><h[2-{level}]', text) if m.start() > start]
    return text[start : ends[0] if ends else len(text)]


def words(html: str) -> str:
    """What is read, in single spaces."""
    return " ".join(unescape(re.sub("<[^>]*>", " ", html)).split())


def said(effect: Effect) -> str:
    """Number, unit and interval as the page has them."""
    value, ends = numbers(effect.size, sign=effect.signed)
    unit = f"\u00a0{effect.size.unit}" if effect.size.unit else ""
    return " ".join(f"{value}{unit} {ends}".split())


def test_self_contained_and_well_formed(whole: tuple[str, Html]) -> None:
    text, page = whole
    outside = [v for _, found in page.tags for k, v in found.items() if k in ("src", "srcset", "action", "data")]
    links = [str(found["href"]) for _, found in page.tags if "href" in found]
    assert outside == [] and all(link[0] == "#" and link[1:] in ids(page) for link in links)
    tags = [tag for tag, _ in page.tags]
    assert not [key for _, found in page.tags for key in found if key.startswith("on")] and "script" not in tags
    assert "http://" not in text and "https://" not in text and "@import" not in text and "url(" not in text
    assert len(ids(page)) == len(set(ids(page)))
    assert {"header", "nav", "main", "footer", "h1"} <= set(tags) and tags.count("h1") == 1
    assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text) == []


def test_every_picture_says_what_it_shows(whole: tuple[str, Html]) -> None:
    text, page = whole
    assert text.count("<svg") > 20
    for svg in re.findall("<svg[^>]*>", text):
        assert 'aria-hidden="true"' in svg or re.search('role="img" aria-label="[^"]{20,}"', svg), svg
    assert not re.search(r"\bnan\b", text, re.IGNORECASE) and "None" not in page.text.replace("ord=None", "")


def test_model_text_is_text(whole: tuple[str, Html]) -> None:
    text, page = whole
    assert "<script" not in text and "&lt;script&gt;alert(&quot;x&quot;)" in text
    assert "<script>alert" in page.text and "<|end|>" in page.text and "\u2400" in page.text and "\ufffd" in page.text
    assert "unicode-bidi: isolate" in text


HEADLINE = [
    ("base", "bits_per_byte.docs vs bigram"),
    ("base", "bits_per_byte.docs vs trigram"),
    ("coder", "bits_per_byte.code"),
    ("coder", "bits_per_byte.docs"),
    ("chat", "ends_by_itself"),
    ("chat", "answer_loss.right"),
    ("preferred", "preference_accuracy vs chance"),
    ("preferred", "policy_kl"),
    ("gguf", "bits_per_byte.q8_0 vs fp32"),
    ("gguf", "bits_per_byte.q4_0 vs fp32"),
    ("index", "recall_at_5.not_named"),
    ("index", "answer_loss.retrieved vs none"),
]


def test_the_headline_holds_the_numbers_and_their_verdicts(make_workspace: Make) -> None:
    """A row a stage, in the order of the life: its number, and the changes that it stands for."""
    workspace = make_workspace()
    every_text_equal(workspace)
    whole = read(workspace)
    found = {(e.node, e.key): e for effects in Life.read(workspace).effects.values() for e in effects}
    head = whole[0][: whole[0].index("<nav")]
    rows = dict(zip([e.name for e in Life.read(workspace).entries], head.split("<li class=")[1:], strict=True))
    for at, (name, html) in enumerate(rows.items(), 1):
        assert f"<i>{at}</i>{name}</a>" in html and f'href="#stage-{name}"' in html
    verdicts = []
    for stage, key in HEADLINE:
        effect = found[stage, key]
        assert said(effect) in words(rows[stage]), (stage, key)
        if effect.verdict != SIZE:
            verdicts.append(effect.verdict)
            assert f'title="{effect.verdict}"' in rows[stage]
    for verdict in ("clear", "worse"):
        assert head.count(f'title="{verdict}"') == verdicts.count(verdict) > 2


def every_text_equal(workspace: Path) -> None:
    (path,) = workspace.glob("measurements/*/quantized.json")
    taken = json.loads(path.read_text())
    taken["items"]["texts"]["equal"] = [True] * 9
    path.write_text(json.dumps(taken))


def test_texts_that_llama_cpp_cuts_otherwise_stand_on_the_first_screen(make_workspace: Make) -> None:
    """Of the fixture's files 40 of 40 prompts are cut alike, and 7 of 9 texts: the fault comes before all else."""
    workspace = make_workspace()
    head = read(workspace)[0].partition("<nav")[0]
    assert "77.8 % [45.3, 93.7] held-out documents cut into the same ids by llama.cpp" in words(head)
    assert "chat prompts cut into" not in head
    every_text_equal(workspace)
    assert "cut into the same ids" not in read(workspace)[0].partition("<nav")[0]


def test_every_effect_stands_in_the_section_of_its_stage(whole: tuple[str, Html], workspace: Path) -> None:
    """With its question, number, interval, verdict, what to compare it with and how many items; how it was counted is
    a note."""
    text, _ = whole
    notes = words(section(text, "how"))
    found = Life.read(workspace).effects
    assert [len(found[name]) for name in ("docs", "tokenizer", "coder", "gguf", "index")] == [0, 2, 14, 5, 10]
    for name, effects in found.items():
        own = words(section(text, f"stage-{name}"))
        for e in effects:
            asked = own[own.index(" ".join(e.question.split())) :]
            assert asked.startswith(" ".join(f"{e.question} {said(e)}".split())), (name, e.key)
            about = " ".join(f"{e.verdict} {e.compare} · n\u00a0=\u00a0{e.size.n:,}".split())
            assert about in asked, (name, e.key)
            assert " ".join(e.size.convention.split()) in notes, (name, e.key)


def test_what_a_stage_is_for_comes_first(whole: tuple[str, Html], workspace: Path) -> None:
    """Then the rest of what changed; what every model is measured by is folded."""
    for stage, first, folded in (
        ("coder", "bits_per_byte.docs", "repeat.second vs first"),
        ("chat", "answer_loss.right", "choices.acc_norm vs chance"),
        ("preferred", "preference_accuracy vs chance", "repeat.second vs first"),
    ):
        own = section(whole[0], f"stage-{stage}")
        changed = words(own[own.index("What it changed") :])
        questions = {e.key: e.question for e in Life.read(workspace).effects[stage]}
        assert changed.startswith(f"What it changed {questions[first]}"), stage
        by_itself = own.index("And by itself, as every model is measured")
        assert questions[folded] in own[by_itself:] and questions[folded] not in own[:by_itself]


def test_names_are_text(make_workspace: Make) -> None:
    workspace = make_workspace(planned="coder")
    plan = json.loads((workspace / "plan.json").read_text().replace('"base"', json.dumps('b<i>"&*_`')))
    (workspace / "plan.json").write_text(json.dumps(plan | {"recipe": NASTY}))
    text, page = read(workspace)
    assert "<script" not in text and "<i>&quot;" not in text and 'b<i>"&*_`' in page.text
    assert [
        link for _, found in page.tags if "href" in found and (link := str(found["href"]))[1:] not in ids(page)
    ] == []


def test_every_number_that_was_measured_is_shown(whole: tuple[str, Html], workspace: Path) -> None:
    found = words(whole[0])
    for entry in Life.read(workspace).entries:
        for measure, taken in entry.taken.items():
            for key, e in estimates(taken).items():
                if key == "recall_at_5":  # of both kinds of questions together: there only to be compared
                    continue
                value, ends = numbers(e)
                pattern = rf"{re.escape(value)}( {e.unit})?,? (95 % )?{re.escape(ends)}"
                assert re.search(pattern, found), (entry.name, measure, key)


def test_every_chapter_is_there_with_its_measure(whole: tuple[str, Html], workspace: Path) -> None:
    text, page = whole
    life = Life.read(workspace)
    chapters = [name for name in MEASURES if load(name).of != "tokenizer" and life.seen(name)]
    assert len(chapters) == 11  # costs are measured where a recipe asks for them
    order = [id for id in ids(page) if id in chapters]
    firsts = [name for name in chapters if load(name).first]
    assert set(order[: len(firsts)]) == set(firsts) and set(order) == set(chapters)
    for name in chapters:
        found = section(text, name)
        assert f"<h2>{load(name).title}" in found and len(found) > 1000
    for name in MODELS:  # in the charts and tables of every measure of models
        for chapter in ("bits_per_byte", "multiple_choice", "repeats", "answers", "greedy", "samples"):
            assert name in words(section(text, chapter)), (name, chapter)
    moved = words(section(text, "against_parent"))
    assert all(f"{a} → {b}" in moved for a, b in (("base", "coder"), ("coder", "chat"), ("chat", "preferred")))
    assert "self_attn.q_proj" in moved and "embed_tokens" in moved
    assert "CKA by layer" in section(text, "against_parent")
    assert "7 of 9 held-out documents exactly as ours does. 2 differ" in words(section(text, "quantized"))
    assert "same_ids.texts" in {e.key for e in life.effects["gguf"]}  # and as a number, in its stage
    assert "numpy.linalg.norm" in section(text, "timeline") and "3 decode steps" in section(text, "timeline")


def test_the_matrix_of_change_has_a_row_a_stage_and_a_column_a_score(whole: tuple[str, Html], workspace: Path) -> None:
    text = section(whole[0], "changed")
    bits, abilities = (part.split("</table>")[0] for part in text.split("<table")[1:])
    for part, columns in ((bits, 2), (abilities, 5)):
        assert part.count('<th scope="col">') == 1 + columns
        assert [words(row) for row in re.findall('<th scope="row".*?</th>', part)] == [
            "base → coder", "coder → chat", "chat → preferred",
        ]  # fmt: skip
    by_key = {e.key: e for e in Life.read(workspace).effects["coder"]}
    for key in ("bits_per_byte.docs", "bits_per_byte.code", "choices.acc_norm", "answer_length"):
        assert " ".join(numbers(by_key[key].size, sign=True)) in words(text)
    assert "good-heat" in bits and "bad-heat" in bits and "≈" in abilities


def test_the_lineage_says_where_everything_came_from(whole: tuple[str, Html], workspace: Path) -> None:
    found = words(section(whole[0], "lineage"))
    for entry in Life.read(workspace).entries:
        assert f"{entry.name} {entry.node.id[:12]} {entry.kind}" in found  # type: ignore[union-attr]
    assert "base, code" not in found and "coder 04abababa" in found
    for thing in (
        "torch 2.13.0",
        "Python 3.11.9",
        "AMD EPYC 7B13, 2 cores",
        "0123456789abcdef",
        "c0ffeec0ffee",
        "5d5d5d5d",
    ):
        assert thing in found


def test_every_stage_shows_its_curves_settings_and_what_it_tells(whole: tuple[str, Html]) -> None:
    text, _ = whole
    for name in MODELS:
        own = section(text, f"stage-{name}")
        assert f"Training loss of {name}" in own and "Settings" in own and "1,350,144" in own
    assert "Dev bits per byte of coder" in section(text, "stage-coder") and "Dev loss of chat" in section(
        text, "stage-chat"
    )
    assert "bigram" in section(text, "stage-base")[: section(text, "stage-base").index("What it changed")]
    assert "nats/pair" in section(text, "stage-preferred")
    docs = words(section(text, "stage-docs"))
    assert "train 25,310" in docs and "1.2 %" in docs and "3,102 exact duplicates were dropped" in docs
    pairs = words(section(text, "stage-pairs"))
    assert "train 24" in pairs and "chosen, scored 0.50" in pairs and "<script>alert" in pairs
    tokenizer = words(section(text, "stage-tokenizer"))
    assert "1 would be bytes alone" in tokenizer and "tokens in the vocabulary" in words(text)


def test_what_is_no_model_stands_in_no_chapter_on_models(workspace: Path) -> None:
    life = Life.read(workspace)
    assert [e.name for e in life.entries if e.is_model] == ["base", "coder", "chat", "preferred"]
    assert [e.name for e in life.entries if e.taken and not e.is_model] == ["tokenizer", "gguf", "index"]
    assert life.parent(life.entries[-1]).name == "preferred"  # type: ignore[union-attr]
    assert {s.name for s in life.seen("bits_per_byte")} == set(MODELS) and [s.name for s in life.seen("quantized")] == [
        "gguf"
    ]
    colours = [life.colour(e) for e in life.entries if e.is_model]
    assert colours == [0, 1, 2, 3] == [s.colour for s in life.seen("samples")]


def test_effects_follow_the_lineage(workspace: Path) -> None:
    life = Life.read(workspace)
    for name, parent in (("coder", "base"), ("chat", "coder"), ("preferred", "chat")):
        (change,) = [e for e in life.effects[name] if e.key == "bits_per_byte.docs"]
        assert f"in {parent}" in change.compare and change.question == f"Does it predict docs better than {parent}?"
        assert f"How far did its predictions on docs move from {parent}'s?" in [e.question for e in life.effects[name]]
    assert not [e for e in life.effects["base"] if e.signed and "vs" not in e.key]
    assert measuring.effects({}, "x", life.entries[3].taken, "base") == []


def test_what_the_pocket_life_expects_is_judged(whole: tuple[str, Html], workspace: Path) -> None:
    life = Life.read(workspace)
    outcomes = {}
    for entry in life.entries:
        for each in life.expected.get(entry.name, ()):
            (shown,) = judged([each], entry.name, entry.taken, life.effects[entry.name])
            outcomes[entry.name, each.key, each.against or each.word] = shown.verdict
            chapter = words(section(whole[0], "expected"))
            assert words(str(shown.question).replace("**", "")) in chapter and shown.verdict in chapter
            assert " ".join(numbers(shown.estimate, sign=shown.sign)[1].split()) in chapter
    assert len(outcomes) == 17
    assert outcomes["preferred", "policy_kl", "cost"] == outcomes["gguf", "bits_per_byte.q4_0", "fp32"] == COST
    assert outcomes["index", "recall_at_5.not_named", "size"] == SIZE
    assert outcomes["base", "bits_per_byte.docs", "bigram"] == outcomes["coder", "bits_per_byte.code", ""] == "came out"
    assert outcomes["gguf", "bits_per_byte.q8_0", "fp32"] == outcomes["index", "recall_at_5.named", ""] == "came out"
    assert DID_NOT not in outcomes.values()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"measured": ()}, "No model has been measured yet"),
        ({"measured": ("tokenizer",)}, "No model has been measured yet"),
        ({"measured": ("base",)}, "No stage has gone on from a measured model yet"),
        ({"until": "base"}, "has not run yet"),
        ({"until": "docs"}, "1 of 10 have run"),
        ({"until": "docs", "planned": "chat"}, "1 of 6 have run"),
        ({"until": "pairs"}, "pairs of answers, ranked"),
    ],
)
def test_a_life_in_the_middle(make_workspace: Make, options: dict, found: str) -> None:
    _, page = read(make_workspace(**options))
    assert found in page.text


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"until": "chat"}, {"preferences", "quantized", "retrieval", "timeline"}),
        ({"until": "preferred"}, {"quantized", "retrieval", "timeline"}),
        ({"measured": ("base", "coder", "chat", "preferred", "gguf")}, {"retrieval", "timeline"}),
        ({"measures": ("bits_per_byte",)}, {"samples", "answers", "greedy", "multiple_choice", "repeats"}),
        ({"questions": 0, "choices": 0}, {"answers", "greedy", "multiple_choice", "retrieval", "timeline"}),
    ],
)
def test_what_was_not_measured_has_no_chapter_and_nothing_else_is_missing(
    make_workspace: Make, options: dict, missing: set[str]
) -> None:
    _, page = read(make_workspace(**options))
    assert not missing & set(ids(page)) and {"changed", "stages", "bits_per_byte", "lineage", "how"} <= set(ids(page))


def test_a_life_without_later_stages_has_no_chapters_on_them(make_workspace: Make) -> None:
    _, page = read(make_workspace(planned="chat"))
    later = {"timeline", "preferences", "quantized", "retrieval"}
    assert not later & set(ids(page)) and {"changed", "bits_per_byte", "samples", "stage-chat"} <= set(ids(page))
    assert "to a chat model" in page.text


def test_a_recipe_that_expects_nothing_has_no_such_chapter(make_workspace: Make) -> None:
    workspace = make_workspace(planned="base")
    assert "expected" in ids(read(workspace)[1])
    plan = json.loads((workspace / "plan.json").read_text())
    (workspace / "plan.json").write_text(json.dumps(plan | {"expect": {}}))
    assert "expected" not in ids(read(workspace)[1])


def test_an_imported_checkpoint_begins_a_life(make_workspace: Make) -> None:
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
    head = text[: text.index("<nav")]
    assert "From an imported checkpoint" in head and "random weights" not in head
    assert "logits within 2.4\u00a0×\u00a010⁻⁵ of the source's" in page.text
    assert "The padded vocabulary was cut." in page.text and "no &lt;b&gt;" in text


def test_models_that_cannot_be_compared_say_why(make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(planned="coder")
    (path,) = workspace.glob("measurements/04*/against_parent.json")
    taken = json.loads(path.read_text())
    skipped = {"items": {}, "scores": [], "facts": {"skipped": "they have different tokenizers"}}
    path.write_text(json.dumps(taken | skipped))
    assert "base → coder: not compared, they have different tokenizers." in read(workspace)[1].text


def test_a_node_of_another_plan_has_not_run(make_workspace: Make) -> None:
    workspace = make_workspace()
    plan = json.loads((workspace / "plan.json").read_text())
    plan["stages"][-1]["id"] = "ff" * 32
    (workspace / "plan.json").write_text(json.dumps(plan))
    last = Life.read(workspace).entries[-1]
    assert last.node is None and not last.taken and last not in Life.read(workspace).done
    assert "9 of 10 have run" in read(workspace)[1].text


def test_no_plan_is_one_clear_line_and_so_is_one_of_before(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match=r"no plan\.json"):
        life.build(tmp_path)
    (tmp_path / "plan.json").write_text('{"recipe": "pocket", "seed": 0, "stages": []}')
    with pytest.raises(JourneyError, match="was made by an older Journey: give --workspace elsewhere, or delete it"):
        life.build(tmp_path)


SIZES = ("documents", "questions", "choices", "pairs", "sequences")


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("what", [*SIZES, "everything"])
def test_of_a_few_items_little_is_said_and_nothing_breaks(make_workspace: Make, what: str, n: int) -> None:
    """`eval`, `tree`, `diff` and the page, of every kind of node."""
    workspace = make_workspace(**{size: n for size in SIZES if what in (size, "everything")})
    at = ("--workspace", workspace, "--json")
    assert all(m["n"] > 1 for node in call("tree", *at).json["nodes"] for m in node["metrics"].values() if m["n"])
    for name in ("tokenizer", "base", "coder", "preferred", "gguf", "index"):
        output = call("eval", name, *at)
        assert output.code == 0, output.err
        assert all(m["n"] > 1 for m in output.json["metrics"].values())
    output = call("diff", "base", "chat", *at)
    if what == "everything" and n < 2:
        assert output.code == 2 and "nothing was measured at both" in output.json["error"]
    else:
        assert output.code == 0 and all(m["n"] > 1 for m in output.json["metrics"].values()), output.err
    text, page = read(workspace)
    assert not re.search(r"\bnan\b", text, re.IGNORECASE) and "has not run yet" not in page.text
    assert number(None) in page.text
