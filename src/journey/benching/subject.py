"""What is measured: who computes, and with weights of which precision."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from journey.errors import JourneyError, nearest

PACKAGES = {"ours": "torch", "llama.cpp": "xllamacpp", "transformers": "transformers", "vllm": "vllm"}
# Of each: what is measured where nobody says otherwise.
USUAL = {
    "ours": ("fp32", "fp16", "int8", "int4"),
    "llama.cpp": ("f32", "f16", "q8_0", "q4_0"),
    "transformers": ("fp32",),
    "vllm": ("fp32",),
}
SCORED = ("ours", "llama.cpp", "transformers")  # those that give logits, and so bits per byte
_TORCH = ("fp32", "fp16", "bf16")


@dataclass(frozen=True)
class Subject:
    """A runtime with weights of one precision."""

    runtime: str
    precision: str

    @property
    def name(self) -> str:
        """As a person writes it: llama.cpp:q8_0."""
        return f"{self.runtime}:{self.precision}"

    @property
    def is_exact(self) -> bool:
        """Whether its weights are the model's own, so that it should write the same as others of its kind."""
        return self.precision in ("fp32", "f32")


def parse(names: Sequence[str]) -> list[Subject]:
    """The subjects of these names, in their order; a runtime alone stands for all that is usual of it, none for all.

    Errors: JourneyError for a runtime or a precision that there is not.
    """
    found: dict[Subject, None] = {}
    for name in names or USUAL:
        runtime, _, precision = name.partition(":")
        if runtime not in USUAL:
            raise JourneyError(f'no runtime "{runtime}"{nearest(runtime, USUAL)} (there are: {", ".join(USUAL)})')
        known = precisions(runtime)
        if precision and precision not in known:
            hint = nearest(precision, known)
            raise JourneyError(f'{runtime} has no precision "{precision}"{hint} (there are: {", ".join(known)})')
        found |= dict.fromkeys(Subject(runtime, each) for each in ([precision] if precision else USUAL[runtime]))
    return list(found)


def precisions(runtime: str) -> Sequence[str]:
    """All that a runtime may be asked for."""
    if runtime == "llama.cpp":
        from journey.infer.gguf_types import TYPES

        return tuple(TYPES)
    return USUAL[runtime] if runtime == "ours" else _TORCH


def missing(subject: Subject) -> str:
    """Why a subject cannot be measured here; nothing where it can."""
    package = PACKAGES[subject.runtime]
    return "" if importlib.util.find_spec(package) else f"the package {package} is not installed"
