"""Text: read a source, drop what repeats itself, and set documents aside before anything is trained on them."""

import dataclasses
import math
import shlex
from collections.abc import Sequence
from typing import Any, Literal

from journey.data.cutting import BLANK_LINE, LINE, PIECE, Cut
from journey.data.hub import SETS, spelled
from journey.data.sources import ENDINGS, SOURCES, told
from journey.errors import JourneyError
from journey.fields import Count, Share
from journey.files import read_json
from journey.metrics import metric
from journey.report.blocks import Cell, Shares, Table, TableRow
from journey.report.blocks import Text as Paragraph
from journey.report.format import MISSING, bytes_, number
from journey.stages.cost import Cost
from journey.stages.inputs import Input, names
from journey.stages.run import Run, stage
from journey.stages.story import Story, Told


@dataclasses.dataclass(frozen=True)
class Text:
    """Settings of the text stage."""

    source: str = names(
        "installed-docs",
        Input(files="text"),
        f"{', '.join(SOURCES)}, a file or folder of {', '.join(ENDINGS[:-1])} (each also .gz or .zst) or .parquet, "
        f"or of the Hub {', '.join(SETS)} or hub:OWNER/NAME:CONFIG:SPLIT",
    )
    dev: Share = 0.02
    """Share of the documents set aside for choosing settings."""
    test: Share = 0.04
    """Share of the documents set aside for the report; nothing is ever chosen on them."""
    max_bytes: Count | None = None
    """Read no more than this much text: a random part of files, the beginnings of the Hub's (1 GB where not said)."""
    errors: Literal["strict", "replace"] = "strict"
    """Bytes that are not UTF-8: refuse the file, or replace them by U+FFFD and count them."""
    separator: str = BLANK_LINE
    """Where the documents of .txt and .md files end: blank-line (paragraphs are put together to 4 kB), line, or a
    string such as "<|endoftext|>"."""
    strict: bool = False
    """Refuse a file with a row that cannot be used, instead of leaving such rows out."""

    def __post_init__(self) -> None:
        Cut(self.separator)  # refuses an empty one
        if self.dev + self.test > 0.5:
            both = f"dev {self.dev} and test {self.test}"
            raise JourneyError(f"{both} are shares of the documents: at most half together")

    def cost(self, before: Sequence[Any]) -> Cost:
        """Measured for what is on the machine; else by the size of the user's own files (docs/measurements.md)."""
        from journey.data.hubset import UNASKED
        from journey.data.sources import files, size_of

        if self.source in SOURCES:
            return Cost(25, 30e6)
        if spelled(self.source):
            asked = self.max_bytes or UNASKED
            return Cost(10 + asked / 4e6, 5e6 + asked)
        size = min(sum(size_of(path) for _, path in files(self.source)), self.max_bytes or math.inf)
        return Cost(3 + size / 12e6, 5e6 + size)


@stage(
    makes="text",
    why=(
        "The text is read from files on this machine, cut into documents, and split. Most is for training; a small "
        "*dev* part serves to choose settings, and a *test* part, on which nothing was trained or chosen, gives the "
        "numbers of this page. Near-copies stay on one side of the split: a model that has read a copy of a test "
        "document has seen the answer. What overlap remains is counted: the share of a held-out document's sequences "
        "of 13 words that the training split also has, and in how many documents that is more than half."
    ),
    example="journey text --source my-texts/ --out text",
    start="raw text",
    version=2,
)
def text(parent: None, config: Text, run: Run) -> dict[str, Any]:
    """Make a text node: train, dev and test parquet files, and questions where the text is documentation."""
    from journey.data import corpus
    from journey.data.sources import NotUtf8

    try:
        facts = corpus.build(
            config.source,
            run.folder,
            dev=config.dev,
            test=config.test,
            seed=run.seed,
            max_bytes=config.max_bytes,
            errors=config.errors,
            separator=config.separator,
            strict=config.strict,
            scratch=run.scratch / "text",
            progress=run.progress,
        )
    except NotUtf8 as error:
        command = f"journey text --source {shlex.quote(config.source)} --errors replace --out DIR"
        raise JourneyError(
            f"{error}, or replace such bytes: {command} makes a text to name as --data (in a recipe: errors: replace)"
        ) from None
    test = facts["splits"]["test"]
    for line in noticed(facts, config.separator):
        run.say(f"{run.name}: {line}")
    replaced = {}
    if n := facts.get("replaced_bytes"):
        replaced = {"replaced_bytes": metric(n, "bytes", "not UTF-8, replaced by U+FFFD")}
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
            **replaced,
        }
    }


