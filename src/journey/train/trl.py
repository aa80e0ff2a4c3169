"""TRL's trainers, as every stage that trains with them uses them: one builder, and what stands around each trainer.

A kind of training is a subclass of `Shell` that holds what is its own: the loss, the numbers of a step and of the dev
split; its rows are named tuples, and their names TRL's. Ids are made by our `chat.render` and taken as they are.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from journey.errors import JourneyError
from journey.machine import device
from journey.model.adapter import holding
from journey.model.quiet import quiet
from journey.train.history import recent
from journey.train.log import FLOPS, Log, rates
from journey.train.lora import Adapter, load_nf4, peft_config
from journey.train.saver import Saver
from journey.train.schedule import ScheduleName, share_of_peak

if TYPE_CHECKING:
    from transformers import Trainer

    from journey.model.config import GPTConfig
else:
    Trainer = object  # a module that names TRL's classes takes seconds to import: `make_trainer` adds the real one

Found = TypeVar("Found")


class Row(Protocol):
    """Lists of ids under the names that TRL's collator knows: a named tuple."""

    @property
    def tokens(self) -> int: ...  # that go through the model
    def _asdict(self) -> dict[str, list[int]]: ...
    def __iter__(self) -> Iterator[list[int]]: ...


class Settings(Protocol):
    """The settings that every such stage has, all chosen by the time that a trainer is made."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int | None: ...
    @property
    def lr(self) -> float | None: ...
    @property
    def schedule(self) -> ScheduleName: ...
    @property
    def warmup(self) -> float: ...
    @property
    def floor(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def clip(self) -> float: ...
    @property
    def evaluations(self) -> int: ...


class Run(Protocol):
    """What a trainer knows of the stage's run."""

    name: str
    out: Path
    seed: int
    scratch: Path

    @property
    def stopping(self) -> bool: ...
    def progress(self, done: int, total: int, unit: str = ..., **numbers: float) -> None: ...


