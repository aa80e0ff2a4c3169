"""What the stages that train with TRL share: arguments, the order of rows, state that a kill leaves whole, the folder.

Ids are made by our `chat.render`, and TRL's trainers take them as they are.
"""

import contextlib
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from journey.errors import JourneyError
from journey.files import publish
from journey.stages.run import Run

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer

_SAVE_EVERY = 15.0  # seconds: what a kill can cost
_SAVE_SHARE = 20  # of a large model more: saving takes a twentieth of the time at most
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")


class Settings(Protocol):
    """The settings that every such stage has."""

    @property
    def lr(self) -> float: ...
    @property
    def warmup(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def clip(self) -> float: ...


class Resumable:
    """Beside a Trainer: its state is saved by the clock, put in place by one rename, and nobody is told of the run."""

    args: Any  # the Trainer's own, as are these two
    control: Any
    state: Any

    def begin(self, run: Run) -> None:
        """Whose trainer this is; the clock runs from here."""
        self.run, self.saved, self.pause = run, time.monotonic(), _SAVE_EVERY

    def check(self, logs: dict[str, float]) -> None:
        """JourneyError for a loss, or another logged number, that is none."""
        for name, value in logs.items():
            if not math.isfinite(value):
                raise JourneyError(
                    f"the {name.replace('_', ' ')} is not a number at step {self.state.global_step}: choose a smaller "
                    f"lr than {self.args.learning_rate:g}"
                )

    def after_step(self, done: int, total: int, **numbers: float) -> None:
        """Show how far it is, and ask for a saved state when it is time or the user stops."""
        if self.run.stopping or time.monotonic() - self.saved > self.pause:
            self.control.should_save = True
        if self.run.stopping:
            self.control.should_training_stop = True
        else:
            self.run.progress(done, total, "tokens", **numbers)

    def recent(self, name: str) -> float:
        """The mean of a logged number over the last 20 steps."""
        last = [log[name] for log in self.state.log_history[-20:]]
        return sum(last) / len(last)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Without TRL's model card."""
        from transformers import Trainer

        start = time.monotonic()
        Trainer._save_checkpoint(self, model, trial)  # type: ignore[arg-type]
        before = saved_states(self.run.scratch)
        step = self.state.global_step
        publish(self.run.scratch / "unfinished" / f"checkpoint-{step}", self.run.scratch / f"step-{step:09}")
        for folder in before:
            shutil.rmtree(folder)
        self.saved = time.monotonic()
        self.pause = max(_SAVE_EVERY, _SAVE_SHARE * (self.saved - start))

    def _send_telemetry(self) -> None:
        """TRL would tell Hugging Face about each run."""


def saved_states(scratch: Path) -> list[Path]:
    """The saved states of a trainer, oldest first."""
    return sorted(scratch.glob("step-*"))


def resume_from(scratch: Path) -> str | None:
    """The newest saved state, as the Trainer wants it."""
    states = saved_states(scratch)
    return str(states[-1]) if states else None


def arguments(config: Settings, run: Run, steps: int) -> dict[str, Any]:
    """Training arguments in fp32: rows as they come, one epoch (`order` writes them out), saved only when asked to."""
    import torch

    return {
        "output_dir": str(run.scratch / "unfinished"),
        "seed": run.seed,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "activation_checkpointing": False,
        "train_sampling_strategy": "sequential",
        "num_train_epochs": 1,
        "learning_rate": config.lr,
        "lr_scheduler_type": "linear",
        "warmup_steps": math.ceil(config.warmup * steps),
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.clip,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would put a mean of older losses in the place of a NaN
        "save_strategy": "no",  # `after_step` asks for it, by the clock
        "report_to": "none",
        "disable_tqdm": True,
        "log_level": "error",
        "dataloader_pin_memory": False,
    }


def longest(max_length: int | None, n_ctx: int) -> int:
    """The most tokens that a row may have: what was asked for, or the context, which it must fit."""
    if max_length and max_length > n_ctx:
        raise JourneyError(f"max_length {max_length} is more than the model's context of {n_ctx}: ask for less")
    return max_length or n_ctx


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


def write_model(model: Any, parent: Path, tokenizer: "Tokenizer", folder: Path) -> None:
    """The whole checkpoint: weights, config, the parent's tokenizer and chat template, generation settings."""
    from transformers import GenerationConfig

    model.config.use_cache = True  # the Trainer turned it off, and generation would be slow wherever the folder goes
    model.to("cpu").save_pretrained(folder)
    for name in _TOKENIZER_FILES:
        if (parent / name).exists():
            shutil.copyfile(parent / name, folder / name)
    GenerationConfig(**tokenizer.generation).save_pretrained(folder)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
