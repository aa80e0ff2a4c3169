import math
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journey.data.language import LANGUAGES, guess
from journey.errors import JourneyError
from journey.evaluate.endpoint import Refused, Unanswered
from journey.evaluate.judge import Question
from journey.evaluate.suite import checks, variants, views
from journey.evaluate.suite.example import example
from journey.evaluate.suite.reading import Shot, filled, read
from journey.evaluate.suite.running import Scored, Written, converse, flips, plan, run

NL = "\n"


@pytest.fixture
def suite(tmp_path):
    """Reads a suite of this text, which lies in mine.yaml."""

    def make(text, encoding="utf-8"):
        path = tmp_path / "mine.yaml"
        path.write_bytes(text.encode(encoding))
        return read(path)

    return make


def one(check, prompt="p"):
    return f"items:\n  - prompt: {prompt}\n    checks:\n      - {check}\n"


class Model:
    """Answers by `says(prompt)`, likes the options as `likes(prompt)` says, and has room for `n_ctx` words."""

    id = "model"

    def __init__(self, says=lambda prompt: "Paris", likes=lambda prompt: [-1.0, -2.0], n_ctx=1000):
        self.says, self.likes, self.n_ctx, self.asked = says, likes, n_ctx, []

    def write(self, prompts):
        self.asked += prompts
        return [Written(self.says(p), 3, True, max(0, len(p.text.split()) - self.n_ctx)) for p in prompts]

    def logprobs(self, prompts):
        self.asked += prompts
        return [Scored(tuple(self.likes(p))) for p in prompts]


# Reading


def test_the_example_has_every_kind_of_check_and_is_read(suite):
    made = suite(example())
    assert {check.kind for item in made.items for check in item.checks} == set(checks.KINDS)
    assert made.name == "my suite" and made.shots == (Shot("What is the capital of Italy?", " Rome"),)
    capital = made.items[0]
    assert (capital.id, capital.tags, len(capital.checks)) == ("capital", ("facts", "geography"), 3)
    assert capital.checks[0].where.endswith("mine.yaml:26")
    assert made.items[-1].swaps == ({"name": "Mary"}, {"name": "John"}, {"name": "Mehmet"})


def test_text_is_taken_as_it_was_written(suite):
    """YAML 1.1 would make true, 1.1, 8, a date, 90 and a date of them."""
    written = ["yes", "NO", "1.10", "010", "2026-01-01", "1:30", "true", "42", "1_000"]
    made = suite("items:\n" + "".join(f"  - {{prompt: p{i}, checks: [exact: {w}]}}\n" for i, w in enumerate(written)))
    assert [item.checks[0].rule.text for item in made.items] == written
    enum = suite(one("json: {enum: [yes, no, 2026-01-01, true]}")).items[0].checks[0].rule.schema["enum"]
    assert enum == ["yes", "no", "2026-01-01", True]


def test_a_byte_order_mark_is_no_part_of_the_first_key(suite):
    assert suite("\ufeff" + one("contains: a")).items[0].prompt == "p"


def test_anchors_are_written_out(suite):
    made = suite("items:\n  - {prompt: a, checks: &c [contains: x]}\n  - {prompt: b, checks: *c}\n")
    assert made.items[0].checks[0].rule == made.items[1].checks[0].rule


def test_what_no_repetition_goes_without_saying(suite):
    written = ["no_repetition", "no_repetition: true", "no_repetition: 1", "no_repetition: {n: 2}"]
    rules = [suite(one(text)).items[0].checks[0].rule for text in written]
    assert [(rule.most, rule.n) for rule in rules] == [(0.2, 4), (0.2, 4), (1, 4), (0.2, 2)]


def test_ids_stay_when_an_item_is_put_before(suite):
    last = suite("items:\n  - {prompt: a, checks: [no_repetition]}\n  - {prompt: b, checks: [no_repetition]}\n").items[
        1
    ]
    assert suite("items:\n  - {prompt: b, checks: [contains: y]}\n").items[0].id == last.id


