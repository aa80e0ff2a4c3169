"""One code path measures every node: what each measure finds at a small life, in numbers that can be told."""

import dataclasses
import json
import math
import random

import pytest
import torch

from journey import measures, measuring
from journey.checkpoint import open_node
from journey.data import corpus
from journey.data.drawing import draw
from journey.data.questions import Question
from journey.data.sources import Document
from journey.errors import JourneyError
from journey.measure import Bench, Drawn
from journey.measures.bits_per_byte import bits_per_byte
from journey.measures.samples import prompts
from journey.measuring import Measuring
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.scores import estimates
from journey.stages.index import Index, index
from journey.stages.run import Run
from journey.stages.text import Text, text
from journey.tokenizer.formats import Tokenizer

from ..conftest import Silent

WORDS = (
    "array", "file", "matrix", "reader", "index", "value", "server", "thread",
    "window", "buffer", "model", "token", "parser", "list", "queue",
)  # fmt: skip


def documentation():
    """Documents such as those of installed packages: a name, its parameters, a summary, and a sentence more."""
    rng = random.Random(5)
    for i in range(300):
        name = f"pack.{rng.choice(WORDS)}{i}"
        first, second, third = (rng.choice(WORDS) for _ in range(3))
        summary = f"Return the {first} of {second} {' '.join(rng.sample(WORDS, 4))} as a {third}."
        body = f"{summary}\n\n{' '.join(rng.sample(WORDS, 8)).capitalize()} and some more words of it all."
        parameters = (f"{first}_{i}", f"{second}_{i}")
        yield Document(name, f"{name}({', '.join(parameters)})\n\n{body}\n", body, name, "function", parameters)


@pytest.fixture(scope="module")
def docs(life, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "read", lambda *arguments: documentation())
        config = Text(source=str(life.texts / "prose.jsonl"), test=0.3)
        return text(None, config, Run(tmp_path_factory.mktemp("docs") / "docs", name="docs"))


FEW = Measuring(Drawn(documents=50, choices=20, questions=24))


def take(node, parent, texts, workspace, chosen=FEW, seed=3, console=None, split="test"):
    return measuring.take(node, parent, texts, workspace, chosen, seed=seed, console=console or Silent(), split=split)


@pytest.fixture(scope="module")
def measured(life, docs, tmp_path_factory):
    workspace = tmp_path_factory.mktemp("workspace")
    texts = {"docs": docs, "code": life.node("code")}
    take(life.node("chat"), life.node("coder"), texts, workspace, Measuring())
    return measuring.read(life.node("chat"), workspace)


@pytest.fixture(scope="module")
def wide(life, tmp_path_factory):
    """An untrained model with room for questions that describe instead of naming."""
    folder = tmp_path_factory.mktemp("wide") / "wide"
    tokenizer = Tokenizer.load(life.node("chat").path)
    torch.manual_seed(0)
    huggingface.save(GPT(GPTConfig.make("qwen3", tokenizer.vocab_size, 256, 2, 32, n_head=1)), folder)
    tokenizer.save(folder)
    return open_node(folder)


@pytest.fixture(scope="module")
def later(life, docs, wide, tmp_path_factory):
    """What was measured at each kind of node: two models, the files of the second for llama.cpp, and an index."""
    workspace = tmp_path_factory.mktemp("later")
    chat, preferred = life.node("chat"), life.node("preferred")
    run = Run(workspace / "nodes" / "index", seed=3, name="index", given={"data": docs})
    searched = index(wide, Index(data="docs", embedder="node"), run)
    nodes = {"chat": (chat, life.node("coder")), "preferred": (preferred, chat)}
    nodes |= {"gguf": (life.node("gguf"), preferred), "index": (searched, wide)}
    texts = {"docs": docs, "code": life.node("code")}
    for node, parent in nodes.values():
        assert take(node, parent, texts, workspace).new
        assert take(node, parent, texts, workspace).new == ()  # stands
        assert measuring.is_taken(node, parent, texts, workspace, FEW, seed=3)
    return {name: measuring.read(node, workspace) for name, (node, _) in nodes.items()}


def items(taken, name="items"):
    return taken.items[name].rows()


def test_everything_is_measured(measured):
    assert list(measured) == [
        "bits_per_byte", "multiple_choice", "repeats", "answers", "greedy", "samples", "against_parent",
    ]  # fmt: skip
    assert measured["bits_per_byte"].items.keys() == {"docs", "code"}
    choices = measured["multiple_choice"]
    assert len(choices.items["items"]) > 20 and choices.facts["convention"]
    assert len(items(measured["answers"])) > 20 and len(items(measured["greedy"])) > 20
    assert all(i["right"] > 0 and i["named"] != i["not_named"] for i in items(measured["answers"]))
    assert len(measured["repeats"].facts["heads"]["induction"]) == 2 and len(items(measured["repeats"])) == 32
    against = measured["against_parent"]
    assert against.facts["weights"] and against.items.keys() == {"docs", "code"} and len(against.facts["cka"]) == 3
    for taken in measured.values():
        assert json.dumps(taken.json(), allow_nan=False)
        assert taken.seconds >= 0 and {score.items for score in taken.scores} <= taken.items.keys()


