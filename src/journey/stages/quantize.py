"""Quantize: the model as GGUF files, the form in which llama.cpp runs it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from journey.checkpoint import Node, look_at
from journey.errors import JourneyError
from journey.files import read_json, write_json
from journey.metrics import metric
from journey.model import adapter
from journey.pair import open_pair
from journey.stages.cost import Cost, training, writing
from journey.stages.inputs import Input, names
from journey.stages.run import Run, stage
from journey.stages.story import Story, Told, facts

if TYPE_CHECKING:
    from journey.infer.importance import Importance
    from journey.model.config import GPTConfig
    from journey.model.gpt import GPT
    from journey.tokenizer.formats import Tokenizer

_TOKENS = 1 << 16  # that importance is made of, at most: 128 pieces of llama.cpp's usual length


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantize:
    """Settings of the quantize stage."""

    types: tuple[str, ...] = ("f16", "q8_0", "q4_0")
    """How the matrices are stored, one file each: f32, f16, q8_0, q6_k, q5_k_m, q5_0, q4_k_m or q4_0; of an adapter
    also lora: itself alone, for llama.cpp's --lora beside a file of its base."""
    importance: str = names(
        "",
        Input(("text", "tokens")),
        "a text whose dev split says which weights matter, llama.cpp's importance matrix: below 8 bits, their errors "
        "count for more (empty: all alike)",
    )
    license: str = ""
    """The model's licence as the Hub abbreviates it (apache-2.0, mit …), to stand in each file; empty: none."""

    def cost(self, before: Sequence[Any]) -> Cost:
        """By the size of the model; reading for importance is the forward third of a training."""
        cost = writing(before)
        reading = training(before, _TOKENS // 3).seconds if self.importance else 0
        return Cost(cost.seconds + reading, cost.bytes)


@stage(
    takes="model",
    makes="gguf",
    why=(
        "The same weights in fewer bits, as files that llama.cpp runs on a laptop or a phone. *f16* halves every "
        "number; *q8_0* and *q4_0* keep 8 or 4 bits a number and one scale for each 32 of them; *q6_k*, *q5_k_m* and "
        "*q4_k_m* choose scales with more care, and keep more bits of the matrices that need them. Nothing is learned: "
        "the question is only how much the rounding costs."
    ),
    example=(
        "journey quantize --parent preferred --types f16 q8_0 q4_0 --out gguf\n"
        "journey quantize --parent preferred --types q6_k q5_k_m q4_k_m --importance docs --out gguf"
    ),
    shows=(
        *("same_ids.prompts below 100", "same_ids.texts below 100"),  # a fault, which comes before all else
        *("bits_per_byte.q8_0 vs fp32", "bits_per_byte.q4_k_m vs fp32", "bits_per_byte.q4_0 vs fp32"),
    ),
    version=3,
)
def quantize(parent: Node, config: Quantize, run: Run) -> dict[str, Any]:
    """Write the parent as one GGUF file a type, with its tokenizer and its chat template inside."""
    from journey.infer import gguf, gguf_lora, gguf_types
    from journey.model import huggingface

    if not config.types:
        raise JourneyError(f"types is empty: name some of {', '.join(gguf_types.TYPES)}")
    types = [type for type in dict.fromkeys(config.types) if type != gguf_lora.TYPE]
    if alone := len(types) < len(set(config.types)):
        _check_alone(parent)
    huggingface.load_config(parent.path)  # refuses weights that are quantized already
    model, tokenizer = open_pair(parent.path)
    gguf.check(model, types)
    if gguf.normalizes(tokenizer):
        run.say(gguf.NOT_NORMALIZED)
    importance = _importance(model, tokenizer, config, types, run) if config.importance else None
    template = adapter.holding(parent.path, "chat_template.jinja") / "chat_template.jinja"
    tags = _tags(parent.path / "README.md") or [gguf.TAG]
    facts: dict[str, Any] = {}
    for done, type in enumerate(types):
        run.progress(done, len(types), "files")
        path = run.folder / f"{run.name}-{type}.gguf"
        bits = gguf.write(
            model,
            tokenizer,
            path,
            type,
            importance=importance,
            template=template.read_text(encoding="utf-8") if template.exists() else "",
            name=parent.name,
            base_model=parent.name,
            license=config.license,
            tags=tags,
        )
        facts[type] = {"file": path.name, "bytes": path.stat().st_size, "bits_per_weight": bits}
        if others := gguf.fallen_back(model, type):
            facts[type]["fallback"] = {name: stored.name.lower() for name, stored in others.items()}
            run.say(_fallback(type, facts[type]["fallback"]))
    beside = {"lora": _write_alone(parent, model.config, run)} if alone else {}
    weighed = {"importance": _facts(importance)} if importance else {}
    write_json(run.folder / gguf.FACTS, {"types": facts} | beside | weighed)
    metrics = {f"bytes_{type}": metric(fact["bytes"], "bytes") for type, fact in (facts | beside).items()}
    metrics |= {
        f"bits_per_weight_{type}": metric(fact["bits_per_weight"], "bits", "of all tensors, scales of blocks included")
        for type, fact in facts.items()
    }
    if importance:
        metrics["importance_tokens"] = metric(importance.tokens, "tokens", f"of the dev split of {importance.text}")
    return {"metrics": metrics}


def _importance(model: "GPT", tokenizer: "Tokenizer", config: Quantize, types: Sequence[str], run: Run) -> "Importance":
    """What the dev split of the named text says of the model; JourneyError where no type has a use for it."""
    from journey.infer import gguf
    from journey.infer.importance import importance

    if not any(gguf.weighed(model, type) for type in types):
        raise JourneyError(
            f"importance counts in no file of {', '.join(types) or 'an adapter alone'} of this model: leave it out, or "
            "add a type with fewer than 8 bits"
        )
    corpus = run.corpora["importance"]
    texts = corpus.texts("dev")
    found = importance(model, tokenizer, texts, corpus.name, _TOKENS, run.progress)
    documents = f"{found.documents:,} documents"
    if found.documents < len(texts):
        documents = f"{found.documents:,} of {len(texts):,} documents, drawn at random,"
    unused = f"; {found.unused:,} inputs were always 0, and count as the least of the others" if found.unused else ""
    run.say(f"importance: from {found.tokens:,} tokens, {documents} of the dev split of {found.text}{unused}")
    return found


def _facts(importance: "Importance") -> dict[str, Any]:
    """What quantize.json says of it."""
    kept = dataclasses.asdict(importance)
    del kept["squares"]
    return {"split": "dev"} | kept


def _fallback(type: str, stored: dict[str, str]) -> str:
    """What is said of tensors that a type has no room for."""
    first, others = next(iter(stored)), "" if len(stored) == 1 else f" and {len(stored) - 1} others"
    kinds = " or ".join(sorted(set(stored.values())))
    return (
        f"{type}: rows of {first}{others} are no multiple of 256, so llama.cpp's rules store them as {kinds} "
        "(quantize.json names each)"
    )


def _check_alone(parent: Node) -> None:
    """JourneyError where there is no adapter, or one that llama.cpp cannot put on its base."""
    from journey.infer import gguf_lora
    from journey.model import huggingface, lora

    if not adapter.is_adapter(parent.path):
        raise JourneyError(f"{parent.path} is a whole model: only an adapter can be written as {gguf_lora.TYPE}")
    gguf_lora.check(lora.read(parent.path), huggingface.load_config(parent.path))


def _write_alone(parent: Node, shape: "GPTConfig", run: Run) -> dict[str, Any]:
    from journey.infer import gguf_lora
    from journey.model import huggingface, lora

    path, base = run.folder / f"{run.name}-{gguf_lora.TYPE}.gguf", look_at(adapter.base(parent.path))
    _, weights = huggingface.read(base.path)
    gguf_lora.write(lora.read(parent.path), shape, weights, path, name=parent.name, base=base.name)
    run.say(f"{path.name} goes with {base.name}: quantize that too, and give both to llama.cpp (--lora {path.name})")
    return {"file": path.name, "bytes": path.stat().st_size, "base": base.name, "base_id": base.id}


def _tags(card: Path) -> list[str]:
    """The tags of a model card, as llama.cpp's converter takes them: its own, then what kind of model it is."""
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    head = text.split("---\n")[1] if text.startswith("---\n") else ""
    try:
        said = yaml.safe_load(head)
    except (yaml.YAMLError, ValueError, RecursionError):  # somebody else's card: nothing depends on it
        return []
    values = [said.get(key) for key in ("tags", "pipeline_tag")] if isinstance(said, dict) else []
    return [tag for value in values for tag in (value if isinstance(value, list) else [value]) if isinstance(tag, str)]


@quantize.tells
def tell(told: Told) -> Story:
    """What the files weigh against the weights that they were made of."""
    from journey.infer import gguf

    types = read_json(told.node.path / gguf.FACTS)["types"]
    if told.parent is None or len(types) < 1:
        return Story([facts(told)])
    whole = adapter.n_bytes(adapter.chain(told.parent.path)[-1])
    shares = {kind: 100 * fact["bytes"] / whole for kind, fact in types.items()}
    smallest = min(shares, key=lambda kind: shares[kind])
    others = "".join(f"; {kind} {share:.0f}\u00a0%" for kind, share in shares.items() if kind != smallest)
    return Story([facts(told)], big=f"{shares[smallest]:.0f}\u00a0%", what=f"of the fp32 bytes as {smallest}{others}")
