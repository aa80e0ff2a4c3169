"""One file a measure. The table is read without importing any of them."""

import importlib
from collections.abc import Iterable

from journey.errors import JourneyError, nearest
from journey.measure import Measure

BENCHMARKS = {  # under their names in lm-evaluation-harness
    "hellaswag": "which ending goes on with a scene",
    "arc_easy": "science questions of grade schools",
    "arc_challenge": "the harder of them",
    "truthfulqa_mc1": "the true answer among falsehoods that people believe",
    "truthfulqa_mc2": "the probability of true answers",
    "mmlu": "questions of 57 subjects",
    "lambada_openai": "the last word of a passage",
    "piqa": "which of two ways works",
    "winogrande": "whom a blank means",
    "openbookqa": "elementary science",
    "boolq": "yes or no, by a passage",
    "gsm8k": "sums in words",
    "humaneval": "functions completed, run against their tests in a sandbox",
}
MEASURES = {  # in the order in which they are taken and shown -> what each one finds, in a line
    "compression": "bytes of text a token stands for",
    "bits_per_byte": "how well held-out text is predicted, beside n-gram models",
    "perplexity": "nats of held-out text at any stride, and by how much stood before each token",
    "multiple_choice": "multiple choice, by our scorer and by lm-eval",
    "repeats": "repeated random tokens, and what each attention head does on them",
    "answers": "loss of the documented answers, by the passage before the question",
    "greedy": "its own answers: whether they end, how long they are, what words they share",
    "samples": "the same prompts, continued by every model",
    "against_parent": "how far it moved: weights, predictions, inner states",
    "rounding": "quantized weights: flipped predictions, and the error of each block",
    "preferences": "held-out preferences told apart, and how far that moved it",
    "quantized": "GGUF files in llama.cpp against the weights they were made of",
    "retrieval": "what an index finds, and what finding it does to the answer",
    "translation": "held-out pairs translated: exact, BLEU, chrF, and where the decoder looks",
    "costs": "parameters, and what a byte of text costs",
    "training": "parameters that training moved, its speed, memory and checkpoint",
    "timeline": "one answer, from the search to the last token",
    **BENCHMARKS,
}
ANY = "lm_eval:"  # before the name of any task of lm-eval, which is a measure, too
OF_LM_EVAL = tuple(name for name in BENCHMARKS if name != "humaneval")  # in one file: `benchmarks`


def load(name: str) -> Measure:
    """The measure of a name; `lm_eval:` and a task's name is one, too. Errors: JourneyError for a name that is none."""
    if name in OF_LM_EVAL or name.startswith(ANY):
        from journey.measures.benchmarks import named

        return named(name)
    if name not in MEASURES:
        raise JourneyError(f'unknown measure "{name}"{nearest(name, MEASURES)} (there are: {", ".join(MEASURES)})')
    found = getattr(importlib.import_module(f"journey.measures.{name}"), name)
    assert isinstance(found, Measure)
    return found


def every(names: Iterable[str]) -> list[str]:
    """All measures in their order, and those of these names that are tasks of lm-eval (ANY)."""
    return [*MEASURES, *dict.fromkeys(name for name in names if name.startswith(ANY))]


def load_all() -> dict[str, Measure]:
    """Every measure by its name."""
    return {name: load(name) for name in MEASURES}