def test_our_choices_are_lm_evals(measured):
    """On the same items the harness comes to the same answer, each time."""
    taken = measured["multiple_choice"]
    checked, n = taken.facts["harness"], len(taken.items["items"])
    assert checked["n"] == checked["agree"] == n
    for key in ("acc", "acc_norm"):
        assert estimates(taken)[f"choices.{key}"].value == pytest.approx(100 * checked[key])


def test_every_score_has_an_interval_and_a_key_that_its_measure_declares(measured, later):
    for found in (measured, *later.values()):
        for name, taken in found.items():
            by_key = estimates(taken)
            assert list(by_key) == [score.key for score in taken.scores]
            declared = {key.format(text=text) for key in measures.load(name).keys for text in ("docs", "code")}
            assert by_key.keys() <= declared
            for e in by_key.values():
                assert e.low <= e.value <= e.high + 1e-9 and e.n >= 2


def test_six_samples_three_of_them_answers(measured):
    kinds = [sample["kind"] for sample in measured["samples"].facts["samples"]]
    assert sorted(kinds) == ["chat"] * 3 + ["text"] * 3
    assert len({sample["prompt"] for sample in measured["samples"].facts["samples"]}) == 6


def test_a_node_gets_the_measures_of_its_kind(later, life, tmp_path):
    assert later["gguf"].keys() == {"quantized"} and later["index"].keys() == {"retrieval", "timeline"}
    assert later["preferred"].keys() - later["chat"].keys() == {"preferences"}
    assert take(life.node("prose"), None, {}, tmp_path).new == ()
    found = take(life.node("tokenizer"), None, {"prose": life.node("prose")}, tmp_path)
    assert found.new == ("compression",)
    e = estimates(found.taken["compression"])["bytes_per_token.prose"]
    assert 1 < e.low < e.value < e.high


def test_no_more_items_than_asked_for_and_the_same_for_every_node(later):
    chat, preferred = later["chat"], later["preferred"]
    for name in ("docs", "code"):
        ours, theirs = (found["bits_per_byte"].items[name] for found in (chat, preferred))
        assert ours.ids == theirs.ids and 2 < len(ours) <= 50 and ours.columns["bytes"] == theirs.columns["bytes"]
    assert len(chat["bits_per_byte"].items["docs"]) == 50
    for part, n in (("multiple_choice", 20), ("answers", 24), ("greedy", 24)):
        ours, theirs = (found[part].items["items"].ids for found in (chat, preferred))
        assert ours == theirs and 2 < len(ours) <= n
    asked = later["index"]["retrieval"].items["items"].ids  # in its model's context every question fits
    assert len(asked) == 24
    for taken, name in ((chat["answers"], "items"), (chat["greedy"], "items"), (preferred["preferences"], "answers")):
        assert set(taken.items[name].ids) <= set(asked)


def test_a_model_trained_on_preferences_is_asked_about_the_held_out_ones(later, life):
    found = later["preferred"]["preferences"]
    held_out = [json.loads(line) for line in (life.node("preferred").path / "pairs-test.jsonl").open()]
    pairs, answers = items(found, "pairs"), items(found, "answers")
    assert [i["id"] for i in pairs] == [pair["id"] for pair in held_out] and found.facts["convention"]
    assert len({i["margin"] for i in pairs}) > 1  # it is another model than it was
    assert all(i["chosen_tokens"] > 1 and i["rejected_tokens"] > 1 for i in pairs)
    assert all(i["longer"] + i["as_long"] + i["shorter"] == 1 for i in pairs)
    assert len(answers) > 2 and all(i["nats"] > -1e-6 and i["tokens"] > 0 for i in answers)
    told = estimates(found)["preference_accuracy"]
    expected = sum((i["margin"] > 0) + (i["margin"] == 0) / 2 for i in pairs) / len(pairs)
    assert told.value == pytest.approx(100 * expected) and told.n == len(held_out)


def test_a_model_is_its_own_reference_and_then_prefers_nothing(life, docs, tmp_path):
    """Against itself every margin and every divergence is 0."""
    preferred = life.node("preferred")
    found = take(preferred, preferred, {"docs": docs}, tmp_path, FEW.only(["preferences", "against_parent"])).taken
    assert {i["margin"] for i in items(found["preferences"], "pairs")} == {0.0}
    assert max(abs(i["nats"]) for i in items(found["preferences"], "answers")) < 1e-9
    assert max(abs(i["nats"]) for i in items(found["against_parent"], "docs")) < 1e-9
    assert {moved["change"] for moved in found["against_parent"].facts["weights"]} == {0.0}


