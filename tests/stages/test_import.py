"""The import stage: a checkpoint from elsewhere becomes a node that computes the same, and says what it was."""

import argparse
import inspect
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from journey import chat
from journey.errors import JourneyError
from journey.model import foreign, huggingface
from journey.model.sizes import llama_31_8b
from journey.stages import import_ as module
from journey.stages.import_ import Import, import_, resized
from journey.stages.run import Run
from journey.tokenizer import bpe
from journey.tokenizer.formats import BOS, SPECIALS, Tokenizer

ROWS = 400  # tokens before any of the chat format but <|endoftext|>
PADDED = 448
CONV1D = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


@pytest.fixture(scope="module")
def base():
    """A tokenizer as a pre-trained GPT-2 has one: its only special token is <|endoftext|>."""
    words = bpe.count_words([inspect.getsource(argparse)], "gpt2")
    return Tokenizer.from_merges(bpe.train(words, ROWS, 1), "gpt2", [BOS])


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(1)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=PADDED, n_positions=64, n_embd=32, n_layer=2, n_head=4)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.zero_() if name.endswith("bias") else parameter.normal_(std=0.3)
    return model


@pytest.fixture
def checkpoint(tmp_path, base, reference):
    """nanoGPT's out/ folder, with the tokenizer beside the file."""
    folder = tmp_path / "out"
    folder.mkdir()
    base.backend.save(str(folder / "tokenizer.json"))
    state = {
        f"_orig_mod.{name}": tensor.t().contiguous() if name.endswith(CONV1D) else tensor.clone()
        for name, tensor in reference.state_dict().items()
        if not name.endswith("bias")
    }
    args = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 64, "vocab_size": PADDED, "bias": False}
    torch.save(
        {"model": state, "model_args": args, "iter_num": 5, "best_val_loss": torch.tensor(3.5)}, folder / "ckpt.pt"
    )
    return folder / "ckpt.pt"


def change(path, act):
    saved = torch.load(path)
    act(saved)
    torch.save(saved, path)


def test_a_nanogpt_checkpoint_becomes_a_folder_that_everyone_opens(checkpoint, tmp_path, base, reference):
    node = import_(None, Import(path=str(checkpoint)), Run(tmp_path / "mine"))
    theirs, model = AutoTokenizer.from_pretrained(node.path), AutoModelForCausalLM.from_pretrained(node.path)
    text = "def parse_args(self): Hello wörld"
    ids = theirs.encode(text)
    assert ids == base.encode(text)  # no id has changed
    assert theirs.chat_template == chat.TEMPLATE and set(SPECIALS) <= set(theirs.get_vocab())
    assert len(theirs) == model.config.vocab_size == ROWS + len(SPECIALS) - 1
    batch = torch.tensor([ids])
    with torch.inference_mode():
        expected = reference(batch).logits[..., :ROWS]
        for logits in (model(batch).logits, huggingface.load(node.path)(batch)):
            assert (logits[..., :ROWS] - expected).abs().max() < 1e-4

    metrics = {name: m["value"] for name, m in node.lineage["metrics"].items()}
    assert (metrics["vocabulary_before"], metrics["vocabulary"]) == (PADDED, ROWS + 6)
    assert metrics["parameters"] == sum(p.numel() for p in model.parameters())
    assert metrics["logits_difference"] < 1e-4 < metrics["exact_gelu_difference"]
    facts = json.loads((node.path / "import.json").read_text())
    assert facts["format"] == "nanoGPT" and facts["path"] == str(checkpoint)
    assert facts["trained"] == {"iter_num": 5, "best_val_loss": 3.5}
    assert facts["sha256"] == node.lineage["data"]["path"]["fingerprint"] == module.sha256_file(checkpoint)
    said = "; ".join(facts["changed"])
    assert "48 rows of padding dropped" in said and "<|user|>" in said and "no biases" in said
    assert node.is_model and node.parents == []


def test_new_rows_are_the_mean_and_a_little_noise(checkpoint, tmp_path, reference):
    node = import_(None, Import(path=str(checkpoint)), Run(tmp_path / "mine"))
    made = load_file(node.path / "model.safetensors")["transformer.wte.weight"]
    old = reference.transformer.wte.weight.detach()[:ROWS]
    assert torch.equal(made[:ROWS], old)
    new = made[ROWS:]
    assert ((new - old.mean(0)).abs() < 0.06 * old.std(0)).all()  # noise of a hundredth: six of its deviations
    assert len({tuple(row.tolist()) for row in new}) == len(new)


