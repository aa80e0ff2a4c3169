"""recipes/llama-3.1-8b-qlora.yaml, end to end: on the random Llama of `--smoke`, which tells what the true 8B takes,
and on a folder as the Hub's is (shards in bfloat16, Llama's form of a tokenizer), against PEFT and llama.cpp."""

import itertools
import json
import os
import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from journey import chat, recipe
from journey.checkpoint import open_node
from journey.infer.llamacpp import LlamaCpp
from journey.model import huggingface
from journey.model.config import RopeScaling
from journey.tokenizer.formats import Tokenizer

from .stages.test_import_families import FIRST, LLAMA3, N, write_folder

NAME, DATA = "llama-3.1-8b-qlora", Path(os.environ.get("JOURNEY_DATA", "absent"))
DOLLY, GPT2 = DATA / "instruct" / "dolly-15k.jsonl.gz", DATA / "tokenizer" / "gpt2"
STAGES = ["docs", "llama", "adapter", "merged", "gguf"]
PLAN = """\
adapter: random-llama-3.1 is tiny; the model that it stands for, Llama 3.1 8B, takes
adapter: memory of 8B parameters, 512 tokens at a time: fits a GPU of 24 GB
adapter: blocks in NF4                3.60 GB  6,979,321,856 x 0.5159 bytes
adapter: embedding, head, norms       4.20 GB  1,050,939,392 x 4
"""


def test_the_recipe_is_one():
    for smoke in (False, True):
        read = recipe.read(recipe.find(NAME), [], smoke)
        assert [step.name for step in read.steps] == STAGES
        adapter = read.step("adapter").config.adapting()
        assert (adapter.quantize, adapter.rank, adapter.alpha, adapter.targets) == ("nf4", 64, 16, "all-linear")
    assert read.step("llama").config.path == "random-llama-3.1"


def test_weights_that_are_not_there_are_told_before_anything_runs(journey, tmp_path):
    output = journey("run", NAME, "--workspace", tmp_path / "none", "--set", "stages.adapter.data=x.jsonl")
    assert output.code == 2 and output.err.startswith("journey run: Llama-3.1-8B does not exist: give the path of a")


@pytest.mark.skipif(not GPT2.is_dir(), reason="JOURNEY_DATA is not set")
def test_the_plan_of_the_smoke_is_that_of_the_true_8b(journey, tmp_path, write_texts):
    texts = write_texts(tmp_path).texts
    data = f"stages.adapter.data={texts}/asked.jsonl"
    output = journey("run", NAME, "--smoke", "--dry-run", "--workspace", tmp_path / "none", "--set", data)
    assert output.code == 0 and PLAN in output.err, output.err
    data = ("--set", data, "--set", "stages.adapter.max_length=2049")
    output = journey("run", NAME, "--smoke", "--dry-run", "--workspace", tmp_path / "none", *data)
    assert output.code == 2 and "max_length 2049 is more than the model's context of 2048" in output.err


@pytest.fixture(scope="module")
def lived(tmp_path_factory, journey, write_texts):
    """The recipe on a tiny Llama 3.1 as the Hub has it, taught at a rate that such a small one needs."""
    place = tmp_path_factory.mktemp("llama")
    texts, theirs, workspace = write_texts(place).texts, write_folder(place / "theirs", "llama"), place / "workspace"
    settings = [f"stages.llama.path={theirs}", f"stages.llama.n_ctx={N}", f"stages.docs.source={texts}/prose.jsonl"]
    settings += [f"stages.adapter.data={texts}/asked.jsonl", f"stages.adapter.max_length={N}"]
    settings += ["stages.adapter.lr=1e-2", "stages.adapter.epochs=3", "stages.adapter.accumulate=2"]
    settings += ["measure.documents=2", "measure.questions=4", "measure.samples=false", "measure.timeline=false"]
    settings += ["measure.repeats=false"]
    arguments = ["--workspace", workspace, *(word for setting in settings for word in ("--set", setting))]
    output = journey("run", NAME, *arguments, "--json")
    assert output.code == 0, output.err
    stages = json.loads((workspace / "plan.json").read_text())["stages"]
    return theirs, {entry["name"]: open_node(workspace / entry["path"]) for entry in stages}, output, arguments


