"""What a page is made of, as data. Measures, stages, sweeps and comparisons say what is to be seen in these blocks;
`report.render` alone knows HTML.

A `str` is plain text and is shown as it is, whatever it holds. `Prose` is our own writing and may carry marks:
*emphasis*, **strong**, `code`; a name or a number from elsewhere goes into it through `plain`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from journey.evaluate.statistics import Estimate


class Prose(str):
    """Our own words, with marks: *emphasis*, **strong**, `code`."""


def plain(text: object) -> str:
    """Text from elsewhere inside `Prose`: its marks are no marks."""
    return re.sub(r"([\\*`])", r"\\\1", str(text))


@dataclass(frozen=True)
class Mark:
    """A number to compare with, and its name: a dashed line in a chart."""

    value: float
    name: str


@dataclass(frozen=True)
class Cell:
    """A table's cell that is more than words: an estimate with its interval, a ground as strong as `heat` (0 to 1)."""

    value: str | Estimate | None
    sign: bool = False  # a change, which has a plus or a minus
    heat: float | None = None
    tone: str = "heat"  # heat | good | bad: the colour of the ground; unsure: ≈ before the number
    colour: int | None = None  # of a model, for its name
    code: bool = False
    small: str = ""  # after the words, smaller
    pieces: Sequence[str] = ()  # a text cut into tokens, instead of `value`


TableRow: TypeAlias = Sequence[str | Estimate | Cell | None]  # the first names it; None: nothing to say, –


@dataclass(frozen=True)
class Text:
    """A paragraph; `style` is "", nothing (why something is absent), caption, or given (a prompt, kept as it is)."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Heading:
    """A small heading inside a section."""

    text: str


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    items: Sequence[str]
    style: str = ""  # "" | numbered | sources (numbered, small) | findings (below a heading)


@dataclass(frozen=True)
class Facts:
    """Names and their values, side by side; `columns`: many, one below the other, in small columns."""

    rows: Sequence[tuple[str, str]]
    columns: bool = False


@dataclass(frozen=True)
class Table:
    """A row's first cell names it; the last cell of a row that is shorter than the head spans the rest. `style`:
    numbers (right-aligned), grid (coloured squares), record, or plain."""

    caption: str
    head: Sequence[str]
    rows: Sequence[TableRow]
    style: str = "numbers"


@dataclass(frozen=True)
class Dot:
    """One number of a dot-and-whisker chart; those of one label share a row, told apart by colour."""

    label: str
    estimate: Estimate
    colour: int = 0
    series: str = ""  # named in the legend where there are several


@dataclass(frozen=True)
class Dots:
    """Dots with their 95 % whiskers on one axis, dashed lines at the numbers to compare with."""

    title: str
    unit: str
    rows: Sequence[Dot]
    marks: Sequence[Mark] = ()
    caption: str = ""
    note: str = ""  # how it was counted: a numbered note


@dataclass(frozen=True)
class Place:
    """A point of a line, with what else there is to see of it."""

    x: float | str | bool
    y: float
    low: float | None = None
    high: float | None = None
    said: str = ""  # when pointed at (default: the numbers)
    label: str = ""  # written beside it
    kind: str = ""  # "" | best (ringed) | other (hollow)
    seeds: Sequence[float] = ()  # small points beside it
    left: float | None = None  # the interval of a measured x
    right: float | None = None


@dataclass(frozen=True)
class Line:
    """Points in the order of x."""

    label: str
    points: Sequence[Place | tuple[float, float]]
    colour: int = 0
    faint: bool = False
    dashed: bool = False
    joined: bool = True  # whether there is something between two points that a line could show
    band: Sequence[tuple[float, float, float]] = ()  # x, low and high of a ground behind the line
    key: str = ""  # in the legend, where lines of one colour share it (default: the label)
    failed: Sequence[tuple[float | str | bool, str]] = ()  # x and why there is no number


@dataclass(frozen=True)
class Curves:
    """Lines over one pair of axes: a loss over tokens, or a sweep's numbers over its values."""

    title: str
    x_unit: str
    y_unit: str
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    caption: str = ""
    note: str = ""
    values: Sequence[float | str | bool] = ()  # those that x may have, and then the ticks; else round numbers
    y_range: tuple[float, float] | None = None
    lower_is_better: bool | None = None  # for room beside the label of the best
    log: bool = False  # an axis whose numbers span eight times is logarithmic
    meanings: Mapping[str, str] = field(default_factory=dict)  # the legend: of a point's kind, of "seed" and "failed",
    # of a stroke where lines share keys: "plain", "dashed" and "faint"
    name: str = ""  # written above, where several stand side by side
    across: Sequence[Mark] = ()  # numbers to compare x with
    corner: tuple[str, str] | None = None  # the ideal one of a plot of two numbers: left or right, lower or upper


