"""What a model was trained on is found through all that it was made from, and what cannot be found is said."""

import json
import shutil

import pytest

from journey.checkpoint import LINEAGE, Node
from journey.data import conversations, corpus, preferences
from journey.data.shards import write
from journey.evaluate.trained_on import trained_on
from journey.files import sha256_file


def prose(word, n=80):
    return [f"The {word} number {i} reads what the {word} {7 * i % 31} wrote, and says {i * i}." for i in range(n)]


def rows(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


class Place:
    """A folder of nodes, each with as much of a lineage as a stage writes."""

    def __init__(self, folder, tokenizer):
        self.folder, self.tokenizer = folder, tokenizer
        self.made = {}

    def node(self, name, stage, parents=(), data=(), config=()):
        path = self.folder / "nodes" / name
        path.mkdir(parents=True, exist_ok=True)
        line = {"id": f"id-{name}", "name": name, "stage": stage, "parents": [f"id-{p}" for p in parents], "seed": 3}
        line |= {"data": dict(data), "config": dict(config), "files": {}, "metrics": {}}
        (path / LINEAGE).write_text(json.dumps(line))
        if stage in ("pretrain", "continue", "sft", "dpo", "import", "average"):
            (path / "model.safetensors").touch()
            self.tokenizer.save(path)
        self.made[name] = Node(path)
        return Node(path)

    def text(self, name):
        node = self.node(name, "text")
        corpus.build(str(rows(self.folder / f"{name}.jsonl", [{"text": t} for t in prose(name)])), node.path)
        return node

    def found(self, name):
        return trained_on(self.made[name], self.made.values())


def of(name, **more):
    return {"id": f"id-{name}", "name": name} | more


@pytest.fixture
def place(tmp_path, tokenizer):
    """A pre-trained model, further trained on a second text with replay of the first."""
    made = Place(tmp_path, tokenizer)
    made.text("docs")
    made.text("code")
    made.node("tokenizer", "tokenizer", data={"data": of("spoken")})
    made.node("base", "pretrain", ["tokenizer"], {"data": of("docs")})
    made.node("coder", "continue", ["base"], {"data": of("code"), "replay_data": of("docs")})
    return made


def train(place, name):
    return corpus.Corpus(place.made[name].path).texts("train")


def test_the_training_splits_of_all_ancestors_are_read_each_once(place):
    found = place.found("coder")
    assert [*found.read()] == train(place, "code") + train(place, "docs") and found.unknown == ()
    assert [name for name, _ in found.texts] == ["code (coder)", "docs (coder)"]
    held_out = corpus.Corpus(place.made["docs"].path).texts("test")
    assert held_out and not {*held_out} & {*found.read()}


def test_tokens_are_the_text_that_they_were_made_of_and_are_decoded_where_it_is_gone(place, tokenizer):
    tokens = place.node("tokens", "prepare", ["tokenizer"], {"data": of("docs")})
    write(corpus.Corpus(place.made["docs"].path), tokenizer, ("train",), tokens.path / "made")
    for path in (tokens.path / "made").iterdir():
        path.rename(tokens.path / path.name)
    place.node("small", "pretrain", ["tokenizer"], {"data": of("tokens", text=of("docs"))})
    texts = train(place, "docs")
    assert [*place.found("small").read()] == texts
    del place.made["docs"]
    assert [*place.found("small").read()] == texts and not place.found("small").unknown


def test_each_text_of_a_mixture_is_read(place):
    mixed = {"data:docs": of("docs"), "data:code": of("code"), "data": {"fingerprint": "of shares and ids"}}
    place.node("mixed", "pretrain", ["tokenizer"], mixed, {"data": "docs=0.7,code=0.3"})
    found = place.found("mixed")
    assert [*found.read()] == train(place, "docs") + train(place, "code") and found.unknown == ()


def test_a_file_of_conversations_is_its_training_split(place):
    path = rows(
        place.folder / "asked.jsonl", [{"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(60)]
    )
    data = {"data": {"fingerprint": sha256_file(path)}}
    place.node("chat", "sft", ["coder"], data, {"data": str(path)})
    found = [*place.found("chat").read()]
    held_out = conversations.split(conversations.load(path)[0], 3)["test"]
    asked = {f"What is {i}?\n\nIt is {i}." for i in range(60)}
    assert len(asked & {*found}) == 60 - 2 * len(held_out) and {*train(place, "docs")} <= {*found}
    assert not {"\n\n".join(m["content"] for m in said) for said in held_out} & {*found}


def test_both_answers_of_preferences_are_read_from_a_file_and_from_a_node(place):
    some = [{"prompt": f"What is {i}?", "chosen": f"It is {i}.", "rejected": f"Who knows {i}?"} for i in range(60)]
    path = rows(place.folder / "pairs.jsonl", some)
    place.node("preferred", "dpo", ["base"], {"data": {"fingerprint": sha256_file(path)}}, {"data": str(path)})
    pairs = place.node("pairs", "pairs", ["base"])
    preferences.save(preferences.load(path)[0], pairs.path / "pairs-train.jsonl")
    place.node("other", "dpo", ["base"], {"data": of("pairs")})
    for name in ("preferred", "other"):
        found = [text for text in place.found(name).read() if text.startswith("What is")]
        assert len(found) == (120 if name == "other" else 120 - 4 * 3)
        asked = {text.split("\n\n")[0] for text in found}
        assert {f"{asked}\n\nIt is {asked[8:-1]}." for asked in asked} <= {*found}
        assert {f"{asked}\n\nWho knows {asked[8:-1]}?" for asked in asked} <= {*found}


def test_a_stage_that_asks_reads_the_questions_of_a_text_and_not_its_documents(place):
    place.node("chat", "sft", ["tokenizer"], {"data": of("docs")})
    question = {"id": "a", "question": "What is it?", "answer": "A reader.", "passage": "A reader.", "named": True}
    rows(place.made["docs"].path / "questions-train.jsonl", [question])
    assert [*place.found("chat").read()] == ["A reader.\n\nWhat is it?\n\nA reader."]


def test_another_model_that_went_in_counts_with_all_its_past(place):
    place.node("first", "pretrain", ["tokenizer"], {"data": of("code")})
    place.node("longer", "pretrain", ["tokenizer"], {"data": of("docs"), "resume_from": of("first")})
    assert [name for name, _ in place.found("longer").texts] == ["docs (longer)", "code (first)"]


def test_an_imported_past_is_unknown_and_random_weights_have_none(place, tmp_path):
    place.node("gpt2", "import", config={"path": "model.pt"})
    place.node("tuned", "continue", ["gpt2"], {"data": of("code")})
    found = place.found("tuned")
    assert [*found.read()] == train(place, "code")
    assert found.unknown == ("what gpt2 was trained on before it was imported",)
    place.node("fresh", "import", config={"path": "random-gpt2"})
    assert trained_on(place.made["fresh"], []).unknown == ()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.json").write_text("{}")
    foreign = trained_on(Node(tmp_path / "elsewhere"), [])
    assert foreign.texts == () and "elsewhere was trained on before" in foreign.unknown[0]


def test_what_is_gone_or_changed_is_said(place):
    path = rows(place.folder / "asked.jsonl", [{"question": f"What is {i}?", "answer": f"{i}"} for i in range(60)])
    place.node("chat", "sft", ["coder"], {"data": {"fingerprint": sha256_file(path)}}, {"data": str(path)})
    rows(path, [{"question": "another", "answer": "one"}])
    shutil.rmtree(place.made.pop("docs").path)
    del place.made["tokenizer"]  # leaves no weights
    (place.made["code"].path / "train.parquet").unlink()
    assert place.found("chat").unknown == (
        f"{path}, which chat was trained on: it has been changed since",
        "code, which coder was trained on: nothing in its folder can be read",
        "docs, which coder was trained on: its folder is not here any more",
    )
    path.unlink()
    del place.made["coder"]
    assert place.found("chat").unknown == (
        "the node that chat was made from (id-coder): it is not here any more",
        f"{path}, which chat was trained on: it is not there any more",
    )
