"""Opening folders: ours, other people's, and what is none."""

import json

import pytest
import torch
from safetensors.torch import save_file

from journey.checkpoint import open_node, open_tokenizer
from journey.errors import JourneyError
from journey.infer.engine import generate
from journey.infer.sampling import Sampling
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.pair import open_pair
from journey.tokenizer.formats import SPECIALS, Tokenizer


def test_a_node_knows_what_it_is(life):
    base, tokenizer = life.node("base"), life.node("tokenizer")
    assert (base.name, base.stage, base.is_model) == ("base", "pretrain", True)
    assert base.parents == [tokenizer.id] and not tokenizer.is_model
    assert len(base.id) == 64 and base.path.name == f"base-{base.id[:10]}"


def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path):
    with pytest.raises(JourneyError, match="is not a folder"):
        open_node(tmp_path / "nothing")
    with pytest.raises(JourneyError, match="is not a checkpoint"):
        open_node(tmp_path)


def foreign(folder, weight=0.0, sharded=False):
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"w": torch.tensor([weight])}, folder / ("model-1.safetensors" if sharded else "model.safetensors"))
    if sharded:
        index = {"metadata": {"total_size": 4}, "weight_map": {"w": "model-1.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return open_node(folder)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_folder_from_elsewhere_is_known_by_its_files_and_not_by_its_place(tmp_path, sharded):
    a, same, other = (foreign(tmp_path / n, w, sharded) for n, w in (("a", 0.5), ("b", 0.5), ("c", 0.25)))
    assert a.is_model and a.stage == "import" and a.parents == []
    assert a.id == same.id != other.id


def test_a_cut_off_weights_file_is_named(copy):
    weights = copy.node("base").path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(JourneyError, match=r"model\.safetensors") as error:
        huggingface.load(weights.parent)
    assert "\n" not in str(error.value)


def test_a_damaged_lineage_is_named(copy):
    path = copy.node("base").path / "lineage.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(JourneyError, match=r"lineage\.json, line \d+: not JSON"):
        _ = open_node(path.parent).id


def mixed(folder, rows):
    """A model that always finds its last embeddings the likeliest, beside a tokenizer of bytes and special tokens."""
    torch.manual_seed(0)
    model = GPT(GPTConfig.make("gpt2", rows, 32, 1, 16, n_head=2))
    with torch.no_grad():
        model.norm.weight.zero_()
        model.norm.bias.copy_(torch.eye(16)[0])
        model.embed.weight[:, 0] = torch.arange(rows)
    huggingface.save(model, folder)
    Tokenizer.from_merges([]).save(folder)
    return folder


def test_padding_of_an_embedding_is_never_drawn(journey, tmp_path):
    """Rows after the tokenizer's last id have no text; a model that likes them best writes others."""
    folder = mixed(tmp_path / "padded", rows=384)
    model, tokenizer = open_pair(folder)
    assert model.config.vocab_size == 384 and model.n_tokens == tokenizer.n_ids == 256 + len(SPECIALS)
    assert tokenizer.decode([383]) == ""  # what was written before, again and again
    for sampling in (Sampling(temperature=0), Sampling(temperature=1, seed=1)):
        (written,) = generate(model, [[1, 2]], max_new_tokens=8, stop=set(), sampling=sampling)
        assert len(written.ids) == 8 and max(written.ids) < tokenizer.n_ids
    said = journey("generate", folder, "a", "--temperature", "0", "--json")
    assert said.code == 0 and said.json["text"] == "" and said.json["tokens"] == 1, said.err  # <|end|>, the last id


@pytest.mark.parametrize("verb", ["generate", "sft", "continue", "quantize", "pairs", "dpo", "index", "chat"])
def test_a_tokenizer_larger_than_the_embedding_is_one_line(journey, life, tmp_path, verb):
    folder = mixed(tmp_path / "small", rows=256)
    data = {"sft": "asked.jsonl", "pairs": "asked.jsonl", "dpo": "asked.jsonl"}.get(verb, "prose.jsonl")
    given = [] if verb == "quantize" else ["--data", life.texts / data]
    given += ["--replay", "0", "--replay-data", ""] if verb == "continue" else []
    stage = ["--parent", folder, *given, "--out", tmp_path / "out"]
    said = journey(verb, *{"generate": [folder, "a"], "chat": [folder]}.get(verb, stage), "--json")
    assert said.code == 2, said.err
    assert said.json["error"] == (
        f"{folder}: its tokenizer has ids up to 262, its embedding only 256 rows: "
        "put the tokenizer.json there that the model was trained with"
    )


def test_a_tokenizer_that_was_replaced_is_told(journey, copy, tmp_path):
    """As many ids, other merges: nothing would fail, and every text would be nonsense."""
    chat = copy.node("chat").path
    file = chat / "tokenizer.json"
    whole = file.read_text()
    file.write_text(json.dumps(json.loads(whole)))  # as another tool writes the same
    assert open_pair(chat)[1].hash == open_node(chat).lineage["tokenizer_hash"]
    state = json.loads(whole)
    vocab = state["model"]["vocab"]
    vocab["x"], vocab["y"] = vocab["y"], vocab["x"]
    file.write_text(json.dumps(state))
    for arguments in (
        ["generate", "chat", "a", "--workspace", copy.workspace],
        ["sft", "--parent", chat, "--data", copy.texts / "asked.jsonl", "--out", tmp_path / "out"],
        ["dpo", "--parent", chat, "--data", copy.node("pairs").path, "--out", tmp_path / "out2"],
    ):
        said = journey(*arguments)
        assert said.code == 2 and f"{chat}: tokenizer.json is not the one that this node was made with" in said.err
        assert "Traceback" not in said.err
    file.write_text(whole)
    assert journey("generate", "chat", "a", "--workspace", copy.workspace).code == 0


def test_a_hash_that_another_version_of_the_library_made_is_no_other_tokenizer(copy):
    chat = copy.node("chat").path
    lineage = json.loads((chat / "lineage.json").read_text())
    (chat / "lineage.json").write_text(json.dumps(lineage | {"tokenizer_hash": "0" * 64}))
    assert open_pair(chat)[1].n_ids == 400  # the file is the one that was written


def test_a_tokenizer_alone_is_opened_too(life, tmp_path):
    assert open_tokenizer(life.node("tokenizer").path).n_ids == 400
    with pytest.raises(JourneyError, match=r"tokenizer\.json does not exist"):
        open_tokenizer(tmp_path)
