"""A tokenizer as tiktoken has one: no merges, only ranks. Neighbours that make a token join, the lowest id first."""

import json
import re

import tokenizers
from tokenizers import models, pre_tokenizers

from journey.tokenizer.codec import CHAR_TO_BYTE, Merge, unspell
from journey.tokenizer.split import steps_of

# tiktoken's split remembers every character of white space in a row, and panics at about a million.
TOO_WIDE = re.compile(r"(?<!\s)\s{50000}")


def is_safe(text: str) -> bool:
    """Whether tiktoken can split this text."""
    return len(text) < 50_000 or not TOO_WIDE.search(text)


def ranks_of(backend: tokenizers.Tokenizer, split: pre_tokenizers.PreTokenizer) -> dict[bytes, int] | None:
    """Token -> id, if by them tiktoken gives the ids of this tokenizer for every text; else None.

    It does where a text is only split, as by `split`, and merged, where ids are in the order of merges, and where the
    merges make each token of its own bytes: then two neighbours that make a token are always those of its merge.
    """
    state = json.loads(backend.to_str())
    model = state["model"]
    added = {token["content"] for token in state["added_tokens"]}
    if model["dropout"] or model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        return None
    if not all(token["special"] for token in state["added_tokens"]):
        return None
    if steps_of(state) != steps_of({"pre_tokenizer": json.loads(split.__getstate__())}):
        return None
    ids = {token: id for token, id in model["vocab"].items() if token not in added}
    merges = [(left, right) for left, right in model["merges"]]
    if not all(CHAR_TO_BYTE.keys() >= set(token) for token in ids):
        return None
    if not (model["ignore_merges"] and merges == merges_of(ids)) and not _one_way(ids, merges):
        return None
    return {unspell(token): id for token, id in sorted(ids.items(), key=lambda item: item[1])}


def merges_of(ids: dict[str, int]) -> list[Merge]:
    """Merges that do what tiktoken does by ranks alone: neighbours that make a token join, lowest first."""
    tokens = sorted(ids, key=ids.__getitem__)
    splits = ((token[:i], token[i:]) for token in tokens for i in range(1, len(token)))
    return [(left, right) for left, right in splits if left in ids and right in ids]


def _one_way(ids: dict[str, int], merges: list[Merge]) -> bool:
    """Whether each token but the bytes has one merge, later than those of its halves, by which its bytes become it."""
    made = ["".join(merge) for merge in merges]
    if sorted(made, key=ids.__getitem__) != made or set(made) != {token for token in ids if len(token) > 1}:
        return False
    if len(set(made)) < len(made) or any(
        len(half) > 1 and ids[half] > ids[left + right] for left, right in merges for half in (left, right)
    ):
        return False
    model = models.BPE(ids, merges)
    return all(len(model.tokenize(token)) == 1 for token in made)
