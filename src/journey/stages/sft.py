"""Supervised fine-tuning: a model that continues texts learns to answer, by TRL's SFTTrainer.

Conversations become ids and labels here, by the same `chat.render` that generation uses, and TRL is told to leave them
as they are: it would cut the stop token off a long answer and drop a row without labels without a word.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from journey.checkpoint import Node, open_tokenizer
from journey.errors import JourneyError
from journey.fields import Count, NonNegative, Share, check_multiple
from journey.files import write_json
from journey.metrics import metric
from journey.stages.cost import Cost, training
from journey.stages.inputs import Input, names
from journey.stages.run import Run, Stopped, stage
from journey.train.history import HISTORY
from journey.train.schedule import ScheduleName
from journey.train.trl import Shell, answer_flops, answer_nats, longest, make_trainer, write_model

if TYPE_CHECKING:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFT:
    """Settings of the sft stage."""

    data: str = names(
        "installed-docs",
        Input(("text",), files="conversations"),
        "documentation whose questions are trained on, or a .jsonl, .json (or packed) or .parquet of conversations",
    )
    max_examples: Count | None = 5000
    """Train on no more conversations than this, chosen at random."""
    epochs: Count = 1
    """How often each conversation is seen."""
    batch_size: Count = 8
    """Conversations a step."""
    accumulate: Count = 1
    """Work a step's conversations through in this many equal parts (same result, less memory)."""
    lr: NonNegative = 2e-3
    """Peak learning rate of AdamW."""
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
    strict: bool = False
    """Refuse a file with a row that cannot be used, instead of leaving such rows out."""

    def __post_init__(self) -> None:
        check_multiple(self, "batch_size", "accumulate")

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
    version=3,
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
    tokens = config.epochs * sum(row.tokens for row in train)
    answers = config.epochs * sum(sum(label != -100 for label in labels) for _, labels in train)
    flops = answer_flops(shape, tokens, config.epochs * len(train), answers)
    trainer = make_trainer(
        AnswerTrainer, parent.path, train, dev, config, run, flops=flops, accumulate=config.accumulate
    )
    before = trainer.dev_numbers()
    history = trainer.fit()
    if history is None:
        raise Stopped
    write_model(trainer.model, parent.path, tokenizer, run.folder)
    write_json(run.folder / HISTORY, [{"step": 0, "tokens": 0, **before}, *history])
    trainer.written.finish(run.folder)
    if left_out or unweighed:
        write_json(run.folder / "sft.json", {"left_out": left_out, "answers_of_weight_0": unweighed})

    convention = f"nats per answer token, <|end|> included; {len(dev)} conversations of the dev split"
    return {
        "tokens": tokens,
        "flops": flops,
        "metrics": {
            "conversations": metric(len(train)),
            "answer_tokens": metric(answers),
            "steps": metric(len(history)),
            "dev_loss_before": metric(before["dev_loss"], "nats/token", convention),
            "dev_loss": metric(history[-1]["dev_loss"], "nats/token", convention),
        }
        | rows.metrics(left_out),
    }


def _read(config: SFT, run: Run) -> tuple[list[tuple[str, list[Messages]]], dict[str, int], int]:
    """The conversations to train on and those of the dev split, each with its name; of a file, how many of its rows
    were left out for which reason, and how many of its answers are not trained on."""
    from journey.data.conversations import load, question_messages, split

    rng = np.random.default_rng(run.seed)
    left_out: dict[str, int] = {}
    unweighed = 0
    if text := run.corpora.get("data"):
        if not text.questions("train"):
            raise JourneyError(f'"{config.data}" has no questions: give documentation, or a file of conversations')
        # Both ways of asking: with the passage a model learns to read, without it to remember.
        train = [question_messages(q, passage) for q in text.questions("train") for passage in (True, False)]
        asked = _shuffled(text.questions("dev"), rng)[: -(-config.dev_examples // 2)]
        dev = [question_messages(q, passage) for q in asked for passage in (True, False)]
    else:
        conversations, left_out = load(config.data, config.strict, run.say)
        unweighed = sum(message.get("weight") == 0 for messages in conversations for message in messages)
        if unweighed:
            run.say(f"{config.data}: {unweighed:,} answers are read and not trained on: their weight is 0")
        parts = split(conversations, run.seed)
        train, dev = parts["train"], parts["dev"][: config.dev_examples]
    return [("training", _shuffled(train, rng)[: config.max_examples]), ("dev", dev)], left_out, unweighed


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
    """SFT, on the answers' tokens alone."""

    method = "SFT"
    dev: Sequence[Row]

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Divided by the answer tokens of the whole step, so that accumulation is one big batch."""
        return summed_nats(model, inputs) / num_items_in_batch

    def dev_numbers(self) -> dict[str, float]:
        """Nats per answer token. (The Trainer's own is a mean of batch means: short answers would weigh more.)"""
        nats = sum(nats for _, nats in self.over_dev(lambda inputs: summed_nats(self.model, inputs).item()))
        return {"dev_loss": nats / sum(label != -100 for _, labels in self.dev for label in labels[1:])}


def summed_nats(model: Any, inputs: dict[str, Any]) -> Any:
    """Cross-entropy of all trained tokens of a batch."""
    return answer_nats(model, inputs["input_ids"], inputs["labels"][:, 1:] != -100, "sum")
