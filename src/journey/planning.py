"""What to train with so much arithmetic: from a scaling law to a model's shape, its batch, rates and tokens, each step
in a line that says where it comes from."""

import dataclasses
import json
import math
from typing import Any, Literal

from journey.errors import JourneyError
from journey.evaluate.scaling import BESIROGLU, HOFFMANN, Chinchilla, Fit, kaplan_optimum
from journey.evaluate.statistics import Estimate
from journey.machine import memory
from journey.model.config import GPTConfig
from journey.report.format import big, bytes_, duration, estimate, flops, number, power
from journey.stages.cost import Cost
from journey.stages.pretrain import Pretrain
from journey.stages.tokenizer import TokenizerConfig
from journey.train import rates

ASPECT = 64  # width over depth, as nanochat has it
_SHALLOWEST, _NARROWEST = 2, 32  # one layer alone cannot copy what once followed a token (Olsson et al. 2022)
_FEWEST = 100  # steps: below, there is hardly a schedule
_SHAPE = ("data", "family", "n_layer", "n_embd", "n_ctx")
# The text of every machine, and about how many tokens it has: what is planned for more wants another.
_AT_HAND, _ITS_TOKENS, _ELSEWHERE = "installed-docs", 4_500_000, "my-texts/"
PUBLISHED = {
    "chinchilla": (HOFFMANN, "Hoffmann et al. 2022 (arXiv 2203.15556, third approach, unrounded constants)"),
    "besiroglu": (BESIROGLU, "Besiroglu et al. 2024 (arXiv 2404.10102), the same form fitted anew to their data"),
}


@dataclasses.dataclass(frozen=True)
class Advice:
    """What a law says of C FLOPs: N parameters on D tokens, and how that follows."""

    law: str  # which, in words
    parameters: float
    tokens: float
    embeddings: bool  # N counts them
    derivation: tuple[str, ...]
    form: Chinchilla | None = None
    fit: Fit[Chinchilla] | None = None  # where it was fitted to trainings at hand: it knows the loss on their text


@dataclasses.dataclass(frozen=True)
class Plan:
    """A training that is ready to run, and how each of its numbers came about."""

    flops: float
    law: str
    config: Pretrain
    tokenizer: TokenizerConfig
    shape: GPTConfig
    steps: int
    cost: Cost
    loss: Estimate | None
    derivation: tuple[str, ...]

    def settings(self) -> dict[str, Any]:
        """What the pretrain stage is to be told."""
        return {
            name: getattr(self.config, name)
            for name in (*_SHAPE, "tokens", "batch_size", "accumulate", "optimizer", "lr", "muon_lr")
            if name != "muon_lr" or self.config.optimizer == "muon"
        }

    def recipe(self) -> str:
        """The recipe that trains it, as YAML."""
        said = "".join(f"# {line}\n" for line in self.derivation)
        settings = ", ".join(f"{key}: {_yaml(value)}" for key, value in self.settings().items() if key != "data")
        return (
            f"# For {flops(self.flops, 3)}, by {self.law}:\n{said}"
            f"name: plan-{flops(self.flops, 3).split()[0]}\nseed: 0\nstages:\n"
            f"  - name: text\n    stage: text\n    with: {{source: {json.dumps(self.config.data)}}}\n"
            f"  - name: tokenizer\n    stage: tokenizer\n    with: {{data: text, vocab_size: "
            f"{self.tokenizer.vocab_size}}}\n"
            f"  - name: base\n    stage: pretrain\n    parents: [tokenizer]\n    with: {{data: text, {settings}}}\n"
        )


def by_constants(name: str, C: float) -> Advice:
    """What Chinchilla's form says of C FLOPs with constants of PUBLISHED."""
    law, said = PUBLISHED[name]
    return Advice(said, *law.optimum(C), True, _optimum(law, C), law)


def by_fit(fit: Fit[Chinchilla], C: float, name: str, largest: float) -> Advice:
    """What a sweep's own fit says of C FLOPs; `largest` is the most that one of its trainings had."""
    size = fit.estimate(lambda law: law.optimum(C)[0])
    said = f"over resampled trainings N is from {big(size.low)} to {big(size.high)}"
    if largest < C:
        said += f"; {flops(C, 3)} are {C / largest:,.1f} times the largest of them: this is extrapolation"
    law = f"the {fit.n} trainings of {' '.join(name.split())}"
    return Advice(law, *fit.law.optimum(C), True, (*_optimum(fit.law, C), said), fit.law, fit)


