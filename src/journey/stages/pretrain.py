"""Pre-training: a GPT from random weights learns to predict the next token of a text."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from journey.checkpoint import Node, open_tokenizer
from journey.errors import JourneyError
from journey.fields import Count, NonNegative, Positive, Share, check_multiple
from journey.files import write_json
from journey.machine import memory
from journey.metrics import metric
from journey.model.families import FamilyName
from journey.stages import kind_of
from journey.stages.cost import Cost, training
from journey.stages.inputs import Input, names
from journey.stages.run import Run, Stopped, stage

if TYPE_CHECKING:
    from journey.data.corpus import Corpus
    from journey.data.stream import TokenStream
    from journey.model.gpt import GPT
    from journey.tokenizer.formats import Tokenizer
    from journey.train.loop import Rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Settings that pre-training and continuing share."""

    tokens: Count = 1_000_000
    """How many tokens to train on, repeats included."""
    batch_size: Count = 4
    """Sequences a step."""
    accumulate: Count = 1
    """Work a step's sequences through in this many equal parts (same result, less memory)."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon for the matrices of the blocks with AdamW for the rest, or AdamW for all."""
    lr: NonNegative = 0.02
    """AdamW's peak learning rate (beside Muon it moves embeddings and norms alone; for everything, take 3e-3)."""
    muon_lr: NonNegative = 0.006
    """Muon's peak learning rate."""
    weight_decay: NonNegative = 0.1
    """AdamW's, on matrices only."""
    warmup: Share = 0.02
    """Share of the steps in which the learning rate rises."""
    decay: Share = 0.5
    """Share of the steps, at the end, in which it falls to zero."""
    clip: NonNegative = 1.0
    """Largest norm of the gradient (0: any)."""
    evaluations: Count = 10
    """How often the dev split is scored through training."""
    dev_documents: Count = 96
    """On how many of its documents."""

    def __post_init__(self) -> None:
        check_multiple(self, "batch_size", "accumulate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrain(Training):
    """Settings of the pretrain stage."""

    data: str = names("installed-docs", Input(("text", "tokens")), "the text to train on, or its tokens")
    family: FamilyName = "qwen3"
    """Architecture, saved under its standard Hugging Face name."""
    n_layer: Count = 4
    """Blocks."""
    n_embd: Count = 128
    """Width of the residual stream."""
    n_head: Count | None = None
    """Attention heads (none: the family's usual number for this width)."""
    n_kv_head: Count | None = None
    """Heads of keys and values (none: as many as n_head)."""
    n_ctx: Count = 256
    """Longest sequence, and the length of a training row."""
    epochs: Positive | None = None
    """Read the text this many times, instead of a number of tokens."""
    flops: Positive | None = None
    """Train for this much arithmetic, instead of a number of tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.flops is not None:
            raise JourneyError("epochs and flops both say how long to train: leave one of them out")
        if self.n_head:
            check_multiple(self, "n_embd", "n_head")
        if self.n_kv_head:
            check_multiple(self, "n_head", "n_kv_head")

    def cost(self, before: Sequence[Any]) -> Cost:
        """By tokens or FLOPs, on this machine."""
        return training([self, *before], self.tokens, self.flops)


@stage(
    takes="tokenizer",
    makes="model",
    why=(
        "The model starts from random weights and learns one thing: given the text so far, how likely is each next "
        "token. Whatever it knows of words, signatures and layout, it learned because it helps with that."
    ),
    example="journey pretrain --parent tok --data my-texts/ --tokens 1000000 --out base",
    shows=("bits_per_byte.{data} vs bigram", "bits_per_byte.{data} vs trigram"),
    goal="a language model",
    version=2,
)
def pretrain(parent: Node, config: Pretrain, run: Run) -> dict[str, Any]:
    """Train a GPT on the parent tokenizer's tokens and save it as a Hugging Face folder."""
    import torch

    from journey.model.config import GPTConfig
    from journey.model.gpt import GPT

    tokenizer = open_tokenizer(parent.path)
    shape = GPTConfig.make(
        config.family,
        tokenizer.n_ids,
        config.n_ctx,
        config.n_layer,
        config.n_embd,
        n_head=config.n_head,
        n_kv_head=config.n_kv_head,
    )
    check_memory(shape.n_params)
    torch.manual_seed(run.seed)
    model = GPT(shape)
    rows = stream("data", tokenizer, config.n_ctx, run)
    tokens = budget(config, len(rows), model.config.flops_per_token(config.n_ctx))
    return fit(model, tokenizer, rows, {"": run.corpora["data"]}, dataclasses.replace(config, tokens=tokens), run)


def check_memory(n_params: int) -> None:
    """JourneyError for a model whose weights, gradients and AdamW's two moments, in fp32, no memory here holds."""
    needed, there = 16 * n_params, memory()
    if there is not None and needed > there:
        raise JourneyError(
            f"a model of {n_params:,} parameters takes {needed / 1e9:,.0f} GB to train, this machine has "
            f"{there / 1e9:,.0f} GB: choose fewer or narrower blocks (n_layer, n_embd)"
        )


def budget(config: Pretrain, epoch: int, flops_per_token: float) -> int:
    """How many tokens to train on, where an epoch has `epoch` of them."""
    if config.epochs is not None:
        return round(config.epochs * epoch)
    return round(config.flops / flops_per_token) if config.flops is not None else config.tokens


def stream(field: str, tokenizer: "Tokenizer", T: int, run: Run) -> "TokenStream":
    """The training split of the text that a config field names, as rows of T tokens.

    They are read from the shards of a prepare node; those of a text are made first, and a resumed run finds them again.
    """
    from journey.data import shards
    from journey.data.stream import TokenStream

    if kind_of(run.given[field]) == "tokens":
        folder = run.given[field].path
    else:
        folder = run.scratch / "tokens" / field
        shards.write(run.corpora[field], tokenizer, ("train",), folder, progress=run.progress)
    return TokenStream(shards.open_shards(folder, "train", tokenizer), T, run.seed)


def fit(
    model: "GPT", tokenizer: "Tokenizer", rows: "Rows", dev: dict[str, "Corpus"], config: Training, run: Run
) -> dict[str, Any]:
    """Run the loop, save the model with its tokenizer, and say what came out.

    `dev` maps a suffix to a text whose dev split is scored through training: `dev_bits_per_byte<suffix>`.
    """
    import torch

    from journey.evaluate import perplexity
    from journey.train.log import Log
    from journey.train.loop import Loop, train

    T = model.config.n_ctx
    steps = config.tokens // (config.batch_size * T)
    if steps < 1:
        raise JourneyError(f"tokens {config.tokens:,} is less than one step of {config.batch_size * T:,}: ask for more")
    documents = {suffix: text.documents("dev")[: config.dev_documents] for suffix, text in dev.items()}

    def evaluate(model: "GPT") -> dict[str, float]:
        numbers = {}
        for suffix, held_out in documents.items():
            scores = perplexity.score(model, tokenizer, held_out)
            nats = sum(score["nats"] for score in scores)
            numbers[f"dev_bits_per_byte{suffix}"] = nats / math.log(2) / sum(score["bytes"] for score in scores)
            numbers[f"dev_perplexity{suffix}"] = math.exp(nats / sum(score["tokens"] for score in scores))
        return numbers

    model.to("cuda" if torch.cuda.is_available() else "cpu")
    planned, per_token = steps * config.batch_size * T, model.config.flops_per_token(T)
    log = Log(run, config, model, steps=steps, tokens=planned, flops_per_token=per_token)
    history = train(
        model,
        rows,
        Loop(
            steps=steps,
            batch_size=config.batch_size,
            accumulate=config.accumulate,
            optimizer=config.optimizer,
            lr=config.lr,
            muon_lr=config.muon_lr,
            weight_decay=config.weight_decay,
            warmup=config.warmup,
            decay=config.decay,
            clip=config.clip,
            eval_every=-(-steps // config.evaluations),
            mark=tokenizer.bos,
        ),
        state=run.scratch / "training",
        evaluate=evaluate,
        progress=run.progress,
        stopping=lambda: run.stopping,
        log=log,
    )
    if history is None:
        log.close()
        raise Stopped
    write_model(model.to("cpu"), tokenizer, run.folder)
    write_json(run.folder / "history.json", history)
    log.finish(run.folder)
    last, tokens = history[-1], history[-1]["tokens"]
    convention = f"dev split, first {config.dev_documents} documents"
    return {
        "tokens": tokens,
        "flops": tokens * per_token,
        "metrics": {
            "parameters": metric(model.config.n_params),
            "steps": metric(steps),
            **{key: metric(value, convention=convention) for key, value in last.items() if key.startswith("dev_")},
        },
    }


def write_model(model: "GPT", tokenizer: "Tokenizer", folder: Path) -> None:
    """The whole checkpoint: weights, config, tokenizer, chat template, generation settings."""
    from journey.model import huggingface

    huggingface.save(model, folder, bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
    tokenizer.save(folder)
    write_json(folder / "generation_config.json", tokenizer.generation)
