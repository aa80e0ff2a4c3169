"""One code path measures every model: what it writes is what the page and the command line read."""

import json
import random

import pytest
import torch

from journey import measure
from journey.checkpoint import open_node
from journey.console import Console
from journey.data import corpus
from journey.data.sources import Document
from journey.errors import JourneyError
from journey.measure import Measuring, draw, prompts
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.report import summary
from journey.stages.index import Index, index
from journey.stages.run import Run, Stopped
from journey.stages.text import Text, text
from journey.tokenizer.formats import Tokenizer

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


@pytest.fixture(scope="module")
def measured(life, docs, tmp_path_factory):
    workspace = tmp_path_factory.mktemp("workspace")
    texts = {"docs": docs, "code": life.node("code")}
    measure.measure(life.node("chat"), life.node("coder"), texts, workspace, Console(), 3, Measuring())
    return measure.read(life.node("chat"), workspace)


FEW = Measuring(documents=50, choices=20, questions=24)


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
    """A measurement of each kind of node: two models, the files of the second for llama.cpp, and an index."""
    workspace = tmp_path_factory.mktemp("later")
    chat, preferred = life.node("chat"), life.node("preferred")
    run = Run(workspace / "nodes" / "index", seed=3, name="index", given={"data": docs})
    searched = index(wide, Index(data="docs", embedder="node"), run)
    nodes = {"chat": (chat, life.node("coder")), "preferred": (preferred, chat)}
    nodes |= {"gguf": (life.node("gguf"), preferred), "index": (searched, wide)}
    texts = {"docs": docs, "code": life.node("code")}
    for node, parent in nodes.values():
        assert measure.measure(node, parent, texts, workspace, Console(), 3, FEW)
        assert measure.measure(node, parent, texts, workspace, Console(), 3, FEW) is None  # stands
    return {name: measure.read(node, workspace) for name, (node, _) in nodes.items()}


def ids(items):
    return [item["id"] for item in items]


def test_the_measurement_has_every_part(measured):
    assert measured["bits_per_byte"].keys() == {"docs", "code"}
    assert len(measured["choices"]["items"]) > 20 and measured["choices"]["convention"]
    assert len(measured["answers"]["items"]) > 20 and len(measured["endings"]["items"]) > 20
    assert all(item["right"] > 0 and item["named"] in (True, False) for item in measured["answers"]["items"])
    assert len(measured["heads"]["induction"]) == 2 and measured["repeat"]["first"]
    against = measured["against_parent"]
    assert against["weights"] and against["kl"].keys() == {"docs", "code"} and len(against["cka"]) == 3
    assert json.dumps(measured, allow_nan=False)


def test_our_choices_are_lm_evals(measured):
    """On the same items the harness comes to the same answer, each time."""
    checked = measured["choices"]["harness"]
    assert checked["n"] == checked["agree"] == len(measured["choices"]["items"])
    items = measured["choices"]["items"]
    assert checked["acc"] == pytest.approx(sum(i["picked"] == i["gold"] for i in items) / len(items))


def test_the_summary_has_an_interval_for_every_number(measured):
    found = summary.summary(measured)
    for name in ("bits_per_byte.docs", "choices.acc_norm", "repeat.second", "answer_loss.right", "ends_by_itself"):
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"] and found[name]["n"] > 10


def test_six_samples_three_of_them_answers(measured):
    kinds = [sample["kind"] for sample in measured["samples"]]
    assert sorted(kinds) == ["chat"] * 3 + ["text"] * 3
    assert len({sample["prompt"] for sample in measured["samples"]}) == 6


def test_every_kind_of_node_says_what_it_is_and_no_number_is_none(later, life):
    for name, found in later.items():
        assert (found["name"], found["split"]) == (name, "test") and found["seconds"] >= 0
        assert json.dumps(found, allow_nan=False)
    assert [found["stage"] for found in later.values()] == ["sft", "dpo", "quantize", "index"]
    assert later["gguf"]["parent"] == life.node("preferred").id


