"""The quantize stage: one GGUF file a type, and nothing half-written."""

import json
import shutil

import pytest
import torch
from gguf import GGUFReader, Metadata, size_label

from journey import chat
from journey.checkpoint import COMPARED, Node
from journey.console import Console
from journey.data.corpus import Corpus
from journey.errors import JourneyError
from journey.files import sha256_file
from journey.infer import engine, gguf
from journey.infer.importance import importance
from journey.infer.llamacpp import LlamaCpp
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.pair import open_pair
from journey.stages.quantize import Quantize, _tags, quantize
from journey.stages.run import Run, Stopped
from journey.tokenizer.formats import Tokenizer


@pytest.fixture(scope="module")
def made(life, tmp_path_factory):
    """The small life's chat model, quantized."""
    return quantize(life.node("chat"), Quantize(), Run(tmp_path_factory.mktemp("made") / "small", name="small"))


def test_the_node_holds_a_file_a_type(made):
    files = {path.name for path in made.path.iterdir()}
    names = {f"small-{type}.gguf" for type in ("f16", "q8_0", "q4_0")}
    assert files == names | {"quantize.json", "lineage.json", COMPARED}
    assert not made.is_model
    facts = json.loads((made.path / "quantize.json").read_text())["types"]
    assert list(facts) == ["f16", "q8_0", "q4_0"]
    for fact in facts.values():
        assert fact["bytes"] == (made.path / fact["file"]).stat().st_size
    bits = [fact["bits_per_weight"] for fact in facts.values()]
    assert 16 <= bits[0] < 17 and 8.5 <= bits[1] < 9.5 and 4.5 <= bits[2] < 8


def test_the_lineage_says_what_was_made(made, life):
    lineage = made.lineage
    assert lineage["stage"] == "quantize" and lineage["parents"] == [life.node("chat").id]
    assert lineage["config"] == {"types": ["f16", "q8_0", "q4_0"], "importance": "", "license": ""}
    assert lineage["files"]["small-q8_0.gguf"] == sha256_file(made.path / "small-q8_0.gguf")
    assert lineage["metrics"]["bytes_q4_0"]["value"] == (made.path / "small-q4_0.gguf").stat().st_size
    assert lineage["metrics"]["bits_per_weight_f16"]["unit"] == "bits"


def test_the_files_say_where_they_come_from(made):
    value = {key: field.contents() for key, field in GGUFReader(made.path / "small-q4_0.gguf").fields.items()}
    assert value["general.name"] == value["general.base_model.0.name"] == "chat"
    assert "general.license" not in value
    assert value["tokenizer.chat_template"] == chat.TEMPLATE


def test_the_files_say_what_llama_cpps_converter_says(made, life):
    """Its own code, which is in the package gguf, reads the parent's folder: what kind of model, and how large."""
    parent = life.node("chat").path
    n = huggingface.load_config(parent).n_params
    theirs = Metadata.load(model_path=parent, total_params=n)
    value = {key: field.contents() for key, field in GGUFReader(made.path / "small-f16.gguf").fields.items()}
    assert value["general.tags"] == theirs.tags == ["journey", "sft", "text-generation"]
    assert theirs.size_label is None, "it is then made of the number of parameters"
    assert value["general.size_label"] == size_label(n, n, 0, 0)


def test_a_licence_is_the_users_to_give(life, made, tmp_path):
    node = quantize(life.node("chat"), Quantize(types=("q8_0",), license="mit"), Run(tmp_path / "out"))
    value = {key: field.contents() for key, field in GGUFReader(node.path / "out-q8_0.gguf").fields.items()}
    assert value["general.license"] == "mit" and node.id != made.id


@pytest.mark.parametrize(
    ("card", "tags"),
    [
        ("---\ntags: [a, b, 7]\npipeline_tag: text-generation\n---\n# x", ["a", "b", "text-generation"]),
        ("---\ntags: a\n---\n", ["a"]),
        ("---\ntags: {a: b}\n---\n", []),
        ("---\n[" + "[" * 5000 + "\n---\n", []),
        ("---\n- a\n---\n", []),
        ("# no card", []),
        (None, []),
    ],
)
def test_tags_are_those_of_the_card(card, tags, tmp_path):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert _tags(tmp_path / "README.md") == tags


