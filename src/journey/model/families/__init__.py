"""One file a family of models: its block, its counts, its cache and its names on disk. Whoever has a config asks here.

A new family is a file beside these, its name in `FamilyName` and its object in `table`; no other family's file changes.
"""

from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

from journey.errors import JourneyError, nearest

if TYPE_CHECKING:
    from journey.model.families.family import Family

FamilyName = Literal["gpt2", "llama", "qwen2", "qwen3"]
FAMILIES: tuple[FamilyName, ...] = get_args(FamilyName)


@cache
def table() -> "dict[str, Family]":
    """Every family by its name."""
    # Imported here: a command's help wants the names, and a family's file needs torch.
    from journey.model.families import gpt2, llama, qwen2, qwen3

    return {family.name: family for family in (gpt2.FAMILY, llama.FAMILY, qwen2.FAMILY, qwen3.FAMILY)}


def get(name: str) -> "Family":
    """The family of that name. Raises JourneyError, with the nearest, where there is none."""
    if name not in table():
        guess = nearest(name, table()) or f": choose one of {', '.join(table())}"
        raise JourneyError(f'unknown model family "{name}"{guess}')
    return table()[name]


def find(name: object) -> "Family | None":
    """The family that goes by that name here or in a config.json (`model_type`); None where we compute none such."""
    return next((family for family in table().values() if name in (family.name, family.model_type)), None)