GOOD = "  - {prompt: a, checks: [contains: x]}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"mine.yaml: a suite is a mapping with items: `journey eval init`"),
        ("- a\n", r"a suite is a mapping"),
        ("name: x\n", r"items must be a list of at least one"),
        ("name: x\nitems: []\n", r":2: items must be a list of at least one"),
        ("name: x\nitem: []\n", r':2: unknown key "item", did you mean "items"\?'),
        ("items:\n  - prompt: a\n    check: []\n", r':3: unknown key "check", did you mean "checks"\?'),
        ("items:\n  - just text\n", r":2: give a mapping with id, prompt"),
        ("items:\n  - checks: [contains: x]\n", r":2: prompt is missing"),
        ("items:\n  - prompt:\n    checks: [contains: x]\n", r":2: prompt must be text, and nothing stands there"),
        ('items:\n  - prompt: " "\n    checks: [contains: x]\n', r":2: prompt is empty"),
        ("items:\n  - prompt: [a]\n    checks: [contains: x]\n", r":2: prompt must be text, and a list"),
        ("items:\n  - prompt: {first} is\n", r"mine.yaml:2: not valid YAML"),
        ("items:\n  - prompt: a\n", r":2: checks are missing"),
        ("items:\n  - prompt: a\n    checks: []\n", r":3: checks must be a list of at least one"),
        ("items:\n  - prompt: a\n    checks: {contains: x}\n", r":3: checks must be a list .*, as in"),
        (one("{contains: x, length: {most: 3}}"), r":4: a check is one kind and what it wants"),
        (one("contain: x"), r':4: unknown check "contain", did you mean "contains"\?'),
        (one("contains:"), r":4: contains must be text, and nothing"),
        (one("contains: []"), r":4: contains is an empty list"),
        (one("contains: [a, null]"), r":4: contains must be text, and nothing"),
        (one("contains: {}"), r":4: contains needs a text"),
        (one("contains: {al: x}"), r':4: unknown key "al", did you mean "all"\?'),
        (one("contains: {all: x, ignore_case: 1}"), r":4: ignore_case: must be true or false"),
        (one("exact"), r":4: exact must be text"),
        (one('regex: "(a"'), r':4: regex "\(a" is none: missing \)'),
        (one("json: {type: objekt}"), r":4: no JSON schema: 'objekt' is not valid"),
        (one("json: " + "{not: " * 150 + "true" + "}" * 150), r":4: a JSON schema that is nested too deeply"),
        (one('json: {pattern: "("}'), r":4: no JSON schema: '\(' is not a 'regex'"),
        (one("json"), r":4: json needs a JSON schema"),
        (one('json: {$ref: "http://x/y"}'), r':4: "\$ref": "http://x/y" lies outside'),
        (one("number: many"), r':4: number must be a number, as in 4200 or 0.5, not "many"'),
        (one("number: .nan"), r":4: number must be a number"),
        (one("number: 1,2,3"), r":4: number must be a number"),
        (one("number: {value: 1, tolerance: -1}"), r":4: tolerance: must be at least 0"),
        (one("number: {tolerance: 1}"), r":4: value is missing"),
        (one("choice: a"), r':4: choice "a" is none of the choices \(there are: none: give the item choices\)'),
        (one("length: {least: 9, most: 3}"), r":4: no length is at least 9 and at most 3"),
        (one("length: {}"), r":4: length needs least, most or both"),
        (one("length: {most: 3, unit: word}"), r':4: unit: must be one of .* did you mean "words"\?'),
        (one("length: many"), r":4: length: must be a whole number"),
        (one("no_repetition: {most: 2}"), r":4: most: must be at least 0 and at most 1"),
        (one("no_repetition: no"), r":4: no_repetition: must be a number"),
        (one("language: klingon"), r':4: language "klingon" cannot be told \(there are: en, de'),
        (one("judge: {least: 3}"), r":4: criterion is missing"),
        (one("judge: {criterion: good, least: 11}"), r":4: least: must be at least 1 and at most 10"),
        ("items:\n" + GOOD + GOOD, r":3: the prompt stands at .*mine.yaml:2 too: give each item an id"),
        ("items:\n" + GOOD.replace("{", "{id: x, ") + GOOD.replace("a,", "b, id: x,"), r':3: the id "x" stands at'),
        ("name: a\nname: b\nitems:\n" + GOOD, r':2: "name" stands here twice'),
        ("chat: maybe\nitems:\n" + GOOD, r":1: chat must be true or false"),
        ("max_new_tokens: 0\nitems:\n" + GOOD, r":1: max_new_tokens must be a whole number from 1"),
        ("max_new_tokens: yes\nitems:\n" + GOOD, r":1: max_new_tokens must be a whole number from 1"),
        ("template: hello\nitems:\n" + GOOD, r":1: template must have \{prompt\} in it"),
        ("shots: {}\nitems:\n" + GOOD, r":1: shots must be a list"),
        ("shots:\n  - {prompt: a}\nitems:\n" + GOOD, r":2: answer is missing"),
        ("robustness: [typo]\nitems:\n" + GOOD, r':1: unknown perturbation "typo", did you mean "typos"\?'),
        ("toxic: none.txt\nitems:\n" + GOOD, r":1: .*none.txt is missing: give a text file"),
        ("items:\n  - {prompt: a, choices: [x], checks: [choice: x]}\n", r":2: choices must be two or more different"),
        ("items:\n  - {prompt: a, choices: [x, x], checks: [choice: x]}\n", r":2: choices must be two or more"),
        ("items:\n  - {prompt: a, choices: [yes, no], checks: [choice: yess]}\n", r'did you mean "yes"\?'),
        ("items:\n  - {prompt: a, swap: {n: [x, y]}, checks: [no_repetition]}\n", r":2: \{n\} does not stand"),
        ('items:\n  - {prompt: "{n}", swap: {n: [x]}, checks: [no_repetition]}\n', r"as many fillings"),
        ('items:\n  - {prompt: "{n}{m}", swap: {n: [x, y], m: [x, y, z]}, checks: [no_repetition]}\n', r"as many"),
        ('items:\n  - {prompt: "{n}", swap: {n: [x, x]}, checks: [no_repetition]}\n', r"the same filling stands"),
        ('items:\n  - {prompt: "{n}", swap: {n: [x, y]}}\n', r":2: checks are missing"),
        ("items: !!python/object:os.system x\n", r":1: a value of the kind"),
        ("items: &a [*a]\n", r"mine.yaml"),
        ("name: a\nitems: \x07\n", r":2: the character U\+0007"),
        ('name: "\\0"\n', r":1: a NUL"),
        ("[" * 3000, r"nested too deeply"),
        ("a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{k}: &{k} [{', '.join(['*' + before] * 10)}]\n" for before, k in zip("abcdef", "bcdefg", strict=True)
        ), r"more than 200,000 keys and values"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_by_its_line(suite, text, message):
    with pytest.raises(JourneyError, match=message) as error:
        suite(text)
    assert NL not in str(error.value) and "mine.yaml" in str(error.value)


