"""What pre-training and continuing share: their settings, and the training of a model on rows of a text."""

import dataclasses
import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from journey.errors import JourneyError
from journey.fields import Amount, Count, NonNegative, Positive, Settings, Share, check_multiple
from journey.files import read_json, write_json
from journey.machine import device
from journey.metrics import metric
from journey.stages.rows import said, together
from journey.stages.run import COMPUTED, Run, Stopped
from journey.train.history import HISTORY, tokens_read
from journey.train.schedule import ScheduleName

if TYPE_CHECKING:
    from journey.data.corpus import Corpus
    from journey.data.stream import Stream
    from journey.model.gpt import GPT
    from journey.tokenizer.formats import Tokenizer

_DIVERGED = 500  # nats a token: what no training comes back from, and whose perplexity is no number any more
BEST_BY = "dev_bits_per_byte"
STATE = "state"  # the folder of a node that holds the optimizer's state


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
    schedule: ScheduleName = "wsd"
    """The learning rate after its rise: level, then down (wsd); down to the end by a cosine or a line; by the inverse
    square root of the step; or level."""
    warmup: NonNegative = 0.02
    """Where the learning rate rises: below 1 a share of the steps, from 1 on their number."""
    decay: Share = 0.5
    """Share of the steps, at the end, in which wsd falls."""
    floor: Share = 0.0
    """Where a schedule that falls to an end, ends: a share of the peak."""
    clip: NonNegative = 1.0
    """Largest norm of the gradient (0: any)."""
    spike: NonNegative = 10.0
    """A loss so many deviations above that of the 64 steps before it, and a nat at least, is taken back: training goes
    on from the last good state without the two batches that led there (0: only one that is no number)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the model multiplies in, its weights staying fp32; auto: bf16 on a GPU; on a CPU fp32 below 5 M parameters,
    for the same numbers on every machine, and above what a short measurement finds faster."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto: on a GPU that has what it needs."""
    recompute: bool = False
    """Keep no activations inside the blocks and compute them again on the way back: less memory, a third more time."""
    evaluations: Count = 10
    """How often the dev split is scored through training."""
    evaluate_every: Count | None = None
    """Score it every so many steps, instead of a number of times."""
    dev_documents: Count = 96
    """On how many of its documents."""
    dev_rows: Amount = 0
    """Score so many packed rows of it too: dev_loss in nats per token, as nanoGPT and others report it."""
    target: Positive | None = None
    """A dev_loss from elsewhere to hold against it, drawn beside the curve."""
    measures: str = ""
    """Measures to take each time, by name: multiple_choice,samples."""
    evaluate_with: Settings = ""
    """Measures with settings, each every so many steps and at the end: {hellaswag: {items: 200, every: 500}}."""
    keep: Literal["last", "best"] = "last"
    """The weights that the node gets: the last, or those with the fewest bits per byte on the dev split."""
    keep_state: bool = False
    """Keep the optimizer's state in the node (two to three times the weights), so that resume_from goes on exactly."""

    def __post_init__(self) -> None:
        check_multiple(self, "batch_size", "accumulate")
        if self.target and not self.dev_rows:
            raise JourneyError("target is held against dev_loss: say on how many dev_rows that is scored")


