"""Requests of every kind in one batch: each ends by its own rule, and what ends one leaves the others alone."""

import argparse
import dataclasses
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from journey.errors import JourneyError
from journey.infer import build, runner
from journey.infer.engine import Engine
from journey.infer.grammar import Grammar
from journey.infer.native import Native
from journey.infer.sampling import Sampling
from journey.infer.sequence import Completion, Request
from journey.infer.speculate import repeat
from journey.infer.torch_runner import TorchRunner
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.tokenizer import bpe
from journey.tokenizer.formats import SPECIALS, Tokenizer

WARM = Sampling(temperature=1.2, seed=3)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["n"]}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_merges(bpe.train(bpe.count_words([argparse.__doc__]), 400, len(SPECIALS)))


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(2)
    return GPT(GPTConfig.make("qwen3", tokenizer.n_ids + 5, 256, 1, 32, 2))


@pytest.fixture(scope="module")
def asked(tokenizer):
    """One of each kind."""
    common = {"prompt": [tokenizer.bos, 70, 71], "max_new_tokens": 60, "sampling": WARM}
    schema = Grammar.json_schema(tokenizer, {**SCHEMA, "additionalProperties": False})
    number = Grammar.regex(tokenizer, "[0-9]{4}")
    kinds = [
        {},
        {"stop_strings": ("e", "zz")},
        {"grammar": schema, "stop": frozenset(tokenizer.stop)},
        {"grammar": number},  # no stop id: the grammar alone ends it
        {"stop": frozenset(range(100, 300))},
        {"logprobs": 3, "max_new_tokens": 5},
        {"sampling": Sampling(temperature=0, repetition_penalty=5.0)},
        {"max_new_tokens": 1000},
    ]
    return [Request(**{**common, **kind}, number=i) for i, kind in enumerate(kinds)]


@pytest.mark.parametrize("guess", [None, repeat], ids=["", "guessed"])
def test_each_ends_by_its_own_rule(model, tokenizer, asked, guess):
    engine = Engine(model, tokenizer, guess=guess, n_blocks=200)
    free, string, schema, number, stop, logs, penalized, long = done = engine.generate(asked)
    finishes = ["length", "string", "grammar", "grammar", "stop", "length", "length", "context"]
    assert [c.finish for c in done] == finishes
    assert all(c.text == tokenizer.decode(c.ids) for c in (free, number, logs, penalized, long))
    whole = tokenizer.decode(string.ids)
    assert string.text == whole[: min(at for at in (whole.find("e"), whole.find("zz")) if at >= 0)]
    assert (
        0 <= json.loads(schema.text)["n"] <= 99 and schema.ids[-1] not in tokenizer.stop
    )  # complete: nothing is left to ask
    assert re.fullmatch("[0-9]{4}", number.text)
    assert stop.ids[-1] in range(100, 300) and not any(id in range(100, 300) for id in stop.ids[:-1])
    assert len(set(penalized.ids)) == len(penalized.ids) == 60
    assert len(long.ids) == 256 - 3
    if build.available():  # alone they are what they were beside each other, bit for bit
        alone = [Engine(model, tokenizer).generate([request])[0] for request in asked]
        assert [(c.ids, c.text, c.logprobs) for c in alone] == [(c.ids, c.text, c.logprobs) for c in done]


def test_logprobs_are_those_of_the_model(model, tokenizer, asked):
    (found,) = Engine(model, tokenizer).generate([asked[5]])
    ids = [*asked[5].prompt, *found.ids]
    with torch.inference_mode():
        expected = model(torch.tensor([ids]))[0, 2:-1, : model.n_tokens].double().log_softmax(-1)
    for row, id, (logprob, top) in zip(expected, found.ids, found.logprobs, strict=True):
        assert logprob == pytest.approx(row[id].item(), abs=1e-4)
        assert list(top) == row.topk(3).indices.tolist()
        assert list(top.values()) == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)


def test_what_is_streamed_adds_up_to_the_text(model, tokenizer, asked):
    engine = Engine(model, tokenizer)
    sequences = [engine.add(request) for request in asked]
    pieces: dict[int, str] = {}
    while engine.busy:
        for one in engine.step():
            pieces[one.sequence.arrival] = pieces.get(one.sequence.arrival, "") + one.text
    assert [pieces[s.arrival] for s in sequences] == [Completion.of(s).text for s in sequences]