def test_what_is_not_utf8_is_told(suite):
    with pytest.raises(JourneyError, match=r"not UTF-8 text \(byte 23\): save it as UTF-8"):
        suite("items:\n  - {prompt: caf\u00e9}\n", "latin-1")


def test_the_users_own_words_are_read_beside_the_suite(suite, tmp_path):
    (tmp_path / "words.txt").write_text("# mine\nfoo bar\n\n/ba+z/\n")
    toxic = suite("toxic: words.txt\nitems:\n" + GOOD).toxic
    assert views.toxicity(["a Foo bar", "foobar", "BAAZ", "fine"], toxic)["found"] == {0: "Foo bar", 2: "BAAZ"}
    (tmp_path / "words.txt").write_text("fine\n/(/\n")
    with pytest.raises(JourneyError, match=r"words.txt:2: /\(/ is no regular expression"):
        suite("toxic: words.txt\nitems:\n" + GOOD)


# Checks


@pytest.mark.parametrize(
    ("rule", "output", "passed"),
    [
        (checks.Exact("Paris"), " Paris\n", True),
        (checks.Exact("Paris"), "paris", False),
        (checks.Exact("STRASSE", ignore_case=True), "straße", True),
        (checks.Contains(("a", "b")), "b a", True),
        (checks.Contains(("a", "b")), "a", False),
        (checks.Contains(any=("a", "b")), "b", True),
        (checks.Contains(any=("a", "b")), "c", False),
        (checks.Contains(("A",), ignore_case=True), "a", True),
        (checks.NotContains(("a", "b")), "c", True),
        (checks.NotContains(("a", "b")), "xbx", False),
        (checks.Regex(r"^\d+$"), "12", True),
        (checks.Regex(r"^\d+$"), "12 a", False),
        (checks.Json({"type": "object", "required": ["name"]}), '{"name": 1}', True),
        (checks.Json({"type": "object", "required": ["name"]}), '```json\n{"name": 1}\n```', True),
        (checks.Json({"type": "object", "required": ["name"]}), '{"nam": 1}', False),
        (checks.Json(True), 'Here it is: {"name": 1}', False),
        (checks.Json(True), "NaN", False),
        (checks.Json(True), "[" * 100_000, False),
        (checks.Json(True), "9" * 5000, False),
        (checks.Json({"$ref": "#/nowhere"}), "1", None),
        (checks.Json({"$ref": "#"}), "1", None),
        (checks.Number("1020"), "That is 15 % of 1,200, so it costs $1,020.00.", True),
        (checks.Number("1_020"), "1020", True),
        (checks.Number("1020"), "1,021", False),
        (checks.Number("0.3", 0.1), "0.4", True),
        (checks.Number("0.3", 0.1), "0.41", False),
        (checks.Number("9007199254740993"), "9007199254740992", False),
        (checks.Number("1"), "1e99999999999999", False),
        (checks.Number("1"), "one", False),
        (checks.NoRepetition(), "one two three four five six", True),
        (checks.NoRepetition(), "and so on " * 9, False),
        (checks.NoRepetition(), "我我我我我我我我我我", False),
        (checks.NoRepetition(), "", True),
        (checks.Length(most=3), " abc\n", True),
        (checks.Length(most=3), "abcd", False),
        (checks.Length(least=1), "  ", False),
        (checks.Length(most=2, unit="words"), "two words", True),
        (checks.Length(most=2, unit="words"), "three words now", False),
        (checks.Language("de"), "Der Herbst ist eine schöne Zeit und die Blätter sind bunt.", True),
        (checks.Language("de"), "The autumn is a fine time of the year.", False),
        (checks.Language("de"), "Blau.", False),
    ],
)
def test_what_passes_and_what_does_not(rule, output, passed):
    verdict, reason = rule.check(output)
    assert verdict is passed
    assert (reason == "") is (passed is True)
    assert NL not in reason and len(reason) < 400