def test_rows_are_the_seeds():
    matrix = torch.randn(20, 8)
    assert torch.equal(resized(matrix, 10, 14, 0), resized(matrix, 10, 14, 0))
    assert not torch.equal(resized(matrix, 10, 14, 0), resized(matrix, 10, 14, 1))
    assert torch.equal(resized(matrix, 10, 10, 0), matrix[:10])


def test_the_id_is_of_the_content_not_of_the_place(checkpoint, tmp_path):
    first = import_(None, Import(path=str(checkpoint)), Run(tmp_path / "a"))
    moved = checkpoint.parent.rename(tmp_path / "elsewhere") / "ckpt.pt"
    again = import_(None, Import(path=str(moved)), Run(tmp_path / "b"))
    assert first.id == again.id and first.lineage["weights_sha256"] == again.lineage["weights_sha256"]
    change(moved, lambda saved: saved["model"]["_orig_mod.transformer.ln_f.weight"].add_(1))
    assert import_(None, Import(path=str(moved)), Run(tmp_path / "c")).id != first.id


def nan(saved):
    saved["model"]["_orig_mod.transformer.h.1.ln_2.weight"][3] = float("nan")


def missing(saved):
    del saved["model"]["_orig_mod.transformer.h.1.ln_2.weight"]


@pytest.mark.parametrize(("act", "said"), [(nan, "h.1.ln_2.weight holds NaN"), (missing, "h.1.ln_2.weight is missing")])
def test_broken_weights_are_named_and_leave_nothing(checkpoint, tmp_path, act, said):
    change(checkpoint, act)
    with pytest.raises(JourneyError, match=said):
        import_(None, Import(path=str(checkpoint)), Run(tmp_path / "mine"))
    assert not (tmp_path / "mine").exists()


def test_half_precision_is_converted_and_said(checkpoint, tmp_path):
    def halve(saved):
        saved["model"] = {name: tensor.half() for name, tensor in saved["model"].items()}

    change(checkpoint, halve)
    node = import_(None, Import(path=str(checkpoint)), Run(tmp_path / "mine"))
    weights = load_file(node.path / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    facts = json.loads((node.path / "import.json").read_text())
    assert "weights in float16: converted to float32" in facts["changed"]
    assert facts["check"]["logits"] < 1e-4


@pytest.mark.parametrize("zipped", [True, False])
def test_blocks_that_share_their_weights_are_written_out(checkpoint, tmp_path, zipped):
    saved = torch.load(checkpoint)
    state = saved["model"]
    first = {name: tensor for name, tensor in state.items() if ".h.0." in name}
    state |= {name.replace(".h.0.", ".h.1."): tensor for name, tensor in first.items()}
    state["_orig_mod.transformer.h.0.ln_2.weight"] = state["_orig_mod.transformer.wte.weight"].view(-1)[5:37]
    torch.save(saved, checkpoint, _use_new_zipfile_serialization=zipped)
    node = import_(None, Import(path=str(checkpoint)), Run(tmp_path / "mine"))
    made = load_file(node.path / "model.safetensors")
    for name in ("attn.c_attn.weight", "ln_1.weight", "mlp.c_proj.weight"):
        assert torch.equal(made[f"transformer.h.0.{name}"], made[f"transformer.h.1.{name}"])
    assert json.loads((node.path / "import.json").read_text())["check"]["logits"] < 1e-4


def test_logits_that_differ_are_an_error(checkpoint, tmp_path, monkeypatch):
    """The check can fail: a source that computes something else is caught."""
    read = foreign.read

    def other(*arguments):
        source = read(*arguments)
        right = source.logits
        source.logits = lambda ids: right(ids) + 1e-3 * torch.arange(ids.size(1))[:, None]
        return source

    monkeypatch.setattr(foreign, "read", other)
    with pytest.raises(JourneyError, match="computes other logits than the checkpoint"):
        import_(None, Import(path=str(checkpoint)), Run(tmp_path / "mine"))


@pytest.mark.parametrize(("size", "said"), [(900, "448 embeddings, .* 900 tokens"), (300, None)])
def test_a_tokenizer_that_does_not_fit(checkpoint, tmp_path, base, size, said):
    words = bpe.count_words([inspect.getsource(argparse)], "gpt2")
    Tokenizer.from_merges(bpe.train(words, size, 1), "gpt2", [BOS]).backend.save(str(tmp_path / "tokenizer.json"))
    config = Import(path=str(checkpoint), tokenizer=str(tmp_path / "tokenizer.json"))
    if said:
        with pytest.raises(JourneyError, match=said):
            import_(None, config, Run(tmp_path / "mine"))
    else:
        assert import_(None, config, Run(tmp_path / "mine")).lineage["metrics"]["vocabulary"]["value"] == size + 6


def test_more_rows_than_padding_could_be_means_another_tokenizer(tmp_path, base):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=5000, n_positions=16, n_embd=8, n_layer=1, n_head=1))
    model.save_pretrained(tmp_path / "theirs")
    base.backend.save(str(tmp_path / "theirs" / "tokenizer.json"))
    with pytest.raises(JourneyError, match=r"5,000 embeddings, .* only 400 tokens, which is not padding"):
        import_(None, Import(path=str(tmp_path / "theirs")), Run(tmp_path / "mine"))