def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused_and_leaves_nothing(life, tmp_path):
    folder = tmp_path / "chat"
    shutil.copytree(life.node("chat").path, folder)
    (folder / "lineage.json").unlink()
    state = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(state | {"normalizer": {"type": "NFC"}}))
    with pytest.raises(JourneyError, match=r"llama\.cpp has no name for NFC in this tokenizer"):
        quantize(str(folder), Quantize(), Run(tmp_path / "out"))
    assert not (tmp_path / "out").exists() and not list(tmp_path.rglob("*.gguf"))


def test_llama_cpp_answers_as_the_model_does(made, life):
    parent = life.node("chat").path
    model, tokenizer = huggingface.load(parent).eval(), Tokenizer.load(parent)
    prompt = chat.encode_prompt([{"role": "user", "content": "What does the array do with the file?"}], tokenizer)
    mine = list(engine.stream(model, prompt, max_new_tokens=12, stop=tokenizer.stop))
    with LlamaCpp(made.path / "small-f16.gguf", exact=True) as llama:
        theirs = []
        for token in llama.greedy(prompt):
            theirs.append(token)
            if llama.ends(token) or len(theirs) == 12:
                break
    assert theirs == mine


def test_it_is_found_again_and_other_types_are_another_node(made, life, tmp_path):
    again = quantize(life.node("chat"), Quantize(), Run(made.path, name="small"))
    assert again.id == made.id
    other = quantize(life.node("chat"), Quantize(types=("q5_0",)), Run(tmp_path / "small"))
    assert other.id != made.id
    assert [path.name for path in other.path.glob("*.gguf")] == ["small-q5_0.gguf"]


def test_a_model_from_elsewhere_is_as_good(life, made, tmp_path):
    elsewhere = tmp_path / "chat"
    shutil.copytree(life.node("chat").path, elsewhere)
    (elsewhere / "lineage.json").unlink()
    node = quantize(str(elsewhere), Quantize(types=("q8_0",)), Run(tmp_path / "out", name="small"))
    assert node.parents == [Node(elsewhere).id] != made.parents
    assert sha256_file(node.path / "small-q8_0.gguf") == made.lineage["files"]["small-q8_0.gguf"]


def test_a_type_named_twice_is_one_file(life, tmp_path):
    node = quantize(life.node("chat"), Quantize(types=("q8_0", "q8_0")), Run(tmp_path / "out"))
    assert [path.name for path in node.path.glob("*.gguf")] == ["out-q8_0.gguf"]