def test_the_files_for_llama_cpp_are_measured_on_documents_of_every_text(later, life):
    found = later["gguf"]["quantized"]
    files = found.facts["files"]
    assert files.keys() == {"fp32", "f16", "q8_0"}
    reference = {i["id"]: i for i in items(found, "fp32")}
    own = {
        f"{name}/{i['id']}": i for name in ("docs", "code") for i in items(later["preferred"]["bits_per_byte"], name)
    }
    assert {id.split("/")[0] for id in reference} == {"docs", "code"} and reference.keys() <= own.keys()
    for id, item in reference.items():  # it is the very model that was measured before
        assert item["bytes"] == own[id]["bytes"] and item["bits"] == pytest.approx(own[id]["bits"], rel=1e-5)
    for type in ("f16", "q8_0"):
        assert found.items[type].ids == list(reference)
        assert found.items[type].columns["fp32"] == found.items["fp32"].columns["bits"]
        assert files[type]["bytes"] == (life.node("gguf").path / files[type]["file"]).stat().st_size
        assert files[type]["tokens_per_second"] > 0 and 0 < files[type]["logits_max_difference"] < 0.1, type
    bits = {type: sum(found.items[type].columns["bits"]) for type in files}
    assert bits["f16"] == pytest.approx(bits["fp32"], rel=1e-3) and bits["q8_0"] == pytest.approx(
        bits["fp32"], rel=5e-3
    )
    assert 0 < found.facts["f32_logits_max_difference"] < 1e-5
    counted = found.facts["prompts"]
    assert counted["n"] > 10 and counted["equal"] == counted["n"]
    assert (
        estimates(found)["same_ids.prompts"].value == 100
        and estimates(found)["same_ids.texts"].n == found.facts["texts"]["n"]
    )
    assert files["fp32"]["bytes"] == (life.node("preferred").path / "model.safetensors").stat().st_size


def test_an_index_is_measured_by_what_it_finds_and_what_that_does(later):
    found = later["index"]["retrieval"]
    assert found.facts["passages"] == 300 and found.facts["embedder"] and found.facts["fusion"]
    assert found.facts["ways"] == ["bm25", "vectors", "hybrid"] and found.facts["by"] == "hybrid"
    rows = items(found)
    assert {i["named"] for i in rows} == {True, False}
    for i in rows:
        for way in found.facts["ways"]:
            assert i[f"near_{way}"] in {0.0, *(1 / rank for rank in range(1, 11))}
            assert i[f"found_{way}"] == (i[f"near_{way}"] >= 1 / 5)
        for passage in ("retrieved", "right", "shuffled", "none"):
            assert 0 <= i[f"f1_{passage}"] <= 1 and i[passage] > 0 and i["tokens"] > 0
    # A question that names its function is found by that word.
    named = [i["near_bm25"] for i in rows if i["named"]]
    assert sum(near == 1 for near in named) / len(named) > 0.9
    first = [i for i in rows if i["near_hybrid"] == 1]
    assert first and all(i["retrieved"] == pytest.approx(i["right"], rel=1e-4) for i in first)
    by_key = estimates(found)
    assert by_key["recall_at_5.named"].n + by_key["recall_at_5.not_named"].n == by_key["recall_at_5"].n == len(rows)
    assert by_key["answer_loss.none"].n == len(rows)


def test_one_answer_is_timed_pass_by_pass(later):
    found = later["index"]["timeline"].facts
    assert found["question"] and found["sources"] and found["search_ms"] > 0 and found["machine"]
    prefill, steps = found["prefill"], found["steps"]
    assert prefill["tokens"] > 10 and prefill["ms"] > 0
    each = prefill["cache_bytes"] // prefill["tokens"]  # keys and values of a token
    assert each == 2 * 2 * 32 * 4  # keys and values, 2 layers, 32 wide, fp32
    for number, step in enumerate(steps, 1):
        assert step["tokens"] == 1 and step["ms"] > 0 and 0 < step["flops"] < prefill["flops"]
        assert step["cache_bytes"] == prefill["cache_bytes"] + number * each
    assert "".join(step["text"] for step in (prefill, *steps)).startswith(found["answer"])