def test_a_folder_with_tokens_and_an_untied_head_of_its_own(tmp_path):
    """Llama 3's way: another mark of a beginning, put before every text by the tokenizer itself."""
    from tokenizers import processors

    words = bpe.count_words([inspect.getsource(argparse)], "qwen2")
    own = Tokenizer.from_merges(bpe.train(words, 398, 2), "qwen2", ["<|begin_of_text|>", "<|im_end|>"])
    start = own.special["<|begin_of_text|>"]
    own.backend.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", start)]
    )
    torch.manual_seed(2)
    reference = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=448, max_position_embeddings=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False, bos_token_id=start,
    )).eval()  # fmt: skip
    reference.save_pretrained(tmp_path / "theirs")
    own.backend.save(str(tmp_path / "theirs" / "tokenizer.json"))
    node = import_(None, Import(path=str(tmp_path / "theirs")), Run(tmp_path / "mine"))
    theirs = AutoTokenizer.from_pretrained(node.path)
    assert theirs.encode("parse 12") == own.encode("parse 12")  # nothing is put before it any more
    assert own.special.items() <= theirs.get_vocab().items()
    weights = load_file(node.path / "model.safetensors")
    assert len(weights["lm_head.weight"]) == 398 + len(SPECIALS)
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        assert torch.equal(weights[name][theirs.bos_token_id], weights[name][start])
    batch = torch.tensor([own.encode("def parse_args")])
    with torch.inference_mode():
        difference = huggingface.load(node.path)(batch)[..., :398] - reference(batch).logits[..., :398]
    assert difference.abs().max() < 1e-4