class Lost:
    """A constraint that gives up midway, as a grammar can at its limits."""

    done = False

    def __init__(self) -> None:
        self.n = 0

    def start(self):
        return Lost()

    def allow(self, logits):
        if self.n == 3:
            raise JourneyError("the schema cannot be followed: it is too large")

    def take(self, token):
        self.n += 1


def test_a_grammar_that_gives_up_ends_its_request_alone(model, tokenizer, asked):
    engine = Engine(model, tokenizer)
    lost = engine.add(Request(prompt=[5], max_new_tokens=9, grammar=Lost()))
    other = engine.add(asked[0])
    while engine.busy:
        engine.step()
    assert lost.finish == "error" and len(lost.written) == 3 and engine.blocks.free == engine.blocks.n
    assert len(Completion.of(other).ids) == 60
    with pytest.raises(JourneyError, match="it is too large"):
        Completion.of(lost)


@pytest.mark.parametrize("by", [Native, TorchRunner], ids=lambda by: by.name)
def test_logits_that_are_no_numbers_end_their_own_request(model, tokenizer, by, monkeypatch):
    """An embedding of which one row is damaged: who does not meet it goes on."""
    damaged = GPT(model.config)
    damaged.load_state_dict(model.state_dict())
    with torch.no_grad():
        damaged.embed.weight[-1] = float("nan")  # a padding row, which the head has too: never drawn
        damaged.n_tokens = model.config.vocab_size - 1
    if by is Native and not build.available():
        pytest.skip("there is no C compiler")
    monkeypatch.setattr(runner, "make", by)
    engine = Engine(damaged, tokenizer, n_blocks=16)
    bad = engine.add(Request(prompt=[5] * 11 + [model.config.vocab_size - 1], max_new_tokens=9, sampling=WARM))
    request = Request(prompt=[5, 6], max_new_tokens=9, sampling=WARM)
    good = engine.add(request)
    while engine.busy:
        engine.step()
    assert bad.finish == "error" and Completion.of(good) == Engine(damaged, tokenizer).generate([request])[0]
    with pytest.raises(JourneyError, match="the model's logits are no numbers"):
        Completion.of(bad)
    # Nor does it leave anything behind for who gets its blocks.
    again = [dataclasses.replace(request, number=i, max_new_tokens=200) for i in range(2)]
    assert [len(c.ids) for c in engine.generate(again)] == [200, 200]


def test_stop_strings_need_a_tokenizer(model, asked):
    with pytest.raises(ValueError, match="needs a tokenizer"):
        Engine(model).add(asked[1])


@pytest.mark.parametrize("id", [-1, 10**6])
def test_an_id_of_another_vocabulary_is_refused(model, id):
    """C would read what lies beside the embedding."""
    with pytest.raises(JourneyError, match="an id that the model lacks: it has 0 to"):
        Engine(model).add(Request(prompt=[5, id], max_new_tokens=1))


def test_a_stream_ends_with_what_ended_it(model):
    tokens = Engine(model).stream(Request(prompt=[5], max_new_tokens=9, grammar=Lost()))
    assert len([next(tokens) for _ in range(3)]) == 3
    with pytest.raises(JourneyError, match="it is too large"):
        next(tokens)


def test_engines_in_two_threads_do_not_meet(model, asked):
    """C runs without Python's lock: each engine computes in memory of its own."""
    expected = Engine(model).generate([asked[0]] * 4)

    def write(_):
        return [Engine(model).generate([asked[0]] * 4) for _ in range(8)]

    with ThreadPoolExecutor(3) as pool:
        assert all(found == expected for some in pool.map(write, range(3)) for found in some)


def test_weights_that_are_replaced_do_not_pull_the_ground_away(tokenizer):
    torch.manual_seed(2)
    model = GPT(GPTConfig.make("gpt2", tokenizer.n_ids, 64, 1, 32, 2))
    engine = Engine(model)
    request = Request(prompt=[5], max_new_tokens=20)
    before = engine.generate([request])
    for parameter in model.parameters():
        parameter.data = torch.full_like(parameter, float("nan"))
    assert Engine(model, n_blocks=4).add(request).finish is None
    if engine.run.name == "kernel":  # it goes on with what it was made of
        assert engine.generate([request]) == before
