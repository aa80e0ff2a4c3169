"""Prepare: a text becomes tokens once, for every model that will train on it."""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from journey.checkpoint import COMPARED, LINEAGE, Node, open_tokenizer
from journey.fields import Count
from journey.metrics import metric
from journey.report.format import big
from journey.stages.cost import Cost
from journey.stages.inputs import Input, names
from journey.stages.run import Run, stage
from journey.stages.story import Story, Told, facts


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Settings of the prepare stage."""

    data: str = names("installed-docs", Input(("text",)), "the text to encode")
    shard_tokens: Count = 100_000_000
    """Tokens after which a shard is full (the default: 200 MB, or 400 MB for a vocabulary above 65,536)."""

    def cost(self, before: Sequence[Any]) -> Cost:
        """Of a pocket life's text."""
        return Cost(5, 30e6)


@stage(
    takes="tokenizer",
    makes="tokens",
    why=(
        "The training text is turned into tokens once and kept on disk, so that training reads them from there: the "
        "text may be larger than the memory."
    ),
    example=(
        "journey data prepare tok --data my-texts/ --out tokens\n"
        "journey pretrain --parent tok --data tokens --tokens 1000000 --out base"
    ),
    version=1,
)
def prepare(parent: Node, config: Prepare, run: Run) -> dict[str, Any]:
    """Encode a text into token shards, which pretrain and continue take in its place.

    Beside them stands what the text holds for measuring: its dev and test splits, and its questions.
    """
    from journey.data import shards
    from journey.data.corpus import SPLITS

    text, made = run.corpora["data"], run.scratch / "tokens"
    index = shards.write(text, open_tokenizer(parent.path), SPLITS, made, config.shard_tokens, run.progress)
    beside = ("train.parquet", LINEAGE, COMPARED)
    held_out = [path for path in text.folder.iterdir() if path.name not in beside]
    for path in [*made.iterdir(), *held_out]:
        _link(path, run.folder / path.name)
    train = index["splits"]["train"]
    return {
        "metrics": {
            "documents": metric(sum(split["documents"] for split in index["splits"].values())),
            "tokens": metric(train["tokens"], "tokens", "training split, document marks included"),
            "bytes_per_token": metric(
                train["bytes"] / (train["tokens"] - train["documents"]),
                "bytes",
                "UTF-8 bytes of the training split per token, document marks not counted",
            ),
            "shards": metric(sum(len(split["shards"]) for split in index["splits"].values())),
        }
    }


def _link(path: Path, to: Path) -> None:
    """A second name for a file; a copy where the disk knows no such thing. A killed run still needs the first."""
    try:
        os.link(path, to)
    except OSError:
        shutil.copyfile(path, to)


@prepare.tells
def tell(told: Told) -> Story:
    """How much there is to train on."""
    tokens = told.node.lineage["metrics"]["tokens"]["value"]
    return Story([facts(told)], big=big(tokens), what="tokens to train on, encoded once")