def gpt2_folder(folder, base, n_rows, **files):
    """A GPT-2's folder as slow tokenizers saved it: row i of the embedding begins with i hundredths."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=n_rows, n_positions=16, n_embd=8, n_layer=1, n_head=1))
    with torch.no_grad():
        model.transformer.wte.weight[:, 0] = torch.arange(n_rows) / 100
    model.save_pretrained(folder)
    state = json.loads(base.backend.to_str())["model"]
    (folder / "merges.txt").write_text("".join(f"{left} {right}\n" for left, right in state["merges"]))
    files = {"vocab.json": state["vocab"], **{f"{name}.json": value for name, value in files.items()}}
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    return folder


def rows_of(node):
    """Token -> the number with which its row begins, in hundredths."""
    weight = load_file(node.path / "model.safetensors")["transformer.wte.weight"]
    return {
        token: weight[i, 0].item() * 100 for token, i in AutoTokenizer.from_pretrained(node.path).get_vocab().items()
    }


ROLES = {"<|user|>": ROWS, "<|assistant|>": ROWS + 1, "<|pad|>": ROWS + 2, "<tool>": ROWS + 3}


@pytest.mark.parametrize("named", [{}, {"additional_special_tokens": ["<|user|>", "<|assistant|>"]}])
def test_trained_tokens_beside_the_vocabulary_keep_their_ids_and_rows(tmp_path, base, named):
    folder = gpt2_folder(tmp_path / "theirs", base, ROWS + 4, added_tokens=ROLES, special_tokens_map=named)
    node = import_(None, Import(path=str(folder)), Run(tmp_path / "mine"))
    theirs, rows = AutoTokenizer.from_pretrained(node.path), rows_of(node)
    assert ROLES.items() <= theirs.get_vocab().items()
    assert all(rows[token] == pytest.approx(i) for token, i in ROLES.items())
    changed = json.loads((node.path / "import.json").read_text())["changed"]
    assert not any("padding" in line for line in changed)
    assert changed[-1] == "tokens added: <|system|> <|tool|> <|end|>; their embeddings are the mean of the others"
    assert theirs.encode("a<tool>b")[1] == ROLES["<tool>"]


@pytest.mark.parametrize("place", [0, 7])
def test_a_document_mark_that_is_not_last_keeps_its_row(tmp_path, base, place):
    tokens = sorted(base.backend.get_vocab(), key=base.backend.get_vocab().get)[:-1]
    vocab = {token: i for i, token in enumerate([*tokens[:place], BOS, *tokens[place:]])}
    folder = gpt2_folder(tmp_path / "theirs", base, ROWS, vocab=vocab)
    node = import_(None, Import(path=str(folder)), Run(tmp_path / "mine"))
    theirs = AutoTokenizer.from_pretrained(node.path)
    assert theirs.bos_token_id == place and rows_of(node)[BOS] == pytest.approx(place)
    assert theirs.encode("def parse_args") == AutoTokenizer.from_pretrained(folder).encode("def parse_args")
    assert json.loads((node.path / "generation_config.json").read_text())["bos_token_id"] == place


@pytest.mark.parametrize("named", [{}, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<s>"}])
def test_a_vocabulary_whose_document_mark_has_another_name(tmp_path, base, named):
    """As RoBERTa's has it: our mark is a new token, which begins as the model's own."""
    tokens = sorted(base.backend.get_vocab(), key=base.backend.get_vocab().get)[:-1]
    vocab = {token: i for i, token in enumerate(["<s>", "</s>", *tokens])}
    folder = gpt2_folder(tmp_path / "theirs", base, ROWS + 1, vocab=vocab, special_tokens_map=named)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"bos_token_id": 0}))
    theirs = AutoTokenizer.from_pretrained(folder)
    node = import_(None, Import(path=str(folder)), Run(tmp_path / "mine"))
    mine, rows = AutoTokenizer.from_pretrained(node.path), rows_of(node)
    assert theirs.get_vocab().items() <= mine.get_vocab().items()
    assert mine.encode("def parse_args") == theirs.encode("def parse_args")
    assert rows[BOS] == rows["<s>"] == 0 and rows["</s>"] == pytest.approx(1) and mine.bos_token_id == ROWS + 1


def test_a_gap_in_the_ids_is_kept_and_new_tokens_stand_above(tmp_path, base):
    added = {"<|user|>": ROWS + 10}
    folder = gpt2_folder(tmp_path / "theirs", base, ROWS + 20, added_tokens=added)
    node = import_(None, Import(path=str(folder)), Run(tmp_path / "mine"))
    ids = AutoTokenizer.from_pretrained(node.path).get_vocab()
    assert ids["<|user|>"] == ROWS + 10 and rows_of(node)["<|user|>"] == pytest.approx(ROWS + 10)
    assert sorted(ids[token] for token in SPECIALS)[2:] == [*range(ROWS + 11, ROWS + 16)]
    assert node.lineage["metrics"]["vocabulary"]["value"] == ROWS + 16


@pytest.mark.parametrize("n_rows", [ROWS, ROWS + 48])
def test_a_token_that_was_never_trained_gets_a_row(tmp_path, base, n_rows):
    """[PAD] by its name alone, as a library's example sets it: padding of the embedding is not its row."""
    folder = gpt2_folder(tmp_path / "theirs", base, n_rows, special_tokens_map={"pad_token": "[PAD]"})
    node = import_(None, Import(path=str(folder)), Run(tmp_path / "mine"))
    assert rows_of(node)["[PAD]"] == pytest.approx((ROWS - 1) / 2, rel=0.1)  # the mean of the others


