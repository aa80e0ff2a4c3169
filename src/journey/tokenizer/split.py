"""How text is cut before any merge, as a tokenizer.json says it: by one of our patterns, or in steps of its own."""

import json
from typing import Any

from tokenizers import Regex, pre_tokenizers

from journey.tokenizer.codec import PATTERNS

Step = dict[str, Any]  # a normalizer or a pre-tokenizer, as tokenizer.json writes it


def pre_tokenizer(pattern: str, add_prefix_space: bool = False) -> pre_tokenizers.PreTokenizer:
    """What cuts text by the split pattern of this name and writes its bytes as visible characters."""
    if pattern == "gpt2":  # built into ByteLevel, and known to every reader of tokenizer.json in this form
        return pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    split = pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=False)
    return pre_tokenizers.Sequence([split, byte_level])


def steps_of(state: dict[str, Any]) -> list[Step]:
    """What happens to a text before the merges, in order: the normalizers and the pre-tokenizers of a tokenizer.json.

    Steps that do the same are written the same, so that lists are equal where two tokenizers cut every text alike.
    """
    return [*_flat(state.get("normalizer"), "normalizers"), *_flat(state.get("pre_tokenizer"), "pretokenizers")]


def steps(pattern: str) -> list[Step]:
    """The steps of the split pattern of this name."""
    return steps_of({"pre_tokenizer": json.loads(pre_tokenizer(pattern).__getstate__())})


def name_of(found: list[Step]) -> str | None:
    """The split pattern of which these are the steps, and all the steps; where one of our patterns cuts among others,
    all of them in words ("Digits, gpt2"); None where none of our patterns cuts.

    So a name of PATTERNS says that nothing else is done to a text.
    """
    for pattern in PATTERNS:
        if found == steps(pattern):
            return pattern
    ours = any(_cut(step) or (step["type"] == "ByteLevel" and step["use_regex"]) for step in found)
    return ", ".join(filter(None, map(describe, found))) if ours else None


def describe(step: Step) -> str:
    """A step in a few words; nothing for the one that all tokenizers have, of bytes as visible characters."""
    if step == steps("llama3")[-1]:
        return ""
    if step["type"] == "ByteLevel":
        return f"ByteLevel ({'gpt2, ' * step['use_regex']}add_prefix_space)"
    if name := _cut(step):
        return name if step == _split(PATTERNS[name]) else f"{name} ({step['behavior']})"
    return str(step["type"])


def _cut(step: Step) -> str | None:
    """Which of our patterns a step splits by."""
    cut = step["pattern"].get("Regex") if step["type"] == "Split" else None
    return next((name for name, pattern in PATTERNS.items() if pattern == cut), None)


def _flat(step: Step | None, inside: str) -> list[Step]:
    """A step or a sequence of them, without the setting that changes no ids (`trim_offsets`)."""
    if not step:
        return []
    if inside in step:
        return [flat for inner in step[inside] for flat in _flat(inner, inside)]
    step = {key: value for key, value in step.items() if key != "trim_offsets"}
    if step["type"] == "ByteLevel" and step["use_regex"] and not step["add_prefix_space"]:
        return [_split(PATTERNS["gpt2"]), step | {"use_regex": False}]
    return [step]


def _split(pattern: str) -> Step:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