@dataclass(frozen=True)
class Box:
    """A span of time in a `Lanes` chart: its width is the time, its height in a lane the number."""

    label: str  # before what it says
    ms: float
    heights: Mapping[str, float]  # lane -> height; a lane that is not named has no box here
    colour: int
    said: str  # when pointed at


@dataclass(frozen=True)
class Lanes:
    """Boxes one after the other in time; below them one lane for each kind of number, to its own scale."""

    title: str
    unit: str  # of time
    boxes: Sequence[Box]
    lanes: Sequence[str]
    legend: Sequence[tuple[int, str]] = ()  # colour, what it means
    caption: str = ""
    note: str = ""


@dataclass(frozen=True)
class Heat:
    """A field of squares, the stronger coloured the nearer their value is to 1."""

    title: str
    across: str  # what the columns are
    down: str
    columns: Sequence[str]
    rows: Sequence[str]
    values: Sequence[Sequence[float]]  # a row each
    caption: str = ""
    note: str = ""


@dataclass(frozen=True)
class Shares:
    """A bar of parts, each with its share of the whole."""

    parts: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Pieces:
    """A text cut into tokens; each piece may say more when pointed at, or carry a small note beside it. `tones`, of all
    or none: trained | rejected | read, each also followed by special."""

    pieces: Sequence[str]
    titles: Sequence[str] = ()
    notes: Sequence[str] = ()
    tones: Sequence[str] = ()
    caption: str = ""


@dataclass(frozen=True)
class Sample:
    """What one model wrote; `said` stands beside its name."""

    name: str
    text: str  # a long one is cut
    colour: int | None = None
    said: str = ""
    pieces: Sequence[str] = ()  # the text as tokens, instead of `text`


@dataclass(frozen=True)
class Samples:
    """Texts side by side, under what they answer."""

    samples: Sequence[Sample]
    given: str = ""
    title: str = ""


@dataclass(frozen=True)
class Shown:
    """A change or a number with its verdict, as a list or a headline shows it. `verdict`: clear, worse, not
    distinguishable from zero, or a size; of an expectation: came out, not surely, did not come out, or the cost."""

    question: str
    estimate: Estimate  # its convention becomes a note
    verdict: str
    compare: str = ""  # what to compare it with, in words
    sign: bool = True  # a change has a plus or a minus, a size has none
    tone: str = ""  # the verdict of the number itself, where `verdict` judges an expectation


@dataclass(frozen=True)
class Changes:
    """Questions and their answers: number, interval, a small picture of it, verdict; one unit shares one axis."""

    rows: Sequence[Shown]


@dataclass(frozen=True)
class Merges:
    """A word as it is merged, a row a step: its name, the tokens, the place of the one just made (-1: none), and how
    many tokens are left out before and after."""

    rows: Sequence[tuple[str, Sequence[str], int, tuple[int, int]]]


@dataclass(frozen=True)
class Fold:
    """What a reader opens who wants to know."""

    summary: str
    blocks: Sequence["Block"]
    open: bool = False
    small: str = ""  # after the summary, smaller


@dataclass(frozen=True)
class Row:
    """Blocks side by side, as many as fit: figures, or small tables."""

    blocks: Sequence["Block"]


Block = (
    Text
    | Heading
    | Points
    | Facts
    | Table
    | Dots
    | Curves
    | Lanes
    | Heat
    | Shares
    | Pieces
    | Samples
    | Changes
    | Merges
    | Fold
    | Row
)


@dataclass(frozen=True)
class Section:
    """A section of a page, with its place in the contents (`short`, default: its title)."""

    id: str
    title: str
    blocks: Sequence[Block]
    lead: str = ""
    short: str = ""
    kind: str = ""  # smaller, after the title
    sections: Sequence["Section"] = ()  # inside this one, each with its own place in the contents


@dataclass(frozen=True)
class Step:
    """A line of the first screen: a stage, its one number, and the changes that it stands for."""

    name: str
    big: str  # the number as it is to be shown
    what: str
    estimate: Estimate | None = None  # of the number, for its interval
    changes: Sequence[Shown] = ()  # at most two are shown
    said: str = ""  # instead of changes
    kind: str = ""
    colour: int | None = None
    link: str = ""  # id of the section about it


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str  # of the window
    heading: str
    sections: Sequence[Section]
    made_by: str  # the command
    kicker: str = ""
    lede: str = ""
    steps: Sequence[Step] = ()
    head: Sequence[Block] = ()  # below the heading
    contents: bool = False  # links to the sections; of one that holds others, to those
    notes: str = ""  # id of the section that ends with the numbered notes
    footer: str = ""