@pytest.mark.parametrize(
    "types, said",
    [
        ((), "types is empty: name some of f32, f16"),
        (("f16", "q4_1"), 'unknown GGUF type "q4_1", did you mean "q4_0"'),
        (("f16", "bf61"), "unknown GGUF type"),
    ],
)
def test_types_that_are_none_are_told_before_anything_is_written(life, tmp_path, types, said):
    with pytest.raises(JourneyError, match=said):
        quantize(life.node("chat"), Quantize(types=types), Run(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("*.gguf"))


@pytest.fixture(scope="module")
def weighed(life, tmp_path_factory):
    """The same, rounded by the importance of a text; all of its rows are narrower than a K-quant's block."""
    console, said = Console(), []
    console.say = said.append
    run = Run(tmp_path_factory.mktemp("weighed") / "small", name="small", console=console)
    config = Quantize(types=("q8_0", "q4_k_m", "q4_0"), importance=str(life.node("prose").path))
    return quantize(life.node("chat"), config, run), said


def test_importance_is_of_the_dev_split_alone(weighed, life, tmp_path):
    node, said = weighed
    model, tokenizer = open_pair(life.node("chat").path)
    texts = Corpus(life.node("prose").path).texts("dev")
    found = importance(model, tokenizer, texts, "prose", 1 << 16)
    for type in ("q4_k_m", "q4_0"):
        theirs = GGUFReader(node.path / f"small-{type}.gguf")
        gguf.write(model, tokenizer, tmp_path / "a.gguf", type, importance=found)
        ours = GGUFReader(tmp_path / "a.gguf")
        assert [t.data.tobytes() for t in ours.tensors] == [t.data.tobytes() for t in theirs.tensors]
        assert theirs.fields["quantize.imatrix.dataset"].contents() == "prose"
    n = sum(len(tokenizer.encode(text)) + 1 for text in texts)
    kept = {"split": "dev", "text": "prose", "documents": len(texts), "tokens": n, "rows": -(-n // 64), "unused": 0}
    assert json.loads((node.path / "quantize.json").read_text())["importance"] == kept
    assert node.lineage["metrics"]["importance_tokens"]["value"] == n
    assert node.lineage["data"]["importance"]["id"] == life.node("prose").id
    assert f"importance: from {n:,} tokens, {len(texts)} documents of the dev split of prose" in said


def test_importance_changes_what_takes_it_and_nothing_else(weighed, made):
    node, _ = weighed
    assert node.id != made.id
    same = {
        type: node.lineage["files"][f"small-{type}.gguf"] == made.lineage["files"][f"small-{type}.gguf"]
        for type in ("q8_0", "q4_0")
    }
    assert same == {"q8_0": True, "q4_0": False}


def test_what_falls_back_is_said_and_kept(weighed):
    node, said = weighed
    facts = json.loads((node.path / "quantize.json").read_text())["types"]
    assert "fallback" not in facts["q8_0"] and "fallback" not in facts["q4_0"]
    fallback = facts["q4_k_m"]["fallback"]
    assert len(fallback) == 14 and set(fallback.values()) == {"q5_0", "q8_0"}
    assert fallback["blk.1.attn_v.weight"] == "q8_0" and fallback["blk.0.attn_v.weight"] == "q5_0"
    [line] = [line for line in said if line.startswith("q4_k_m: ")]
    assert line == (
        "q4_k_m: rows of blk.0.attn_q.weight and 13 others are no multiple of 256, so llama.cpp's rules store them as "
        "q5_0 or q8_0 (quantize.json names each)"
    )


def test_importance_that_counts_nowhere_is_told(life, tmp_path):
    prose = str(life.node("prose").path)
    for types in (("f16", "q8_0"), ("q6_k",)):  # which is all q8_0 here
        with pytest.raises(JourneyError, match=f"importance counts in no file of {', '.join(types)} of this model"):
            quantize(life.node("chat"), Quantize(types=types, importance=prose), Run(tmp_path / "out"))
    with pytest.raises(JourneyError, match="importance must be a text or a tokens node"):
        quantize(life.node("chat"), Quantize(importance=str(life.node("pairs").path)), Run(tmp_path / "out"))


def test_a_shape_that_a_type_does_not_allow_is_told(life, tmp_path):
    folder = tmp_path / "odd"
    tokenizer = Tokenizer.load(life.node("chat").path)
    torch.manual_seed(0)
    shape = GPTConfig.make("gpt2", tokenizer.vocab_size, 16, 1, 20, n_head=2)
    huggingface.save(GPT(shape), folder)
    tokenizer.save(folder)
    with pytest.raises(JourneyError, match=r"q8_0 packs rows in blocks of 32, but token_embd\.weight is 400 x 20"):
        quantize(folder, Quantize(), Run(tmp_path / "out"))
    assert quantize(folder, Quantize(types=("f16", "f32")), Run(tmp_path / "out")).stage == "quantize"


def test_a_tokenizer_of_another_model_is_told(life, tmp_path):
    folder = tmp_path / "mixed"
    torch.manual_seed(0)
    huggingface.save(GPT(GPTConfig.make("qwen3", 300, 16, 1, 32, n_head=1)), folder)
    Tokenizer.load(life.node("chat").path).save(folder)
    with pytest.raises(JourneyError, match="its tokenizer has ids up to 399, its embedding only 300 rows"):
        quantize(folder, Quantize(), Run(tmp_path / "out"))


def test_a_stop_leaves_no_node_and_the_next_run_makes_it(life, made, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "stopping", property(lambda run: any(run.folder.glob("*-f16.gguf"))))
    with pytest.raises(Stopped):
        quantize(life.node("chat"), Quantize(), Run(tmp_path / "small", name="small"))
    assert not (tmp_path / "small").exists()
    monkeypatch.undo()
    again = quantize(life.node("chat"), Quantize(), Run(tmp_path / "small", name="small"))
    gguf_files = {name for name in made.lineage["files"] if name.endswith(".gguf")}
    assert {name: again.lineage["files"][name] for name in gguf_files} == {
        name: made.lineage["files"][name] for name in gguf_files
    }
