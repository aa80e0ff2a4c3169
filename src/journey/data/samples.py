"""Texts to compare tokenizers on: the same paragraphs in several languages, or files of prose and of code."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from journey.data import sources
from journey.errors import JourneyError, nearest

CODE = {
    **{".c": "C", ".h": "C", ".cc": "C++", ".cpp": "C++", ".hpp": "C++", ".cs": "C#", ".css": "CSS", ".go": "Go"},
    **{".html": "HTML", ".java": "Java", ".js": "JavaScript", ".json": "JSON", ".kt": "Kotlin", ".lua": "Lua"},
    **{".php": "PHP", ".py": "Python", ".r": "R", ".rb": "Ruby", ".rs": "Rust", ".scala": "Scala", ".sh": "shell"},
    **{".sql": "SQL", ".swift": "Swift", ".toml": "TOML", ".ts": "TypeScript", ".yaml": "YAML", ".yml": "YAML"},
}
_SET = "XQuAD is a folder with one LANGUAGE.jsonl.gz for each language"


@dataclass(frozen=True)
class Sample:
    """Texts of one kind: of a language, of a file, of a programming language."""

    name: str
    texts: tuple[str, ...]
    code: bool = False


def parallel(folder: Path | None) -> list[Sample]:
    """XQuAD's paragraphs (Artetxe et al. 2020), text i of each language a translation of the same paragraph.

    `folder` (else retrieval/xquad under JOURNEY_DATA) holds LANGUAGE.jsonl or .jsonl.gz files, each line with "id" and
    "context"; a paragraph is known by the first question asked about it. Paragraphs that a language lacks are left out.
    JourneyError when there are no such files, no English, or nothing in common.
    """
    if folder is None:
        if not (root := os.environ.get("JOURNEY_DATA")):
            raise JourneyError(f"--on xquad: say where it is with --data DIR, or set JOURNEY_DATA ({_SET})")
        folder = Path(root) / "retrieval" / "xquad"
    files = {path.name.partition(".")[0]: path for path in sorted(folder.glob("*.jsonl*")) if path.is_file()}
    if "en" not in files:
        raise JourneyError(f"{folder}: no en.jsonl.gz there, and parity is against English ({_SET})")
    read = {language: _paragraphs(path) for language, path in files.items()}
    common = [key for key in read["en"] if all(key in texts for texts in read.values())]
    if not common:
        raise JourneyError(
            f"{folder}: its {len(files)} languages have no paragraph in common, by the ids of their lines"
        )
    return [Sample(language, tuple(texts[key] for key in common)) for language, texts in read.items()]


def _paragraphs(path: Path) -> dict[str, str]:
    found = dict[str, str]()
    for line, record in sources.json_lines(path):
        match record:
            case {"id": str(id), "context": str(context)}:
                found.setdefault(context, id)
            case _:
                raise JourneyError(f'{path}, line {line}: no "id" and "context" strings, as XQuAD has them')
    return {id: context for context, id in found.items()}


def of_files(names: Sequence[str]) -> list[Sample]:
    """Files and folders: a sample of prose for each, and one of each programming language found in them.

    Long texts are cut into pieces of a few kB, which are the items of an interval: at blank lines, or where there are
    none at any line's end. JourneyError for a file that is missing, empty, or of no known kind.
    """
    prose, code = dict[str, list[str]](), dict[str, list[str]]()
    for name in names:
        path = Path(name).expanduser()
        if not path.exists():
            known = nearest(name, ["xquad"])
            raise JourneyError(f"no such text: {name}{known or '; give files, folders, or xquad'}")
        readable = {file for _, file in sources.survey(path)[0]} if path.is_dir() else set()
        programs = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        programs = [p for p in programs if p.suffix.lower() in CODE and p not in readable]
        for program in programs:
            code.setdefault(CODE[program.suffix.lower()], []).extend(
                _cut(sources.decode(program.read_bytes(), program))
            )
        if readable or not programs:
            label = path.name.partition(".")[0] or path.resolve().name
            texts = prose.setdefault(label if label not in prose else name, [])
            texts += [piece for document in sources.read(name) for piece in _cut(document.text)]
    empty = [label for label, texts in (prose | code).items() if not texts]
    if empty:
        raise JourneyError(f"{empty[0]}: there is no text in it")
    samples = [Sample(label, tuple(texts)) for label, texts in prose.items()]
    return samples + [Sample(label, tuple(texts), code=True) for label, texts in code.items()]


def _cut(text: str) -> Iterator[str]:
    for piece in sources.split_text(text):
        lines, size = list[str](), 0
        for line in piece.splitlines(keepends=True) if len(piece) > 4 * sources.PIECE else [piece]:
            lines.append(line)
            size += len(line)
            if size >= sources.PIECE:
                yield "".join(lines)
                lines, size = [], 0
        if "".join(lines).strip():
            yield "".join(lines)
