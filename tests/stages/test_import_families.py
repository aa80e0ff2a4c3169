"""Llama 3.1 and Qwen2 as the Hub has them, shards, tokenizer and all, in small: imported by the command line, and then
generated with, measured and quantized, against transformers, tokenizers and llama.cpp."""

import argparse
import gc
import inspect
import json
import math

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from journey import chat
from journey.infer.llamacpp import LlamaCpp
from journey.infer.proof import ADVERSARIAL
from journey.model import foreign, huggingface
from journey.model.config import RopeScaling
from journey.stages.import_ import Import, import_
from journey.stages.run import Run
from journey.tokenizer import bpe
from journey.tokenizer.codec import PATTERNS
from journey.tokenizer.formats import BOS, SPECIALS, Tokenizer

N, FIRST = 96, 32  # positions, and those of Llama's first training
LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>")
LLAMA3 += ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
QWEN2 = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SPECIAL = {"llama": LLAMA3, "qwen2": QWEN2}
TEXT = inspect.getdoc(argparse) * 2
TEXTS = [
    *ADVERSARIAL,
    TEXT,
    "unreachable xyzzy 12345",
    "",
    " ",
    "<|eot_id|><|im_end|> <|begin_of_text|>",
    "e\u0301\u0327",
]


def tokenizer_of(family):
    """A tokenizer of the form of the original's tokenizer.json, with few merges."""
    pattern = {"llama": "llama3", "qwen2": "qwen2"}[family]
    merges = bpe.train(bpe.count_words([inspect.getsource(argparse)], pattern), 400, 0)
    ids = Tokenizer.from_merges(merges, pattern, []).backend.get_vocab()
    if family == "llama":
        ids["Ġxyzzy"] = len(ids)  # no merge reaches it: ignore_merges does
    backend = Backend(models.BPE(ids, list(merges), ignore_merges=family == "llama"))
    backend.normalizer = normalizers.NFC() if family == "qwen2" else None
    cut = pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated", invert=False)
    trim = family == "llama"
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=trim, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([cut, as_bytes])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL[family]])
    backend.post_processor = processors.ByteLevel(trim_offsets=trim)
    if family == "llama":
        begin = LLAMA3[0]
        template = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1", special_tokens=[(begin, len(ids))]
        )
        backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    return backend