def test_each_stage_goes_on_from_the_last_and_nothing_is_made_twice(lived, journey):
    _, nodes, output, arguments = lived
    assert output.json["made"] == list(nodes) == STAGES
    assert all(nodes[b].parents == [nodes[a].id] for a, b in itertools.pairwise(STAGES[1:]))
    planned, known = re.findall(r"memory of 15\dk parameters, (\d+) tokens at a time: fits a GPU of", output.err)
    assert int(planned) == 8 * N > int(known), "before and when the longest row is known"
    assert journey("run", NAME, *arguments, "--json").json["made"] == []


def test_the_adapter_is_pefts_of_every_matrix_and_of_the_marks_and_has_learned(lived):
    _, nodes, _, _ = lived
    node = nodes["adapter"]
    said = json.loads((node.path / "adapter_config.json").read_text())
    assert (said["r"], said["lora_alpha"], len(said["target_modules"])) == (64, 16, 7)
    special = Tokenizer.load(node.path).special  # Llama's own among them, which no chat of ours has
    marks = sorted(special[mark] for mark in chat.SPECIALS)
    assert said["trainable_token_indices"] == {"embed_tokens": marks, "lm_head": marks}
    metrics = {name: each["value"] for name, each in node.lineage["metrics"].items()}
    assert metrics["dev_loss"] < metrics["dev_loss_before"] - 1
    assert abs(metrics["quantization_cost"]) == pytest.approx(abs(metrics["dev_loss"] - metrics["dev_loss_merged"]))
    assert not (node.path / "model.safetensors").exists()


@torch.inference_mode()
def test_merged_is_unmerged_on_the_model_in_fp32(lived):
    _, nodes, _, _ = lived
    ids = torch.randint(400, (2, N), generator=torch.Generator().manual_seed(0))
    merged = AutoModelForCausalLM.from_pretrained(nodes["merged"].path).eval()(ids).logits
    base = AutoModelForCausalLM.from_pretrained(nodes["llama"].path)
    apart = PeftModel.from_pretrained(base, str(nodes["adapter"].path)).eval()(ids).logits
    assert (merged - apart).abs().max() <= 1e-5 * max(1.0, apart.abs().max() / 10)
    shape = huggingface.load_config(nodes["merged"].path)
    assert (shape.n_kv_head, shape.tied, shape.n_ctx) == (2, False, N)
    assert shape.rope_scaling == RopeScaling("llama3", 8.0, original_n_ctx=FIRST)


def test_its_tokenizer_is_theirs_and_the_chats_marks(lived):
    theirs, nodes, _, _ = lived
    before, after = (AutoTokenizer.from_pretrained(place) for place in (theirs, nodes["merged"].path))
    text = "The parser's 12345 options,\r\n  unreachable xyzzy"
    assert after.encode(text) == before.encode(text, add_special_tokens=False)
    assert {*LLAMA3, "<|user|>", "<|assistant|>", "<|end|>"} <= after.get_vocab().keys()


@torch.inference_mode()
def test_its_gguf_files_run_in_llama_cpp(lived):
    _, nodes, _, _ = lived
    model, ids = huggingface.load(nodes["merged"].path), list(range(30, 70))
    expected = model(torch.tensor([ids]))[0].numpy()
    files = sorted(nodes["gguf"].path.glob("*.gguf"))
    assert [path.name for path in files] == ["gguf-q4_0.gguf", "gguf-q8_0.gguf"]
    for path, allowed in zip(files, (0.5, 0.1), strict=True):
        with LlamaCpp(path, exact=True) as llama:
            assert abs(llama.logits(ids) - expected).max() < allowed * abs(expected).max()


@pytest.mark.slow
@pytest.mark.skipif(not DOLLY.is_file(), reason="JOURNEY_DATA is not set")
def test_the_smoke_ends_with_a_report(journey, tmp_path):
    """About a minute of two cores, a third of it reading the installed documentation."""
    data = f"stages.adapter.data={DOLLY}"
    output = journey("run", NAME, "--smoke", "--workspace", tmp_path, "--set", data, "--json")
    assert output.code == 0, output.err
    assert PLAN in output.err and output.json["made"] == STAGES
    assert "<html" in (tmp_path / "report.html").read_text()[:1000]
