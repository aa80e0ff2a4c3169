"""Training an adapter in the place of a model: what a stage's `adapter` says, as PEFT's config, and what is written.

LoRA (Hu et al. 2021, arXiv 2106.09685) leaves the model as it is and learns two thin matrices beside each of its own;
QLoRA (Dettmers et al. 2023, arXiv 2305.14314) keeps the model in four bits meanwhile.
"""

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from journey.errors import JourneyError, nearest
from journey.fields import Count, Positive, Within, fit
from journey.machine import device
from journey.metrics import Metric, metric
from journey.model import adapter

WORK = 2 / 3  # of training the whole model: the gradients of its weights are not needed


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """Settings of an adapter."""

    rank: Count = 16
    """Columns of the thin matrices: how much it can learn."""
    alpha: Positive | None = None
    """Its part in the sum is alpha / rank (none: twice the rank)."""
    dropout: Annotated[float, Within(least=0, below=1)] = 0.0
    """Share of its inputs that are dropped in training."""
    targets: Literal["attention", "mlp", "all-linear"] = "all-linear"
    """Beside which of the blocks' matrices it stands."""
    dora: bool = False
    """Learn the length of each row of a matrix beside its direction (Liu et al. 2024, arXiv 2402.09353)."""
    rslora: bool = False
    """alpha / sqrt(rank) instead, for high ranks (Kalajdzievski 2023, arXiv 2312.03732)."""
    quantize: Literal["", "nf4"] = ""
    """nf4: the model stands in four bits while the adapter is trained (QLoRA, by bitsandbytes)."""


def parse(text: str) -> Adapter | None:
    """The setting `adapter`: nothing, or a mapping as in {rank: 8, targets: attention}; `{}` takes all as they are.

    Errors: JourneyError for what is no such mapping.
    """
    if not text:
        return None
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError:
        given = None
    if not isinstance(given, dict):
        raise JourneyError("adapter: give its settings, as in {rank: 16, targets: all-linear}, or {} for the usual")
    hints = typing.get_type_hints(Adapter, include_extras=True)
    values = {}
    for key, value in given.items():
        if key not in hints:
            known = ", ".join(hints)
            raise JourneyError(f'adapter: unknown setting "{key}"{nearest(str(key), hints)} (there are: {known})')
        try:
            values[key] = fit(value, hints[key])
        except ValueError as error:
            raise JourneyError(f"adapter: {key}: {error}") from None
    return Adapter(**values)


def peft_config(asked: Adapter, folder: Path, marks: Sequence[int]) -> Any:
    """PEFT's config for the model in a folder. `marks`: ids whose rows of the embedding and of the head are trained
    whole: what a chat is marked with means nothing before. (New rows of an imported head are nearly the mean of all
    others: no hidden state makes such a token the likeliest, and the mark that ends an answer would never come.)"""
    from peft import LoraConfig

    from journey.model import families, huggingface, lora
    from journey.model.weights import HEAD

    shape = huggingface.load_config(folder)
    embedding = families.get(shape.family).embedding.rpartition(".")[2]
    matrices = [embedding] if shape.tied else [embedding, HEAD.removesuffix(".weight")]
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=asked.rank,
        lora_alpha=asked.alpha or 2 * asked.rank,  # type: ignore[arg-type]
        lora_dropout=asked.dropout,
        target_modules=lora.targets(shape, asked.targets),
        use_dora=asked.dora,
        use_rslora=asked.rslora,
        fan_in_fan_out=any(part.transposed for part in families.get(shape.family).parts),
        trainable_token_indices={name: list(marks) for name in matrices} if marks else None,
    )


def load_nf4(folder: Path) -> Any:
    """The model of a folder with its matrices in NF4 with double quantization, all else in fp32."""
    from transformers import AutoModelForCausalLM

    if adapter.is_adapter(folder):
        raise JourneyError(f"{folder} is an adapter: `journey merge` makes a whole model of it, to be quantized")
    return in_nf4(AutoModelForCausalLM, folder)


def in_nf4(kind: Any, folder: Path | None, **given: Any) -> Any:
    """What a class of transformers makes of a folder, or of what is `given` in its place, a matrix at a time."""
    import torch
    from transformers import BitsAndBytesConfig

    try:
        from bitsandbytes.nn import Linear4bit
    except ImportError:
        raise JourneyError('nf4 needs bitsandbytes: pip install "journey-gpt[qlora]"') from None
    in_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if in_bf16 else torch.float32,
    )
    as_ours: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "sdpa", "quantization_config": how}
    model = kind.from_pretrained(folder, **as_ours, **given)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # Scored once, a layer would be packed for a CPU kernel that has no backward pass: after the first scoring
            # of the dev split no gradient came through it, and the loss rose (bitsandbytes 0.50.2).
            module.support_avx512bf16_for_cpu = False
    return model


def metrics(model: Any) -> dict[str, Metric]:
    """How many parameters are trained; nothing where all of them are."""
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"trained_parameters": metric(trained)} if frozen else {}


def cost_of_quantization(trainer: Any, asked: Adapter | None, quantized: float, folder: Path) -> dict[str, Metric]:
    """What the dev split says of the adapter in a folder on the model in fp32, on which it was not trained but will be
    used; `quantized` is the dev loss on the model in four bits. Nothing where that was not so."""
    from journey.model import huggingface

    if asked is None or not asked.quantize:
        return {}
    merged_model = huggingface.in_transformers(folder)
    trainer.model = merged_model.to(device(merged_model.get_memory_footprint()))
    merged = trainer.dev_numbers()["dev_loss"]
    said = "the adapter's dev loss on the model in NF4, on which it was trained, less that in fp32"
    return {
        "dev_loss_merged": metric(merged, "nats/token", "as dev_loss, of the adapter merged into the model in fp32"),
        "quantization_cost": metric(quantized - merged, "nats/token", said),
    }
