"""Supervised fine-tuning: a model that continues texts learns to answer, by TRL's SFTTrainer.

Conversations become ids and labels here, by the same `chat.render` that generation uses, and TRL is told to leave them
as they are: it would cut the stop token off a long answer and drop a row without labels without a word.
"""

import contextlib
import dataclasses
import itertools
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from journey import chat
from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.files import publish, write_json
from journey.stages.run import Run, Stopped, corpus, metric, stage

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

Messages = list[dict[str, str]]
Row = tuple[list[int], list[int]]  # ids, and labels of the same length: the id where it is trained on, else -100

_SAVE_EVERY = 15.0  # seconds: what a kill can cost
_DEV_QUESTIONS = 64  # scored through training: enough to see the curve, cheap enough to do often
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFT:
    """Settings of the sft stage."""

    data: str = corpus(
        "installed-docs",
        "documentation whose questions are trained on, or a .jsonl, .jsonl.gz, .json or .parquet file of conversations",
        conversations=True,
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


@stage
def sft(parent: Node, config: SFT, run: Run) -> dict[str, Any]:
    """Train the parent on the answers of conversations and save it as a Hugging Face folder."""
    import torch
    from transformers import AutoModelForCausalLM

    from journey.model.huggingface import load_config
    from journey.tokenizer.formats import Tokenizer

    tokenizer = Tokenizer.load(parent.path)
    shape = load_config(parent.path)
    limit = config.max_length or shape.n_ctx
    if limit > shape.n_ctx:
        raise JourneyError(f"max_length {limit} is more than the model's context of {shape.n_ctx}: ask for less")
    train, dev = (encode(conversations, tokenizer, limit, run, name) for name, conversations in _read(config, run))
    with _quiet():
        model = AutoModelForCausalLM.from_pretrained(parent.path, dtype=torch.float32, attn_implementation="sdpa")
        trainer = make_trainer(model, parent.path, train, dev, config, run)
        before = trainer.dev_loss()
        saved = _saved(run.scratch)
        trainer.train(resume_from_checkpoint=str(saved[-1]) if saved else None)
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
    from journey.data.conversations import load, question_messages

    rng = np.random.default_rng(run.seed)
    if text := run.corpora.get("data"):
        if not text.questions("train"):
            raise JourneyError(f'"{config.data}" has no questions: give documentation, or a file of conversations')
        # Both ways of asking: with the passage a model learns to read, without it to remember.
        train = [question_messages(q, passage) for q in text.questions("train") for passage in (True, False)]
        asked = _shuffled(text.questions("dev"), rng)[:_DEV_QUESTIONS]
        dev = [question_messages(q, passage) for q in asked for passage in (True, False)]
    else:
        theirs = _shuffled(load(Path(config.data)), rng)
        held_out = min(2 * _DEV_QUESTIONS, math.ceil(len(theirs) / 20))
        train, dev = theirs[held_out:], theirs[:held_out]
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


def order(lengths: Sequence[int], batch_size: int, epochs: int, seed: int) -> list[int]:
    """Which row stands where, all epochs written out: shuffled, and rows of like length side by side.

    Of 64 batches at a time the rows are sorted by length and the batches shuffled (padding costs as much as text).
    The Trainer's own grouping draws from the global generator: resumed in its second epoch, a run would see another.
    """
    rng = np.random.default_rng((seed, 1))
    sequence = np.concatenate([rng.permutation(len(lengths)) for _ in range(epochs)])
    ordered: list[int] = []
    for pool in np.split(sequence, range(64 * batch_size, len(sequence), 64 * batch_size)):
        by_length = pool[np.argsort(np.asarray(lengths)[pool], kind="stable")]
        whole = len(pool) - len(pool) % batch_size  # a batch that is not full must stay the last
        batches = by_length[:whole].reshape(-1, batch_size)
        ordered += [*rng.permutation(batches).ravel().tolist(), *by_length[whole:].tolist()]
    return ordered


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
    from transformers import AutoTokenizer, PrinterCallback, Trainer
    from trl import SFTConfig, SFTTrainer

    if config.batch_size % config.accumulate:
        raise JourneyError(f"batch_size {config.batch_size} is not a multiple of accumulate {config.accumulate}")
    rows = [train[i] for i in order([len(ids) for ids, _ in train], config.batch_size, config.epochs, run.seed)]
    tokens_seen = list(itertools.accumulate(len(ids) for ids, _ in rows))
    steps = math.ceil(len(rows) / config.batch_size)
    evaluate_every = max(1, steps // config.evaluations)

    class AnswerTrainer(SFTTrainer):
        saved = time.monotonic()

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
            if not math.isfinite(logs["loss"]):
                raise JourneyError(f"the loss is not a number at step {step}: choose a smaller lr than {config.lr}")
            logs["tokens"] = tokens_seen[min(step * config.batch_size, len(rows)) - 1]
            if step % evaluate_every == 0 or step == steps:
                logs["dev_loss"] = self.dev_loss()
            super().log(logs, start_time)
            if run.stopping or time.monotonic() - self.saved > _SAVE_EVERY:
                self.control.should_save = True
            if run.stopping:
                self.control.should_training_stop = True
            else:
                last = [log["loss"] for log in self.state.log_history[-20:]]
                run.progress(int(logs["tokens"]), tokens_seen[-1], loss=sum(last) / len(last))

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            """Without TRL's model card; put in place by one rename, so that what can be found is whole."""
            Trainer._save_checkpoint(self, model, trial)
            before = _saved(run.scratch)
            step = self.state.global_step
            publish(run.scratch / "unfinished" / f"checkpoint-{step}", run.scratch / f"step-{step:09}")
            for folder in before:
                shutil.rmtree(folder)
            self.saved = time.monotonic()

        def _send_telemetry(self) -> None:
            """TRL would tell Hugging Face about each run."""

    arguments = SFTConfig(
        output_dir=str(run.scratch / "unfinished"),
        seed=run.seed,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        activation_checkpointing=False,
        dataset_kwargs={"skip_prepare_dataset": True},  # the rows are ready: nothing is cut, dropped or rendered anew
        train_sampling_strategy="sequential",
        num_train_epochs=1,  # `order` has written the epochs out
        per_device_train_batch_size=config.batch_size // config.accumulate,
        gradient_accumulation_steps=config.accumulate,
        learning_rate=config.lr,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(config.warmup * steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would put a mean of older losses in the place of a NaN
        save_strategy="no",  # `log` asks for it, by the clock
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        dataloader_pin_memory=False,
    )
    ready = Dataset.from_dict({"input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]})
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    trainer = AnswerTrainer(model=model, args=arguments, train_dataset=ready, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _saved(scratch: Path) -> list[Path]:
    """The saved states, oldest first."""
    return sorted(scratch.glob("step-*"))


def _line(log: dict[str, Any]) -> dict[str, Any]:
    """A line of history.json from a line of the Trainer's log."""
    names = {"step": "step", "tokens": "tokens", "loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm"}
    return {ours: log[theirs] for theirs, ours in names.items()} | (
        {"dev_loss": log["dev_loss"]} if "dev_loss" in log else {}
    )


def write_model(model: Any, parent: Path, tokenizer: "Tokenizer", folder: Path) -> None:
    """The whole checkpoint: weights, config, the parent's tokenizer and chat template, generation settings."""
    from transformers import GenerationConfig

    model.config.use_cache = True  # the Trainer turned it off, and generation would be slow wherever the folder goes
    model.to("cpu").save_pretrained(folder)
    for name in _TOKENIZER_FILES:
        if (parent / name).exists():
            shutil.copyfile(parent / name, folder / name)
    stop = [tokenizer.eos, tokenizer.bos]
    GenerationConfig(bos_token_id=tokenizer.bos, eos_token_id=stop, pad_token_id=tokenizer.pad).save_pretrained(folder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and remarks: what a user is to see comes from `run`."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