def test_no_more_items_than_asked_for_and_the_same_for_every_node(later):
    chat, preferred = later["chat"], later["preferred"]
    for name in ("docs", "code"):
        items = [found["bits_per_byte"][name]["items"] for found in (chat, preferred)]
        assert ids(items[0]) == ids(items[1]) and 2 < len(items[0]) <= 50
        assert [item["bytes"] for item in items[0]] == [item["bytes"] for item in items[1]]
    assert len(chat["bits_per_byte"]["docs"]["items"]) == 50
    for part, n in (("choices", 20), ("answers", 24), ("endings", 24)):
        assert ids(chat[part]["items"]) == ids(preferred[part]["items"]) and 2 < len(chat[part]["items"]) <= n
    asked = ids(later["index"]["retrieval"]["items"])  # in its model's context every question fits
    assert len(asked) == 24
    for items in (chat["answers"]["items"], chat["endings"]["items"], preferred["preferences"]["kl"]):
        assert set(ids(items)) <= set(asked)


def test_a_model_trained_on_preferences_is_asked_about_the_held_out_ones(later, life):
    found = later["preferred"]["preferences"]
    held_out = [json.loads(line) for line in (life.node("preferred").path / "pairs-test.jsonl").open()]
    assert ids(found["items"]) == [pair["id"] for pair in held_out] and found["convention"]
    assert len({item["margin"] for item in found["items"]}) > 1  # it is another model than it was
    assert all(item["chosen_tokens"] > 1 and item["rejected_tokens"] > 1 for item in found["items"])
    assert len(found["kl"]) > 2 and all(item["nats"] > -1e-6 and item["tokens"] > 0 for item in found["kl"])
    assert "preferences" not in later["chat"]
    metrics = summary.summary(later["preferred"])
    expected = sum((item["margin"] > 0) + (item["margin"] == 0) / 2 for item in found["items"]) / len(found["items"])
    assert metrics["preference_accuracy"]["value"] == pytest.approx(100 * expected)
    assert metrics["preference_accuracy"]["n"] == len(held_out)


def test_a_model_is_its_own_reference_and_then_prefers_nothing(life, docs, tmp_path):
    """Against itself every margin and every divergence is 0."""
    preferred = life.node("preferred")
    found = measure.measure(preferred, preferred, {"docs": docs}, tmp_path, Console(), 3, FEW)["preferences"]
    assert {item["margin"] for item in found["items"]} == {0.0}
    assert max(abs(item["nats"]) for item in found["kl"]) < 1e-9


def test_the_files_for_llama_cpp_are_measured_on_documents_of_every_text(later, life):
    found = later["gguf"]["quantized"]
    assert found["types"].keys() == {"f16", "q8_0"}
    reference = {item["id"]: item for item in found["reference"]["items"]}
    own = {
        f"{name}/{item['id']}": item
        for name, part in later["preferred"]["bits_per_byte"].items()
        for item in part["items"]
    }
    assert {id.split("/")[0] for id in reference} == {"docs", "code"} and reference.keys() <= own.keys()
    for id, item in reference.items():  # it is the very model that was measured before
        assert item["bytes"] == own[id]["bytes"] and item["nats"] == pytest.approx(own[id]["nats"], rel=1e-5)
    for type, part in found["types"].items():
        assert ids(part["items"]) == list(reference)
        assert [item["tokens"] for item in part["items"]] == [item["tokens"] for item in reference.values()]
        assert part["bytes"] == (life.node("gguf").path / part["file"]).stat().st_size
        assert part["tokens_per_second"] > 0 and 0 < part["logits_max_difference"] < 0.1, type
    nats = {type: sum(item["nats"] for item in part["items"]) for type, part in found["types"].items()}
    whole = sum(item["nats"] for item in reference.values())
    assert nats["f16"] == pytest.approx(whole, rel=1e-3) and nats["q8_0"] == pytest.approx(whole, rel=5e-3)
    assert 0 < found["f32_logits_max_difference"] < 1e-5
    assert found["prompts"]["n"] > 10 and found["prompts"]["equal"] == found["prompts"]["n"]
    assert found["reference"]["bytes"] == (life.node("preferred").path / "model.safetensors").stat().st_size


