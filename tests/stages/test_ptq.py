"""The ptq stage and its measure: what a person types, what stands in the node, and what every verb makes of it."""

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from journey import measuring
from journey.errors import JourneyError
from journey.evaluate import harness
from journey.files import read_json
from journey.interpret import rounding
from journey.model import huggingface, quantized
from journey.model.quiet import quiet
from journey.pair import open_pair
from journey.report.blocks import Row
from journey.scores import estimates
from journey.stages import load
from journey.stages.ptq import PTQ, ptq
from journey.stages.run import Run
from journey.stages.story import Told

IDS = torch.arange(60).reshape(2, 30) * 37 % 396
STEPS = """\
  - {name: int8, stage: ptq, parents: [chat]}
  - {name: int4, stage: ptq, parents: [chat], with: {method: int4, group: 32}}
  - {name: mixed, stage: ptq, parents: [chat], with: {method: llm.int8}}
  - {name: awq, stage: ptq, parents: [chat], with: {method: awq, group: 32, data: prose, tokens: 2_000}}
"""


@pytest.fixture(scope="module")
def lived(life, tmp_path_factory, journey):
    """The small life, and two quantized models of its chat model."""
    folder = tmp_path_factory.mktemp("ptq")
    recipe = folder / "ptq.yaml"
    recipe.write_text(life.recipe.read_text() + STEPS)
    shutil.copytree(life.workspace, folder / "workspace")
    made = dataclasses.replace(life, recipe=recipe, workspace=folder / "workspace")
    output = journey("run", recipe, "--workspace", made.workspace, "--json")
    assert output.code == 0, output.err
    return made


def test_the_node_is_a_folder_of_its_own(lived):
    chat, int8, int4 = (lived.node(name) for name in ("chat", "int8", "int4"))
    for node, most in ((int8, 0.55), (int4, 0.5), (lived.node("awq"), 0.5), (lived.node("mixed"), 0.55)):
        assert load(node.stage).makes == "model" and node.parents == [chat.id]
        assert node.lineage["weights_sha256"] == node.lineage["files"]["model.safetensors"]
        metrics = {name: found["value"] for name, found in node.lineage["metrics"].items()}
        tensors = load_file(node.path / "model.safetensors")
        assert 0 <= metrics["bytes"] - sum(t.nbytes for t in tensors.values()) < 20_000, "all but the header"
        assert metrics["bytes"] == (node.path / "model.safetensors").stat().st_size < most * metrics["bytes_fp32"] + 2e4
        assert "base_model: chat\nbase_model_relation: quantized\n" in (node.path / "README.md").read_text()
        for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
            assert (node.path / name).read_bytes() == (chat.path / name).read_bytes()
    assert int8.lineage["metrics"]["weight_error"]["value"] < 1 < int4.lineage["metrics"]["weight_error"]["value"] < 12


def test_transformers_says_what_we_say(lived):
    for name in ("int8", "int4", "awq"):
        folder = lived.node(name).path
        model, _ = open_pair(folder)
        with quiet(), torch.inference_mode():
            theirs = AutoModelForCausalLM.from_pretrained(folder).eval()(IDS).logits
            torch.testing.assert_close(model(IDS), theirs, rtol=0, atol=1e-4)
        assert AutoTokenizer.from_pretrained(folder).chat_template


def test_the_measure_holds_it_against_its_parent(lived):
    found = {}
    for name in ("int8", "int4", "mixed"):
        taken = measuring.read(lived.node(name), lived.workspace)
        found[name] = {key: e for each in taken.values() for key, e in estimates(each).items()}
        assert {"flipped.prose", "flipped.code", "stream_error.prose", "kl.prose", "bits_per_byte.prose"} <= {
            *found[name]
        }
        assert all(e.low <= e.value <= e.high for e in found[name].values())
        after, _ = open_pair(lived.node(name).path)
        row = taken["rounding"].items["prose"].rows()[0]
        assert 0 <= row["flipped"] <= row["tokens"] and row["block.0"] < row["block.1"] < 1
        assert after.config.n_layer == taken["rounding"].facts["n_layer"]
    for key in ("flipped.prose", "stream_error.prose", "kl.prose"):
        assert 0 < found["int8"][key].value < found["mixed"][key].value < found["int4"][key].value, key
    assert not measuring.read(lived.node("chat"), lived.workspace).get("rounding"), "of what is not quantized nothing"


def test_flips_and_errors_by_hand(lived):
    """One document at a time, without batches and without hooks."""
    from journey.data.corpus import Corpus

    (before, tokenizer), (after, _) = (open_pair(lived.node(name).path) for name in ("chat", "int4"))
    documents = Corpus(lived.node("prose").path).documents("test")[:5]
    for document, row in zip(documents, rounding.predictions(before, after, tokenizer, documents), strict=True):
        ids = torch.tensor([[tokenizer.bos, *tokenizer.encode(document.text)]])
        if ids.size(1) > before.config.n_ctx:
            continue
        traces = ({}, {})
        with torch.inference_mode():
            a, b = (m(ids[:, :-1], trace=t).argmax(-1) for m, t in zip((before, after), traces, strict=True))
        assert row["flipped"] == int((a != b).sum()) and row["tokens"] == a.numel()
        for layer in range(before.config.n_layer):
            x, y = (trace["resid", layer + 1][:, 1:] for trace in traces)
            assert row[f"block.{layer}"] == pytest.approx(float((y - x).norm() / x.norm()), rel=1e-4)