def noticed(facts: dict[str, Any], separator: str) -> list[str]:
    """What of a text's making may be other than its owner thinks, a line each."""
    lines = []
    if remote := facts.get("hub"):
        read, there = len(remote["files"]), several(remote["files_there"], "file")
        lines.append(
            f"of the Hub's {remote['repository']} at commit {remote['commit'][:7]}: {bytes_(remote['max_bytes'])} of "
            f"text at most, the beginning of {read} of its {there} (max_bytes says how much)"
        )
    if others := facts.get("not_read"):
        lines.append(told(others))
    if n := facts.get("replaced_bytes"):
        lines.append(f"{n:,} bytes in {several(facts['replaced_files'], 'file')} were not UTF-8 and became U+FFFD")
    if reasons := facts.get("left_out"):
        why = ", ".join(f"{reason} {n:,}" for reason, n in reasons.items())
        n, first = sum(reasons.values()), "; ".join(facts["first_left_out"])
        more = "; …" if n > len(facts["first_left_out"]) else ""
        lines.append(f"{several(n, 'row')} left out ({why}): {first}{more}")
    by = {BLANK_LINE: "blank lines", LINE: "lines"}.get(separator, separator)
    if finer := facts.get("cut_finer"):
        lines.append(
            f"{several(finer['documents'], 'document')} by {by}, which are too few: all is cut into pieces of whole "
            f"lines of about {finer['piece']:,} bytes (separator says where documents end)"
        )
    if n := facts.get("long_documents_cut"):
        lines.append(
            f"{several(n, 'document')} by {by} too long to be one, cut into pieces of whole lines of about "
            f"{PIECE:,} bytes (separator says where documents end)"
        )
    if n := facts.get("endoftext_marks"):
        lines.append(f'<|endoftext|> stands {n:,} times in the text: separator "<|endoftext|>" would cut it there')
    return lines


def several(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


@text.tells
def tell(told: Told) -> Story:
    """The splits, and what of each training has seen too."""
    facts = read_json(told.node.path / "corpus.json")
    splits: dict[str, dict[str, float | None]] = facts["splits"]

    def share(value: float | None) -> str:
        return MISSING if value is None else number(100 * value, "%")

    rows: list[TableRow] = [
        [
            Cell(name),
            number(split.get("documents"), decimals=0),
            bytes_(split.get("bytes")),
            share(split.get("over_half_in_train")),
            share(split.get("in_train")),
            number(split.get("questions"), decimals=0),
            number(split.get("choices"), decimals=0),
        ]
        for name, split in splits.items()
    ]
    head = ["Split", "documents", "bytes", "over half in train", "mean share in train", "questions", "multiple choice"]
    dropped = facts.get("duplicates_dropped")
    said = [f"{dropped:,} exact duplicates were dropped."] if dropped else []
    said.append(f"Spellings of special tokens in the text: {facts['special_spellings']:,}, kept as text.")
    said += [
        f"{line[0].upper()}{line[1:]}." for line in noticed(facts, told.node.lineage["config"].get("separator", ""))
    ]
    parts = Shares([(name, split.get("documents") or 0) for name, split in splits.items()])
    known = splits["test"].get("in_train")
    return Story(
        [parts, Table(f"The text {told.node.name}", head, rows), Paragraph(" ".join(said))],
        big=bytes_(sum(split.get("bytes") or 0 for split in splits.values())),
        what=f"of text in {sum(split.get('documents') or 0 for split in splits.values()):,} documents",
        said=f"{share(known)} of a test document's 13-word runs stand in training too" if known else "",
    )
