"""How text is cut before any merge, as a tokenizer.json says it: by one of our patterns, or in steps of its own."""

from typing import Any

from journey.tokenizer.codec import PATTERNS

Step = dict[str, Any]  # a normalizer or a pre-tokenizer, as tokenizer.json writes it
_BYTES: Step = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "use_regex": False,
}  # as visible characters, cut no more
_DIGITS: Step = {"type": "Digits", "individual_digits": True}


def steps(pattern: str) -> list[Step]:
    """The steps of the split pattern of this name."""
    return [_split(PATTERNS[pattern]), _BYTES]


def steps_of(state: dict[str, Any]) -> list[Step]:
    """What happens to a text before the merges, in order: the normalizers and the pre-tokenizers of a tokenizer.json.

    Steps that do the same are written the same, so that lists are equal where two tokenizers cut every text alike.
    """
    return [*_flat(state.get("normalizer"), "normalizers"), *_flat(state.get("pre_tokenizer"), "pretokenizers")]


def name_of(found: list[Step]) -> str | None:
    """The split pattern of which these are the steps, and all the steps; where one of our patterns cuts among others,
    all of them in words ("single digits, gpt2"); None where none of our patterns cuts.

    So a name of PATTERNS says that nothing else is done to a text.
    """
    for pattern in PATTERNS:
        if found == steps(pattern):
            return pattern
    ours = any(_cut(step) or (step["type"] == "ByteLevel" and step["use_regex"]) for step in found)
    return ", ".join(filter(None, map(_describe, found))) if ours else None


def _describe(step: Step) -> str:
    """A step in a few words; nothing for the one that all tokenizers have, of bytes as visible characters."""
    if step in (_BYTES, _DIGITS):
        return "single digits" * (step == _DIGITS)
    if step["type"] == "ByteLevel":
        return f"ByteLevel ({'gpt2 and ' * step['use_regex']}add_prefix_space)"
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
    if step == _BYTES | {"use_regex": True}:
        return steps("gpt2")
    return [_DIGITS if step == _split(r"\p{N}") else step]


def _split(pattern: str) -> Step:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