def test_of_the_same_weights_nothing_flips(lived):
    from journey.data.corpus import Corpus

    model, tokenizer = open_pair(lived.node("chat").path)
    documents = Corpus(lived.node("prose").path).documents("test")[:3]
    for row in rounding.predictions(model, model, tokenizer, documents):
        assert row["flipped"] == row["block.0"] == row["block.1"] == 0


def test_the_page_tells_of_it(lived):
    int4, chat = lived.node("int4"), lived.node("chat")
    story = ptq.tell(Told(int4, chat, ["chat"]))
    (curves,) = next(block for block in story.blocks if isinstance(block, Row)).blocks
    assert {line.label for line in curves.lines} == {
        *(f"attention.{x}" for x in "qkvo"), *(f"mlp.{x}" for x in ("gate", "up", "down")),
    }  # fmt: skip
    assert "of the fp32 bytes" in story.what
    page = (lived.workspace / "report.html").read_text()
    for said in ("Error of the weights of int4", "Error by block, prose", "Quantized weights"):
        assert said in page


@pytest.mark.parametrize(
    "command",
    [
        ("generate", "mixed", "The small array", "--max-new-tokens", "4"),
        ("generate", "int8", "The small array", "--max-new-tokens", "4"),
        ("eval", "int4"),
        ("diff", "chat", "int4"),
        ("diff", "int8", "int4"),
        ("verify",),
        ("tree",),
    ],
)
def test_every_verb_that_takes_a_model_takes_it(lived, command, journey):
    output = journey(*command, "--workspace", lived.workspace)
    assert output.code == 0, output.err


@pytest.mark.parametrize(
    "command",
    [
        ("sft", "--data", "{texts}/asked.jsonl"),
        ("lora", "--data", "{texts}/asked.jsonl"),
        ("dpo", "--data", "{texts}/preferences.jsonl"),
        ("continue", "--data", "prose", "--replay", "0", "--replay-data", ""),
        ("quantize",),
    ],
)
def test_what_wants_the_model_that_it_was_made_of_says_so(lived, command, journey, tmp_path):
    rows = [f'{{"prompt": "What {i}?", "chosen": "It does {i}.", "rejected": "No."}}\n' for i in range(80)]
    (lived.texts / "preferences.jsonl").write_text("".join(rows))
    arguments = [part.format(texts=lived.texts) for part in command[1:]]
    out = ("--workspace", lived.workspace, "--out", tmp_path / "out")
    output = journey(command[0], "--parent", "int8", *arguments, *out)
    assert output.code == 2 and "its weights are quantized: this wants the model that they were made of" in output.err
    assert output.err.strip().splitlines()[-1].startswith(f"journey {command[0]}: ")


def test_awq_reads_the_dev_split_alone_and_tells_what_it_found(lived, tmp_path, monkeypatch):
    from journey.data.corpus import Corpus

    asked, stream = [], Corpus.stream
    monkeypatch.setattr(Corpus, "stream", lambda self, split: asked.append(split) or stream(self, split))
    config = PTQ(method="awq", group=32, data=str(lived.node("prose").path), tokens=2_000)
    again = ptq(lived.node("chat"), config, Run(tmp_path / "again", seed=3))
    node, facts = lived.node("awq"), read_json(lived.node("awq").path / "ptq.json")
    assert asked == ["dev"] and node.lineage["data"]["data"]["name"] == "prose"
    assert again.lineage["weights_sha256"] == node.lineage["weights_sha256"], "the same text, the same weights"
    assert node.lineage["weights_sha256"] != lived.node("int4").lineage["weights_sha256"]
    assert len(facts["scaled"]) == 2 * 4 and all(c["error"] <= c["error_unscaled"] for c in facts["scaled"])
    story = ptq.tell(Told(node, lived.node("chat"), ["chat"]))
    (row,) = [block for block in story.blocks if isinstance(block, Row)]
    assert row.blocks[1].summary == "What scaling did"


def test_awq_needs_a_text():
    with pytest.raises(JourneyError, match=r"^awq needs data: name the text that it finds its scales on"):
        PTQ(method="awq")


def test_it_is_not_quantized_twice_and_not_imported(lived, journey, tmp_path):
    with pytest.raises(JourneyError, match="is quantized already: take the model that it was made of"):
        ptq(lived.node("int8"), PTQ(), Run(tmp_path / "twice"))
    output = journey("import", lived.node("int8").path, "--out", tmp_path / "out")
    assert output.code == 2 and "its weights are quantized" in output.err


def test_a_head_is_left_alone_where_asked_and_the_group_has_to_fit(lived, tmp_path):
    node = ptq(lived.node("chat"), PTQ(head=False), Run(tmp_path / "bare"))
    model = huggingface.load(node.path)
    assert model.head.weight is model.embed.weight and quantized.is_quantized(model)
    assert read_json(node.path / "config.json")["tie_word_embeddings"] is True
    with pytest.raises(JourneyError, match="has 32 inputs, no multiple of a group of 64: possible are 32"):
        ptq(lived.node("chat"), PTQ(method="int4"), Run(tmp_path / "wide"))


def test_lm_eval_is_given_the_numbers_that_we_compute_with(lived):
    folder = lived.node("int4").path
    model, _ = open_pair(folder)
    with torch.inference_mode():
        theirs = harness.transformers_lm(folder, False).model(IDS).logits
        torch.testing.assert_close(model(IDS), theirs, rtol=0, atol=1e-4)
