"""Tokenizer: learn which bytes belong together, from the training split alone."""

import dataclasses
from typing import Any, Literal

from journey.stages.run import Run, corpus, metric, stage


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """Settings of the tokenizer stage."""

    data: str = corpus("installed-docs", "the text to learn from")
    vocab_size: int = 4096
    """Entries in all: 256 bytes, the merges and the special tokens."""
    pattern: Literal["gpt2", "llama3", "qwen2"] = "gpt2"
    """How text is cut into words before any merge; llama.cpp knows these three."""


@stage
def tokenizer(parent: None, config: TokenizerConfig, run: Run) -> dict[str, Any]:
    """Make a tokenizer node that every tool opens: tokenizer.json, its config and the chat template."""
    from journey.tokenizer import bpe
    from journey.tokenizer.formats import SPECIALS, Tokenizer

    text = run.corpora["data"]
    words = bpe.count_words(text.texts("train"), config.pattern)
    merges = bpe.train(
        words,
        config.vocab_size,
        len(SPECIALS),
        progress=lambda done, total: run.progress(done, total, "merges"),
    )
    made = Tokenizer.from_merges(merges, config.pattern)
    made.save(run.folder)
    texts = text.texts("dev")
    n_bytes = sum(len(t.encode()) for t in texts)
    n_tokens = sum(len(ids) for ids in made.encode_batch(texts))
    return {
        "metrics": {
            "bytes_per_token": metric(
                n_bytes / n_tokens, "bytes", "UTF-8 bytes of the dev split per token, document marks not counted"
            ),
            "distinct_words": metric(len(words), "words"),
        }
    }
