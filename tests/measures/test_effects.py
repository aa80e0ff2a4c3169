"""What each measure counts: numbers a reader can redo by hand, and verdicts that can go either way."""

import json
import math
from types import SimpleNamespace

import pytest

from journey import measures, measuring
from journey.checkpoint import Node
from journey.data.preferences import Pair, save
from journey.data.questions import Choice, Question
from journey.data.sources import Document
from journey.scores import SIZE, changes, comparisons, estimates
from journey.stages.pairs import tell
from journey.stages.story import Told

DOCUMENTS = [Document(f"d{i}", "Some words.") for i in range(60)]
QUESTIONS = [Question(f"q{i}", "What is it?", "It.", "It is.", named=i % 2 == 0) for i in range(60)]


@pytest.fixture
def take(tmp_path, monkeypatch):
    """`take(name, scorer=its answer, …)`: a measure of a node of this name, whose scorers give these answers."""

    def take(measure, node="chat", config=None, parent=None, **said):
        for where, answer in said.items():
            value = answer if callable(answer) else lambda *given, answer=answer, **more: answer
            monkeypatch.setattr(f"journey.{where.replace('__', '.')}", value)
        made = measures.load(measure)
        bench = SimpleNamespace(
            node=SimpleNamespace(
                name=node, path=tmp_path / node, stage="pretrain", lineage={"tokens": 0}, is_model=True
            ),
            parent=parent and SimpleNamespace(name=parent, path=tmp_path / parent),
            before=parent and (None, None),
            model=SimpleNamespace(config=SimpleNamespace(n_ctx=64)),
            tokenizer=SimpleNamespace(encode=list),
            documents={"docs": DOCUMENTS},
            questions=QUESTIONS,
            choices=[Choice("c", "", ("a", "b"), 0)],
            seed=0,
            scratch=tmp_path,
        )
        return made.body(bench, config or made.config())

    return take


def effect(found, key):
    (one,) = [e for e in found if e.key == key]
    return one


def scored(bits, size=100):
    return [{"id": f"d{i}", "nats": b * size * math.log(2), "bytes": size, "tokens": 30} for i, b in enumerate(bits)]


def test_bits_per_byte_change_is_the_ratio_of_sums_in_percent(take):
    def of(name, bits):
        items = scored([bits * (1 + 0.01 * (i % 7)) for i in range(60)])
        return take("bits_per_byte", name, evaluate__perplexity__score=items)

    before, after = of("base", 2.0), of("coder", 1.5)
    e = effect(changes(before, after, "base", "coder"), "bits_per_byte.docs")
    assert (e.size.value, e.size.low, e.size.high) == pytest.approx((-25, -25, -25))  # each document fell by a quarter
    assert (e.node, e.size.unit, e.size.n, e.verdict) == ("coder", "%", 60, "clear")
    assert e.here.value == pytest.approx(1.5 * 1.0295, abs=0.01) and "in base" in e.compare
    assert "windows of 64 tokens" in e.size.convention and "paired bootstrap over documents" in e.size.convention
    assert effect(changes(after, before, "coder", "base"), "bits_per_byte.docs").verdict == "worse"


def test_ngrams_are_marks_with_the_other_number_beside(take):
    marks = {order: [100 * bits] * 60 for order, bits in (("bigram", 2.5), ("trigram", 1.5))}
    taken = take(
        "bits_per_byte",
        evaluate__perplexity__score=scored([2.0 * (1 + 0.01 * (i % 7)) for i in range(60)]),
        measures__bits_per_byte___tokens_read={"docs": range(1000)},
        measures__bits_per_byte___ngrams=marks,
    )
    found = comparisons(taken, "base")
    bigram, trigram = (effect(found, f"bits_per_byte.docs vs {order}") for order in marks)
    assert bigram.verdict == "clear" and trigram.verdict == "worse" and bigram.size.unit == "%"
    assert (
        bigram.than == "2.500\u00a0bits/byte for the bigram" and trigram.than == "1.500\u00a0bits/byte for the trigram"
    )
    assert "1,000 tokens" in bigram.question and "Kneser-Ney" in bigram.size.convention
    by_key = estimates(taken)
    assert (
        by_key["bits_per_byte.docs.bigram"].value == 2.5
        and "Kneser-Ney" in by_key["bits_per_byte.docs.bigram"].convention
    )


def chosen(right, n=100, options=4):
    logprobs = [-1.0] * options
    return [
        {"id": f"c{i}", "gold": 1, "picked": 0, "picked_norm": 1 if i < right else 2, "logprobs": logprobs}
        for i in range(n)
    ]


