"""Continued pre-training of an adapter: the same rows of text, through PEFT's model in TRL's shell."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from journey.checkpoint import Node
from journey.files import write_json
from journey.metrics import metric
from journey.stages.rows import said
from journey.stages.run import Run, Stopped
from journey.stages.training import pack
from journey.train import lora
from journey.train.history import HISTORY
from journey.train.replay import positions
from journey.train.trl import Shell, answer_nats, make_trainer, write_model

if TYPE_CHECKING:
    from journey.data.corpus import Corpus
    from journey.data.stream import Stream
    from journey.model.config import GPTConfig
    from journey.stages.continue_ import Continue
    from journey.tokenizer.formats import Tokenizer

DEV_ROWS = 64  # of each text, where the config does not say


class Row(NamedTuple):
    """A row of packed documents, each behind its mark."""

    input_ids: list[int]
    labels: list[int]  # the same: every token is trained on

    @property
    def tokens(self) -> int:
        """That are predicted."""
        return len(self.input_ids) - 1


class TextTrainer(Shell):
    """Every token of a text, documents kept apart."""

    method = "SFT"
    dev: Sequence[Row]
    mark: int  # the id that begins a document
    suffixes: Sequence[str]  # of each dev row, that of its text

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Nats per token; every part of a step has as many."""
        return self.nats(model, inputs).mean() / self.args.gradient_accumulation_steps

    def nats(self, model: Any, inputs: Any) -> Any:
        """Of each token that is predicted, (B, T)."""
        import torch

        ids = inputs["input_ids"]  # (B, T + 1)
        every = torch.ones_like(ids[:, 1:], dtype=torch.bool)
        return answer_nats(model, ids, every, "none", positions(ids == self.mark)).view(every.shape)

    def dev_numbers(self) -> dict[str, float]:
        """Nats per token of each text."""
        found: dict[str, list[float]] = {}
        for places, nats in self.over_dev(lambda inputs: self.nats(self.model, inputs).mean(1).tolist()):
            for place, each in zip(places, nats, strict=True):
                found.setdefault(f"dev_loss{self.suffixes[place]}", []).append(each)
        return {name: sum(nats) / len(nats) for name, nats in sorted(found.items())}


def fit(
    parent: Node,
    shape: "GPTConfig",
    tokenizer: "Tokenizer",
    rows: "Stream",
    dev: "dict[str, Corpus]",
    T: int,
    config: "Continue",
    run: Run,
) -> dict[str, Any]:
    """Train the adapter that the config asks for on rows of T tokens, save it, and say what came out.

    `dev` maps a suffix to a text whose dev split is scored through training: `dev_loss<suffix>`.
    """
    assert config.batch_size and config.accumulate
    steps = config.steps(T)
    train = [whole(rows.row(i)) for i in range(steps * config.batch_size)]
    held_out = {suffix: pack(tokenizer, text, T, config.dev_rows or DEV_ROWS) for suffix, text in dev.items()}
    epochs = rows.epochs(len(train))
    run.say(f"{run.name}: {steps:,} steps of {config.batch_size} x {T} tokens read {said(epochs)}")
    trainer = make_trainer(
        TextTrainer,
        parent.path,
        train,
        [whole(row) for some in held_out.values() for row in some],
        config,
        run,
        flops=lora.WORK * steps * config.batch_size * T * shape.flops_per_token(T),
        accumulate=config.accumulate,
        adapter=config.adapting(),
    )
    trainer.line = tuple(dict.fromkeys([*trainer.line, *(f"dev_loss{suffix}" for suffix in held_out)]))
    trainer.mark, trainer.suffixes = tokenizer.bos, [suffix for suffix, some in held_out.items() for _ in some]
    before = trainer.dev_numbers()
    history = trainer.fit()
    if history is None:
        raise Stopped
    adapted = lora.metrics(trainer.model)
    write_model(trainer.model, parent, tokenizer, run.folder)
    adapted |= lora.cost_of_quantization(trainer, config.adapting(), history[-1]["dev_loss"], run.folder)
    write_json(run.folder / HISTORY, [{"step": 0, "tokens": 0, **before}, *history])
    trainer.written.finish(run.folder)
    convention = f"nats per token of rows of {T} tokens, packed from the dev split, documents kept apart"
    return {
        "tokens": trainer.seen[-1],
        "flops": trainer.flops,
        "metrics": {
            "steps": metric(steps),
            **{f"epochs{suffix}": metric(times, convention="times read") for suffix, times in epochs.items()},
            **{name: metric(history[-1][name], "nats/token", convention) for name in before},
            **{f"{name}_before": metric(value, "nats/token", convention) for name, value in before.items()},
        }
        | adapted,
    }


def whole(ids: Iterable[int]) -> Row:
    """A row of which every token is trained on."""
    listed = [int(i) for i in ids]
    return Row(listed, listed)
