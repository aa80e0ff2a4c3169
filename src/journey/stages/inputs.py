"""What the fields of a config that name data stand for: a step of the recipe, a node, a source of text, or files."""

import dataclasses
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from journey.checkpoint import LINEAGE, open_node
from journey.errors import JourneyError
from journey.files import digest, sha256_file
from journey.stages import kind_of


@dataclasses.dataclass(frozen=True)
class Input:
    """What a config field may name: a node of one of these kinds, or files that the stage reads as they are.

    Where "text" is among the kinds, a built-in source or a path means the text node that is made of it.
    """

    kinds: tuple[str, ...] = ()
    files: Literal["", "text", "conversations"] = ""
    """text: any source of text; conversations: a file of them, or of preferences, or a set of them by its name"""
    mixes: bool = False
    """whether it may be several of them with weights, as docs=0.7,code=0.3"""

    def reads(self, value: str) -> bool:
        """Whether the stage reads what this names as it is."""
        from journey.data.instructions import named

        return self.files == "text" or (self.files == "conversations" and named(value) is not None)


@dataclasses.dataclass(frozen=True)
class Named:
    """What a value names: `value` is the step's name, the node's folder, the source of a text, or the files' path."""

    what: Literal["step", "node", "source", "files"]
    value: str
    kind: str = ""  # of the node that it is or becomes


def names(default: str, input: Input, help: str) -> Any:
    """A config field that names data."""
    return dataclasses.field(default=default, metadata={"input": input, "help": help})


def named(config: Any) -> Iterator[tuple[str, Input, str]]:
    """(field, what it may name, its value) for everything that a config names; the texts of a mixture in the field
    `data` have fields of their own, `data:docs` and `data:code`. Errors: JourneyError for what is meant as a mixture
    and is none."""
    for field in dataclasses.fields(config):
        if "input" in field.metadata and (value := getattr(config, field.name)):
            names = {part(field.name, text): text for text in mixture(config, field.name)} or {field.name: value}
            for name, each in names.items():
                yield name, field.metadata["input"], each


def mixture(config: Any, field: str) -> dict[str, Fraction]:
    """The texts of the mixture that a config's field names, with their shares; nothing where it names one thing."""
    from journey.data.mixture import is_mixture, parse

    value = getattr(config, field)
    mixes = next(f.metadata["input"].mixes for f in dataclasses.fields(config) if f.name == field)
    try:
        return parse(value) if mixes and is_mixture(value) else {}
    except JourneyError as error:
        raise JourneyError(f"{field}: {error}") from None


def part(field: str, text: str) -> str:
    """The field of one text of the mixture that a field names."""
    return f"{field}:{text}"


def written(value: Any, field: "dataclasses.Field[Any]") -> Any:
    """A value of a recipe as the field has it: a mixture that is written as a mapping becomes the text that the command
    line has. Errors: ValueError for a mixture of none."""
    from journey.data.mixture import spelled

    input = field.metadata.get("input")
    return spelled(value) if isinstance(value, dict) and input is not None and input.mixes else value


def resolve(value: str, input: Input, steps: Mapping[str, str]) -> Named | None:
    """What a field's value names, or None where nothing that it may name is there. Its kind may be another than the
    field wants: the caller says so. `steps` maps each step that can be named to its kind; a step comes before a file of
    its name, and `docs/` is the folder."""
    if input.kinds and value in steps:
        return Named("step", value, steps[value])
    if input.reads(value):
        return Named("files", value)
    if (Path(value) / LINEAGE).exists():
        return Named("node", value, kind_of(open_node(value)))
    return Named("source", source_of(value), "text") if "text" in input.kinds else None


def source_of(value: str) -> str:
    """`installed-docs-qa` means the questions of `installed-docs`: one source, one split."""
    stem = value.removesuffix("-qa")
    return stem if stem != value and not value.startswith("hub:") and not Path(value).exists() else value


def inputs_of(config: Any, given: dict[str, str]) -> dict[str, str]:
    """What the config's fields that name data stand for: the ids of nodes, and the fingerprints of raw files and of
    what the config itself looks up (its method `inputs`, if it has one). Of a mixture, a hash of the ids of its texts
    with their shares, so that a name can change without changing the id.

    `given` maps fields, those of a mixture's texts too, to the ids of nodes.
    """
    from journey.data.sources import fingerprint

    inputs = given | (config.inputs() if hasattr(config, "inputs") else {})
    for field in [field.name for field in dataclasses.fields(config) if "input" in field.metadata]:
        if shares := mixture(config, field):
            ids = {text: inputs.pop(part(field, text)) for text in shares}
            if len(set(ids.values())) < len(ids):
                raise JourneyError(f'{field}: "{getattr(config, field)}" mixes a text with itself: name each text once')
            inputs[field] = digest([[str(share), ids[text]] for text, share in shares.items()])
    for field, input, value in named(config):
        if field not in given and input.reads(value):
            inputs[field] = fingerprint(value) if input.files == "text" else conversations_hash(value)
    return inputs


def conversations_hash(data: str) -> str:
    """The hash of a file of conversations or of preferences, or of the files that a name of a set stands for."""
    from journey.data.instructions import SETS, fingerprint

    try:
        return fingerprint(data)
    except (FileNotFoundError, IsADirectoryError):
        known = ", ".join(SETS)
        raise JourneyError(
            f"{data} does not exist: give the path of a file of conversations, or a set's name ({known})"
        ) from None


def file_hash(path: str, what: str) -> str:
    """The hash of a file, perhaps of the Hub; `what` it is a file of, for the JourneyError where there is none."""
    from journey.data.hub import local

    file = local(path)
    if not file.is_file():
        raise JourneyError(f"{path} does not exist: give the path of a file of {what}")
    return sha256_file(file)
