"""The X-ray: its passes are the run's, its numbers those of the shapes, its page explains each."""

import itertools
import json
import re

import pytest
import torch

from journey.infer import build
from journey.infer.engine import Engine, cache_bytes_per_token
from journey.infer.precision import convert
from journey.infer.sampling import Sampling
from journey.infer.sequence import Request
from journey.infer.speculate import repeat
from journey.infer.timeline import flops, moved
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.xray import page
from journey.xray.record import Run, compare

PROMPT = [5, 1, 80, 33, 2, 9, 9, *range(30)]


class Letters:
    """As much of a tokenizer as a page asks for."""

    def decode(self, ids):
        return "".join(chr(33 + i) if i else "<b>&" for i in ids)


@pytest.fixture(scope="module", params=[("gpt2", True), ("llama", False)], ids=lambda p: p[0])
def model(request):
    torch.manual_seed(1)
    return GPT(GPTConfig.make(request.param[0], 90, 96, 2, 32, 4, tied=request.param[1]))


def test_passes_are_what_was_read_and_written(model):
    run = Run(model)
    engine = Engine(model, watch=run, tokens=64)
    warm = Sampling(temperature=1.0)
    texts = engine.generate(Request(prompt=PROMPT, max_new_tokens=9, number=i, sampling=warm) for i in range(3))
    for request, text in enumerate(texts):
        assert [id for each in run.passes for who, id in each.wrote if who == request] == text.ids
        read = [(one.start, one.n) for each in run.passes for one in each.read if one.request == request]
        begin = [0, 32, 32][request]  # two whole blocks of the prompt are the first one's
        assert read[0][0] == begin and all(a + n == b for (a, n), (b, _) in itertools.pairwise(read))
        assert sum(read[-1]) == len(PROMPT) + 8
    assert run.reused == 64
    assert [each.prefill for each in run.passes] == [True] + [False] * 8
    first, second = run.passes[0], run.passes[1]
    T, n_prompt = first.tokens, len(PROMPT)
    assert n_prompt + 2 * (n_prompt - 32) == T and first.seen == 3 * n_prompt and first.asked == 3
    config = model.config
    assert second.flops(model) == 3 * flops(config, 1, n_prompt + 1)
    assert second.bytes(model) == moved(model, 3, 0) + 3 * (n_prompt + 1) * cache_bytes_per_token(model)
    assert run.cache_bytes()[-1] == 3 * (n_prompt + 8) * cache_bytes_per_token(model)


def test_guesses_that_came_true_are_counted_with_their_arithmetic(model):
    run = Run(model)
    Engine(model, watch=run, guess=lambda ids, most: [1, 2, 3][:most]).generate([Request(prompt=[4], max_new_tokens=6)])
    second = run.passes[1]
    assert second.tokens == 4 and second.asked == 4
    head = 2 * model.config.vocab_size * model.config.n_embd
    assert second.flops(model) == flops(model.config, 4, 5) + 3 * head
    assert repeat([1], 3) == []


@pytest.mark.parametrize(("precision", "far", "share"), [("fp16", 5e-3, 0.6), ("int8", 0.05, 0.4), ("int4", 1, 0.35)])
def test_fewer_bytes_and_nearly_the_same_logits(precision, far, share):
    torch.manual_seed(1)
    model = GPT(GPTConfig.make("llama", 90, 96, 2, 64, 4))
    half = convert(model, precision)
    ids = torch.randint(90, (2, 20))
    with torch.inference_mode():
        assert (half(ids) - model(ids)).abs().max() < far
        assert not torch.equal(half(ids), model(ids))
    assert moved(half, 0, 0) < share * moved(model, 0, 0)
    ours = Engine(half, n_blocks=8)
    assert (ours.run.name == "kernel") == build.available()
    (text,) = ours.generate([Request(prompt=PROMPT, max_new_tokens=20)])
    ids = list(PROMPT)
    with torch.inference_mode():
        for _ in range(20):
            ids.append(int(half(torch.tensor([ids]))[0, -1].argmax()))
    assert text.ids == ids[len(PROMPT) :]


def test_the_page_is_whole_and_shows_text_as_text(model):
    run = Run(model)
    engine = Engine(model, watch=run)
    texts = [c.ids for c in engine.generate(Request(prompt=PROMPT, max_new_tokens=12, number=i) for i in range(2))]
    said: list[str] = []
    saved = compare(model, PROMPT, texts[0], said.append)
    assert len(said) >= 4 and set(saved.precisions) >= {"fp32", "fp16"} and saved.together[1] > 0
    assert saved.guessed[0] == 12
    machine = {"matmul": "a product", "reading": "a read", "cpu": "a <CPU>"}
    html = page.page(run, saved, Letters(), PROMPT, texts, name="tiny", roof=(100.0, 20.0), machine=machine)
    assert "<b>&" not in html and "&lt;b&gt;&amp;" in html and "a &lt;CPU&gt;" in html
    assert not re.search(r"https?://(?!www\.w3\.org)", html) and "<script" not in html
    assert "nan" not in html.lower().replace("nano", "") and "*prefill*" not in html
    for word in ("prefill", "decode", "FLOP a byte", "Batching", "A shared beginning", "Guessing", "key/value cache"):
        assert word in html
    facts = json.loads(json.dumps(page.facts(run), allow_nan=False))
    assert len(facts) == len(run.passes) and facts[0]["kind"] == "prefill"
