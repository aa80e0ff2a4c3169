"""What names conversations or preferences: a file of them, or a public set by its name, either perhaps in one language.

`alpaca` stands for files of the Hub, each downloaded once; `oasst1:en` and `mine.jsonl:de` are rows of one language.
The language is part of the data's name, so that whoever reads the same data holds out the same part of it.
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from journey.data import rows
from journey.data.hub import PREFIX, local
from journey.data.openassistant import gathered
from journey.data.rows import Misfit, Records, Say
from journey.errors import JourneyError
from journey.files import digest, sha256_file

Item = TypeVar("Item")

_HH = ("helpful-base", "harmless-base", "helpful-online", "helpful-rejection-sampled")
SETS = {
    "dolly-15k": ("databricks/databricks-dolly-15k/databricks-dolly-15k.jsonl",),
    "oasst1": ("OpenAssistant/oasst1/2023-04-12_oasst_ready.trees.jsonl.gz",),
    "slimorca": ("Open-Orca/SlimOrca/oo-labeled_correct.gpt4.sharegpt.jsonl",),
    "alpaca": ("tatsu-lab/alpaca/data/train-00000-of-00001-a09b74b3ef9c3b56.parquet",),
    "ultrafeedback": ("HuggingFaceH4/ultrafeedback_binarized/data/train_prefs-00000-of-00001.parquet",),
    "hh-rlhf": tuple(f"Anthropic/hh-rlhf/{part}/train.jsonl.gz" for part in _HH),
}
_IN_A_LANGUAGE = re.compile(r"(.+):([A-Za-z]{2,}(?:[-_][A-Za-z0-9]+)*)")


class Named(NamedTuple):
    """Files, each as `hub.local` takes them, and the language of the rows that are meant; empty for all."""

    paths: tuple[str, ...]
    language: str


def named(data: str) -> Named | None:
    """The files that `data` names; None for what is neither a file of conversations nor a set's name. A file or folder
    here comes before a set of its name."""
    if files := _files(data):
        return Named(files, "")
    parts = None if os.path.lexists(data) else _IN_A_LANGUAGE.fullmatch(data)
    return Named(files, parts[2].lower().replace("_", "-")) if parts and (files := _files(parts[1])) else None


def _files(data: str) -> tuple[str, ...]:
    if data in SETS and not os.path.lexists(data):
        return tuple(PREFIX + file for file in SETS[data])
    return (data,) if data.lower().endswith(rows.ENDINGS) else ()


def fingerprint(data: str) -> str:
    """The hash of all that `data` names: of one file its own. Errors: OSError where a file is missing."""
    found = named(data) or Named((data,), "")
    hashes = [sha256_file(local(path)) for path in found.paths]
    return hashes[0] if len(hashes) == 1 and not found.language else digest([hashes, found.language])


def read(
    data: str | Path,
    make: Callable[[object, str], Item],
    strict: bool,
    say: Say,
    described: Callable[[list[Item]], str],
) -> tuple[list[Item], Counter[str]]:
    """`rows.read` of each file that `data` names, of the rows in its language; messages that are rows of their own come
    as trees (`openassistant`). Errors: JourneyError as there, and where no row is in the language."""
    paths, language = named(str(data)) or Named((str(data),), "")
    found: list[Item] = []
    left_out: Counter[str] = Counter()
    spoken: Counter[str] = Counter()
    for path in paths:
        some = _in(language, gathered(rows.records(Path(path))), spoken)
        items, unusable = rows.read(path, make, strict, say, described, some)
        found += items
        left_out += unusable
    if language and spoken:
        said = ", ".join(f"{name}: {n:,}" for name, n in spoken.most_common(8))
        if not found:
            raise JourneyError(f"{data}: no rows in {language} (there are {said})")
        say(f"{data}: {spoken.total():,} rows in another language than {language} are not read ({said})")
    return found, left_out


def language_of(record: object) -> str:
    """What a row says of its language in a column "lang" or "language", or the first message of its tree does; empty
    where neither does."""
    row = {name.lower(): value for name, value in record.items()} if isinstance(record, dict) else {}
    prompt = row.get("prompt")
    places = (row, prompt) if isinstance(prompt, dict) else (row,)
    said = (place.get(name) for place in places for name in ("lang", "language"))
    return next((one.strip().lower().replace("_", "-") for one in said if isinstance(one, str)), "")


def _in(language: str, some: Records, others: Counter[str]) -> Records:
    """The records in a language, in any for none; `others` counts the languages of the rest. `en` is `en-GB` too."""
    for where, record in some:
        said = language_of(record)
        if not language or isinstance(record, Misfit) or f"{said}-".startswith(f"{language}-"):
            yield where, record
        else:
            others[said or "not said"] += 1
