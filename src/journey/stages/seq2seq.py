"""Seq2seq: an encoder and a decoder learn from pairs to say a text in the other language."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from journey.checkpoint import Node, open_tokenizer
from journey.errors import JourneyError
from journey.fields import Count, NonNegative, Share, Within, check_multiple
from journey.files import write_json
from journey.machine import device
from journey.metrics import metric
from journey.report.blocks import Curves, Line, Row
from journey.stages.cost import Cost, training
from journey.stages.inputs import Input, names
from journey.stages.run import Run, Stopped, stage
from journey.stages.story import Story, Told, curves, facts, history
from journey.train.history import HISTORY

if TYPE_CHECKING:
    from journey.data.translations import Translation
    from journey.tokenizer.formats import Tokenizer
    from journey.train.seq2seq import Encoded

FORMULA = "6 per matrix parameter and token that it multiplies, attention in full, of pairs of mean length"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seq2seq:
    """Settings of the seq2seq stage."""

    data: str = names("translations", Input(("translations",)), "the pairs to learn from")
    n_layer: Count = 2
    """Blocks of the encoder, and as many of the decoder."""
    n_embd: Count = 128
    """Width of the residual streams; the MLPs are four times as wide."""
    n_head: Count = 4
    """Heads of each attention."""
    n_ctx: Count = 128
    """Longest source and longest target, in tokens."""
    steps: Count = 2500
    """How often the weights are updated."""
    batch_size: Count = 64
    """Pairs a step."""
    warmup: Count = 400
    """Steps in which the learning rate rises; then it falls as one over the square root of the step."""
    factor: NonNegative = 1.0
    """What that rate, whose peak is 1 / sqrt(n_embd warmup), is multiplied by."""
    smoothing: Share = 0.1
    """Share of each target's probability that is spread over the whole vocabulary."""
    dropout: Annotated[float, Within(least=0, below=1)] = 0.1
    """Share of each part's output that is dropped in training."""
    clip: NonNegative = 1.0
    """Largest norm of the gradient (0: any)."""
    evaluations: Count = 10
    """How often the dev split is scored through training."""
    dev_pairs: Count = 128
    """On how many of its pairs."""

    def __post_init__(self) -> None:
        check_multiple(self, "n_embd", "n_head")

    def cost(self, before: Sequence[Any]) -> Cost:
        """By steps, for pairs as long as numbers are."""
        return training(
            [self, *before], flops=6.0 * 28 * self.n_layer * self.n_embd**2 * 8 * self.steps * self.batch_size
        )