def test_multiple_choice_against_chance_and_parent(take):
    def of(right, **more):
        config = measures.load("multiple_choice").config(harness=False)
        return take("multiple_choice", config=config, evaluate__choices__score=chosen(right, **more))

    before, after = of(25), of(60)
    key = "choices.acc_norm vs chance"
    assert effect(comparisons(before, "base"), key).verdict == "not distinguishable from zero"
    over = effect(comparisons(after, "chat"), key)
    assert (
        over.verdict == "clear" and over.size.value == pytest.approx(35) and "25.0\u00a0% by guessing" in over.compare
    )
    assert effect(comparisons(of(60, options=2), "chat"), key).size.value == pytest.approx(10)  # of two, half is chance
    assert effect(changes(before, after, "base", "chat"), "choices.acc_norm").size.value == pytest.approx(35)
    assert effect(changes(after, before, "chat", "base"), "choices.acc_norm").verdict == "worse"
    assert after.facts["harness"] == {} and estimates(after)["choices.acc"].value == 0


def test_lm_eval_is_asked_on_the_same_items(take):
    theirs = [{"id": i["id"], "acc_norm": int(i["picked_norm"] == 1) ^ (i["id"] == "c3")} for i in chosen(60)]
    taken = take(
        "multiple_choice",
        evaluate__choices__score=chosen(60),
        evaluate__harness__write_task=None,
        evaluate__harness__run={"acc": 0.25, "acc_norm": 0.59, "items": theirs},
    )
    assert taken.facts["harness"] == {"acc": 0.25, "acc_norm": 0.59, "n": 100, "agree": 99}


def answered(right, shuffled, none):
    """Answers of unlike length: per token is not the mean over questions."""
    return [
        {
            "id": f"q{i}",
            "named": i % 2 == 0,
            "tokens": t,
            "right": right * t,
            "shuffled": shuffled * t,
            "none": none * t,
        }
        for i, t in enumerate([5, 20] * 30)
    ]


def test_answer_losses_are_per_token(take):
    before, after = (
        take("answers", name, evaluate__answers__answer_losses=answered(*nats))
        for name, nats in (("base", (4, 4, 5)), ("chat", (2, 3, 1.5)))
    )
    fell = effect(changes(before, after, "base", "chat"), "answer_loss.right")
    assert fell.size.value == pytest.approx(-2) and fell.verdict == "clear"
    assert (fell.here.value, fell.there.value) == (pytest.approx(2), pytest.approx(4))
    assert [e.key for e in changes(before, after, "base", "chat")] == ["answer_loss.right", "answer_loss.none"]
    found = comparisons(after, "chat")
    assert effect(found, "answer_loss.right vs shuffled").size.value == pytest.approx(-1)
    assert effect(found, "answer_loss.right vs none").verdict == "worse"
    read = effect(comparisons(before, "base"), "answer_loss.right vs shuffled")
    assert read.size.value == pytest.approx(0) and read.verdict == "not distinguishable from zero"


def test_endings_words_and_length(take):
    def said(share, tokens, f1):
        items = [
            {"id": f"q{i}", "ended": i < 50 * share, "tokens": tokens + i % 3, "f1": f1, "text": ""} for i in range(50)
        ]
        return take("greedy", evaluate__answers__endings=items)

    found = changes(said(0, 10, 0.25), said(1, 14, 0.5), "base", "chat")
    ends = effect(found, "ends_by_itself")
    assert ends.size.value == pytest.approx(100) and ends.verdict == "clear" and "64 tokens" in ends.size.convention
    assert ends.here.low < 100  # Wilson: 50 of 50 does not make it certain
    words, longer = effect(found, "answer_f1"), effect(found, "answer_length")
    assert words.size.value == pytest.approx(25) and words.size.unit == "points" and words.verdict == "clear"
    assert longer.size.value == pytest.approx(4) and longer.size.unit == "tokens"
    assert longer.verdict == SIZE and longer.signed


def test_the_second_copy_is_compared_with_the_first(take):
    copies = {"first": [11.0, 10.9, 11.1] * 9, "second": [11.2, 11.1, 11.3] * 9}
    taken = take("repeats", interpret__heads__repeat={"repeat": copies, "heads": {}})
    second = effect(comparisons(taken, "base"), "repeat.second vs first")
    assert second.size.value == pytest.approx(0.2) and second.verdict == "worse"


