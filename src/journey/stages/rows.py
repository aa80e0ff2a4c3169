"""The rows that a training reads: of one text, or of a mixture of several, and what is held out of each."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from journey.checkpoint import Node
from journey.stages import kind_of
from journey.stages.inputs import mixture, part
from journey.stages.run import Run

if TYPE_CHECKING:
    from journey.data.corpus import Corpus
    from journey.data.stream import Stream, TokenStream
    from journey.tokenizer.formats import Tokenizer


def open_rows(field: str, config: Any, tokenizer: "Tokenizer", T: int, run: Run) -> "tuple[Stream, dict[str, Corpus]]":
    """The training split of the text that a config field names as rows of T tokens, and the text by the suffix that its
    numbers have, which is empty; of a mixture the rows of all its texts, and each text by a suffix of its own.

    Errors: JourneyError for a text of less than one row, and for tokens that another tokenizer made.
    """
    from journey.data.mixture import Weighted

    shares = mixture(config, field) if field not in run.given else {}
    if not shares:
        return stream(field, tokenizer, T, run), {"": run.corpora[field]}
    suffixes = suffixes_of({part(field, text): run.given[part(field, text)] for text in shares})
    streams = {
        suffix: stream(name, tokenizer, T, run, f"{field}-{i}") for i, (name, suffix) in enumerate(suffixes.items())
    }
    corpora = {suffix: run.corpora[name] for name, suffix in suffixes.items()}
    return Weighted(streams, list(shares.values())), corpora


def stream(field: str, tokenizer: "Tokenizer", T: int, run: Run, folder: str = "") -> "TokenStream":
    """The training split of the one text that a field names, as rows of T tokens.

    They are read from the shards of a prepare node; those of a text are made first, in a folder of `scratch` that is
    called as the field unless said otherwise, and a resumed run finds them again.
    """
    from journey.data import shards
    from journey.data.stream import TokenStream

    if kind_of(run.given[field]) == "tokens":
        place = run.given[field].path
    else:
        place = run.scratch / "tokens" / (folder or field)
        shards.write(run.corpora[field], tokenizer, ("train",), place, progress=run.progress)
    return TokenStream(shards.open_shards(place, "train", tokenizer), T, run.seed)


def suffixes_of(texts: Mapping[str, Node]) -> dict[str, str]:
    """field -> `_` and the name of its text, as measures have it; a name that comes again gets a number."""
    found: dict[str, str] = {}
    for field, node in texts.items():
        data = node.lineage["data"].get("data", {}) if kind_of(node) == "tokens" else {}
        name = data.get("name", node.name)
        taken = {"_replay", *found.values()}
        names = [f"_{name}", *(f"_{name}-{i}" for i in range(2, len(texts) + 3))]
        found[field] = next(suffix for suffix in names if suffix not in taken)
    return found


def together(numbers: dict[str, float], rows: "Stream") -> dict[str, float]:
    """The numbers of each text of a mixture, and those of the mixture itself: the mean by its shares (of perplexities
    the geometric one, for it is the nats that have a mean). Of one text, its numbers as they are."""
    if shares := rows.shares:
        bits = sum(share * numbers[f"dev_bits_per_byte{suffix}"] for suffix, share in shares.items())
        nats = sum(share * math.log(numbers[f"dev_perplexity{suffix}"]) for suffix, share in shares.items())
        whole = {"dev_bits_per_byte": bits, "dev_perplexity": math.exp(nats)}
        losses = [
            share * numbers[f"dev_loss{suffix}"] for suffix, share in shares.items() if f"dev_loss{suffix}" in numbers
        ]
        return whole | ({"dev_loss": sum(losses)} if losses else {}) | numbers
    return numbers


def said(epochs: Mapping[str, float]) -> str:
    """How often each text is read, in a few words: `the text 0.4 times`, `docs 1.3 times, code 0.4 times`."""
    names = {"": "the text", "_replay": "the replayed text"}
    return ", ".join(f"{names.get(suffix, suffix[1:])} {times:.3g} times" for suffix, times in epochs.items())