def test_a_special_token_without_an_embedding_gets_one(tmp_path, base):
    """Added to tokenizer.json, and the model never resized."""
    folder = gpt2_folder(tmp_path / "theirs", base, ROWS)
    grown = Tokenizer.load(folder).backend
    grown.add_special_tokens(["[PAD]"])
    grown.save(str(folder / "tokenizer.json"))
    node = import_(None, Import(path=str(folder)), Run(tmp_path / "mine"))
    assert AutoTokenizer.from_pretrained(node.path).get_vocab()["[PAD]"] == ROWS
    grown.add_tokens(["<tool>"])  # a word of the text is another matter: its embedding is missing
    folder = gpt2_folder(tmp_path / "others", base, ROWS)
    grown.save(str(folder / "tokenizer.json"))
    with pytest.raises(JourneyError, match=r"400 embeddings, the tokenizer .* 402 tokens"):
        import_(None, Import(path=str(folder)), Run(tmp_path / "other"))


def test_what_decides_the_tokens_decides_the_id(tmp_path, base):
    """added_tokens.json and its kind are read, so they are part of what the node is made of."""
    ids = set()
    for n, files in enumerate(
        ({}, {"added_tokens": ROLES}, {"added_tokens": ROLES, "special_tokens_map": {"pad_token": "<|pad|>"}})
    ):
        folder = gpt2_folder(tmp_path / f"theirs{n}", base, ROWS + 4, **files)
        ids.add(import_(None, Import(path=str(folder)), Run(tmp_path / f"mine{n}")).id)
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Import(), "no checkpoint given: give the path"),
        (Import(path="not/there.pt"), r"not/there.pt does not exist: give the path of a checkpoint \(or random-gpt2"),
    ],
)
def test_no_checkpoint_is_told_before_anything_runs(tmp_path, config, said):
    with pytest.raises(JourneyError, match=said):
        config.inputs()
    with pytest.raises(JourneyError, match=said):
        import_(None, config, Run(tmp_path / "mine"))


def test_random_gpt2_says_that_nothing_was_checked(tmp_path, base, monkeypatch):
    from journey.model.config import GPTConfig

    make = GPTConfig.make
    monkeypatch.setattr(GPTConfig, "make", lambda family, *shape: make(family, ROWS, 64, 2, 64))
    base.backend.save(str(tmp_path / "tokenizer.json"))
    config = Import(path="random-gpt2", n_ctx=32, tokenizer=str(tmp_path))
    node = import_(None, config, Run(tmp_path / "mine", seed=1))
    assert huggingface.load_config(node.path).n_ctx == 32
    facts = json.loads((node.path / "import.json").read_text())
    assert facts["check"] == {"unchecked": "the weights are random"} and facts["sha256"] is None
    other = import_(None, config, Run(tmp_path / "other", seed=2))
    again = import_(None, config, Run(tmp_path / "again", seed=1))
    assert other.lineage["weights_sha256"] != node.lineage["weights_sha256"] == again.lineage["weights_sha256"]


def test_random_llama_is_a_llama_31_in_small(tmp_path, base):
    base.backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(JourneyError, match=r"random-llama-3.1 has 50,257 embeddings, the tokenizer .* only"):
        import_(None, Import(path="random-llama-3.1", tokenizer=str(tmp_path)), Run(tmp_path / "mine"))
    source, true = foreign.random("random-llama-3.1", 0, 2048), llama_31_8b()
    for same in ("family", "rope_theta", "rope_scaling", "norm_eps", "tied"):
        assert getattr(source.config, same) == getattr(true, same)
    assert source.config.n_head == 2 * source.config.n_kv_head and source.config.n_ctx == 2048
    assert "lm_head.weight" in source.tensors and source.unchecked == "the weights are random"


# nanoGPT's characters.

LETTERS = sorted(set("\n Hello, world: é你🙂"))


@pytest.fixture
def by_characters(tmp_path):
    """out/ckpt.pt of nanoGPT's shakespeare_char, not trained; its meta.pkl is in data/."""
    torch.manual_seed(3)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(LETTERS), n_positions=64, n_embd=32, n_layer=2, n_head=4)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.zero_() if name.endswith("bias") else parameter.normal_(std=0.3)
    state = {
        f"_orig_mod.{name}": tensor.t().contiguous() if name.endswith(CONV1D) else tensor.clone()
        for name, tensor in model.state_dict().items()
        if not name.endswith("bias")
    }
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 64, "vocab_size": len(LETTERS), "bias": False}
    (tmp_path / "out").mkdir()
    torch.save(
        {"model": state, "model_args": shape, "iter_num": 0, "config": {"dataset": "shakespeare_char"}},
        tmp_path / "out/ckpt.pt",
    )
    meta = {"vocab_size": len(LETTERS), "itos": dict(enumerate(LETTERS)), "stoi": {c: i for i, c in enumerate(LETTERS)}}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta))
    return model, tmp_path