def test_reasons_show_what_was_expected_and_found():
    assert checks.Contains(("Paris",)).check("It is\nLyon")[1] == 'expected "Paris" in it, found "It is Lyon"'
    assert checks.Number("4", 0.5).check("5 or 6")[1] == 'expected the number 4 ± 0.5, found 6 last in "5 or 6"'
    assert checks.Language("de").check("Blau")[1] == 'expected de, could not tell the language of "Blau"'
    assert (
        checks.Json({"properties": {"a": {"type": "string"}}}).check('{"a": 1}')[1] == "$.a: 1 is not of type 'string'"
    )


def test_a_regex_without_end_is_undecided(monkeypatch):
    monkeypatch.setattr(checks, "PATIENCE", 0.1)
    passed, reason = checks.Regex(r"^(a|aa)+$").check("a" * 60 + "b")
    assert passed is None and "regex was not done" in reason


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5-3", 3), ("-5", -5), ("(5)-3", 3), ("is −7.", -7), ("$1,234.50.", 1234.5), ("1,2,3", 3), ("1,234,5", 5),
        (".5", 0.5), ("-.5", -0.5), ("by GPT2", None), ("42kg", 42), ("50%", 50), ("1e3", 1000), ("3. ", 3), ("", None),
    ],
)  # fmt: skip
def test_the_last_number(text, number):
    found = checks.last_number(text)
    assert (None if found is None else float(found)) == number


@given(st.decimals(-(10**12), 10**12, places=3), st.booleans(), st.sampled_from(["so {}", "{}.", "({})", "a 7 b {} c"]))
def test_a_number_is_found_as_it_was_written(value, commas, around):
    assert checks.last_number(around.format(f"{value:,}" if commas else f"{value:f}")) == value


def by_hand(text, n):
    words, seen, repeats = text.casefold().split(), [], 0
    for i in range(len(words) - n + 1):
        repeats += words[i : i + n] in seen
        seen.append(words[i : i + n])
    return repeats / max(1, len(seen))


@given(st.lists(st.sampled_from(["a", "B", "b", "cc"]), max_size=20), st.integers(1, 4))
def test_repetition_is_the_share_of_n_grams_that_stood_there_before(words, n):
    text = " ".join(words)
    assert checks.repetition(text, n) == pytest.approx(by_hand(text, n))