def fit(
    model: "GPT",
    tokenizer: "Tokenizer",
    rows: "Stream",
    dev: dict[str, "Corpus"],
    config: Training,
    run: Run,
    start: Path | None = None,
) -> dict[str, Any]:
    """Run the loop, save the model with its tokenizer, and say what came out.

    `dev` maps a suffix to a text whose dev split is scored through training: `dev_bits_per_byte<suffix>`. `start` is
    the state of a training that goes on.
    """
    from journey.train.log import Log
    from journey.train.loop import Loop, train

    T = model.config.n_ctx
    steps = config.tokens // (config.batch_size * T)
    if steps < 1:
        raise JourneyError(f"tokens {config.tokens:,} is less than one step of {config.batch_size * T:,}: ask for more")
    epochs = rows.epochs(steps * config.batch_size)
    run.say(f"{run.name}: {steps:,} steps of {config.batch_size} x {T} tokens read {said(epochs)}")
    before = read_json(start / HISTORY) if start else []
    if len(before) >= steps:
        raise JourneyError(f"{len(before):,} steps are done, and tokens {config.tokens:,} is {steps:,}: ask for more")
    model.to(device())
    model.recompute = config.recompute
    computed = _computed(model, config, run)
    planned = tokens_read(before) + (steps - len(before)) * config.batch_size * T
    per_token, precision = model.config.flops_per_token(T), computed["precision"]
    log = Log(run, config, model, steps=steps, tokens=planned, flops_per_token=per_token, precision=precision)
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
            schedule=config.schedule,
            warmup=config.warmup,
            decay=config.decay,
            floor=config.floor,
            clip=config.clip,
            spike=config.spike,
            eval_every=config.evaluate_every or -(-steps // config.evaluations),
            precision=precision,
            compile=computed["compiled"],
            best=BEST_BY if config.keep == "best" else "",
            mark=tokenizer.bos,
        ),
        state=run.scratch / "training",
        evaluate=evaluator(tokenizer, rows, dev, config, run),
        measure=measurer(model, tokenizer, config, run, steps),
        progress=run.progress,
        stopping=lambda: run.stopping,
        say=lambda line: run.say(f"{run.name}: {line}"),
        start=start,
        end=run.folder / STATE if config.keep_state else None,
        log=log,
    )
    if history is None:
        log.close()
        raise Stopped
    write_model(model.to("cpu"), tokenizer, run.folder)
    write_json(run.folder / HISTORY, history)
    log.finish(run.folder)
    tokens = tokens_read(history) - tokens_read(before)
    scored = [line for line in history[len(before) :] if BEST_BY in line]
    chosen = min(scored, key=lambda line: line[BEST_BY]) if config.keep == "best" else history[-1]
    convention = f"dev split, first {config.dev_documents} documents"
    packed = f"nats per token of {config.dev_rows} rows of {T} tokens, packed from the dev split, documents kept apart"
    left_out = sum(len(line.get("left_out", ())) for line in history)
    return {
        "tokens": tokens,
        "flops": tokens * per_token,
        "computed": computed,
        "metrics": {
            "parameters": metric(model.config.n_params),
            "steps": metric(steps),
            **{f"epochs{suffix}": metric(times, convention="times read") for suffix, times in epochs.items()},
            **({"best_step": metric(chosen["step"])} if config.keep == "best" else {}),
            **({"batches_left_out": metric(left_out)} if left_out else {}),
            **{
                key: metric(value, convention=packed if key.startswith("dev_loss") else convention)
                for key, value in chosen.items()
                if key.startswith("dev_") and isinstance(value, float)
            },
        },
    }


SMALL = 5_000_000  # parameters: a smaller model is trained in minutes, and the same numbers everywhere are worth more


def _computed(model: "GPT", config: Training, run: Run) -> dict[str, Any]:
    """How this machine computes the training: device, precision and why, compiled or not. A resumed one as it began."""
    from journey.model import compiled

    path, device = run.scratch / COMPUTED, next(model.parameters()).device.type
    before = run.given["resume_from"].lineage.get("computed") if "resume_from" in run.given else None
    for begun in (read_json(path) if path.exists() else None, before if config.precision == "auto" else None):
        if begun and begun["device"] == device:
            return dict(begun)
    precision, why = chosen_precision(config, device, model.config.n_params)
    lacks = compiled.missing(device)
    if config.compile == "on" and lacks:
        run.say(f"{run.name}: not compiled: {lacks}")
    compiling = not lacks and (config.compile == "on" or (config.compile == "auto" and device == "cuda"))
    if precision != "fp32":
        run.say(f"{run.name}: in {precision}, the weights in fp32: {why}")
    if compiling:
        run.say(f"{run.name}: compiling first, about {compiled.seconds(model):.0f} s")
    found = {"device": device, "precision": precision, "why": why, "compiled": compiling}
    write_json(path, found)
    return found


def chosen_precision(config: Training, device: str, n_params: int) -> tuple[str, str]:
    """What a model of this size is trained in on a device, and why; a CPU is measured for a tenth of a second."""
    from journey.model.precision import fastest

    if config.precision != "auto":
        return config.precision, "asked for"
    if device == "cpu" and n_params < SMALL:
        return "fp32", "below 5 M parameters, for the same numbers on every CPU"
    return fastest(device)