def test_nanogpts_characters_become_a_node_that_everyone_opens(by_characters, journey):
    reference, folder = by_characters
    said = journey("import", folder / "out/ckpt.pt", "--tokenizer", folder / "meta.pkl", "--out", folder / "mine")
    assert said.code == 0, said.err
    theirs = AutoTokenizer.from_pretrained(folder / "mine")
    model = AutoModelForCausalLM.from_pretrained(folder / "mine")
    text = "Hello é你, 🙂 world\n"
    ids = [LETTERS.index(character) for character in text]
    assert theirs.encode(text) == ids
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits
        logits = model(torch.tensor([ids])).logits
    assert (logits[..., : len(LETTERS)] - expected).abs().max() < 1e-4
    assert logits.size(-1) == len(theirs) == 256 + 3 + 1 + 2 + len(SPECIALS)  # é, 你, 🙂 and their parts
    facts = json.loads((folder / "mine/import.json").read_text())
    assert facts["check"]["logits"] < 1e-4
    assert any("ids added for other texts: bytes and parts of characters" in line for line in facts["changed"])
    said = journey("generate", folder / "mine", "Hello 佀!", "--max-new-tokens", "5")
    assert said.code == 0 and said.out.startswith("Hello 佀!"), said.err


def test_the_many_ids_beside_few_characters_begin_as_the_unlikeliest(by_characters, tmp_path):
    """Each as likely as the mean, two hundred of them would take a good part of every prediction."""
    reference, folder = by_characters
    n, ids = len(LETTERS), torch.arange(1, 65)[None] * 7919 % len(LETTERS)
    with torch.inference_mode():
        rare = int(reference(ids).logits.log_softmax(-1).mean((0, 1)).argmin())
    config = Import(path=str(folder / "out/ckpt.pt"), tokenizer=str(folder / "meta.pkl"))
    node = import_(None, config, Run(tmp_path / "a"))
    rows = load_file(node.path / "model.safetensors")["transformer.wte.weight"]
    assert (rows[n:] - rows[rare]).abs().max() < 0.2 * rows[:n].std()  # all but the noise
    assert (rows[n:] - rows[:n].mean(0)).abs().max() > rows[:n].std()
    changed = json.loads((node.path / "import.json").read_text())["changed"]
    assert changed[-1].endswith("their embeddings are that of the unlikeliest character")


def test_its_characters_are_found_beside_it_and_make_the_same_node(by_characters, tmp_path):
    _, folder = by_characters
    config = Import(path=str(folder / "out/ckpt.pt"), tokenizer=str(folder / "meta.pkl"))
    given = import_(None, config, Run(tmp_path / "a"))
    (folder / "meta.pkl").rename(folder / "out/meta.pkl")
    assert import_(None, Import(path=config.path), Run(tmp_path / "b")).id == given.id
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_other_characters_than_the_checkpoints_are_refused(by_characters, tmp_path, base):
    _, folder = by_characters
    n = len(LETTERS)
    for known in (LETTERS[:-1], [*LETTERS, "x"]):
        meta = folder / f"{len(known)}.pkl"
        meta.write_bytes(pickle.dumps({"vocab_size": len(known), "itos": dict(enumerate(known))}))
        config = Import(path=str(folder / "out/ckpt.pt"), tokenizer=str(meta))
        said = rf"ckpt.pt has {n} embeddings, .*{meta.name} {len(known)} characters: give"
        with pytest.raises(JourneyError, match=said):
            import_(None, config, Run(tmp_path / "mine"))
    base.backend.save(str(folder / "out/tokenizer.json"))
    with pytest.raises(
        JourneyError, match=r"400 tokens: give .* \(one of characters is nanoGPT's data/shakespeare_char/"
    ):
        import_(None, Import(path=str(folder / "out/ckpt.pt")), Run(tmp_path / "mine"))
    assert not (tmp_path / "mine").exists()
