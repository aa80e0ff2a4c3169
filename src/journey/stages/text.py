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
    return {"metrics": {key: metric(value) for key, value in facts.items() if isinstance(value, int | float)}}