class Shell(Trainer):
    """Around one of TRL's trainers: rows taken as they are, a line of history a step, state saved by the clock.

    A kind of training names the trainer, and has its own `compute_loss` where TRL's is not wanted.
    """

    method: str  # TRL's name of it: SFT of SFTTrainer and SFTConfig
    line: tuple[str, ...] = ("step", "tokens", "loss", "lr", "grad_norm", "dev_loss")  # of the history, in this order
    shown: tuple[str, ...] = ("loss",)  # of a line, while it trains
    with_reference = False  # whether it is given the model as it was, beside the one that it trains

    args: Any  # of the method's config class
    model: Any
    run: Run
    saver: Saver
    written: Log
    dev: Sequence[Row]
    settings: Settings
    seen: list[int]  # tokens after each step
    flops: float | None  # of the whole training
    evaluate_every: int  # steps

    @staticmethod
    def load(folder: Path) -> Any:
        """The model that a folder holds, in fp32; of an adapter, with that merged in."""
        from journey.model import huggingface

        return huggingface.in_transformers(folder)

    def step_numbers(self, loss: float) -> dict[str, float]:
        """What there is to say of the step just made, beside its loss or in its place."""
        return {}

    def dev_numbers(self) -> dict[str, float]:
        """The dev split's numbers; their names begin with `dev_`."""
        raise NotImplementedError

    @quiet()
    def fit(self) -> list[dict[str, Any]] | None:
        """Train, from the last saved state on; the history, a line a step, or None when asked to stop."""
        last = self.saver.last()
        self.train(resume_from_checkpoint=str(last) if last else None)
        if self.state.global_step < self.state.max_steps:
            self.written.close()
            return None
        return self.history()

    def history(self) -> list[dict[str, Any]]:
        """A line for each step so far."""
        return [self._line(logs) for logs in self.state.log_history]

    def _line(self, logs: dict[str, float]) -> dict[str, Any]:
        return {name: logs[name] for name in self.line if name in logs}

    @quiet()
    def over_dev(self, score: Callable[[Any], Found]) -> list[tuple[list[int], Found]]:
        """`score` of the dev rows' batches, 16 rows of like length each, with the places of the rows."""
        import torch

        by_length = sorted(range(len(self.dev)), key=lambda i: sum(map(len, self.dev[i])))
        found = []
        self.model.eval()
        with torch.inference_mode():
            for start in range(0, len(by_length), 16):
                places = by_length[start : start + 16]
                batch = self._prepare_inputs(self.data_collator([self.dev[i]._asdict() for i in places]))
                batch = {name: tensor.to(self.model.device) for name, tensor in batch.items()}
                found.append((places, score(batch)))
        self.model.train()
        return found

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """After each step: note it, show it, and ask for a saved state when it is time or the user stops."""
        if "loss" not in logs:  # the summary at the end
            return
        step = self.state.global_step
        logs |= {"tokens": self.seen[step - 1], "lr": logs["learning_rate"]}
        logs |= self.step_numbers(logs["loss"])
        if step % self.evaluate_every == 0 or step == len(self.seen):
            logs |= self.dev_numbers()
        for name, value in logs.items():
            if not math.isfinite(value):
                raise JourneyError(
                    f"the {name.replace('_', ' ')} is not a number at step {step}: choose a smaller lr than "
                    f"{self.args.learning_rate:g}"
                )
        super().log(logs, start_time)
        self.written.write(self._line(self.state.log_history[-1]), dict.fromkeys(rates([self.optimizer]), logs["lr"]))
        if self.run.stopping or self.saver.due:
            self.control.should_save = True
        if self.run.stopping:
            self.control.should_training_stop = True
        else:
            means = {name: recent(self.state.log_history, name) for name in self.shown}
            self.run.progress(self.seen[step - 1], self.seen[-1], "tokens", **means)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Ours, as pre-training has it: the library's give the first step a rate of 0, at which nothing is learned."""
        from torch.optim.lr_scheduler import LambdaLR

        s = self.settings

        def share(step: int) -> float:
            decay = getattr(s, "decay", 0.5)
            return share_of_peak(step, num_training_steps, s.schedule, s.warmup, decay, s.floor)

        self.lr_scheduler: Any = LambdaLR(optimizer or self.optimizer, share)  # type: ignore[arg-type]
        return self.lr_scheduler

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Without TRL's model card."""
        from transformers import Trainer

        with self.saver.saving(self.state.global_step):
            Trainer._save_checkpoint(self, model, trial)

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        """The rows are ready: nothing is rendered anew, cut or dropped."""
        return dataset

    def _send_telemetry(self) -> None:
        """TRL would tell Hugging Face about each run."""