SENTENCES = {
    "en": "The garden of the house is open to all who have the time, and it was not closed in winter.",
    "de": "Der Garten ist im Sommer offen und die Kinder spielen nicht auf der Straße, sondern mit dem Hund.",
    "fr": "Le jardin est ouvert et les enfants ne jouent pas dans la rue, mais avec le chien qui est au soleil.",
    "es": "El jardín está abierto y los niños no juegan en la calle, sino con el perro que es muy bueno.",
    "it": "Il giardino è aperto e gli amici non sono nella strada, ma con il cane che è della signora.",
    "pt": "O jardim é aberto e as crianças não brincam na rua, mas com o cão que é muito bom para uma casa.",
    "nl": "De tuin is open en het kind speelt niet op straat, maar met een hond die van zijn oom is.",
    "el": "Ο κήπος είναι ανοιχτός",
    "ru": "Сад открыт для всех",
    "he": "הגן פתוח לכולם",
    "ar": "الحديقة مفتوحة للجميع",
    "hi": "बगीचा सबके लिए खुला है",
    "th": "สวนเปิดให้ทุกคน",
    "ko": "정원은 모두에게 열려 있다",
    "zh": "花园对所有人开放",
    "ja": "庭はみんなに開かれている",
}


def test_every_language_is_told():
    assert set(SENTENCES) == set(LANGUAGES)
    assert {language: guess(text) for language, text in SENTENCES.items()} == {one: one for one in SENTENCES}


@pytest.mark.parametrize("text", ["", "42", "Paris", "The garden", "lorem ipsum dolor", "Сад garden", "the of het een"])
def test_what_cannot_be_told_is_not_guessed(text):
    assert guess(text) is None


# Variants


TEXTS = st.text(st.sampled_from("abc DEF\n don't is not? 12ß中"), max_size=60)


@given(TEXTS, st.sampled_from(variants.KINDS), st.text(max_size=5))
def test_a_perturbation_is_the_same_for_the_same_id(text, kind, id):
    random.seed(1)
    first = variants.perturbed(text, kind, id)
    random.seed(2)
    assert variants.perturbed(text, kind, id) == first
    assert re.findall(r"\d", first) == re.findall(r"\d", text)  # what is asked about stays


@given(TEXTS, st.text(max_size=5))
def test_typos_change_long_words_alone_and_at_least_one(text, id):
    words = re.findall(r"[^\W\d_]{4,}", text)
    changed = variants.perturbed(text, "typos", id)
    assert (changed != text) or not any(len(set(word)) > 1 or len(word) > 3 for word in words)
    assert re.sub(r"[^\W\d_]+", "", changed) == re.sub(r"[^\W\d_]+", "", text)
    assert variants.perturbed(text, "spacing", id).split() == text.split()


def test_contractions_go_both_ways():
    assert variants.perturbed("What is it? I don't know.", "contractions", "x") == "What's it? I do not know."


def test_only_what_is_changed_is_asked_again_and_nothing_that_a_judge_reads(suite):
    made = suite(
        "robustness: [lower, polite]\nitems:\n  - {prompt: lower case, checks: [contains: a]}\n"
        "  - {prompt: 'Who?', checks: [judge: good]}\n  - {prompt: '{n}?', swap: {n: [A, B]}, choices: [x, y]}\n"
        "  - {prompt: 'Why?', checks: [contains: a]}\n"
    )
    assert [(each.item.prompt, each.variant) for each in plan(made)] == [
        ("lower case", ""), ("Who?", ""), ("{n}?", ""), ("{n}?", "swap 1"),
        ("Why?", ""), ("Why?", "lower"), ("Why?", "polite"),
    ]  # fmt: skip


@given(st.text("{}ab", max_size=12))
def test_only_the_words_of_a_swap_are_filled(text):
    assert filled(text, {}) == text
    assert filled(text, {"a": "{b}", "b": "{a}"}).replace("{a}", "§").count("§") == text.count("{b}")


# Running


def test_a_base_model_gets_the_template_and_a_chat_model_turns(suite):
    made = suite(
        'template: "Q: {prompt}\\nA:"\nmax_new_tokens: 5\nrobustness: false\nshots: [{prompt: 2 + 2, answer: " 4"}]\n'
        "items:\n  - {prompt: '{x} {prompt}', checks: [contains: a]}\n"
    )
    [asked] = plan(made)
    assert asked.prompt.text == "Q: 2 + 2\nA: 4\n\nQ: {x} {prompt}\nA:"
    assert [tuple(message.values()) for message in asked.prompt.messages] == [
        ("user", "2 + 2"), ("assistant", "4"), ("user", "{x} {prompt}"),
    ]  # fmt: skip
    assert asked.prompt.max_new_tokens == 5
    assert plan(replace(made, chat=False))[0].prompt.messages == ()


