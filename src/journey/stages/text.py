"""Text: read a source, drop what repeats itself, and set documents aside before anything is trained on them."""

import dataclasses
from typing import Any

from journey.stages.run import Run, metric, stage


@dataclasses.dataclass(frozen=True)
class Text:
    """Settings of the text stage."""

    source: str = dataclasses.field(default="installed-docs", metadata={"source": True})
    """installed-docs, stdlib-code, or a file or folder of .txt, .md, .jsonl, .jsonl.gz or .parquet"""
    dev: float = 0.02
    """Share of the documents set aside for choosing settings."""
    test: float = 0.04
    """Share of the documents set aside for the report; nothing is ever chosen on them."""
    max_bytes: int | None = None
    """Read no more than this much text."""


@stage
def text(parent: None, config: Text, run: Run) -> dict[str, Any]:
    """Make a text node: train, dev and test parquet files, and questions where the text is documentation."""
    from journey.data import corpus

    facts = corpus.build(
        config.source,
        run.folder,
        dev=config.dev,
        test=config.test,
        seed=run.seed,
        max_bytes=config.max_bytes,
        progress=run.progress,
    )
    test = facts["splits"]["test"]
    return {
        "metrics": {
            "documents": metric(facts["documents"]),
            "bytes": metric(facts["bytes"], "bytes"),
            "duplicates_dropped": metric(facts["duplicates_dropped"], "documents"),
            "special_spellings": metric(
                facts["special_spellings"], "", "special tokens spelled in the text, kept as text"
            ),
            "test_over_half_in_train": metric(
                test["over_half_in_train"],
                "share",
                "test documents that share over half of their 13-grams with training",
            ),
            "test_in_train": metric(
                test["in_train"], "share", "mean share of a test document's 13-grams that stand in training too"
            ),
        }
    }
