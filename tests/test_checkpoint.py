"""Opening folders: ours, other people's, and what is none."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from journey import checkpoint
from journey.checkpoint import COMPARED, compare, open_node, open_tokenizer
from journey.errors import JourneyError
from journey.files import sha256_file
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
        assert said.code == 2 and f"{file} was changed since its node was made" in said.err
        assert "Traceback" not in said.err
    file.write_text(whole)
    assert journey("generate", "chat", "a", "--workspace", copy.workspace).code == 0


def test_a_tokenizer_alone_is_opened_too(life, tmp_path):
    assert open_tokenizer(life.node("tokenizer").path).n_ids == 400
    with pytest.raises(JourneyError, match=r"tokenizer\.json does not exist"):
        open_tokenizer(tmp_path)


def test_what_is_compared_once_is_not_read_again(copy, monkeypatch):
    """Size and time tell, also right after the stage has finished; `anew` reads all."""
    read = []
    monkeypatch.setattr(checkpoint, "sha256_file", lambda path: read.append(path.name) or sha256_file(path))
    base = copy.node("base")
    (base.path / COMPARED).unlink()
    open_node(base.path)
    assert len(read) == len(base.lineage["files"]) - 1  # the card is for its owner to write on
    read.clear()
    open_node(base.path)
    assert read == []
    compare(base, anew=True)
    assert len(read) == len(base.lineage["files"]) - 1


def test_a_node_that_a_stage_has_just_made_needs_no_reading(life, monkeypatch):
    monkeypatch.setattr(checkpoint, "sha256_file", lambda path: pytest.fail(f"{path} was read"))
    for path in (life.workspace / "nodes").iterdir():
        open_node(path)


def multiply(path):
    tensors = load_file(path)
    name = next(name for name in tensors if "embed" in name)
    save_file(tensors | {name: tensors[name] * 2}, path, metadata={"format": "pt"})


def one_bit(path):
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def one_bit_at_the_same_time(path):
    stat = path.stat()
    one_bit(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


ALTERED = {
    "weights": ("base", "model.safetensors", multiply),
    "one bit": ("base", "model.safetensors", one_bit),
    "config": ("base", "config.json", lambda p: p.write_text(p.read_text().replace("1e-06", "1e-05"))),
    "text": ("prose", "train.parquet", one_bit),
    "gone": ("base", "generation_config.json", lambda p: p.unlink()),
    "a folder": ("base", "history.json", lambda p: p.unlink() or p.mkdir()),
    "a pipe": ("base", "history.json", lambda p: p.unlink() or os.mkfifo(p)),
    "index": ("index", "index.sqlite", one_bit),
}


@pytest.mark.parametrize("case", ALTERED)
def test_a_node_that_was_altered_is_refused_by_name_and_how_to_go_on_is_said(copy, journey, case):
    name, file, alter = ALTERED[case]
    node = copy.node(name)
    if not (node.path / file).exists():
        file = next(
            each for each in node.lineage["files"] if each.endswith((".safetensors", ".npz", ".db", ".parquet"))
        )
    open_node(node.path)
    alter(node.path / file)
    with pytest.raises(JourneyError, match=f"{file} (was changed|is gone) since its node was made"):
        open_node(node.path)
    again = journey("run", copy.recipe, "--workspace", copy.workspace)
    assert again.code == 2 and file in again.err and f"--from {name}" in again.err
    assert len(again.err.splitlines()) == 1


def test_an_altered_model_can_be_made_anew_or_become_a_node_of_its_own(copy, journey, tmp_path):
    base = copy.node("base")
    before = base.lineage["weights_sha256"]
    multiply(base.path / "model.safetensors")
    for arguments in (("generate", "base", "x"), ("eval", "base"), ("report",), ("diff", "base", "chat")):
        said = journey(*arguments, "--workspace", copy.workspace)
        assert said.code == 2 and "model.safetensors was changed" in said.err, arguments
    assert "model.safetensors was changed" in journey("tree", "--workspace", copy.workspace).out
    own = journey("import", base.path, "--out", tmp_path / "own", "--json")
    assert own.code == 0 and own.json["node"] != base.id
    assert journey("generate", tmp_path / "own", "x", "--max-new-tokens", 2).code == 0
    made = journey("run", copy.recipe, "--workspace", copy.workspace, "--from", "base", "--until", "base")
    assert made.code == 0, made.err
    assert copy.node("base").lineage["weights_sha256"] == before


def test_verify_reads_all_and_says_which(copy, journey):
    said = journey("verify", "--workspace", copy.workspace, "--json")
    assert said.code == 0 and len(said.json["nodes"]) == len(list((copy.workspace / "nodes").iterdir()))
    assert all(node["altered"] is None for node in said.json["nodes"])
    (copy.node("base").path / "README.md").write_text("my own words")
    one_bit_at_the_same_time(copy.node("chat").path / "model.safetensors")
    said = journey("verify", "--workspace", copy.workspace, "--json")
    altered = [node["path"] for node in said.json["nodes"] if node["altered"]]
    assert said.code == 2 and said.json["error"].startswith("1 of ") and altered == [str(copy.node("chat").path)]
    assert journey("verify", "base", "--workspace", copy.workspace).code == 0
    assert journey("verify", copy.node("chat").path, "--workspace", copy.workspace).code == 2


def test_a_folder_from_elsewhere_has_nothing_to_be_compared_with(tmp_path, journey):
    node = foreign(tmp_path / "a")
    said = journey("verify", node.path)
    assert said.code == 2 and f"{node.path} has no lineage.json" in said.out and len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "{}",
        '{"id": 1}',
        '{"a": ' * 50_000 + "1" + "}" * 50_000,
        '{"id": "a", "name": "b", "stage": "pretrain", "parents": [[]], "files": {}, "metrics": {}}',
    ],
)
def test_a_lineage_of_another_shape_is_damaged(tmp_path, journey, text):
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "lineage.json").write_text(text)
    for arguments in (("generate", tmp_path / "node", "x"), ("verify", tmp_path / "node")):
        said = journey(*arguments)
        assert said.code == 2 and "lineage.json" in said.out + said.err and len(said.err.splitlines()) == 1


def test_in_a_folder_that_cannot_be_written_a_node_is_compared_each_time(copy, monkeypatch):
    base = copy.node("base").path
    (base / COMPARED).unlink()
    monkeypatch.setattr(checkpoint.os, "access", lambda *which: False)
    open_node(base)
    assert not (base / COMPARED).exists()
