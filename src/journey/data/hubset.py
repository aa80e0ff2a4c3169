"""A data set of the Hub as a source of text: its files are found by name and read as they stream by.

    hub:OWNER/NAME[@REVISION][:CONFIG[:SPLIT]]    a config of its card, and the split (train)
    hub:OWNER/NAME/PATH[@REVISION]                a file, a folder or a pattern of files in it

Nothing is read to know which text that is: the fingerprint is of the commit and of the names of the files.
"""

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from journey.data.cutting import Cut
from journey.data.hub import refusals, spelled
from journey.data.remote import BLOCK, TIMEOUT, TRIES, RemoteFile, patiently
from journey.data.source import Document, Notes, Progress
from journey.data.sources import ENDINGS, MB, kind, own_documents
from journey.errors import JourneyError, nearest
from journey.files import digest, holds, read_json, write_json

UNASKED = 1_000_000_000  # bytes of text that are read where max_bytes says nothing: the sets are larger than disks
SPREAD, LEAST = 32, 1_000_000  # files that are read at most, and bytes of text from each of them at least
# Split -> the words for it in the names of files and folders.
_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPELLING = re.compile(
    r"hub:(?P<repository>[^/:@]+/[^/:@]+)(/(?P<path>[^:@]+))?(@(?P<revision>[^:@]+))?"
    r"(:(?P<config>[^:@]*)(:(?P<split>[^:@]+))?)?"
)
_COMMIT = re.compile("[0-9a-f]{40}")
_LISTING = {"commit": str, "files": list, "configs": list}
_BESIDE = re.compile(r"(^|/)(\.|readme|license|dataset_infos?\.json|state\.json|[^/]*\.index\.json)", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """What a spelling asks for."""

    repository: str
    path: str
    revision: str
    config: str
    split: str


@dataclass(frozen=True)
class HubSet:
    """The files of a data set at a commit that were asked for, in their order."""

    repository: str
    commit: str
    files: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Of what these files are: a commit never changes."""
        return digest([self.repository, self.commit, self.files])

    def spread(self, max_bytes: int) -> tuple[str, ...]:
        """The files that are read for so many bytes of text: all or, of many, some at even distances."""
        n = min(len(self.files), SPREAD, max(1, max_bytes // LEAST))
        return tuple(self.files[i * len(self.files) // n] for i in range(n))

    def facts(self, max_bytes: int | None) -> dict[str, Any]:
        """What corpus.json says of where the text is from."""
        most = max_bytes or UNASKED
        read = self.spread(most)
        about = {"repository": self.repository, "commit": self.commit, "max_bytes": most}
        return about | {"files": list(read), "files_there": len(self.files)}

    def documents(
        self, max_bytes: int | None, progress: Progress, notes: Notes, cut: Cut, strict: bool
    ) -> Iterator[Document]:
        """The beginning of each file of the `spread`, an equal part of `max_bytes` from each; what one does not have
        the next ones give. The same documents whenever they are asked for.

        A row whose column of text is missing or holds something else is refused: its file has another schema.
        """
        most = max_bytes or UNASKED
        files = self.spread(most)
        total = shown = 0
        for i, name in enumerate(files):
            until = total + (most - total) // (len(files) - i)
            path = Path(f"{self.repository}/{name}")
            with io.BufferedReader(RemoteFile(self.repository, self.commit, name), BLOCK) as file:
                for document in own_documents(name, path, file, notes, cut, strict, fixed=True):
                    size = document.n_bytes()
                    if total + size > most:
                        break
                    total += size
                    yield document
                    if total >= shown + MB:
                        shown = total
                        progress(total // MB, most // MB, unit="MB")
                    if total >= until:
                        break


def parse(source: str) -> Asked:
    """What a source asks for. Errors: JourneyError saying how it is written."""
    found = _SPELLING.fullmatch(spelled(source))
    if not found or (found["path"] and found["config"] is not None):
        raise JourneyError(
            f"{source}: write hub:OWNER/NAME, hub:OWNER/NAME:CONFIG:SPLIT or hub:OWNER/NAME/FOLDER, "
            "as in hub:HuggingFaceFW/fineweb-edu:sample-10BT"
        )
    path = (found["path"] or "").strip("/")
    return Asked(found["repository"], path, found["revision"] or "main", found["config"] or "", found["split"] or "")


@cache
def find(source: str) -> HubSet:
    """The files that a source names. Asked once in a process, so that a plan and what is made by it are of one commit.

    Errors: JourneyError for what is not there, naming what is; Away when neither the Hub answers nor an earlier answer
    of it is kept on this machine.
    """
    return chosen(source, _listing(parse(source)))


def chosen(source: str, listing: dict[str, Any]) -> HubSet:
    """The files that a source names of those in a listing. Errors: JourneyError."""
    asked = parse(source)
    if not (holds(listing, _LISTING) and _COMMIT.fullmatch(listing["commit"])):
        raise JourneyError(f"the dataset {asked.repository}: what the Hub answers is no listing of it: try later")
    return HubSet(asked.repository, listing["commit"], tuple(sorted(_chosen(asked, listing))))


def _listing(asked: Asked) -> dict[str, Any]:
    """The commit that a revision is, the names of its files and the configs of its card. Asked once on a machine and
    kept: `main` moves whenever somebody mends a card, and a training of several nights must go on with the text that it
    was begun with."""
    from huggingface_hub import HfApi, constants

    name = f"{asked.repository}@{asked.revision}".replace("/", "--")
    kept = Path(constants.HF_HOME) / "journey" / f"{name}.json"
    known = _kept(kept)
    if known:
        return known
    what = f"the dataset {asked.repository}"
    try:
        with refusals(asked.repository, "dataset", revision=asked.revision):
            found = patiently(
                lambda: HfApi().dataset_info(asked.repository, revision=asked.revision, timeout=TIMEOUT),
                what,
                TRIES,
            )
        names = [sibling.rfilename for sibling in found.siblings or []]
        card: Any = found.card_data or {}
        listing = {"commit": found.sha, "files": names, "configs": card.get("configs") or []}
    except (ValueError, TypeError, KeyError, AttributeError):
        listing = {}  # what is told by `chosen`
    if holds(listing, _LISTING):
        with suppress(OSError):  # where nothing can be kept, the Hub has to be there
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, listing)
    return listing


def _kept(path: Path) -> dict[str, Any] | None:
    try:
        listing = read_json(path)
    except (JourneyError, OSError):
        return None
    return listing if holds(listing, _LISTING) else None


def _chosen(asked: Asked, listing: dict[str, Any]) -> list[str]:
    """The files that are asked for: by their path, by a config of the card or, without one, by the words for splits in
    their names. Errors: JourneyError naming what there is."""
    where, split = f"the dataset {asked.repository}", asked.split or "train"
    names = [name for name in listing["files"] if isinstance(name, str) and kind(name) and not _BESIDE.search(name)]
    if asked.path:
        found = [name for name in names if _matches(name, asked.path)]
        if not found:
            raise JourneyError(f"{where} has no {', '.join(ENDINGS)} file at {asked.path}{_some(listing['files'])}")
        return found
    configs = {str(each.get("config_name")): each for each in listing["configs"] if isinstance(each, dict)}
    splits = _by_words(names)
    if configs:
        config = asked.config or _usual(asked, configs)
        if config not in configs:
            known = _few(configs)
            raise JourneyError(f'{where} has no config "{config}"{nearest(config, configs)} (there are: {known})')
        splits = _by_card(names, configs[config])
        where += f", config {config},"
    elif asked.config not in ("", "default"):
        raise JourneyError(f'{where} has no configs: leave "{asked.config}" out, or name a folder, OWNER/NAME/FOLDER')
    if split not in splits:
        known = f" (there are: {_few(splits)})" if splits else _some(listing["files"])
        raise JourneyError(f'{where} has no files of text of the split "{split}"{known}')
    return splits[split]


def _usual(asked: Asked, configs: dict[str, dict[str, Any]]) -> str:
    """The config where none is named."""
    if len(configs) == 1:
        return next(iter(configs))
    marked = [name for name, config in configs.items() if config.get("default") is True]
    if marked or "default" in configs:
        return marked[0] if marked else "default"
    raise JourneyError(
        f"the dataset {asked.repository} has several configs: choose one, as in "
        f"hub:{asked.repository}:{next(iter(configs))} (there are: {_few(configs)})"
    )


def _by_card(names: list[str], config: dict[str, Any]) -> dict[str, list[str]]:
    """split -> files, as the card of a data set writes it: patterns, or patterns by split."""
    folder = str(config.get("data_dir") or "").strip("./")
    inside = [name for name in names if not folder or name.startswith(f"{folder}/")]
    said = config.get("data_files")
    if not said:
        return _by_words(inside)
    patterns: dict[str, list[str]] = {}
    for each in said if isinstance(said, list) else [said]:
        split, paths = (each.get("split"), each.get("path")) if isinstance(each, dict) else ("train", each)
        own = patterns.setdefault(str(split), [])
        own += [f"{folder}/{path}".strip("/") for path in (paths if isinstance(paths, list) else [paths])]
    found = {s: [n for n in names if any(_matches(n, path) for path in paths)] for s, paths in patterns.items()}
    return {split: files for split, files in found.items() if files}


def _by_words(names: list[str]) -> dict[str, list[str]]:
    """split -> files by the words in their names; all are for training where none has such a word. Of several kinds of
    file the commonest is the data."""
    kinds = Counter(map(kind, names))
    most = max(kinds, key=lambda ending: (kinds[ending], ENDINGS.index(ending)), default="")
    names = [name for name in names if kind(name) == most]
    found: dict[str, list[str]] = {}
    for name in names:
        words = {*re.split(r"[^a-z]+", name.lower())}
        if split := next((split for split, known in _WORDS.items() if words & {*known}), ""):
            found.setdefault(split, []).append(name)
    return found or ({"train": names} if names else {})


def _matches(name: str, pattern: str) -> bool:
    """Whether a file is the one of a pattern, lies in the folder that it names, or fits it: `*` is a part of one name,
    and `**` any folders, or none."""
    pattern = pattern.removeprefix("./").rstrip("/")
    if name == pattern or name.startswith(f"{pattern}/"):
        return True
    parts, reached = name.split("/"), {0}  # how many of the parts can be fitted by the words so far
    for word in pattern.split("/"):
        if word == "**":
            reached = set(range(min(reached, default=len(parts) + 1), len(parts) + 1))
        else:
            reached = {i + 1 for i in reached if i < len(parts) and fnmatchcase(parts[i], word)}
    return len(parts) in reached


def _few(names: Iterable[str]) -> str:
    """The first of many names."""
    names = [*names]
    return ", ".join([*names[:12], *(["…"] if len(names) > 12 else [])])


def _some(names: list[Any]) -> str:
    """What there is instead of files of text."""
    return f" (it has {_few([str(name) for name in names])})" if names else " (it is empty)"
