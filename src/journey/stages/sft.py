"""Supervised fine-tuning: a model that continues texts learns to answer, by TRL's SFTTrainer.

Conversations become ids and labels here, by the same `chat.render` that generation uses, and TRL is told to leave them
as they are: it would cut the stop token off a long answer and drop a row without labels without a word.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from journey import chat
from journey.checkpoint import Node, open_tokenizer
from journey.errors import JourneyError
from journey.files import write_json
from journey.stages.cost import Cost, training
from journey.stages.inputs import Input, names
from journey.stages.run import Run, Stopped, metric, stage
from journey.stages.trl import Resumable, arguments, longest, order, quiet, resume_from, write_model

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

Messages = list[dict[str, str]]
Row = tuple[list[int], list[int]]  # ids, and labels of the same length: the id where it is trained on, else -100


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFT:
    """Settings of the sft stage."""

    data: str = names(
        "installed-docs",
        Input(("text",), files="conversations"),
        "documentation whose questions are trained on, or a .jsonl, .jsonl.gz, .json or .parquet file of conversations",
    )
    max_examples: int | None = 5000
    """Train on no more conversations than this, chosen at random."""
    epochs: int = 1
    """How often each conversation is seen."""
    batch_size: int = 8
    """Conversations a step."""
    accumulate: int = 1
    """Work a step's conversations through in this many equal parts (same result, less memory)."""
    lr: float = 2e-3
    """Peak learning rate of AdamW."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises; after it, it falls to zero."""
    weight_decay: float = 0.0
    """AdamW's."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    max_length: int | None = None
    """Longest conversation in tokens (none: the model's context)."""
    evaluations: int = 5
    """How often the dev split is scored through training."""
    dev_examples: int = 128
    """On how many of its conversations at most."""

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
    version=1,
)
def sft(parent: Node, config: SFT, run: Run) -> dict[str, Any]:
    """Train the parent on the answers of conversations and save it as a Hugging Face folder."""
    import torch
    from transformers import AutoModelForCausalLM

    from journey.model.huggingface import load_config

    tokenizer = open_tokenizer(parent.path)
    shape = load_config(parent.path)
    limit = longest(config.max_length, shape.n_ctx)
    train, dev = (encode(conversations, tokenizer, limit, run, name) for name, conversations in _read(config, run))
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(parent.path, dtype=torch.float32, attn_implementation="sdpa")
        trainer = make_trainer(model, parent.path, train, dev, config, run)
        before = trainer.dev_loss()
        trainer.train(resume_from_checkpoint=resume_from(run.scratch))
        if trainer.state.global_step < trainer.state.max_steps:
            raise Stopped
        write_model(trainer.model, parent.path, tokenizer, run.folder)
    history = [{"step": 0, "tokens": 0, "dev_loss": before}, *map(_line, trainer.state.log_history)]
    write_json(run.folder / "history.json", history)

    tokens = history[-1]["tokens"]
    answers = config.epochs * sum(sum(label != -100 for label in labels) for _, labels in train)
    # The output head is computed where an answer is predicted and nowhere else (see `answer_nats`).
    head = 6 * shape.vocab_size * shape.n_embd
    mean_length = tokens // (config.epochs * len(train))
    convention = f"nats per answer token, <|end|> included; {len(dev)} conversations of the dev split"
    return {
        "tokens": tokens,
        "flops": tokens * (shape.flops_per_token(mean_length) - head) + answers * head,
        "metrics": {
            "conversations": metric(len(train)),
            "answer_tokens": metric(answers),
            "steps": metric(trainer.state.max_steps),
            "dev_loss_before": metric(before, "nats/token", convention),
            "dev_loss": metric(history[-1]["dev_loss"], "nats/token", convention),
        },
    }