def test_kl_is_a_size_and_only_from_the_parent(take):
    kl = [{"id": f"d{i}", "nats": 0.1 if i % 2 else 0.4, "tokens": 10 if i % 2 else 20} for i in range(40)]
    said = {
        "interpret__diff__obstacle": "",
        "interpret__diff__kl": kl,
        "interpret__diff__weights": [],
        "interpret__diff__cka": [],
    }
    taken = take("against_parent", "coder", parent="base", **said)
    (moved,) = comparisons(taken, "coder")
    assert moved.key == "kl.docs" and moved.size.value == pytest.approx(0.3)  # by tokens, not by documents
    assert moved.verdict == SIZE and "base's" in moved.question and "KL(base ‖ coder)" in moved.size.convention
    assert not take("against_parent", "base", **said)
    other = take("against_parent", "coder", parent="base", **said | {"interpret__diff__obstacle": "no"})
    assert other.facts == {"skipped": "no"} and comparisons(other, "coder") == []
    assert measuring.effects({"against_parent": taken}, "coder", {"against_parent": taken}, "base") == [moved]


def margins(*values):
    return [
        {"id": f"p{i}", "margin": m, "chosen_tokens": 5 + i % 3, "rejected_tokens": 6} for i, m in enumerate(values)
    ]


def test_preferences_are_judged_against_a_tie(take, tmp_path):
    (tmp_path / "chat").mkdir()
    asked, answer = [{"role": "user", "content": "?"}], [{"role": "assistant", "content": "a"}]
    save([Pair("p", asked, answer, [{"role": "assistant", "content": "b"}])], tmp_path / "chat" / "pairs-test.jsonl")

    def of(items, kl=()):
        found = {"items": items, "kl": list(kl), "convention": ""}
        return take("preferences", parent="base", evaluate__preferences__measure=found)

    kl = [{"id": "a", "nats": 6.0, "tokens": 2}, {"id": "b", "nats": 1.0, "tokens": 5}]
    by_key = estimates(of(margins(1, -1, 0, 2), kl))
    assert by_key["preference_accuracy"].value == pytest.approx(62.5)  # a tie counts half
    assert by_key["policy_kl"].value == pytest.approx(1.0)  # by tokens, not by answers: that would be 1.6
    assert by_key["preference_accuracy"].n == 4

    key = "preference_accuracy vs chance"
    untrained = comparisons(of(margins(*[0.0] * 50)), "chat")
    assert [e.key for e in untrained] == [key] and untrained[0].size.value == 0
    assert untrained[0].verdict == "not distinguishable from zero"
    trained = effect(comparisons(of(margins(*[0.1] * 50), kl), "chat"), key)
    assert trained.size.value == pytest.approx(50) and trained.size.low < 50 and trained.verdict == "clear"
    assert effect(comparisons(of(margins(*[-0.1] * 50), kl), "chat"), key).verdict == "worse"
    assert not take("preferences", "other", parent="base")  # without held-out pairs
    assert comparisons(of(margins(1.0)), "chat") == [] and estimates(of(margins(1.0))) == {}
    longer, as_long, shorter = (
        sum(of(margins(*range(6))).items["pairs"].columns[name]) for name in ("longer", "as_long", "shorter")
    )
    assert (longer, as_long, shorter) == (2, 2, 2)


def test_a_quantized_file_costs_what_the_same_documents_say(take):
    items = scored([2.0 + 0.01 * i for i in range(30)])
    worse = [i | {"nats": i["nats"] * 1.01} for i in items]
    file = {"file": "q", "logits_max_difference": 0.1, "tokens_per_second": 9.0}
    found = {
        "reference": {"items": items, "bytes": 1000, "tokens_per_second": 9.0},
        "types": {"q8_0": {"bytes": 300, "items": worse, **file}},
        "prompts": {"equal": 40, "n": 40},
        "texts": {"equal": 0, "n": 9},
        **dict.fromkeys(("f32_logits_max_difference", "f32_default_logits_max_difference"), 1e-6),
        "runtime": "llama",
        "convention": "by documents",
    }
    stubs = {"evaluate__quantized__types_of": found["types"], "evaluate__quantized__measure": found}
    taken = take("quantized", "gguf", parent="preferred", **stubs)
    cost, prompts, texts = comparisons(taken, "gguf")
    assert (cost.size.value, cost.size.low, cost.size.high) == pytest.approx((1, 1, 1)) and cost.verdict == "worse"
    assert cost.key == "bits_per_byte.q8_0 vs fp32" and "30 % of the bytes" in cost.compare and cost.node == "gguf"
    by_key = estimates(taken)
    assert by_key["bits_per_byte.q8_0"].value == pytest.approx(1.01 * by_key["bits_per_byte.fp32"].value)
    # An inequality that is measured is shown.
    assert (prompts.key, prompts.size.value, texts.key, texts.size.value) == (
        "same_ids.prompts", 100, "same_ids.texts", 0,
    )  # fmt: skip
    assert "0 of 9" in texts.compare and texts.verdict == SIZE