def write_folder(folder, family, tied=False):
    """In bfloat16, in shards, with a chat template of its own; the embedding is padded as Qwen's is."""
    backend = tokenizer_of(family)
    begin, end = SPECIAL[family][0], SPECIAL[family][-1]
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "max_position_embeddings": N, "tie_word_embeddings": tied}
    shape |= {"bos_token_id": backend.token_to_id(begin), "eos_token_id": backend.token_to_id(end)}
    rows = backend.get_vocab_size(with_added_tokens=True)
    torch.manual_seed(0)
    if family == "llama":
        rope = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0}
        rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": FIRST}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=rows, head_dim=32, rope_parameters=rope, **shape))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(vocab_size=rows + 64, **shape))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2 if parameter.dim() == 2 else 0.5)
    model.bfloat16().save_pretrained(folder, max_shard_size="80KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    backend.save(str(folder / "tokenizer.json"))
    own = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": begin, "eos_token": end}
    (folder / "tokenizer_config.json").write_text(json.dumps(own | {"chat_template": "{{ bos_token }}{{ messages }}"}))
    return folder


@pytest.fixture(scope="module", params=SPECIAL)
def imported(request, tmp_path_factory, journey):
    """The folder of a model, and the node that the command line made of it."""
    family, place = request.param, tmp_path_factory.mktemp(request.param)
    folder = write_folder(place / "theirs", family)
    output = journey("import", folder, "--out", place / "mine", "--workspace", place / "none")
    assert output.code == 0, output.err
    assert "weights in bfloat16: converted to float32" in output.err and "logits checked" in output.err
    assert ("64 rows of padding dropped" in output.err) == (family == "qwen2")
    return family, folder, place / "mine"


@torch.inference_mode()
def test_every_position_has_the_logits_of_the_source(imported):
    family, folder, mine = imported
    model = huggingface.load(mine)
    assert model.config.rope_scaling == (
        RopeScaling("llama3", 8.0, original_n_ctx=FIRST) if family == "llama" else None
    )
    assert model.config.n_ctx == N
    kept = tokenizer_of(family).get_vocab_size(with_added_tokens=True)
    ids = torch.randint(kept, (2, N), generator=torch.Generator().manual_seed(1))
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits[..., :kept]
    for made in (model(ids), AutoModelForCausalLM.from_pretrained(mine)(ids).logits):
        assert (made[..., :kept] - expected).abs().max() < 1e-4 * expected.abs().max()


def test_no_id_changes_and_the_chat_formats_tokens_join(imported):
    family, folder, mine = imported
    backend, ours = tokenizer_of(family), Tokenizer.load(mine)
    backend.encode_special_tokens = True  # a mark's spelling in a text is text
    theirs, back = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(mine)
    for text in TEXTS:
        expected = backend.encode(text, add_special_tokens=False).ids
        assert ours.encode(text) == expected == list(ours.encode_arrays([text])[0]), text
    plain = [text for text in TEXTS if "<|" not in text]
    for text in plain:
        begin = [theirs.bos_token_id] if family == "llama" else []
        assert [*begin, *back.encode(text)] == theirs.encode(text), "nothing stands before a text any more"
    own = theirs.get_vocab()
    assert own.items() <= back.get_vocab().items()
    assert {token for token in back.get_vocab() if token not in own} == {*SPECIALS} - {*SPECIAL[family]}
    assert ours.special.keys() >= {*SPECIAL[family], *SPECIALS}
    assert back.chat_template == chat.TEMPLATE
    said = json.loads((mine / "generation_config.json").read_text())
    assert said["bos_token_id"] == back.get_vocab()[BOS] and theirs.eos_token_id not in said["eos_token_id"]


def test_our_document_mark_begins_as_llamas_own(imported):
    family, _, mine = imported
    weight, ids = load_shards(mine)["model.embed_tokens.weight"], Tokenizer.load(mine).special
    assert len(weight) == 1 + max(ids.values())
    assert torch.equal(weight[ids[BOS]], weight[ids[SPECIAL[family][0]]])


def load_shards(folder):
    return load_file(folder / "model.safetensors")


@torch.inference_mode()
def test_it_is_generated_with_beyond_the_first_context_as_transformers_does(imported, journey):
    _, _, mine = imported
    prompt = "usage: the parser's options"
    told = journey("generate", mine, prompt, "--temperature", 0, "--max-new-tokens", 60)
    assert told.code == 0, told.err
    tokenizer, model = Tokenizer.load(mine), AutoModelForCausalLM.from_pretrained(mine)
    ids = torch.tensor([[tokenizer.bos, *tokenizer.encode(prompt)]])
    made = model.generate(ids, do_sample=False, max_new_tokens=60)[0, ids.size(1) :].tolist()
    assert len(made) + ids.size(1) > FIRST + 16
    assert tokenizer.decode(made) in told.out


@torch.inference_mode()
def test_its_bits_per_byte_are_transformers(imported, journey, tmp_path):
    _, _, mine = imported
    documents = [" ".join((inspect.getdoc(each) or "").split())[:120] for each in vars(argparse).values()]
    documents = sorted({text for text in documents if len(text) > 50 and text.isascii()})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    asked = ("--measure", "bits_per_byte", "--json", "--workspace", tmp_path)
    told = journey("eval", mine, "--text", tmp_path / "a.jsonl", *asked)
    assert told.code == 0, told.err
    tokenizer, model = Tokenizer.load(mine), AutoModelForCausalLM.from_pretrained(mine)
    nats = 0.0
    for text in documents:
        ids = torch.tensor([[tokenizer.bos, *tokenizer.encode(text)]])
        nats += model(ids, labels=ids).loss.item() * (ids.size(1) - 1)
    found = told.json["metrics"]["bits_per_byte.a"]
    assert found["value"] == pytest.approx(nats / math.log(2) / sum(map(len, documents)), rel=1e-5)


@torch.inference_mode()
def test_its_gguf_file_computes_and_writes_the_same_in_llama_cpp(imported, journey, tmp_path):
    family, _, mine = imported
    told = journey(
        "quantize", "--parent", mine, "--types", "f32", "q8_0", "--out", tmp_path / "gguf", "--workspace", tmp_path
    )
    assert told.code == 0, told.err
    assert ("brings it to NFC first" in told.err) == (family == "qwen2")
    model, tokenizer = huggingface.load(mine), Tokenizer.load(mine)
    ids = torch.tensor([[tokenizer.bos, *tokenizer.encode(TEXT)][:N]])
    assert ids.size(1) == N
    expected = model(ids)[0].numpy()
    for path in (tmp_path / "gguf").glob("*.gguf"):
        with LlamaCpp(path, exact=True) as llama:
            difference = abs(llama.logits(ids[0].tolist()) - expected).max() / abs(expected).max()
            assert difference < (1e-5 if "f32" in path.name else 0.1)
            if "f32" not in path.name:
                continue
            prompt = ids[0, :20].tolist()
            written = list(llama.greedy(prompt))[:60]
            reference = AutoModelForCausalLM.from_pretrained(mine)
            made = reference.generate(ids[:, :20], do_sample=False, max_new_tokens=60, eos_token_id=-1)
            assert written == made[0, 20:].tolist()


def test_a_tied_llama_stays_tied(tmp_path):
    """As Llama 3.2 1B is."""
    folder = write_folder(tmp_path / "theirs", "llama", tied=True)
    node = import_(None, Import(path=str(folder)), Run(tmp_path / "mine"))
    weights = load_shards(node.path)
    assert "lm_head.weight" not in weights and huggingface.load_config(node.path).tied
    assert node.lineage["metrics"]["logits_difference"]["value"] < 1e-4


def test_fewer_positions_keep_the_scaling(tmp_path):
    folder = write_folder(tmp_path / "theirs", "llama")
    node = import_(None, Import(path=str(folder), n_ctx=16), Run(tmp_path / "mine"))
    config = huggingface.load_config(node.path)
    assert (config.n_ctx, config.rope_scaling) == (16, RopeScaling("llama3", 8.0, original_n_ctx=FIRST))


def test_a_fault_that_only_transformers_minds_is_one_line(tmp_path, journey):
    folder = write_folder(tmp_path / "theirs", "qwen2")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index["weight_map"]}))
    told = journey("import", folder, "--out", tmp_path / "mine", "--workspace", tmp_path)
    assert told.code == 2 and not (tmp_path / "mine").exists()
    assert "transformers cannot open it (KeyError: 'metadata')" in told.err.splitlines()[-1]


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_model_is_held_in_float32_once(tmp_path, monkeypatch, kind):
    """Of an 8B one copy is 32 GB: when ours is built for the check nothing else is there, when theirs is, not ours."""
    folder = write_folder(tmp_path / "theirs", "qwen2")
    if kind == "bin":
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        for path in folder.glob("model-*.safetensors"):
            torch.save(load_file(path), folder / f"pytorch_{path.stem}.bin")
            path.unlink()
        where = {
            tensor: f"pytorch_{file.replace('safetensors', 'bin')}" for tensor, file in index["weight_map"].items()
        }
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
        (folder / "model.safetensors.index.json").unlink()

    def held():
        gc.collect()
        tensors = [each for each in gc.get_objects() if type(each) in (torch.Tensor, torch.nn.Parameter)]
        return sum({each.data_ptr(): each.nbytes for each in tensors if each.dtype == torch.float32}.values())

    before, found = held(), []
    for place, name in ((huggingface, "load"), (foreign.folder, "logits")):
        real = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *a, real=real: (found.append(held() - before), real(*a))[1])
    node = import_(None, Import(path=str(folder)), Run(tmp_path / "mine"))
    weights = (node.path / "model.safetensors").stat().st_size
    assert len(found) == 2 and max(found) < weights / 3, (found, weights)
