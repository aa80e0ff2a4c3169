"""Supervised fine-tuning: a model that continues texts learns to answer, by TRL's SFTTrainer.

Conversations become ids and labels here, by the same `chat.render` that generation uses, and TRL is told to leave them
as they are: it would cut the stop token off a long answer and drop a row without labels without a word.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import numpy as np

from journey.chat import SPECIALS
from journey.checkpoint import Node, open_tokenizer
from journey.errors import JourneyError
from journey.fields import Count, NonNegative, Settings, Share, Within, check_multiple
from journey.files import write_json
from journey.metrics import metric
from journey.stages.cost import Cost, training
from journey.stages.inputs import Input, names
from journey.stages.rows import stream
from journey.stages.run import Run, stage
from journey.train import lora, memory, rates
from journey.train.finish import finish
from journey.train.lora import Adapter
from journey.train.packing import Packed
from journey.train.replay import Replay, shares
from journey.train.schedule import ScheduleName
from journey.train.trl import Shell, answer_flops, answer_nats, longest, make_trainer

if TYPE_CHECKING:
    from journey.model.config import GPTConfig
    from journey.tokenizer.formats import Tokenizer

Messages = list[dict[str, Any]]


class Row(NamedTuple):
    """A conversation."""

    input_ids: list[int]
    labels: list[int]  # the id where it is trained on, else -100

    @property
    def tokens(self) -> int:
        """Of the whole conversation."""
        return len(self.input_ids)

    @property
    def trained(self) -> int:
        """How many of them are trained on."""
        return sum(label != -100 for label in self.labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFT:
    """Settings of the sft stage."""

    data: str = names(
        "installed-docs",
        Input(("text",), files="conversations"),
        "documentation whose questions are trained on, or conversations: a file (.jsonl, .json, .csv, .parquet, packed "
        "too) or a set's name, as dolly-15k",
    )
    max_examples: Count | None = None
    """Train on no more conversations than this (none: on all)."""
    choose: Literal["random", "longest"] = "random"
    """Which: drawn at random, or those with the most to learn in them, the longest answers."""
    epochs: Count = 1
    """How often each conversation is seen."""
    batch_size: Count | None = None
    """Conversations a step (none: by how many there are, 8 to 128)."""
    accumulate: Count | None = None
    """Work a step's conversations through in this many equal parts: same result, less memory (none: as it takes for
    8,192 tokens at a time)."""
    packing: bool = False
    """Lay a step's conversations end to end in rows as long as max_length, instead of padding them; each still sees
    itself alone, and the result is the same."""
    lr: NonNegative | None = None
    """Peak learning rate of AdamW (none: by the model's size and batch_size)."""
    schedule: ScheduleName = "linear"
    """The learning rate after its rise: down to the end in a line or by a cosine; level for half of the steps and then
    down (wsd); by the inverse square root of the step; or level."""
    warmup: NonNegative = 0.05
    """Where the learning rate rises: below 1 a share of the steps, from 1 on their number."""
    floor: Share = 0.0
    """Where a schedule that falls to an end, ends: a share of the peak."""
    weight_decay: NonNegative = 0.0
    """AdamW's."""
    clip: NonNegative = 1.0
    """Largest norm of the gradient (0: any)."""
    max_length: Count | None = None
    """Longest conversation in tokens (none: the model's context)."""
    evaluations: Count = 5
    """How often the dev split is scored through training."""
    dev_examples: Count = 128
    """On how many of its conversations at most."""
    replay_data: str = names(
        "", Input(("text", "tokens")), "a text that the parent knows, or its tokens: some of it is trained on beside"
    )
    replay: Annotated[float, Within(least=0, below=1)] = 0.25
    """Share of the tokens read that come from replay_data, so that less of it is forgotten."""
    adapter: Settings = ""
    """Train an adapter and leave the model as it is: {rank: 16, targets: all-linear}, or {} for the usual."""
    strict: bool = False
    """Refuse a file with a row that cannot be used, instead of leaving such rows out."""

    def __post_init__(self) -> None:
        self.adapting()
        check_multiple(self, "batch_size", "accumulate")

    def adapting(self) -> Adapter | None:
        """The adapter that is to be trained, if one is."""
        return lora.parse(self.adapter)

    def fitting(self, n_params: int, n: int, longest: int) -> tuple[Self, list[str]]:
        """With what is not set chosen for a model of this size and `n` conversations of at most `longest` tokens; and
        the lines that say so."""
        by_number, why_so_many = rates.conversations_a_step(n)
        parts = self.accumulate or 1
        batch_size = self.batch_size or -(-by_number // parts) * parts
        by_size, why_so_fast = rates.sft(n_params, batch_size, self.adapting() is not None)
        said = [] if self.batch_size else [why_so_many]
        said += [why_so_fast] if self.lr is None else []
        lr = by_size if self.lr is None else self.lr
        accumulate = self.accumulate or rates.parts(batch_size, longest)
        return dataclasses.replace(self, batch_size=batch_size, accumulate=accumulate, lr=lr), said

    def following(self, n_params: int | None, before: Sequence[Any]) -> list[str]:
        """What `fitting` will say, as far as it is known before the data are read."""
        if self.lr is not None:
            return []
        if n_params is None:
            return ["lr by its parent's size and the number of conversations"]
        if n := self.batch_size:
            return [rates.sft(n_params, n, self.adapting() is not None)[1]]
        least, most = (
            rates.sft(n_params, n, self.adapting() is not None)
            for n in (rates.conversations_a_step(0)[0], self._most())
        )
        return [most[1] if least[0] == most[0] else f"lr {least[0]:g} to {most[1].removeprefix('lr ')}, or fewer"]

    def memory(self, shape: "GPTConfig", row: int | None = None) -> list[str]:
        """What an adapter beside four bits takes of a GPU's memory, line by line; of another training nothing. `row` is
        the longest in tokens (none: the longest that there can be)."""
        adapter = self.adapting()
        if adapter is None or not adapter.quantize:
            return []
        row = row or longest(self.max_length, shape.n_ctx)
        rows = max(1, rates.AT_ONCE // row)  # at most, where `fitting` chooses
        if self.batch_size and self.accumulate:
            rows = self.batch_size // self.accumulate
        return memory.said(shape, memory.adapting(shape, adapter, rows, row, len(SPECIALS)), rows * row)

    def _most(self) -> int:
        """Conversations a step, of as many as there can be."""
        return rates.conversations_a_step(10**9 if self.max_examples is None else self.max_examples)[0]

    def cost(self, before: Sequence[Any]) -> Cost:
        """Of a pocket life's conversations."""
        return training([self, *before])


@stage(
    takes="model",
    makes="model",
    why=(
        "Supervised fine-tuning shows the model questions and answers in a chat format. Only the answer's tokens, and "
        "the mark that ends it, count in the loss: the model learns to answer, not to ask."
    ),
    example="journey sft --parent base --data questions.jsonl --out chat",
    shows=("ends_by_itself", "answer_loss.right"),
    goal="a chat model",
    version=4,
)
def sft(parent: Node, config: SFT, run: Run) -> dict[str, Any]:
    """Train the parent on the answers of conversations and save it as a Hugging Face folder."""
    from journey.data import rows
    from journey.model.huggingface import load_config

    tokenizer = open_tokenizer(parent.path)
    shape = load_config(parent.path)
    limit = longest(config.max_length, shape.n_ctx)
    parts, left_out, unweighed = _read(config, run)
    train, dev = (encode(conversations, tokenizer, limit, run, name) for name, conversations in parts)
    row = limit if config.packing else max(row.tokens for row in train)
    config, chosen = config.fitting(shape.n_params, len(train), row)
    for line in [*chosen, *config.memory(shape, row)]:
        run.say(f"{run.name}: {line}")
    trainer = trainer_of(parent.path, train, dev, config, tokenizer, limit, run)
    before, history, adapted = finish(trainer, parent, tokenizer, config.adapting(), run.folder)
    if left_out or unweighed:
        write_json(run.folder / "sft.json", {"left_out": left_out, "answers_of_weight_0": unweighed})

    convention = f"nats per answer token, <|end|> included; {len(dev)} conversations of the dev split"
    replayed = len(history) * trainer.replay.tokens if trainer.replay else 0
    return {
        "tokens": trainer.seen[-1],
        "flops": trainer.flops,
        "chosen": {"batch_size": config.batch_size, "accumulate": config.accumulate, "lr": config.lr, "why": chosen},
        "metrics": {
            "conversations": metric(len(train)),
            "answer_tokens": metric(config.epochs * sum(row.trained for row in train)),
            **({"replayed_tokens": metric(replayed)} if replayed else {}),
            "steps": metric(len(history)),
            "dev_loss_before": metric(before["dev_loss"], "nats/token", convention),
            "dev_loss": metric(history[-1]["dev_loss"], "nats/token", convention),
        }
        | adapted
        | rows.metrics(left_out),
    }


def _read(config: SFT, run: Run) -> tuple[list[tuple[str, list[Messages]]], dict[str, int], int]:
    """The conversations to train on and those of the dev split, each with its name; of a file, how many of its rows
    were left out for which reason, and how many of its answers are not trained on."""
    from journey.data.conversations import load, question_both_ways, split

    rng = np.random.default_rng(run.seed)
    left_out: dict[str, int] = {}
    unweighed = 0
    if text := run.corpora.get("data"):
        if not text.questions("train"):
            raise JourneyError(f'"{config.data}" has no questions: give documentation, or a file of conversations')
        train = question_both_ways(text.questions("train"))
        asked = _shuffled(text.questions("dev"), rng)[: -(-config.dev_examples // 2)]
        dev = question_both_ways(asked)
    else:
        conversations, left_out = load(config.data, config.strict, run.say)
        unweighed = sum(message.get("weight") == 0 for messages in conversations for message in messages)
        if unweighed:
            run.say(f"{config.data}: {unweighed:,} answers are read and not trained on: their weight is 0")
        parts = split(conversations, run.seed)
        train, dev = parts["train"], parts["dev"][: config.dev_examples]
    train = _shuffled(train, rng)
    if config.choose == "longest":
        train.sort(key=answered, reverse=True)
    return [("training", train[: config.max_examples]), ("dev", dev)], left_out, unweighed


def answered(messages: Messages) -> int:
    """Characters of a conversation that are trained on. A thousand examples chosen by it alone did better than a
    thousand that were chosen by people or by a judge (Zhao et al. 2024, arXiv 2402.04833)."""
    answers = (message for message in messages if message["role"] == "assistant" and message.get("weight") != 0)
    return sum(len(message["content"]) for message in answers)


def trainer_of(
    parent: Path, train: Sequence[Row], dev: Sequence[Row], config: SFT, tokenizer: "Tokenizer", limit: int, run: Run
) -> Any:
    """The trainer of rows of at most `limit` tokens, by settings that are all chosen."""
    from journey.model.huggingface import load_config

    assert config.batch_size and config.accumulate
    replay, shape = None, load_config(parent)
    tokens = sum(row.tokens for row in train)
    steps = -(-config.epochs * len(train) // config.batch_size)
    answers = config.epochs * sum(row.trained for row in train)
    flops = answer_flops(shape, config.epochs * tokens, config.epochs * len(train), answers)
    adapter = config.adapting()
    if config.replay_data and config.replay:
        a_step = config.batch_size * tokens / len(train)
        n, T = shares(a_step, config.replay, limit - 1)
        replay = Replay(stream("replay_data", tokenizer, T, run), n, tokenizer.bos, config.replay)
        flops += steps * replay.tokens * shape.flops_per_token(T)
        run.say(f"{run.name}: replay: {n} x {T} tokens of text a step, beside {a_step:,.0f} of conversations")
    trainer = make_trainer(
        AnswerTrainer,
        parent,
        train,
        dev,
        config,
        run,
        flops=flops * (lora.WORK if adapter else 1),
        accumulate=config.accumulate,
        beside=replay.tokens if replay else 0,
        adapter=adapter,
        marks=sorted(tokenizer.special[mark] for mark in SPECIALS) if adapter else (),
    )
    trainer.replay = replay
    if config.packing:
        trainer.data_collator = Packed(limit, tokenizer.pad)
    return trainer


def _shuffled(items: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    return [items[i] for i in rng.permutation(len(items))]


def encode(
    conversations: Sequence[Messages], tokenizer: "Tokenizer", limit: int, run: Run, name: str = "training"
) -> list[Row]:
    """Rows of at most `limit` tokens; what had to be shortened or left out is counted and said.

    JourneyError when no conversation is left to train on.
    """
    from journey.data.conversations import fit

    rows: list[Row] = []
    shortened = too_long = unanswered = 0
    for messages in conversations:
        fitting = fit(messages, tokenizer, limit)
        if fitting is None:
            too_long += 1
            continue
        (ids, mask), whole = fitting
        if not any(mask):
            unanswered += 1
            continue
        shortened += not whole
        rows.append(Row(ids, [token if trained else -100 for token, trained in zip(ids, mask, strict=True)]))
    if shortened:
        run.say(f"{shortened:,} {name} conversations shortened to {limit} tokens, their answers kept whole")
    if too_long:
        run.say(f"{too_long:,} {name} conversations left out: question and answer alone are longer than {limit} tokens")
    if unanswered:
        run.say(f"{unanswered:,} {name} conversations left out: nothing in them is an answer to train on")
    if not rows:
        raise JourneyError(f"no {name} conversation of {len(conversations):,} is left: give others or more max_length")
    return rows


class AnswerTrainer(Shell):
    """SFT, on the answers' tokens alone, and on the tokens of a text that is replayed beside them."""

    method = "SFT"
    line = ("step", "tokens", "loss", "replay_loss", "lr", "grad_norm", "dev_loss")
    dev: Sequence[Row]
    replay: Replay | None = None
    replayed: float = 0.0  # nats per token of the step's text

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Nats per answer token, divided by those of the whole step, so that accumulation is one big batch."""
        answers = summed_nats(model, inputs) / num_items_in_batch
        if self.replay is None:
            return answers
        parts = self.args.gradient_accumulation_steps
        text = self.replay.nats(model, self.state.global_step, parts, answers.device)
        self.replayed += text.item()
        return (1 - self.replay.weight) * answers + self.replay.weight * text

    def step_numbers(self, loss: float) -> dict[str, float]:
        """The answers' loss and that of the text, of which the trainer's own is the mean by their weights."""
        if self.replay is None:
            return {}
        text, self.replayed = self.replayed, 0.0
        return {"loss": (loss - self.replay.weight * text) / (1 - self.replay.weight), "replay_loss": text}

    def dev_numbers(self) -> dict[str, float]:
        """Nats per answer token. (The Trainer's own is a mean of batch means: short answers would weigh more.)"""
        nats = sum(nats for _, nats in self.over_dev(lambda inputs: summed_nats(self.model, inputs).item()))
        return {"dev_loss": nats / sum(row.trained for row in self.dev)}


def summed_nats(model: Any, inputs: dict[str, Any]) -> Any:
    """Cross-entropy of all trained tokens of a batch."""
    trained = inputs["labels"][:, 1:] != -100
    return answer_nats(model, inputs["input_ids"], trained, "sum", inputs.get("position_ids"))