def searched(ranks, named=True, f1=None):
    none = dict.fromkeys(("retrieved", "right", "shuffled", "none"), 0.0)
    return [
        {
            "id": f"q{i}{named}",
            "named": named,
            "rank": {"bm25": None, "vectors": 1, "hybrid": rank},
            "tokens": 5 + i % 9,
            "retrieved": 2.0 * (5 + i % 9),
            "right": 1.5 * (5 + i % 9),
            "shuffled": 3.0,
            "none": 4.0 * (5 + i % 9),
            "f1": f1 or none,
        }
        for i, rank in enumerate(ranks)
    ]


@pytest.fixture
def indexed(take):
    def indexed(*parts, fusion="weights 1, 1"):
        items = [item for part in parts for item in part]
        found = {"items": items, "passages": 900, "embedder": "e", "fusion": fusion, "convention": "ranks"}
        return take("retrieval", "index", parent="preferred", retrieve__evaluate__measure=found)

    return indexed


def test_recall_and_mrr_count_what_stands_near_the_top(indexed):
    by_key = estimates(indexed(searched([1, 5, 6, None, 11]), searched([None, None], named=False)))
    assert by_key["recall_at_5"].value == pytest.approx(200 / 7)
    assert by_key["recall_at_5.named"].value == pytest.approx(40) and by_key["recall_at_5.not_named"].value == 0
    assert by_key["mrr_at_10.named"].value == pytest.approx((1 + 1 / 5 + 1 / 6) / 5)  # beyond 10 counts nothing
    assert by_key["mrr_at_10.not_named"].value == 0
    by_vectors = estimates(indexed(searched([None] * 4), fusion="vectors"))  # where the index answers from one search
    assert by_vectors["recall_at_5"].value == 100 and by_vectors["mrr_at_10.named"].value == 1


def test_a_found_passage_is_judged_by_the_answer(indexed):
    f1 = {"retrieved": 0.4, "right": 0.5, "shuffled": 0.1, "none": 0.1}
    taken = indexed(searched([1, 2, None, 1] * 10, f1=f1), searched([7, None] * 10, named=False, f1=f1))
    found = comparisons(taken, "index")
    assert effect(found, "recall_at_5.named").size.value == pytest.approx(75)
    assert effect(found, "recall_at_5.not_named").size.value == 0
    assert effect(found, "answer_loss.retrieved vs none").size.value == pytest.approx(-2)
    assert effect(found, "answer_loss.retrieved vs right").verdict == "worse"
    words = effect(found, "answer_f1.retrieved vs none")
    assert words.size.value == pytest.approx(30) and words.size.unit == "points"
    assert effect(found, "recall_at_5 vs bm25").size.value == pytest.approx(50)
    assert effect(found, "recall_at_5 vs vectors").verdict == "worse"
    by_key = estimates(taken)
    assert by_key["answer_loss.retrieved"].value == pytest.approx(2) and by_key["answer_f1.right"].value == 50


def test_a_group_of_one_question_says_nothing(indexed):
    found = comparisons(indexed(searched([1] * 9), searched([2], named=False)), "index")
    assert not [e for e in found if "not_named" in e.key] and effect(found, "recall_at_5.named").size.n == 9
    assert not indexed([]) and comparisons(indexed(searched([1])), "index") == []


def test_pairs_are_counted_by_score_and_words(tmp_path):
    def pair(id, chosen, rejected, gap):
        said = [[{"role": "assistant", "content": text}] for text in (chosen, rejected)]
        return Pair(id, [{"role": "user", "content": id}], *said, chosen_score=0.2 + gap, rejected_score=0.2)

    pairs = [pair("p", "a b c", "a", 0.4), pair("q", "a", "a b c d", 0.2)]
    for split, some in (("train", pairs), ("dev", pairs[:1]), ("test", pairs[:1])):
        save(some, tmp_path / f"pairs-{split}.jsonl")
    lineage = {"id": "p", "name": "pairs", "stage": "pairs", "parents": [], "files": {}, "metrics": {}}
    (tmp_path / "lineage.json").write_text(json.dumps(lineage))
    story = tell(Told(Node(tmp_path), None))
    gap, bias = (shown.estimate for shown in story.changes)
    assert gap.value == pytest.approx(0.3) and bias.value == pytest.approx(-0.5) and bias.unit == "words"
    assert story.big == "4"
