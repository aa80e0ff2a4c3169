"""Translations: pairs of texts that mean the same, split so that nothing held out is trained on."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from journey.chat import SPECIALS
from journey.data.rows import ENDINGS
from journey.data.translations import NUMBERS, SPLITS, divided, load, numbers, save, saved
from journey.errors import JourneyError
from journey.fields import Count
from journey.files import write_json
from journey.metrics import metric
from journey.report.blocks import Cell, Shares, Table
from journey.stages.cost import Cost
from journey.stages.inputs import file_hash
from journey.stages.run import Run, stage
from journey.stages.story import Story, Told


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranslationsConfig:
    """Settings of the translations stage."""

    source: str = NUMBERS
    """numbers (English words and digits, both ways), or a .jsonl, .json (or packed) or .parquet file of pairs."""
    target: str = ""
    """A second such file, where each language has its own: rows of the same id belong together."""
    source_field: str = ""
    """The column that holds the source (none: source, src, or the only two texts of a row; of two files, text)."""
    target_field: str = ""
    """The column that holds the target (of two files, none: as source_field)."""
    max_pairs: Count = 24_000
    """Keep no more pairs than this, chosen at random; of numbers make so many."""
    held_out: Count = 500
    """Pairs of the test split at most, and half as many of the dev split; a twentieth of all at most each."""
    strict: bool = False
    """Refuse a file with a row that cannot be used, instead of leaving such rows out."""

    def __post_init__(self) -> None:
        if self.source == NUMBERS and (self.target or self.source_field or self.target_field):
            raise JourneyError("target and fields are of files: name one as source, numbers are made")

    def inputs(self) -> dict[str, str]:
        """What the paths stand for, so that a place can change without changing the node's id."""
        if self.source == NUMBERS:
            return {}
        paths = {"source": self.source} | ({"target": self.target} if self.target else {})
        return {field: file_hash(path, f"pairs ({', '.join(ENDINGS[:3])}, …)") for field, path in paths.items()}

    def cost(self, before: Sequence[Any]) -> Cost:
        """A file is read once."""
        return Cost(3, 5e6)


@stage(
    makes="translations",
    why=(
        "Pairs of a text and what it is in the other language. Some are set aside before anything is learned: a *test* "
        "part gives the numbers of this page, a *dev* part shows how training goes. Pairs about the same text, or the "
        "same number, stand on one side of the split."
    ),
    example=(
        "journey translations --out translations\n"
        "journey translations --source pairs.jsonl --source-field en --target-field de --out translations"
    ),
    start="pairs of texts",
    version=1,
)
def translations(parent: None, config: TranslationsConfig, run: Run) -> dict[str, Any]:
    """Make a node of translations: translations-{train,dev,test}.jsonl."""
    left_out: dict[str, int] = {}
    if config.source == NUMBERS:
        pairs = numbers(config.max_pairs, run.seed)
    else:
        pairs, left_out = load(
            config.source, config.target, config.source_field, config.target_field, config.strict, run.say
        )
    parts = divided(pairs, run.seed, config.held_out, config.max_pairs)
    for name, part in parts.items():
        save(part, run.folder / f"translations-{name}.jsonl")
    texts = [text for part in parts.values() for pair in part for text in (pair.source, pair.target)]
    name = config.source if config.source == NUMBERS else Path(config.source).name.split(".")[0]
    facts = {
        "name": name,
        "special_spellings": sum(text.count(token) for text in texts for token in SPECIALS),
        "splits": {name: {"pairs": len(part), "documents": 2 * len(part)} for name, part in parts.items()},
    }
    write_json(run.folder / "translations.json", facts | ({"left_out": left_out} if left_out else {}))
    return {
        "metrics": {
            **{f"{name}_pairs": metric(len(part)) for name, part in parts.items()},
            "bytes": metric(sum(len(text.encode()) for text in texts), "bytes"),
            **({"rows_left_out": metric(sum(left_out.values()), "rows")} if left_out else {}),
        }
    }


@translations.tells
def tell(told: Told) -> Story:
    """How many there are, and a few of them."""
    parts = {name: saved(told.node.path / f"translations-{name}.jsonl") for name in SPLITS}
    n = sum(map(len, parts.values()))
    some = parts["test"][:4]
    return Story(
        [
            Shares([(name, len(part)) for name, part in parts.items()]),
            Table("Of the test split", ["Source", "target"], [[Cell(p.source), p.target] for p in some], "plain"),
        ],
        big=f"{n:,}",
        what="pairs of a text and its translation",
        said=f"{len(parts['test']):,} of them, about nothing that training has seen, are for the test",
    )