def _read(config: SFT, run: Run) -> list[tuple[str, list[Messages]]]:
    """The conversations to train on and those of the dev split, each with its name."""
    from journey.data.conversations import load, question_messages, split

    rng = np.random.default_rng(run.seed)
    if text := run.corpora.get("data"):
        if not text.questions("train"):
            raise JourneyError(f'"{config.data}" has no questions: give documentation, or a file of conversations')
        # Both ways of asking: with the passage a model learns to read, without it to remember.
        train = [question_messages(q, passage) for q in text.questions("train") for passage in (True, False)]
        asked = _shuffled(text.questions("dev"), rng)[: -(-config.dev_examples // 2)]
        dev = [question_messages(q, passage) for q in asked for passage in (True, False)]
    else:
        parts = split(load(Path(config.data)), run.seed)
        train, dev = parts["train"], parts["dev"][: config.dev_examples]
    return [("training", _shuffled(train, rng)[: config.max_examples]), ("dev", dev)]


def _shuffled(items: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    return [items[i] for i in rng.permutation(len(items))]


def encode(
    conversations: Sequence[Messages], tokenizer: "Tokenizer", limit: int, run: Run, name: str = "training"
) -> list[Row]:
    """Rows of at most `limit` tokens; what had to be shortened or left out is counted and said.

    JourneyError when no conversation is left to train on.
    """
    rows: list[Row] = []
    shortened = too_long = unanswered = 0
    for messages in conversations:
        fitting = _fit(messages, tokenizer, limit)
        if fitting is None:
            too_long += 1
            continue
        (ids, mask), whole = fitting
        if not any(mask):
            unanswered += 1
            continue
        shortened += not whole
        rows.append((ids, [token if trained else -100 for token, trained in zip(ids, mask, strict=True)]))
    if shortened:
        run.say(f"{shortened:,} {name} conversations shortened to {limit} tokens, their answers kept whole")
    if too_long:
        run.say(f"{too_long:,} {name} conversations left out: question and answer alone are longer than {limit} tokens")
    if unanswered:
        run.say(f"{unanswered:,} {name} conversations left out: nothing in them is an answer")
    if not rows:
        raise JourneyError(f"no {name} conversation of {len(conversations):,} is left: give others or more max_length")
    return rows


def _fit(messages: Messages, tokenizer: "Tokenizer", limit: int) -> tuple[tuple[list[int], list[int]], bool] | None:
    """Ids and mask within the limit, and whether nothing was taken away; None where that cannot be.

    An answer is never cut: without its <|end|> it would teach the model not to stop.
    """
    shorter: Messages | None = messages
    while shorter is not None:
        ids, mask = chat.render(shorter, tokenizer)
        if len(ids) <= limit:
            return (ids, mask), shorter is messages
        shorter = _shorten(shorter, len(ids) - limit)
    return None


def _shorten(messages: Messages, excess: int) -> Messages | None:
    """Without the oldest exchange, as a chat forgets; of the last one, with the end of the text it is about cut off.

    That text is the longer side of the last blank line: a passage before its question, or what an instruction is for.
    """
    asked = [i for i, message in enumerate(messages) if message["role"] == "user"]
    if len(asked) > 1:
        return messages[: asked[0]] + messages[asked[1] :]
    if not asked:
        return None
    before, blank, after = messages[asked[0]]["content"].rpartition("\n\n")
    if not blank:
        return None
    # A token is rarely less than a character, so too little is cut, and then more.
    if len(before) >= len(after):
        before = before[:-excess].rstrip()
    else:
        after = after[:-excess].rstrip()
    content = blank.join(part for part in (before, after) if part)
    return [*messages[: asked[0]], {"role": "user", "content": content}, *messages[asked[0] + 1 :]]


def answer_nats(model: Any, inputs: dict[str, Any]) -> Any:
    """Summed cross-entropy of the trained tokens of a batch (B, T) padded on the right.

    TRL projects every position on the vocabulary when there is no GPU; here only those that predict an answer are (one
    in five), which trains 2.3 times as fast (benchmarks/sft_loss.py). No attention mask is passed: attention is causal
    and the padding comes last, so nothing sees it.
    """
    import torch.nn.functional as F

    labels = inputs["labels"][:, 1:]  # (B, T-1)
    trained = labels != -100
    hidden = model.base_model(input_ids=inputs["input_ids"], use_cache=False).last_hidden_state  # (B, T, C)
    logits = model.get_output_embeddings()(hidden[:, :-1][trained])  # (trained tokens, V)
    return F.cross_entropy(logits.float(), labels[trained], reduction="sum")


def make_trainer(
    model: Any, tokenizer_folder: Path, train: Sequence[Row], dev: Sequence[Row], config: SFT, run: Run
) -> Any:
    """TRL's trainer, in fp32, on rows that it takes as they are, with its state kept in run.scratch."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, PrinterCallback
    from trl import SFTConfig, SFTTrainer

    if config.batch_size % config.accumulate:
        raise JourneyError(f"batch_size {config.batch_size} is not a multiple of accumulate {config.accumulate}")
    rows = [train[i] for i in order([len(ids) for ids, _ in train], config.batch_size, config.epochs, run.seed)]
    tokens_seen = list(itertools.accumulate(len(ids) for ids, _ in rows))
    steps = math.ceil(len(rows) / config.batch_size)
    evaluate_every = max(1, steps // config.evaluations)

    class AnswerTrainer(Resumable, SFTTrainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            """Divided by the answer tokens of the whole step, so that accumulation is one big batch."""
            return answer_nats(model, inputs) / num_items_in_batch

        def dev_loss(self) -> float:
            """Nats per answer token. (The Trainer's own is a mean of batch means: short answers would weigh more.)"""
            model.eval()
            by_length = sorted(dev, key=lambda row: len(row[0]))
            nats = 0.0
            with torch.inference_mode():
                for start in range(0, len(dev), 16):
                    batch = [{"input_ids": ids, "labels": labels} for ids, labels in by_length[start : start + 16]]
                    nats += answer_nats(model, self._prepare_inputs(self.data_collator(batch))).item()
            model.train()
            return nats / sum(label != -100 for _, labels in dev for label in labels[1:])

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            """After each step: note it, show it, and ask for a saved state when it is time or the user stops."""
            if "loss" not in logs:  # the summary at the end
                return
            step = self.state.global_step
            logs["tokens"] = tokens_seen[min(step * config.batch_size, len(rows)) - 1]
            if step % evaluate_every == 0 or step == steps:
                logs["dev_loss"] = self.dev_loss()
            self.check(logs)
            super().log(logs, start_time)
            self.after_step(int(logs["tokens"]), tokens_seen[-1], loss=self.recent("loss"))

    ours = SFTConfig(
        **arguments(config, run, steps),
        dataset_kwargs={"skip_prepare_dataset": True},  # the rows are ready: nothing is cut, dropped or rendered anew
        per_device_train_batch_size=config.batch_size // config.accumulate,
        gradient_accumulation_steps=config.accumulate,
    )
    ready = Dataset.from_dict({"input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]})
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    trainer = AnswerTrainer(model=model, args=ours, train_dataset=ready, processing_class=tokenizer)
    trainer.begin(run)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _line(log: dict[str, Any]) -> dict[str, Any]:
    """A line of history.json from a line of the Trainer's log."""
    names = {"step": "step", "tokens": "tokens", "loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm"}
    return {ours: log[theirs] for theirs, ours in names.items()} | (
        {"dev_loss": log["dev_loss"]} if "dev_loss" in log else {}
    )
