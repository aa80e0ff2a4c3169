"""What a GGUF file costs: llama.cpp's score of the windows that ours are of."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from journey.data.questions import Question
from journey.data.sources import Document
from journey.evaluate import perplexity, quantized, statistics
from journey.infer import gguf, gguf_types
from journey.infer.llamacpp import LlamaCpp
from journey.measures.quantized import KINDS

QUESTIONS = [
    Question(f"q{i}", f"What does `thing_{i}` do?", "It counts.", f"thing_{i}(x)\n\nCounts {'x, ' * i}🙂.", True)
    for i in range(3)
]
TYPES = ("f16", "q8_0", "q4_k_m", "q4_0")


@pytest.fixture(scope="module")
def files(node, model, tokenizer, tmp_path_factory):
    """What the quantize stage leaves."""
    folder = tmp_path_factory.mktemp("files")
    template = (node / "chat_template.jinja").read_text()
    facts = {}
    for type in TYPES:
        path = folder / f"tiny-{type}.gguf"
        bits = gguf.write(model, tokenizer, path, type, template=template)
        facts[type] = {"file": path.name, "bytes": path.stat().st_size, "bits_per_weight": bits}
    (folder / "quantize.json").write_text(json.dumps({"types": facts}))
    return folder


@pytest.fixture(scope="module")
def some(documents):
    """Long ones and short ones, of two corpora."""
    return {"docs": documents[-4:], "code": documents[:2]}


@pytest.fixture(scope="module")
def measured(files, node, some):
    return quantized.measure(files, node, some, QUESTIONS)


def test_exact_arithmetic_gives_our_score(model, tokenizer, documents, tmp_path):
    """Many windows, overlapping ones: the same tokens are scored once each, given the same tokens before."""
    gguf.write(model, tokenizer, tmp_path / "f32.gguf", "f32")
    with LlamaCpp(tmp_path / "f32.gguf", exact=True) as llama:
        theirs = quantized.score(llama, tokenizer, documents, model.config.n_ctx)
    ours = perplexity.score(model, tokenizer, documents)
    tolerance = 1e-5 if model.config.family == "qwen3" else 1e-3  # gpt2's GELU is a table of f16 in llama.cpp
    for a, b in zip(ours, theirs, strict=True):
        assert {**a, "nats": 0} == {**b, "nats": 0}
        assert b["nats"] == pytest.approx(a["nats"], rel=tolerance)
    assert max(item["tokens"] for item in ours) > 3 * model.config.n_ctx


def test_every_type_is_scored_on_the_same_documents(measured, some):
    ids = [f"{corpus}/{document.id}" for corpus, documents in some.items() for document in documents]
    reference = measured["reference"]["items"]
    assert [item["id"] for item in reference] == ids
    assert list(measured["types"]) == list(TYPES)
    for found in measured["types"].values():
        strip = [{**item, "nats": 0} for item in found["items"]]
        assert strip == [{**item, "nats": 0} for item in reference]


def test_what_bits_cost_grows_as_they_shrink(measured):
    before = [item["nats"] for item in measured["reference"]["items"]]

    def cost(type):
        return abs(statistics.change([item["nats"] for item in measured["types"][type]["items"]], before).value)

    assert cost("f16") < 0.001
    assert cost("q8_0") < 0.005
    assert cost("f16") < cost("q8_0") < cost("q4_0") < 0.2
    assert cost("q4_k_m") < cost("q4_0")
    differences = [measured["types"][type]["logits_max_difference"] for type in TYPES]
    assert differences == sorted(differences)


def test_the_measure_has_a_score_for_every_type():
    assert tuple(gguf_types.TYPES) == KINDS


def test_f32_is_ours(measured, model):
    exact, default = measured["f32_logits_max_difference"], measured["f32_default_logits_max_difference"]
    assert exact <= (1e-5 if model.config.family == "qwen3" else 1e-3)
    assert exact < default < 1e-2


def test_prompts_and_texts_have_the_same_ids(measured):
    assert measured["prompts"] == {"equal": 6, "n": 6}
    assert measured["texts"] == {"equal": 6, "n": 6}


def test_sizes_are_the_files(measured, files, node):
    assert measured["reference"]["bytes"] == (node / "model.safetensors").stat().st_size
    for found in measured["types"].values():
        assert found["bytes"] == (files / found["file"]).stat().st_size


def test_speeds_and_the_convention_are_there(measured):
    assert measured["reference"]["tokens_per_second"] > 0
    assert all(found["tokens_per_second"] > 0 for found in measured["types"].values())
    assert measured["runtime"].startswith("xllamacpp 20")
    assert "windows of 32 tokens" in measured["convention"] and "keys and values in f16" in measured["convention"]
    json.dumps(measured, allow_nan=False)


def test_the_same_again_but_for_the_times_and_nothing_written(measured, files, node, some):
    """A finished node never changes, for its files are hashed."""

    def timeless(value):
        if isinstance(value, dict):
            return {key: timeless(each) for key, each in value.items() if key != "tokens_per_second"}
        return value

    def state():
        return {path.name: path.stat().st_mtime_ns for path in [*files.iterdir(), *node.iterdir()]}

    before = state()
    assert timeless(quantized.measure(files, node, some, QUESTIONS)) == timeless(measured)
    assert state() == before


def test_one_list_of_documents_and_no_questions(files, node, documents):
    found = quantized.measure(files, node, documents[-4:], limit=2)
    assert [item["id"] for item in found["reference"]["items"]] == [documents[-4].id, documents[-2].id]
    assert found["prompts"] == {"equal": 0, "n": 0}


def test_many_documents_are_thinned_out_from_all_over(documents):
    many = [replace(documents[0], id=str(i)) for i in range(1000)]
    chosen = quantized._choose({"a": many, "b": many[:3], "none": []}, 40)
    numbers = [int(d.id.split("/")[1]) for d in chosen if d.id.startswith("a/")]
    assert 30 <= len(numbers) <= 40
    assert numbers[0] == 0 and numbers[-1] > 900
    assert [d.id for d in chosen if not d.id.startswith("a/")] == ["b/0", "b/1", "b/2"]


def test_a_spelled_special_token_is_left_out_of_the_comparison(files, tokenizer):
    asked = replace(QUESTIONS[0], question="What is <|end|>?")
    with LlamaCpp(files / "tiny-f16.gguf") as llama:
        assert quantized.same_prompts(llama, tokenizer, [asked, QUESTIONS[1]]) == {"equal": 2, "n": 2}
        assert quantized.same_texts(llama, tokenizer, [Document("a", "<|pad|>"), Document("b", "x")])["n"] == 1


def test_another_tokenizer_inside_would_be_seen(model, tokenizer, documents, tmp_path, monkeypatch):
    """The counts can be less than all: here the file says that numbers are cut as Qwen cuts them."""
    monkeypatch.setitem(gguf.PRE_TOKENIZERS, "gpt2", "qwen2")
    monkeypatch.setattr(gguf.proof, "prove", lambda *_: None)  # which would refuse it
    gguf.write(model, tokenizer, tmp_path / "a.gguf", "f32", template="{{ messages[0]['content'] }}")
    with LlamaCpp(tmp_path / "a.gguf") as llama:
        texts = [*documents, Document("n", "In 1234 and 5678, 1000\n\n\n  x")]
        found = quantized.same_texts(llama, tokenizer, texts)
        assert 0 < found["equal"] < found["n"] == len(texts)
        assert quantized.same_prompts(llama, tokenizer, QUESTIONS) == {"equal": 0, "n": 6}


def test_logits_difference_is_relative_and_the_largest(model, documents, tokenizer):
    class Shifted:
        """Our own logits, one of them moved."""

        def logits(self, ids):
            with torch.inference_mode():
                found = model(torch.tensor([ids]))[0].numpy().copy()
            found[1, 2] += 0.5
            return found

    ids = tokenizer.encode(documents[0].text)[:20]
    with torch.inference_mode():
        largest = np.abs(model(torch.tensor([ids]))[0].numpy()).max()
    assert quantized.logits_difference(model, Shifted(), [ids]) == pytest.approx(0.5 / largest, rel=1e-4)


def test_speed_is_of_the_tokens_after_the_first(monkeypatch):
    """Reading the prompt, before the first token, is another matter; streams take turns; one slow moment is nothing."""
    clock, turns = [0.0], []
    monkeypatch.setattr(quantized.time, "perf_counter", lambda: clock[0])

    def stream(name, each):
        def begin():
            turns.append(name)
            clock[0] += 100
            while True:
                yield 0
                clock[0] += 50 * each if len(turns) in (1, 2, 7) else each

        return begin

    speeds = quantized.tokens_per_second({"slow": stream("slow", 0.5), "fast": stream("fast", 0.25)}, n_ctx=10)
    assert speeds == {"slow": 2, "fast": 4}
    assert turns[:4] == ["slow", "fast", "slow", "fast"]
