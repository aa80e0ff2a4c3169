"""Continued pre-training of an adapter: the same rows of text, through PEFT's model in TRL's shell."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from journey.checkpoint import Node
from journey.metrics import metric
from journey.stages.rows import said
from journey.stages.run import Run
from journey.stages.training import pack
from journey.train import lora
from journey.train.finish import finish
from journey.train.replay import text_nats
from journey.train.trl import Shell, make_trainer

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
        nats = text_nats(model, inputs["input_ids"], self.mark, "none")
        return nats.mean() / self.args.gradient_accumulation_steps

    def dev_numbers(self) -> dict[str, float]:
        """Nats per token of each text."""
        found: dict[str, list[float]] = {}

        def score(inputs: Any) -> Any:
            return text_nats(self.model, inputs["input_ids"], self.mark, "none")

        for places, nats in self.over_dev(score):
            for place, each in zip(places, nats.view(len(places), -1).mean(1).tolist(), strict=True):
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
    before, history, adapted = finish(trainer, parent, tokenizer, config.adapting(), run.folder)
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
