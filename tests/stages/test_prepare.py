"""A text encoded once stands wherever a model is trained on it, and nowhere else."""

import json
import shutil

import pytest

from journey import measuring
from journey.checkpoint import open_node
from journey.console import Console
from journey.data.corpus import SPLITS, Corpus
from journey.data.shards import open_shards
from journey.errors import JourneyError
from journey.files import sha256_file
from journey.recipe import read
from journey.scores import Taken, comparisons
from journey.stages import prepare as module
from journey.stages.continue_ import Continue, continue_
from journey.stages.prepare import Prepare, prepare
from journey.stages.pretrain import Pretrain, pretrain
from journey.stages.run import Run, Stopped
from journey.tokenizer.formats import Tokenizer

SMALL = Prepare(shard_tokens=3_000)
MODEL = Pretrain(n_layer=1, n_embd=32, n_ctx=64, tokens=2_048, evaluations=2)


def make(life, folder, console=None, config=SMALL, text="prose", seed=3):
    run = Run(folder, seed=seed, given={"data": life.node(text)}, console=console or Console())
    return prepare(life.node("tokenizer"), config, run)


@pytest.fixture(scope="module")
def tokens(life, tmp_path_factory):
    return make(life, tmp_path_factory.mktemp("prepared") / "tokens")


def test_the_node_holds_the_tokens_and_what_is_held_out(life, tokens):
    tokenizer, text = Tokenizer.load(life.node("tokenizer").path), Corpus(life.node("prose").path)
    metrics = {key: found["value"] for key, found in tokens.lineage["metrics"].items()}
    for split in SPLITS:
        ids = [[tokenizer.bos, *ids] for ids in tokenizer.encode_batch(text.texts(split))]
        read = open_shards(tokens.path, split, tokenizer)
        assert [i for shard, _ in read for i in shard.tolist()] == [i for document in ids for i in document]
        if split == "train":
            assert len(read) > 3 and metrics["tokens"] == sum(map(len, ids))
            n_bytes = sum(len(t.encode()) for t in text.texts(split))
            assert metrics["bytes_per_token"] == n_bytes / (metrics["tokens"] - len(ids))
    assert metrics["documents"] == 400 and metrics["shards"] == len(list(tokens.path.glob("*.bin")))
    mine = Corpus(tokens.path)
    assert mine.texts("dev") == text.texts("dev") and mine.documents("test") == text.documents("test")
    assert mine.facts == text.facts
    for refused in (lambda: mine.documents("train"), lambda: next(mine.stream("train"))):
        with pytest.raises(JourneyError, match="has no text of the train split, only its tokens: name the text itself"):
            refused()
    lineage = tokens.lineage
    assert {name: sha256_file(tokens.path / name) for name in lineage["files"]} == lineage["files"]
    assert open_node(life.node("prose").path).lineage["files"].keys() >= {"train.parquet"}  # the text is as it was


def test_questions_come_along(life, tmp_path):
    text = tmp_path / "text"
    shutil.copytree(life.node("prose").path, text)
    (text / "questions-test.jsonl").write_text(
        json.dumps({"id": "a", "question": "What?", "answer": "That.", "passage": "This.", "named": True}) + "\n"
    )
    node = prepare(life.node("tokenizer"), SMALL, Run(tmp_path / "tokens", given={"data": open_node(text)}))
    assert [question.answer for question in Corpus(node.path).questions("test")] == ["That."]


@pytest.mark.parametrize("copied", [False, True])
def test_a_disk_without_links_gets_copies(life, tokens, tmp_path, monkeypatch, copied):
    if copied:

        def link(*_):
            raise PermissionError("Operation not permitted")

        monkeypatch.setattr(module.os, "link", link)
    node = make(life, tmp_path / "tokens")
    assert node.lineage["files"] == tokens.lineage["files"]


def test_training_reads_from_tokens_what_it_reads_from_the_text(life, tokens, tmp_path):
    """Losses and weights to the last bit; and the lineage says which text it was."""
    nodes = [
        pretrain(life.node("tokenizer"), MODEL, Run(tmp_path / name, seed=3, given={"data": data}))
        for name, data in (("text", life.node("prose")), ("tokens", tokens))
    ]
    a, b = ((node.path / "history.json").read_text() for node in nodes)
    assert a == b and "dev_bits_per_byte" in a
    assert nodes[0].lineage["weights_sha256"] == nodes[1].lineage["weights_sha256"]
    direct, through = (node.lineage["data"]["data"] for node in nodes)
    assert direct["id"] == life.node("prose").id
    assert through == {"id": tokens.id, "name": "tokens", "text": direct}