def by_kaplan(C: float) -> Advice:
    """What Kaplan et al. advise for C FLOPs: larger models, on fewer tokens."""
    N, D = kaplan_optimum(C)
    said = (
        f"N = 1.3e9 (C / PF-day)^0.73 = {big(N)} parameters outside the embeddings, D = C / 6N = {big(D)} tokens, "
        f"{number(D / N, decimals=1)} a parameter; later work found the exponent to be near 0.5 (docs/sweeps.md)"
    )
    return Advice("Kaplan et al. 2020 (arXiv 2001.08361, appendix A)", N, D, False, (said,))


def make(
    C: float,
    advice: Advice,
    data: str | None,
    vocab_size: int,
    n_ctx: int,
    family: str,
    optimizer: Literal["muon", "adamw"],
) -> Plan:
    """The training of about C FLOPs that a law advises; without `data` on the text at hand, if that is long enough.

    Errors: JourneyError where C is too little for any model with this vocabulary, or for a training of it.
    """
    said = list(advice.derivation)
    shape = _shape(advice, family, vocab_size, n_ctx)
    body = _body(shape)
    heads = f"{shape.n_head} head{'s' * (shape.n_head > 1)} of {shape.head_dim}"
    said.append(
        f"shape: width about {ASPECT} x depth (nanochat's; by Kaplan et al. 2020, figure 5, shape matters little), at "
        f"least {_SHALLOWEST} layers: {shape.n_layer} layers of width {shape.n_embd}, {heads}: {shape.n_params:,} "
        f"parameters, {body:,} of them outside the embedding, {_away(advice, shape, C)}"
    )
    per_token = shape.flops_per_token(n_ctx)
    D = C / per_token
    said.append(
        f"tokens: one costs 6 x {shape.n_matmul:,} + 3 x {shape.flops_per_key:,} x {n_ctx} (attention) = "
        f"{power(per_token, digits=2)} FLOPs with this shape, so that C buys {big(D)}, "
        f"{number(D / shape.n_params, decimals=1)} a parameter"
    )
    wanted, rows = rates.tokens_a_step(D), rates.rows_a_step(D, n_ctx)[0]
    steps = int(D // (rows * n_ctx))
    if steps < _FEWEST:
        raise JourneyError(
            f"{flops(C, 3)} are too few: {steps} steps of {rows * n_ctx:,} tokens for {shape.n_params:,} parameters "
            "are no training: give more FLOPs, a smaller vocabulary or a smaller context"
        )
    said.append(
        f"batch: B = 0.58 D^0.571 = {wanted:,.0f} tokens (Li et al. 2025, arXiv 2503.04715, fitted with AdamW), as a "
        f"power of two: {rows} rows of {n_ctx}, {steps:,} steps"
    )
    lr, muon_lr, rule = _rates(optimizer, body, D)
    said.append(rule)
    text = data or (_AT_HAND if D <= _ITS_TOKENS else _ELSEWHERE)
    accumulate = rates.parts(rows, n_ctx)
    config = Pretrain(
        data=text,
        family=family,  # type: ignore[arg-type]  # GPTConfig.make knew it
        n_layer=shape.n_layer,
        n_embd=shape.n_embd,
        n_ctx=n_ctx,
        tokens=steps * rows * n_ctx,
        batch_size=rows,
        accumulate=accumulate,
        optimizer=optimizer,
        lr=lr,
        muon_lr=muon_lr,
    )
    fit, loss = advice.fit, None
    if fit:
        loss = fit.estimate(lambda law: law.loss(shape.n_params, config.tokens), "nats/token")
        said.append(f"loss: {estimate(loss)}, for the sweep's text and tokenizer")
    else:
        said.append(
            "loss: of your text these constants say nothing: `journey sweep scaling-law` fits a law to a text, and "
            "--law sweeps/scaling-law/sweep.json plans by it"
        )
    tokenizer = TokenizerConfig(data=text, vocab_size=vocab_size)
    cost = dataclasses.replace(config, flops=C).cost([tokenizer])
    said += _needs(shape, config, cost)
    return Plan(C, advice.law, config, tokenizer, shape, steps, cost, loss, tuple(said))


def _optimum(law: Chinchilla, C: float) -> tuple[str, ...]:
    N, D = law.optimum(C)
    G = N / (C / 6) ** law.a
    return (
        f"L = {law.E:.4g} + {law.A:,.4g}/N^{law.alpha:.4g} + {law.B:,.4g}/D^{law.beta:.4g}, N all parameters, D "
        "tokens, lowest for C = 6 N D where the slopes of both terms balance",
        f"N = G (C/6)^a with a = β/(α+β) = {law.a:.3f} and G = (αA/βB)^(1/(α+β)) = {G:.3g}: {big(N)} parameters; "
        f"D = C / 6N = {big(D)} tokens, {number(D / N, decimals=1)} a parameter",
    )


def _shape(advice: Advice, family: str, vocab_size: int, n_ctx: int) -> GPTConfig:
    """The shape whose parameters, as the law counts them, are nearest: first the depth, then the width."""

    def made(n_layer: int, n_embd: int) -> GPTConfig:
        return GPTConfig.make(family, vocab_size, n_ctx, n_layer, n_embd)

    def away(shape: GPTConfig) -> float:
        return abs(math.log((shape.n_params if advice.embeddings else _body(shape)) / advice.parameters))

    smallest = made(_SHALLOWEST, _NARROWEST)
    counted = smallest.n_params if advice.embeddings else _body(smallest)
    if advice.parameters < 0.5 * counted:
        raise JourneyError(
            f"the law asks for {big(advice.parameters)} parameters, and {smallest.n_layer} layers of width "
            f"{smallest.n_embd} with {vocab_size:,} tokens have {counted:,}: give more FLOPs, or a smaller --vocab-size"
        )
    depth = _SHALLOWEST
    while away(made(depth + 1, ASPECT * (depth + 1))) < away(made(depth, ASPECT * depth)):
        depth += 1
    widths = [*range(_NARROWEST, 512, 32), *range(512, 2 * ASPECT * depth + 512, 64)]  # heads of 32, from 512 on of 64
    return min((made(depth, width) for width in widths), key=away)


def _body(shape: GPTConfig) -> int:
    return shape.n_params - shape.vocab_size * shape.n_embd * (1 if shape.tied else 2)


def _rates(optimizer: str, body: int, D: float) -> tuple[float, float, str]:
    """(lr, muon_lr, where they come from)."""
    usual = Pretrain()
    if optimizer == "adamw":
        lr = float(f"{1.79 * body**-0.713 * D**0.307:.2g}")
        return lr, usual.muon_lr, f"rates: lr = 1.79 N^-0.713 D^0.307 = {lr:g} (Li et al. 2025, N without embeddings; "
        "fitted to models of 60 million and more)"
    return (
        usual.lr,
        usual.muon_lr,
        f"rates: lr {usual.lr:g} (embeddings and norms, by AdamW) and muon_lr {usual.muon_lr:g}, measured for 4 layers "
        "of width 128 and 1,024 tokens a step (docs/measurements.md). A rule of thumb here: Muon's step has one "
        "spectral norm at every width, but nobody tuned it for this size and batch: try half and double",
    )


def _needs(shape: GPTConfig, config: Pretrain, estimated: Cost) -> list[str]:
    needed, there = 16 * shape.n_params, memory()
    text = (
        f"text: {big(config.tokens)} tokens, {bytes_(2 * config.tokens)} to {bytes_(4 * config.tokens)} of English by "
        "the vocabulary; read up to four times it is nearly as good as new (Muennighoff et al. 2023, arXiv 2305.16264)"
    )
    if config.tokens > _ITS_TOKENS:
        text += f"; {_AT_HAND} has about {big(_ITS_TOKENS)} with 4,096 entries: name a larger one with --data"
    cost = (
        f"cost: {_long(estimated.seconds)} on this machine, by an estimate from its matrix products; "
        f"{bytes_(estimated.bytes)} of disk; {bytes_(needed)} of memory for weights, gradients and moments, and "
        "activations beside them"
    )
    if there:
        cost += f": {'more than' if needed > there else 'of'} the {bytes_(there)} here"
    return [text, cost]


def _long(seconds: float) -> str:
    days = seconds / 86400
    return (
        duration(seconds) if days < 3 else f"{days:,.0f}\u00a0days" if days < 1000 else f"{days / 365:,.0f}\u00a0years"
    )


def _away(advice: Advice, shape: GPTConfig, C: float) -> str:
    """How far a shape is from the optimum, and what that costs by the law."""
    N = shape.n_params if advice.embeddings else _body(shape)
    away = N / advice.parameters - 1
    said = f"{abs(100 * away):.0f} % {'above' if away > 0 else 'below'} the optimum"
    if not advice.form:
        return said
    lost = advice.form.loss(N, C / (6 * N)) - advice.form.loss(advice.parameters, advice.tokens)
    return f"{said}, which costs {number(lost, 'nats/token')}"


def _yaml(value: Any) -> str:
    return f"{value:_}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
