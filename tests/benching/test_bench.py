"""`journey bench`: runtimes that compute the same side by side, whatever one of them does."""

import json
import math
import os
import re
import signal
import sys
from types import SimpleNamespace

import pytest
import torch

from journey.benching import lines, numbers, page, prepare, rounds, yardstick
from journey.benching.process import EndedError, Process
from journey.benching.runtimes import MODULES, Task, ours
from journey.benching.subject import USUAL, Subject, parse
from journey.benching.work import AFTER, Work
from journey.data.corpus import Corpus
from journey.errors import JourneyError
from journey.evaluate import perplexity
from journey.infer import gguf
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.pair import open_pair
from journey.tokenizer.formats import Tokenizer

from ..conftest import Silent

METRIC = {"value", "low", "high", "n", "unit", "convention"}
OURS, LLAMA, THEIRS = Subject("ours", "fp32"), Subject("llama.cpp", "f32"), Subject("transformers", "fp32")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model's folder, and a GGUF file of it."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = Tokenizer.from_merges([("t", "h"), ("th", "e")])
    torch.manual_seed(0)
    model = GPT(GPTConfig.make("gpt2", tokenizer.vocab_size, 64, 2, 32, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.dim() > 1 else 1)
    huggingface.save(model, folder, bos=tokenizer.bos)
    tokenizer.save(folder)
    return folder


def prepared(tiny, tmp_path, subjects):
    """The tiny model for these subjects."""
    console, node = Silent(), SimpleNamespace(path=tiny, id="none")
    return prepare.prepare("tiny", node, subjects, 0, tmp_path, tmp_path, console)


# What is asked for


def test_subjects_are_named_by_runtime_and_precision():
    assert parse(["llama.cpp:q5_0", "ours:int8", "ours"]) == [
        Subject("llama.cpp", "q5_0"),
        *(Subject("ours", precision) for precision in ("int8", "fp32", "fp16", "int4")),
    ]
    assert {subject.runtime for subject in parse([])} == set(USUAL) == set(MODULES)
    for wrong, said in ((["our"], 'did you mean "ours"'), (["ours:q8_0"], "no precision"), (["vllm:int8"], "fp32")):
        with pytest.raises(JourneyError, match=said):
            parse(wrong)


def test_work_is_cut_to_the_context_and_checked():
    assert Work(512, 32).within(1024) == Work(512, 32)
    cut = Work(512, 300).within(256)
    assert (cut.prompt, cut.tokens, cut.after(256)) == (255, 256 - 1 - AFTER, AFTER)
    assert Work().within(4).after(4) + Work().within(4).tokens + 1 <= 4
    for wrong in ({"batch": ()}, {"batch": (0,)}, {"batch": (2, 2)}, {"tokens": 0}, {"rounds": 0}):
        with pytest.raises(JourneyError):
            Work(**wrong)


def test_a_yardstick_is_as_large_as_its_name_says(tmp_path):
    yardstick.write("random-pocket-1m", tmp_path)
    model, tokenizer = open_pair(tmp_path)
    assert model.config.vocab_size == tokenizer.n_ids == 4096 and model.config.n_layer == 4
    first, second = (GPT.state_dict(open_pair(tmp_path)[0])["embed.weight"] for _ in range(2))
    yardstick.write("random-pocket-1m", tmp_path)
    assert torch.equal(first, second) and torch.equal(first, open_pair(tmp_path)[0].embed.weight)
    merges = [left + right for _, (left, right) in zip(range(130_000), yardstick._merges(), strict=False)]
    assert len(set(merges)) == 130_000  # as many as Llama 3 has, none twice
    with pytest.raises(JourneyError, match="did you mean"):
        yardstick.write("random-pocket-1n", tmp_path)


@pytest.mark.parametrize(("family", "tied"), [("gpt2", True), ("qwen3", True), ("llama", False)])
def test_all_runtimes_count_the_same_bytes(family, tied, tmp_path):
    """Of all weights, and of those that a token reads: neither positions nor an embedding that makes no logits."""
    from journey.benching.runtimes import hugging_face, llama_cpp

    tokenizer = Tokenizer.from_merges([("t", "h"), ("th", "e")])
    model = GPT(GPTConfig.make(family, tokenizer.n_ids, 40, 2, 32, 2, tied=tied))
    huggingface.save(model, tmp_path, bos=tokenizer.bos)
    gguf.write(model, tokenizer, tmp_path / "it.gguf", "f32")
    every = 4 * model.config.n_params
    read = every - 4 * 32 * (40 * (family == "gpt2") + tokenizer.n_ids * (not tied))
    for module, path in ((ours, tmp_path), (hugging_face, tmp_path), (llama_cpp, tmp_path / "it.gguf")):
        opened = module.Opened(Task(str(path), "fp32", tokenizer.n_ids, 1, 40))
        assert (opened.weights, opened.read) == (every, read), module


# Everything together


@pytest.fixture(scope="module")
def benched(journey, life, tmp_path_factory):
    """The small life's last model by the command line."""
    out = tmp_path_factory.mktemp("benched")
    said = journey(
        *("bench", "preferred", "--workspace", life.workspace, "--out", out, "--json", "--batch", 1, 3),
        *("--prompt", 100, "--tokens", 5, "--rounds", 2, "--documents", 4),
        *("--with", "ours:fp32", "ours:int8", "ours:int4", "llama.cpp:f32", "llama.cpp:q8_0", "transformers", "vllm"),
    )
    assert said.code == 0, said.err
    return said, out


def test_all_write_the_same_and_every_number_is_there(benched, life):
    said, out = benched
    found = said.json
    subjects = ("ours:fp32", "ours:int8", "llama.cpp:f32", "llama.cpp:q8_0", "transformers:fp32")
    keys = {f"preferred.{s}.{key}" for s in subjects for key in numbers.MEANINGS if key not in ("decode", "worse")}
    keys |= {f"preferred.{s}.decode.{batch}" for s in subjects for batch in (1, 3)}
    keys |= {f"preferred.{s}.worse" for s in subjects[1:]}
    assert set(found["metrics"]) == keys
    assert found["node"] == life.node("preferred").id and found["path"] == str(out / "bench.html")
    for name, each in found["metrics"].items():
        assert each.keys() == METRIC and math.isfinite(each["value"]) and each["convention"], name
        assert each["value"] > 0 or name.endswith(".worse"), name
    left_out = found["left_out"]["preferred"]
    assert (
        left_out.keys() == {"ours:int4", "vllm:fp32"} and left_out["vllm:fp32"] == "the package vllm is not installed"
    )
    assert "no multiple of a group" in left_out["ours:int4"]

    (kept,) = json.loads((out / "bench.json").read_text())["models"]
    of, config = kept["subjects"], open_pair(life.node("preferred").path)[0].config
    assert of["transformers:fp32"]["same_texts"] == {"equal": 2 * (1 + 1 + 3), "n": 10}
    assert kept["work"] == {"prompt": 63, "tokens": 5, "after": 16} and kept["shortened"]
    for name in subjects:
        assert len(of[name]["seconds"]["prefill"]) == 2 and of[name]["by"]
        assert [len(steps) for steps in of[name]["seconds"]["decode"]["3"]] == [5, 5]
        assert of[name]["memory"]["opening"] >= of[name]["memory"]["imports"] > 10_000_000
    for name in ("ours:fp32", "llama.cpp:f32", "transformers:fp32"):
        assert of[name]["weights"] == of[name]["read"] == 4 * config.n_params
    whole = of["ours:fp32"]
    assert of["llama.cpp:q8_0"]["weights"] < 0.3 * whole["weights"]
    assert of["ours:int8"]["read"] < 0.35 * whole["read"] < of["ours:int8"]["weights"]  # its embedding stays in fp32
    assert whole["nats"] != of["ours:int8"]["nats"] == pytest.approx(whole["nats"], rel=0.05)


def test_bits_per_byte_are_those_of_the_measure(benched, life):
    (kept,) = json.loads((benched[1] / "bench.json").read_text())["models"]
    model, tokenizer = open_pair(life.node("preferred").path)
    scored = []
    for text in ("prose", "code"):
        documents = Corpus(life.node(text).path).documents("test")
        scored += perplexity.score(model, tokenizer, prepare.draw(documents, 4, 3))
    assert kept["documents"] == len(scored) == 8
    for name, tolerance in (("ours:fp32", 1e-5), ("transformers:fp32", 1e-5), ("llama.cpp:f32", 1e-3)):
        of = kept["subjects"][name]
        assert of["nats"] == pytest.approx([item["nats"] for item in scored], rel=tolerance)
        wanted = sum(of["nats"]) / math.log(2) / sum(item["bytes"] for item in scored)
        assert of["metrics"]["bits_per_byte"]["value"] == pytest.approx(wanted)


def test_the_table_and_the_page_say_all(benched):
    said, out = benched
    shown = said.err  # with --json, what is for people goes there
    for head in ("prefill", "first token", "decode ×1", "decode ×3", "p99", "memory", "bits/byte", "bandwidth", "±"):
        assert head in shown
    assert "vllm:fp32 is left out" in shown and "the context of 64 holds 63" in shown and "GB/s" in shown
    html = (out / "bench.html").read_text()
    assert html.count("<svg") >= 3 and "<script" not in html
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|@import|url\(", html)
    for name in ("ours:fp32", "llama.cpp:q8_0", "transformers:fp32", "vllm:fp32 is left out"):
        assert name in html
    for key in numbers.MEANINGS:  # each number has its sentence
        assert f"<strong>{page.NAMES.get(key, key)}</strong>:" in html


def test_bad_input_is_a_line(journey, life, tmp_path):
    here = ("--workspace", life.workspace, "--out", tmp_path)
    for arguments, words in (
        ((), "name at least one model"),
        (("base", "base"), "named twice"),
        (("prose",), "holds no weights"),
        (("random-gpt3",), "no yardstick"),
        (("base", "--with", "gguf"), "no runtime"),
        (("base", "--batch", 0), "--batch"),
        (("base", "--with", "vllm"), "nothing of base could be measured: vllm:fp32: the package vllm"),
    ):
        said = journey("bench", *arguments, *here, "--json")
        assert said.code == 2 and words in said.json["error"] and "\n" not in said.json["error"], arguments


# Processes


def test_one_that_dies_and_one_that_cannot_leave_the_others(tiny, tmp_path, monkeypatch):
    subjects = [OURS, LLAMA, Subject("ours", "int8"), Subject("llama.cpp", "q5_0")]
    model, left_out = prepared(tiny, tmp_path, subjects[:3])
    console = Silent()
    turn = rounds._turn

    def dying(process, record, found, batch, round):
        if record.subject == LLAMA and round == 1:
            os.kill(process._process.pid, signal.SIGKILL)
        if round == 2:
            console.stopping = True
        turn(process, record, found, batch, round)

    def refuse(self, do, **given):
        if do == "open" and given["precision"] == "int8":
            raise EndedError("not today")
        return ask(self, do, **given)

    ask = Process.ask
    monkeypatch.setattr(rounds, "_turn", dying)
    monkeypatch.setattr(Process, "ask", refuse)
    found = rounds.measure(model, subjects, Work(8, 3, (1, 2), 5), console, left_out)
    assert [record.subject for record in found.records] == [OURS]
    assert found.left_out.keys() == {"llama.cpp:f32", "ours:int8"}
    assert "killed" in found.left_out["llama.cpp:f32"] and found.left_out["ours:int8"] == "not today"
    assert len(found.reading) == len(found.records[0].prefill) == len(found.records[0].decode[2]) == 2  # stopped
    assert any("killed" in line for line in lines.lines(found, "here")) and "killed" in page.page([found], "here")


def test_a_worker_says_what_is_wrong_and_ends_with_its_parent(tiny, tmp_path):
    given = {"precision": "fp32", "n_tokens": 265, "sequences": 2, "longest": 64}
    broken = Process(LLAMA, 1)
    with pytest.raises(EndedError, match="does not exist"):
        broken.ask("open", runtime="llama.cpp", path=str(tmp_path / "none.gguf"), **given)
    broken.close()
    made = Process(OURS, 1)
    about = made.ask("open", runtime="ours", path=str(tiny), **given)
    assert about["threads"] == 1 and about["weights"] > 0
    first = made.ask("generate", prompts=[[5, 6, 7], [8, 9, 10]], n=4)
    again = made.ask("generate", prompts=[[8, 9, 10]], n=4)
    assert first["ids"][1] == again["ids"][0] and [len(first[key]) for key in ("ids", "seconds")] == [2, 4]
    with pytest.raises(EndedError, match="TypeError: '<=' not supported"):
        made.ask("generate", prompts=[["no id"]], n=4)
    made.close()
    left = Process(OURS, 1)
    left.ask("open", runtime="ours", path=str(tiny), **given)
    left._process.stdin.close()  # as when its parent is killed
    assert left._process.wait(20) == 0
    left.close()


def test_vllm_goes_on_until_each_has_its_token(tiny, monkeypatch):
    """A stand-in that gives tokens of some requests at a time, and each time all that a request has: as vLLM does."""

    class Engine:
        def __init__(self):
            self.asked, self.turn = {}, 0

        def add_request(self, name, prompt, how):
            self.asked[name] = (prompt["prompt_token_ids"], how.max_tokens, [])

        def step(self):
            self.turn += 1
            answers = []
            for i, (name, (prompt, most, ids)) in enumerate(self.asked.items()):
                if (self.turn + i) % 2 and len(ids) < most:
                    ids.append(prompt[0] + len(ids))
                    answers.append(SimpleNamespace(request_id=name, outputs=[SimpleNamespace(token_ids=tuple(ids))]))
            return answers

    fake = SimpleNamespace(
        __version__="0",
        LLM=lambda **given: SimpleNamespace(llm_engine=Engine()),
        SamplingParams=lambda **given: SimpleNamespace(**given),
    )
    monkeypatch.setitem(sys.modules, "vllm", fake)
    for name in ("ENABLE_V1_MULTIPROCESSING", "CPU_KVCACHE_SPACE", "CPU_OMP_THREADS_BIND", "NO_USAGE_STATS"):
        monkeypatch.setenv(f"VLLM_{name}", "1")
    from journey.benching.runtimes import vllm_engine

    opened = vllm_engine.Opened(Task(str(tiny), "fp32", 265, 2, 64))
    for _ in range(2):
        assert list(opened.generate([[10], [50]], 3)) == [[10, 50], [11, 51], [12, 52]]