MIXED = """\
robustness: false
items:
  - {id: capital, prompt: "What is the capital of France?", checks: [contains: Paris, length: {most: 20}], tags: facts}
  - {id: spam, prompt: "Is it spam?", choices: [" yes", " no"], checks: [choice: " yes"]}
  - {id: nurse, prompt: "{first} is", swap: {first: [Mary, John]}, choices: [a, b], checks: [contains: "{first}"]}
"""


def test_rows_say_what_passed_and_why_not(suite):
    rows = run(suite(MIXED), Model(lambda p: f"Lyon {p.text}", lambda p: [-2.0, -1.0]))
    capital, spam, mary, john = rows
    assert [check["passed"] for check in capital["checks"]] == [False, False]
    assert capital["checks"][0]["reason"] == 'expected "Paris" in it, found "Lyon What is the capital of France?"'
    assert (capital["tokens"], capital["tags"], capital["passed"]) == (3, ["facts"], False)
    assert (spam["output"], spam["picked"], spam["gold"], spam["ended"]) == (" no", 1, 0, None)
    assert spam["checks"][0]["reason"] == 'expected the choice " yes", found " no"'.replace('" ', '"')
    assert (mary["variant"], mary["passed"], john["variant"], john["passed"]) == ("", True, "swap 1", True)


@pytest.mark.parametrize(("likes", "passed"), [([-1, -1], False), ([math.nan, -1], None), ([-1, -math.inf], True)])
def test_a_tie_is_no_choice_and_nan_is_no_verdict(suite, likes, passed):
    rows = run(suite(MIXED), Model(likes=lambda p: likes))
    assert rows[1]["passed"] is passed


def test_what_was_answered_is_not_asked_again(suite, tmp_path):
    """Killed in the middle, with half a line written; checks are made anew, another model is asked anew."""
    kept = tmp_path / "answers.jsonl"
    text = "robustness: false\nitems:\n" + "".join(
        f"  - {{prompt: number {i}, checks: [contains: '7']}}\n" for i in range(80)
    )
    made = suite(text)

    def dies(prompt):
        if prompt.text == "number 40":
            raise KeyboardInterrupt
        return prompt.text

    first = Model(dies)
    with pytest.raises(KeyboardInterrupt):
        run(made, first, kept)
    kept.write_bytes(kept.read_bytes() + b'{"key": "ha')
    second, shown = Model(lambda prompt: prompt.text), []
    rows = run(made, second, kept, progress=lambda done, total: shown.append((done, total)))
    assert len(second.asked) == 80 - 32 and shown == [(32, 80), (64, 80), (80, 80)]
    whole = run(made, Model(lambda prompt: prompt.text))
    assert [row | {"seconds": 0} for row in rows] == [row | {"seconds": 0} for row in whole]
    third = Model()
    assert sum(row["passed"] for row in run(suite(text.replace("'7'", "number")), third, kept)) == 80
    assert third.asked == []
    third.id = "another"
    run(made, third, kept)
    assert len(third.asked) == 80


def test_one_text_that_the_judge_does_not_take_leaves_the_others(suite):
    class Picky(Judging):
        def meets(self, question, answer, criterion):
            if question == "p0":
                raise Refused("too long")
            return super().meets(question, answer, criterion)

    made = suite("items:\n" + "".join(f"  - {{prompt: p{i}, checks: [judge: good]}}\n" for i in range(3)))
    rows = run(made, Model(), judge=Picky(9))
    assert [row["passed"] for row in rows] == [None, True, True]
    assert rows[0]["checks"][0]["reason"] == "not judged: too long"


class Judging:
    """Finds everything good, `n` times, and is gone then."""

    def __init__(self, n, grade=7):
        self.n, self.given, self.asked = n, grade, []

    def meets(self, question, answer, criterion):
        self.asked.append((question, answer, criterion))
        if len(self.asked) > self.n:
            raise Unanswered("the judge answers 500")
        return True

    def grade(self, question, answer, criterion):
        return self.given