def test_going_on_reads_tokens_too(life, tokens, tmp_path):
    config = Continue(tokens=1_024, evaluations=1, replay=0.5)
    code = make(life, tmp_path / "code-tokens", text="code")
    weights = []
    for name, given in (
        ("text", {"data": life.node("code"), "replay_data": life.node("prose")}),
        ("mixed", {"data": life.node("code"), "replay_data": tokens}),
        ("tokens", {"data": code, "replay_data": tokens}),
    ):
        node = continue_(life.node("base"), config, Run(tmp_path / name, seed=3, given=given))
        weights.append(node.lineage["weights_sha256"])
        assert "dev_bits_per_byte_replay" in node.lineage["metrics"]
    assert len(set(weights)) == 1


class Stopping(Console):
    """Presses Ctrl-C when so much is done."""

    def __init__(self, unit, after):
        super().__init__()
        self.unit, self.after = unit, after

    def progress(self, name, done, total, unit, numbers):
        self.stopping = unit == self.unit and done >= self.after


def test_a_stopped_preparation_goes_on_to_the_same_files(life, tokens, tmp_path, monkeypatch):
    from journey.data import shards

    monkeypatch.setattr(shards, "_AT_ONCE", 4_000)
    with pytest.raises(Stopped):
        make(life, tmp_path / "tokens", Stopping("documents", 200))
    assert not (tmp_path / "tokens").exists()
    seen = []
    stream = Corpus.stream
    monkeypatch.setattr(Corpus, "stream", lambda self, split, start=0: seen.append(start) or stream(self, split, start))
    node = make(life, tmp_path / "tokens")
    assert node.lineage["files"] == tokens.lineage["files"]
    assert seen[0] > 50  # it went on from the last finished shard
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


def test_killed_while_its_files_are_put_together(life, tokens, tmp_path, monkeypatch):
    """The folder of a killed run is thrown away; what it held has another name until it is published."""
    link, calls = module._link, []

    def killed(path, to):
        if len(calls) == 4:
            raise Stopped
        calls.append(path)
        link(path, to)

    monkeypatch.setattr(module, "_link", killed)
    with pytest.raises(Stopped):
        make(life, tmp_path / "tokens")
    monkeypatch.undo()
    monkeypatch.setattr(Tokenizer, "encode_arrays", None)  # nothing is left to encode
    assert make(life, tmp_path / "tokens").lineage["files"] == tokens.lineage["files"]


def test_a_stopped_training_does_not_encode_the_text_again(life, tmp_path, monkeypatch):
    given = {"data": life.node("prose")}
    with pytest.raises(Stopped):
        console = Stopping("tokens", 256)
        pretrain(life.node("tokenizer"), MODEL, Run(tmp_path / "base", seed=3, given=given, console=console))
    monkeypatch.setattr(Tokenizer, "encode_arrays", None)
    pretrain(life.node("tokenizer"), MODEL, Run(tmp_path / "base", seed=3, given=given))
    assert [path.name for path in tmp_path.iterdir()] == ["base"]  # no shards are left behind


@pytest.mark.parametrize("stage", ["tokenizer", "sft", "pairs", "index", "prepare"])
def test_who_needs_the_text_itself_refuses_its_tokens(life, tokens, tmp_path, journey, stage):
    parent = {"tokenizer": (), "prepare": (life.node("tokenizer").path,)}.get(stage, (life.node("chat").path,))
    verb = {"tokenizer": ("tokenizer", "train"), "prepare": ("data", "prepare")}.get(stage, (stage,))
    output = journey(*verb, *parent, "--data", tokens.path, "--out", tmp_path / "made")
    assert output.code == 2 and f"{tokens.path} is a prepare node: data must be a text" in output.err
    recipe = tmp_path / "r.yaml"
    named = f"parents: [{parent[0]}], " if parent else ""
    recipe.write_text(f"stages: [{{name: x, stage: {stage}, {named}with: {{data: {tokens.path}}}}}]")
    with pytest.raises(JourneyError, match=r'r\.yaml:1: data: ".*tokens" is tokens, this stage needs the text itself'):
        read(recipe)


def test_tokens_of_another_tokenizer_and_damaged_ones_are_refused(life, tokens, tmp_path, journey):
    made = journey(
        "tokenizer", "train", "--data", life.texts / "prose.jsonl", "--vocab-size", 300, "--out", tmp_path / "t"
    )
    assert made.code == 0, made.err
    options = ("--tokens", 2_048, "--n-layer", 1, "--n-embd", 32, "--n-ctx", 64, "--out", tmp_path / "base")
    output = journey("pretrain", "--parent", tmp_path / "t", "--data", tokens.path, *options)
    assert output.code == 2 and "these tokens were made by another tokenizer" in output.err
    shutil.copytree(tokens.path, tmp_path / "tokens")
    shard = tmp_path / "tokens" / "train-00001.bin"
    raw = shard.read_bytes()
    shard.write_bytes(raw[:700] + bytes([raw[700] ^ 1]) + raw[701:])
    output = journey("pretrain", life.node("tokenizer").path, "--data", tmp_path / "tokens", *options)
    assert output.code == 2 and f"{shard} was changed" in output.err and "Traceback" not in output.err