def test_an_index_is_measured_by_what_it_finds_and_what_that_does(later):
    found = later["index"]["retrieval"]
    assert found["passages"] == 300 and found["embedder"] and found["fusion"] and found["convention"]
    assert {item["named"] for item in found["items"]} == {True, False}
    for item in found["items"]:
        assert item["rank"].keys() == {"bm25", "vectors", "hybrid"}
        assert all(rank is None or rank in range(1, 11) for rank in item["rank"].values())
        assert item["f1"].keys() == {"retrieved", "right", "shuffled", "none"}
        assert all(0 <= value <= 1 for value in item["f1"].values()) and item["tokens"] > 0
        assert min(item[passage] for passage in item["f1"]) > 0
    # A question that names its function is found by that word.
    named = [item["rank"]["bm25"] for item in found["items"] if item["named"]]
    assert sum(rank == 1 for rank in named) / len(named) > 0.9
    first = [item for item in found["items"] if item["rank"]["hybrid"] == 1]
    assert first and all(item["retrieved"] == pytest.approx(item["right"], rel=1e-4) for item in first)
    metrics = summary.summary(later["index"])
    assert any(name.startswith("recall_at_5.") for name in metrics) and metrics["answer_loss.none"]["n"] > 2


def test_one_answer_is_timed_pass_by_pass(later):
    found = later["index"]["timeline"]
    assert found["question"] and found["sources"] and found["retrieval"]["ms"] > 0 and found["machine"]
    prefill, steps = found["prefill"], found["steps"]
    assert prefill["tokens"] > 10 and prefill["ms"] > 0
    each = prefill["cache_bytes"] // prefill["tokens"]  # keys and values of a token
    assert each == 2 * 2 * 32 * 4  # keys and values, 2 layers, 32 wide, fp32
    for number, step in enumerate(steps, 1):
        assert step["tokens"] == 1 and step["ms"] > 0 and 0 < step["flops"] < prefill["flops"]
        assert step["cache_bytes"] == prefill["cache_bytes"] + number * each
    assert "".join(step["text"] for step in (prefill, *steps)).startswith(found["answer"])


def test_without_questions_there_is_nothing_to_measure_an_index_by(life, tmp_path):
    found = measure.measure(
        life.node("index"), life.node("preferred"), {"code": life.node("code")}, tmp_path, Console(), 3, FEW
    )
    assert found.keys() == {"key", "node", "name", "stage", "parent", "split", "seconds"}


def test_a_stop_between_two_measurements_leaves_none(life, tmp_path):
    console = Console()
    console.stopping = True
    arguments = (life.node("gguf"), life.node("preferred"), {"code": life.node("code")}, tmp_path, console, 3, FEW)
    with pytest.raises(Stopped):
        measure.measure(*arguments)
    assert not list(tmp_path.rglob("*.json"))
    with pytest.raises(JourneyError, match='"gguf" has not been measured'):
        measure.read(life.node("gguf"), tmp_path)


@pytest.fixture
def count(monkeypatch):
    """Measures nothing, and keeps the names of the nodes that would have been measured."""
    done = []
    monkeypatch.setattr(measure, "_model", lambda node, *others: done.append(node.name) or iter(()))
    return done


@pytest.mark.parametrize("change", ["text", "parent", "seed", "measuring"])
def test_what_was_measured_is_measured_again_only_with_other_inputs(life, docs, tmp_path, count, change):
    base, coder, code = (life.node(name) for name in ("base", "coder", "code"))
    arguments = {"parent": base, "texts": {"code": code}, "seed": 3, "measuring": FEW}
    others = {"text": {"texts": {"code": docs}}, "parent": {"parent": None}, "seed": {"seed": 4}}
    other = (others | {"measuring": {"measuring": Measuring()}})[change]
    numbers = []
    for given in (arguments, arguments, arguments | other):
        measure.measure(coder, workspace=tmp_path, console=Console(), **given)
        numbers.append(len(count))
    assert numbers == [1, 1, 2]


def test_a_node_made_anew_with_other_weights_is_measured_anew(copy, life, tmp_path, count):
    """An id says what went in. `--from` after an update of torch may bring other weights under the same id."""
    arguments = {"parent": None, "texts": {}, "workspace": tmp_path, "console": Console(), "seed": 3}
    arguments |= {"measuring": FEW}
    measure.measure(life.node("base"), **arguments)
    path = copy.node("base").path / "lineage.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights_sha256": "other"}))
    measure.measure(copy.node("base"), **arguments)
    assert count == ["base", "base"]


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