def test_a_judge_that_fails_halfway_leaves_the_rest_undecided(suite):
    made = suite("items:\n" + "".join(f"  - {{prompt: p{i}, checks: [judge: good]}}\n" for i in range(5)))
    judge = Judging(2)
    rows = run(made, Model(), judge=judge)
    assert [row["passed"] for row in rows] == [True, True, None, None, None]
    assert len(judge.asked) == 3 and judge.asked[0] == ("p0", "Paris", "good")
    shown = views.screen(rows)
    assert shown["accuracy"] == {"value": 1.0, "passed": 2, "n": 2}
    assert shown["notes"] == [
        "2 of 5 judgements made, 3 not: not judged: the judge answers 500",
        "3 of 5 items are undecided and count neither as passed nor as failed",
    ]


@pytest.mark.parametrize(("grade", "passed"), [(7, True), (6, False), (None, None)])
def test_a_grade_passes_from_its_least(suite, grade, passed):
    made = suite(one("judge: {criterion: good, least: 7}"))
    assert run(made, Model(), judge=Judging(0, grade))[0]["passed"] is passed


def test_without_a_judge_what_it_should_read_is_undecided_unless_something_else_failed(suite):
    made = suite("items:\n  - {prompt: a, checks: [judge: g]}\n  - {prompt: b, checks: [judge: g, contains: zz]}\n")
    rows = run(made, Model())
    assert [row["passed"] for row in rows] == [None, False]
    assert "give its URL with --judge" in rows[0]["checks"][0]["reason"]


def test_prompts_that_were_cut_are_counted_and_said(suite):
    rows = run(suite(MIXED), Model(n_ctx=4))
    assert [row["cut"] for row in rows] == [2, 0, 0, 0]
    assert views.notes(rows) == ["1 of 4 prompts did not fit the context and lost their beginning, up to 2 tokens"]
    rows[0] |= {"cut": 0, "ended": False}
    assert views.notes(rows) == ["1 of 3 answers were stopped at max_new_tokens"]


def test_a_second_turn_is_asked_with_the_first_answer():
    model = Model(lambda p: f"answer to {p.messages[-1]['content']}")
    asked = [Question("1", "x", ("One?", "Two?")), Question("2", "x", ("Three?",))]
    assert converse(model, asked, None, 64) == [("answer to One?", "answer to Two?"), ("answer to Three?",)]
    last = model.asked[-1]
    assert [message["content"] for message in last.messages] == ["One?", "answer to One?", "Two?"]
    assert last.text == "Question: One?\nAnswer:answer to One?\n\nQuestion: Two?\nAnswer:"


def test_flips(suite):
    text = "robustness: false\nitems:\n" + "".join(
        f"  - {{id: {i}, prompt: p{i}, checks: [contains: x]}}\n" for i in "abcde"
    )
    right = {"a": "x", "b": "x", "c": "", "d": "", "e": ""}
    before = run(suite(text), Model(lambda p: right[p.text[-1]]))
    right = {"a": "", "b": "x", "c": "x", "d": "", "e": ""}
    after = run(suite(text.replace("pe", "pe2").replace("pe2,", "pe ,")), Model(lambda p: right[p.text[1]]))
    none = {"gained": [], "lost": [], "undecided": [], "changed": [], "missing": []}
    assert flips(before, after) == none | {"gained": ["c"], "lost": ["a"]}
    changed = run(suite(text.replace("pd, checks: [contains: x]", "pd, checks: [contains: y]")), Model(lambda p: ""))
    assert flips(before, changed[:-1]) == none | {"lost": ["a", "b"], "changed": ["d"], "missing": ["e"]}
    assert flips(before, [row | {"passed": None} for row in before])["undecided"] == list("abcde")


# Views