def evaluator(
    tokenizer: "Tokenizer", rows: "Stream", dev: dict[str, "Corpus"], config: Training, run: Run
) -> Callable[["GPT"], dict[str, Any]]:
    """What is scored through training: a function of the model that gives `dev_…` numbers, and samples if asked for."""
    from journey.evaluate import perplexity

    documents = {suffix: text.documents("dev")[: config.dev_documents] for suffix, text in dev.items()}
    if config.measures and run.take is None:
        raise JourneyError("measures are taken by whoever runs the stage: give Run(take=measuring.through)")
    packed: dict[str, list[list[int]]] = {}

    def evaluate(model: "GPT") -> dict[str, Any]:
        numbers: dict[str, Any] = {}
        for suffix, held_out in documents.items():
            scores = perplexity.score(model, tokenizer, held_out)
            nats, n = sum(score["nats"] for score in scores), sum(score["tokens"] for score in scores)
            if not nats < _DIVERGED * n:
                raise JourneyError(f"{nats / n:,.0f} nats a token on the dev split: choose a smaller lr or muon_lr")
            numbers[f"dev_bits_per_byte{suffix}"] = nats / math.log(2) / sum(score["bytes"] for score in scores)
            numbers[f"dev_perplexity{suffix}"] = math.exp(nats / n)
        for suffix in dev if config.dev_rows else ():
            if suffix not in packed:
                packed[suffix] = pack(tokenizer, dev[suffix], model.config.n_ctx, config.dev_rows)
            numbers[f"dev_loss{suffix}"] = perplexity.packed_loss(model, packed[suffix], tokenizer.bos)
        numbers = together(numbers, rows)
        if config.measures and run.take:
            texts = {node.name: node for field, node in run.given.items() if field in run.corpora}
            numbers |= run.take(config.measures, model.eval(), tokenizer, texts, run.seed, config.dev_documents)
        return numbers

    return evaluate


def measurer(
    model: "GPT", tokenizer: "Tokenizer", config: Training, run: Run, steps: int
) -> Callable[["GPT", int], dict[str, Any]]:
    """What `evaluate_with` asks for: a function of the model and of how many steps are done, which gives numbers when
    it is time for some. Benchmarks are tried on two items at once, so that a file that is missing is told now."""
    if not config.evaluate_with:
        return lambda model, step: {}
    if run.take is None or run.timed is None:
        raise JourneyError("measures are taken by whoever runs the stage: give Run(take=…, timed=…) of measuring")
    usual = config.evaluate_every or -(-steps // config.evaluations)
    asked = run.timed(config.evaluate_with)
    tried = {name: dataclasses.replace(how, items=2) for name, (how, _) in asked.items() if hasattr(how, "items")}
    if tried:
        run.take(",".join(tried), model.eval(), tokenizer, {}, run.seed, 2, tried)

    def measure(model: "GPT", step: int) -> dict[str, Any]:
        due = {name: how for name, (how, every) in asked.items() if step % (every or usual) == 0 or step == steps}
        if not due or run.take is None:
            return {}
        texts = {node.name: node for field, node in run.given.items() if field in run.corpora}
        return run.take(",".join(due), model.eval(), tokenizer, texts, run.seed, config.dev_documents, due)

    return measure


def pack(tokenizer: "Tokenizer", text: "Corpus", T: int, n_rows: int) -> list[list[int]]:
    """The dev split from its beginning as rows of T + 1 tokens, each document behind its mark; at most `n_rows`."""
    ids: list[int] = []
    documents = text.stream("dev")
    while len(ids) <= n_rows * T and (more := [*islice(documents, 256)]):
        for row in tokenizer.encode_batch(more):
            ids += [tokenizer.bos, *row]
    rows = [ids[i * T : (i + 1) * T + 1] for i in range(min(n_rows, (len(ids) - 1) // T))]
    if not rows:
        raise JourneyError(f"the dev split of {text.name} has less than one row of {T} tokens: leave dev_rows out")
    return rows


def write_model(model: "GPT", tokenizer: "Tokenizer", folder: Path) -> None:
    """The whole checkpoint: weights, config, tokenizer, chat template, generation settings."""
    from journey.model import huggingface

    huggingface.save(model, folder, bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
    tokenizer.save(folder)
    write_json(folder / "generation_config.json", tokenizer.generation)