def test_n_grams_are_counted_from_the_tokens_that_a_pretrained_model_read(life, tmp_path):
    """From those in the order of its training, and only beside a model that began from random weights."""
    from journey.data.corpus import Corpus
    from journey.evaluate import perplexity
    from journey.evaluate.ngram import KneserNey
    from journey.measures.bits_per_byte import _tokens_read

    base, texts = life.node("base"), {"prose": life.node("prose"), "code": life.node("code")}
    only = Measuring().only(["bits_per_byte"])
    found = take(base, None, texts, tmp_path, only).taken["bits_per_byte"]
    assert estimates(found).keys() == {
        "bits_per_byte.prose", "bits_per_byte.code", "bits_per_byte.prose.bigram", "bits_per_byte.prose.trigram",
    }  # fmt: skip
    bench = Bench(base, None, texts, drawn=Drawn(), seed=3, split="test", scratch=tmp_path / "scratch")
    ((name, seen),) = _tokens_read(bench).items()
    # Where a row is not followed by its neighbour, the last token is one that is only predicted.
    n_rows = base.lineage["tokens"] // 64
    assert name == "prose" and 0 < len(seen) - base.lineage["tokens"] <= n_rows
    tokenizer = Tokenizer.load(base.path)
    scored = perplexity.score_ngram(
        KneserNey(seen, 2, tokenizer.vocab_size, tokenizer.bos),
        tokenizer,
        Corpus(texts["prose"].path).documents("test"),
    )
    assert found.items["prose"].columns["bigram"] == [item["nats"] / math.log(2) for item in scored]
    without = dataclasses.replace(only, configs={"bits_per_byte": bits_per_byte.config(ngrams=False)})
    plain = take(base, None, texts, tmp_path, without).taken["bits_per_byte"]
    assert estimates(plain).keys() == {"bits_per_byte.prose", "bits_per_byte.code"}
    assert plain.items["prose"].columns["bits"] == found.items["prose"].columns["bits"]
    # A model that went on from another read more than its own tokens, wherever its parent stands now.
    alone = take(life.node("coder"), None, texts, tmp_path, only).taken["bits_per_byte"]
    assert estimates(alone).keys() == {"bits_per_byte.prose", "bits_per_byte.code"}


def test_what_a_model_costs_is_measured_where_it_is_asked_for(life, tmp_path):
    base, texts = life.node("base"), {"prose": life.node("prose")}
    assert "costs" not in Measuring().configs
    costs = take(base, None, texts, tmp_path, Measuring().only(["costs"])).taken["costs"].facts
    assert costs["parameters"] == base.lineage["metrics"]["parameters"]["value"]
    assert costs["tokens"] == base.lineage["tokens"] and costs["flops"] == base.lineage["flops"]
    said = life.node("tokenizer").lineage["metrics"]["bytes_per_token"]["value"]
    assert costs["bytes_per_token"] == pytest.approx(said) and costs["text_bytes"] == pytest.approx(
        said * costs["tokens"]
    )
    assert take(base, None, {}, tmp_path, Measuring().only(["costs"])).taken == {}


def test_without_questions_there_is_nothing_to_measure_an_index_by(life, tmp_path):
    """And that is remembered."""
    arguments = (life.node("index"), life.node("preferred"), {"code": life.node("code")}, tmp_path)
    found = take(*arguments)
    assert found.taken == {} and found.new == ("retrieval", "timeline")
    assert take(*arguments).new == () and measuring.read(life.node("index"), tmp_path) == {}


def test_every_measure_stands_in_its_own_file_and_says_what_it_is():
    for name, made in measures.load_all().items():
        assert made.name == name and made.title and made.why and made.of and made.version > 0
        assert made.config() == made.config() and made.body.__doc__
    with pytest.raises(JourneyError, match='unknown measure "answrs", did you mean "answers"'):
        measures.load("answrs")


def test_a_draw_depends_on_the_seed_and_keeps_the_order():
    items = list(range(1000))
    drawn = draw(items, 50, seed=1)
    assert drawn == sorted(drawn) == draw(items, 50, seed=1) != draw(items, 50, seed=2) and len(set(drawn)) == 50
    assert draw(items[:10], 50, seed=1) == items[:10]


def test_without_questions_all_six_prompts_are_texts():
    held_out = {name: [Document(f"{name}{i}", f"{name} {i}\n\nmore") for i in range(9)] for name in ("docs", "code")}
    found = prompts(held_out, [])
    assert len(set(found)) == 6 and {kind for kind, _ in found} == {"text"}
    assert [prompt.split()[0] for _, prompt in found] == ["docs", "code"] * 3
    assert all(prompt.endswith("\n\n") and "more" not in prompt for _, prompt in found)
    asked = [Question(f"q{i}", f"What is {i}?", "It.", "It is.", named=i > 0) for i in range(9)]
    assert [kind for kind, _ in prompts(held_out, asked)] == ["text"] * 3 + ["chat"] * 3