def ece_by_hand(confidences, correct):
    """Item by item: the bin is the tenth in which the first of its equals stands when sorted."""
    n, bins = len(confidences), [[] for _ in range(10)]
    for c, r in zip(confidences, correct, strict=True):
        bins[10 * sum(other < c for other in confidences) // n].append((c, r))
    return sum(len(b) / n * abs(sum(r for _, r in b) / len(b) - sum(c for c, _ in b) / len(b)) for b in bins if b)


SURE = st.lists(st.tuples(st.floats(0, 1) | st.sampled_from([0.25, 0.5]), st.booleans()), min_size=1, max_size=60)


@given(SURE, st.randoms())
def test_calibration_error_is_that_of_a_slow_loop_in_any_order(items, rng):
    error = views.calibration_error(*zip(*items, strict=True))
    assert 0 <= error <= 1
    assert error == pytest.approx(ece_by_hand(*zip(*items, strict=True)), abs=1e-12)
    rng.shuffle(items)
    assert views.calibration_error(*zip(*items, strict=True)) == pytest.approx(error, abs=1e-12)


def test_calibration_error_of_known_models():
    sure = np.repeat([0.25, 0.5, 0.75], 40)
    right = np.concatenate([np.arange(40) < 40 * share for share in (0.25, 0.5, 0.75)])
    assert views.calibration_error(sure, right) == pytest.approx(0, abs=1e-12)
    assert views.calibration_error(np.ones(40), np.zeros(40)) == 1
    assert views.calibration([0.9] * 29, [True] * 29)["ece"] is None  # too few
    assert views.calibration([0.9] * 30, [True] * 30)["ece"] == pytest.approx(0.1)
    assert views.calibration([], []) == {"ece": None, "n": 0, "confidence": None, "accuracy": None}


@given(st.lists(st.floats(-500, 0), min_size=2, max_size=6))
def test_confidence_is_the_softmax_of_the_best(logprobs):
    assert 1 / len(logprobs) - 1e-9 <= views.confidence(logprobs) <= 1
    assert views.confidence([-800.0, -801.0]) == pytest.approx(1 / (1 + math.exp(-1)))


def test_robustness_compares_the_same_items():
    found = views.robustness(
        [True, True, False, None], {"upper": [True, False, True, True], "polite": [None, True, None, None]}
    )
    assert found["upper"] == {"accuracy": 2 / 3, "clean": 2 / 3, "n": 3}
    assert found["polite"] == {"accuracy": 1.0, "clean": 1.0, "n": 1}
    assert found["worst"] == {"accuracy": 1 / 3, "clean": 2 / 3, "n": 3}
    assert views.robustness([], {}) == {"worst": {"accuracy": None, "clean": None, "n": 0}}


def test_a_swapped_name_that_turns_the_pick_is_found(suite):
    made = suite(
        "robustness: false\nitems:\n"
        '  - {id: a, prompt: "{n} a", swap: {n: [Mary, John]}, choices: [x, y], checks: [choice: x]}\n'
        '  - {id: b, prompt: "{n} b", swap: {n: [Mary, John]}, choices: [x, y]}\n'
        '  - {id: c, prompt: "{n} c", swap: {n: [Mary, John]}, checks: [contains: Paris]}\n'
    )
    found = views.screen(run(made, Model(likes=lambda p: [-5, -4] if p.text == "John a" else [-1, -2])))["bias"]
    assert (found["verdict_differs"], found["n"]) == (1 / 2, 2)  # a and c have verdicts
    assert (found["pick_differs"], found["n_choices"]) == (1 / 2, 2)  # a and b have picks
    assert found["logprob_gap"] == pytest.approx(
        1 / 2
    )  # given that it is one of them, ln p of both options of a moves by 1


def test_insults_and_threats_are_found_and_plain_words_are_not():
    said = [
        "You are an idiot.",
        "I will kill you",
        "you're so stupid",
        "kill the process",
        "a stupid bug",
        "an idiotic idea",
    ]
    assert list(views.toxicity(said)["found"]) == [0, 1, 2]
    assert views.toxicity([]) == {"share": None, "n": 0, "found": {}}


def test_efficiency():
    assert views.efficiency([10, 30], [1.0, 3.0]) == {
        "tokens_per_second": 10, "seconds_per_answer": 2, "tokens_per_answer": 20, "n": 2,
    }  # fmt: skip
    assert views.efficiency([], [])["tokens_per_second"] is None


def test_the_screen_of_a_whole_suite(suite):
    rows = run(suite(example()), Model(lambda p: "Paris", lambda p: [-1.0, -2.0]))
    shown = views.screen(rows)
    assert set(shown) - {"notes"} == set(views.CONVENTIONS)
    clean = [row for row in rows if not row["variant"]]
    assert shown["accuracy"]["n"] == len([row for row in clean if row["passed"] is not None]) == 8
    assert shown["accuracy"]["passed"] == len([row for row in clean if row["passed"]]) == 2  # capital, spam
    assert views.by_tag(rows)["facts"] == {"value": 1 / 4, "passed": 1, "n": 4}
    assert shown["robustness"]["typos"]["n"] == 7  # neither JSON, nor the judge's, nor what has no check
    assert shown["calibration"]["n"] == 1 and shown["calibration"]["ece"] is None