@quiet()
def make_trainer(
    kind: type[Shell],
    parent: Path,
    train: Sequence[Row],
    dev: Sequence[Row],
    config: Settings,
    run: Run,
    flops: float | None = None,
    accumulate: int = 1,
    beside: int = 0,
    adapter: Adapter | None = None,
    marks: Sequence[int] = (),
    **own: Any,
) -> Any:
    """TRL's trainer of the model in a folder, in fp32, with its state kept in run.scratch; `flops` is the whole
    training's arithmetic where it is known, `beside` counts tokens that each step reads beside its rows. With `adapter`
    the model stays as it is, and that is trained, with the rows of the embedding of `marks`. `own` are the kind's own
    settings.

    The rows come in the order that `order` writes out, all epochs as one, each step in `accumulate` equal parts.
    """
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer, PrinterCallback

    assert config.batch_size and config.lr is not None
    lengths = [row.tokens for row in train]
    places = order(lengths, config.batch_size, config.epochs, run.seed)
    starts = range(0, len(places), config.batch_size)
    saver = Saver(run.scratch)
    arguments = getattr(trl, f"{kind.method}Config")(
        output_dir=str(saver.unfinished),
        seed=run.seed,
        use_cpu=device() == "cpu",
        bf16=False,
        activation_checkpointing=False,
        train_sampling_strategy="sequential",
        num_train_epochs=1,
        per_device_train_batch_size=config.batch_size // accumulate,
        gradient_accumulation_steps=accumulate,
        learning_rate=config.lr,
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would put a mean of older losses in the place of a NaN
        save_strategy="no",  # `log` asks for it, by the clock
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        dataloader_pin_memory=False,
        **own,
    )
    trainer: Any = type(kind.__name__, (kind, getattr(trl, f"{kind.method}Trainer")), {})(
        model=load_nf4(parent) if adapter and adapter.quantize else kind.load(parent),
        args=arguments,
        train_dataset=Dataset.from_list([train[i]._asdict() for i in places]),
        processing_class=AutoTokenizer.from_pretrained(holding(parent, "tokenizer.json")),
        **({"peft_config": peft_config(adapter, parent, marks)} if adapter else {}),
        **({"ref_model": kind.load(parent)} if kind.with_reference and not adapter else {}),
    )
    for p in trainer.model.parameters():
        if p.requires_grad:  # TRL makes an adapter beside four bits bf16
            p.data = p.data.float()
    trainer.remove_callback(PrinterCallback)
    trainer.run, trainer.saver, trainer.dev, trainer.settings = run, saver, dev, config
    trainer.seen = (np.add.reduceat(np.asarray(lengths)[places], starts) + beside).cumsum().tolist()
    trainer.flops = flops
    trainer.evaluate_every = max(1, len(starts) // config.evaluations)
    tokens = trainer.seen[-1]
    trainer.written = Log(
        run,
        config,
        trainer.model,
        steps=len(starts),
        tokens=tokens,
        flops_per_token=flops / tokens if flops else None,
        formula=f"{FLOPS}; the output head where an answer's token is predicted alone",
    )
    trainer.add_callback(_steps(trainer))
    return trainer


def _steps(trainer: Any) -> Any:
    """Tells a trainer's log where its steps begin and end."""
    from transformers import TrainerCallback

    class Steps(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            trainer.written.resume(trainer.history())

        def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            trainer.written.begin(state.global_step + 1)

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            trainer.written.before(trainer.model)

        def on_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            trainer.written.after()

    return Steps()


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


def longest(max_length: int | None, n_ctx: int) -> int:
    """The most tokens that a row may have: what was asked for, or the context, which it must fit."""
    if max_length and max_length > n_ctx:
        raise JourneyError(f"max_length {max_length} is more than the model's context of {n_ctx}: ask for less")
    return max_length or n_ctx


def answer_nats(model: Any, ids: Any, answer: Any, reduction: str, positions: Any = None) -> Any:
    """Cross-entropy in nats of a batch's (B, T) answers, padded on the right: of each token, or their sum.

    `answer` (B, T-1) is true where the next token is one of an answer. `positions` (B, T) begin at 0 with each document
    of a packed row: transformers keeps those apart as long as no attention mask is passed and nothing is cached.
    TRL projects every position on the vocabulary when there is no GPU; here only those that predict an answer are (of
    a conversation one in five), which trains 2.3 times as fast (benchmarks/sft_loss.py). No attention mask is passed:
    attention is causal and the padding comes last, so nothing sees it.
    """
    import torch.nn.functional as F

    core = model.get_base_model() if hasattr(model, "get_base_model") else model  # of PEFT's wrapper
    hidden = core.base_model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state  # (B, T, C)
    logits = _logits(core.get_output_embeddings(), hidden[:, :-1][answer])
    return F.cross_entropy(logits.float(), ids[:, 1:][answer], reduction=reduction)


def _logits(head: Any, hidden: Any) -> Any:
    """Logits (N, V) of hidden states (N, C). Where rows of the head are trained PEFT would copy the whole matrix for
    them at each call, and make the gradient of all of it: 2 GB each of an 8B. Here their logits are put in place."""
    import torch

    trained = getattr(head, "token_adapter", None)  # of PEFT's wrapper around it
    if trained is None or head.disable_adapters or trained.merged:
        return head(hidden)
    (name,) = trained.active_adapters
    rows = trained.trainable_tokens_delta[name]  # (marks, C)
    places = torch.tensor(trained.token_indices[name], device=hidden.device)
    logits = trained.get_base_layer()(hidden)
    return logits.index_copy_(1, places, (hidden @ rows.T).to(logits.dtype))


def answer_flops(shape: "GPTConfig", tokens: int, rows: int, answers: int) -> float:
    """FLOPs of training on so many tokens in rows, with the output head where an answer's token is predicted alone."""
    head = 6 * shape.vocab_size * shape.n_embd
    return tokens * (shape.flops_per_token(tokens // rows) - head) + answers * head