def test_the_command_line_prepares_and_trains(life, tokens, tmp_path, journey):
    prose = life.texts / "prose.jsonl"
    options = ("--data", prose, "--seed", 3, "--shard-tokens", 3_000, "--out", tmp_path / "tokens", "--json")
    output = journey("data", "prepare", life.node("tokenizer").path, *options)
    assert output.code == 0, output.err
    assert output.json["verb"] == "data" and output.json["node"] == tokens.id
    assert output.json["metrics"]["tokens"]["value"] == tokens.lineage["metrics"]["tokens"]["value"]
    for arguments in ([], ["prepares"], ["--data", "x"]):
        output = journey("data", *arguments)
        assert output.code == 2 and "`journey data prepare|show …`" in output.err
    assert "journey data prepare tok --data my-texts/ --out tokens" in journey("data", "prepare", "--help").out
    output = journey("data", "prepare", "--data", prose, "--out", tmp_path / "no")
    assert output.code == 2 and "--parent NODE is missing: a tokenizer node" in output.err


RECIPE = """\
name: prepared
seed: 3
stages:
  - name: tokenizer
    stage: tokenizer
    with: {{data: {texts}/prose.jsonl, vocab_size: 400}}
  - name: tokens
    stage: prepare
    parents: [tokenizer]
    with: {{data: {texts}/prose.jsonl, shard_tokens: 3000}}
  - name: base
    stage: pretrain
    parents: [tokenizer]
    with: {{data: tokens, n_layer: 2, n_embd: 32, n_ctx: 64, tokens: 16_000, evaluations: 3}}
measure: {{documents: 4}}
"""


def test_a_recipe_names_the_tokens_and_its_model_is_the_one_of_the_text(life, tokens, tmp_path, journey):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE.format(texts=life.texts))
    place = tmp_path / "workspace"
    output = journey("run", recipe, "--workspace", place, "--json")
    assert output.code == 0, output.err
    base = open_node(next((place / "nodes").glob("base-*")))
    assert base.lineage["weights_sha256"] == life.node("base").lineage["weights_sha256"]
    assert next((place / "nodes").glob("tokens-*")).name.endswith(tokens.id[:10])
    (path,) = place.glob(f"measurements/{base.id}/bits_per_byte.json")
    ours = Taken.read(json.loads(path.read_text()))  # beside n-gram models of the text that the tokens are of
    theirs = measuring.read(life.node("base"), life.workspace)["bits_per_byte"]
    asked = [effect.question for effect in comparisons(ours, "base")]
    assert len(asked) == 2 and asked == [effect.question for effect in comparisons(theirs, "base")]
    by_id = {item["id"]: item["bigram"] for item in theirs.items["prose"].rows()}
    items = ours.items["prose"].rows()
    assert items and all(by_id.get(item["id"], item["bigram"]) == item["bigram"] for item in items)
    assert not list(place.glob("measurements/*/tokens"))  # written to count them, and taken away
    assert "tokens to train on, encoded once" in (place / "report.html").read_text()
    assert "pretrain + tokens" in journey("tree", "--workspace", place).out
    # A folder of them does as well.
    text = RECIPE.format(texts=life.texts).replace("data: tokens", f"data: {tokens.path}")
    recipe.write_text(text)
    assert read(recipe).step("base").given == {"data": str(tokens.path)}
    recipe.write_text(text.replace("name: tokens\n", "name: later\n").replace(str(tokens.path), "later"))
    assert read(recipe).step("base").given == {"data": "later"}


def test_tokens_made_further_down_are_told(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "stages:\n"
        "  - {name: tok, stage: tokenizer}\n"
        "  - {name: base, stage: pretrain, parents: [tok], with: {data: tokens}}\n"
        "  - {name: tokens, stage: prepare, parents: [tok]}\n"
    )
    with pytest.raises(JourneyError, match=r'r\.yaml:3: data: "tokens" is no tokens stage above and no file'):
        read(recipe)


def test_no_baseline_is_counted_of_more_than_fits(life, tmp_path, monkeypatch):
    base, texts = life.node("base"), {"prose": life.node("prose")}
    only = measuring.Measuring().only(["bits_per_byte"])
    for counted, scores in ((base.lineage["tokens"], 3), (base.lineage["tokens"] - 1, 1)):
        monkeypatch.setattr("journey.measures.bits_per_byte.COUNTED", counted)
        place = tmp_path / str(counted)
        found = measuring.take(base, None, texts, place, only, seed=3, console=Console()).taken["bits_per_byte"]
        assert len(found.scores) == scores


def test_an_empty_shard_is_told(life, tmp_path):
    with pytest.raises(JourneyError, match="shard_tokens: must be at least 1, not 0"):
        make(life, tmp_path / "tokens", config=Prepare(shard_tokens=0))
    assert not list(tmp_path.iterdir())