@stage(
    takes="tokenizer",
    makes="seq2seq",
    why=(
        "An *encoder* reads the whole source, each token looking at all others; a *decoder* writes the target token by "
        "token, and in each of its blocks looks at what the encoder made of the source: *cross-attention*. This is the "
        "Transformer as it was invented, for translation; a GPT is its decoder alone."
    ),
    example="journey seq2seq --parent tok --data translations --out translator",
    shows=("exact_match", "chrf"),
    goal="a translator",
    version=1,
)
def seq2seq(parent: Node, config: Seq2seq, run: Run) -> dict[str, Any]:
    """Train an encoder–decoder on pairs and save it as a folder of transformers' MarianMTModel."""
    import torch

    from journey.data.translations import Translations, save
    from journey.infer.translate import translate
    from journey.model import marian
    from journey.model.seq2seq import Seq2Seq, Seq2SeqConfig
    from journey.train.log import Log
    from journey.train.seq2seq import Lesson, loss_of, train

    tokenizer = open_tokenizer(parent.path)
    data = Translations(run.given["data"].path)
    parts = {
        split: fitting(data.pairs(split), tokenizer, config.n_ctx, run, split) for split in ("train", "dev", "test")
    }
    pairs = [encoded for _, encoded in parts["train"]]
    dev = parts["dev"][: config.dev_pairs]
    shape = Seq2SeqConfig(
        vocab_size=tokenizer.n_ids,
        n_ctx=config.n_ctx,
        encoder_layers=config.n_layer,
        decoder_layers=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        n_inner=4 * config.n_embd,
        pad=tokenizer.pad,
        dropout=config.dropout,
    )
    torch.manual_seed(run.seed)
    model = Seq2Seq(shape).to(device())
    start, eos = tokenizer.bos, tokenizer.eos

    def evaluate(model: Seq2Seq) -> dict[str, float]:
        said = translate(model, [source for _, (source, _) in dev], start=start, eos=eos)
        right = [one.ids == [*target, eos] for one, (_, (_, target)) in zip(said, dev, strict=True)]
        loss = loss_of(model, [encoded for _, encoded in dev], start, eos)
        return {"dev_loss": loss, "dev_exact_match": sum(right) / len(right)}

    n = config.steps * config.batch_size
    S, T = (sum(len(pair[side]) for pair in pairs) / len(pairs) for side in (0, 1))  # without marks, in the mean
    flops, tokens = n * shape.flops(S, T + 1), round(n * (S + T + 1))
    log = Log(run, config, model, steps=config.steps, tokens=tokens, flops_per_token=flops / tokens, formula=FORMULA)
    history = train(
        model,
        pairs,
        Lesson(
            steps=config.steps,
            batch_size=config.batch_size,
            factor=config.factor,
            warmup=config.warmup,
            smoothing=config.smoothing,
            clip=config.clip,
            eval_every=-(-config.steps // config.evaluations),
            start=start,
            eos=eos,
            seed=run.seed,
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
    log.finish(run.folder)
    marian.save(model, run.folder, start=start, eos=eos)
    tokenizer.save(run.folder)
    write_json(run.folder / HISTORY, history)
    for split in ("dev", "test"):  # what is measured on, beside the model: it is whole without its data
        save([pair for pair, _ in parts[split]], run.folder / f"translations-{split}.jsonl")
    last = history[-1]
    about = f"first {len(dev)} pairs of the dev split"
    return {
        "tokens": last["tokens"],
        "flops": flops,
        "metrics": {
            "parameters": metric(model.n_params),
            "pairs": metric(len(pairs)),
            "epochs": metric(n / len(pairs)),
            "dev_loss": metric(last["dev_loss"], "nats/token", f"not smoothed; {about}"),
            "dev_exact_match": metric(last["dev_exact_match"], "share", f"greedy; {about}"),
        },
    }


def fitting(
    pairs: "Sequence[Translation]", tokenizer: "Tokenizer", n_ctx: int, run: Run, split: str
) -> "list[tuple[Translation, Encoded]]":
    """The pairs with their ids, without those longer than the model reads or writes, of which it says how many."""
    sides = [tokenizer.encode_batch([getattr(pair, side) for pair in pairs]) for side in ("source", "target")]
    found = [
        (pair, (source, target))
        for pair, source, target in zip(pairs, *sides, strict=True)
        if len(source) <= n_ctx and len(target) < n_ctx
    ]
    if too_long := len(pairs) - len(found):
        run.say(f"{too_long:,} {split} pairs left out: longer than {n_ctx} tokens (n_ctx)")
    if not found:
        raise JourneyError(f"no {split} pair of {len(pairs):,} fits {n_ctx} tokens: choose a larger n_ctx")
    return found


@seq2seq.tells
def tell(told: Told) -> Story:
    """The facts, the losses, and how many pairs of the dev split are right through training."""
    lines = history(told.node)
    right = [(line["tokens"], 100 * line["dev_exact_match"]) for line in lines if "dev_exact_match" in line]
    title = f"Dev pairs that {told.node.name} translates exactly"
    said = "Greedily, on the dev split. (The training loss is smoothed and so never falls to the dev split's.)"
    exact = Curves(title, "tokens", "%", [Line("exact", right, told.colour)], caption=said)
    return Story([facts(told), *curves(told), Row([exact])])
