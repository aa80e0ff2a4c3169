"""Continued pre-training: a trained model goes on with another text, and some of the old one against forgetting."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.fields import Count, NonNegative, Within
from journey.pair import open_pair
from journey.stages.cost import Cost, training
from journey.stages.inputs import Input, names
from journey.stages.rows import open_rows, stream
from journey.stages.run import Run, stage
from journey.stages.training import Training, fit
from journey.train import rates


@dataclasses.dataclass(frozen=True, kw_only=True)
class Continue(Training):
    """Settings of the continue stage."""

    data: str = names(
        "stdlib-code",
        Input(("text", "tokens"), mixes=True),
        "the new text, or its tokens, or a mixture of several: code=0.7,news=0.3",
    )
    replay_data: str = names(
        "installed-docs", Input(("text", "tokens")), "the text that the parent knows, or its tokens"
    )
    replay: Annotated[float, Within(least=0, below=1)] = 0.25
    """Share of the rows that come from replay_data."""
    tokens: Count = 300_000
    """How many tokens to train on, replayed ones included."""
    # What is None follows from the parent and the text: `fitting`.
    batch_size: Count | None = None  # type: ignore[assignment]
    """Sequences a step (none: by the number of tokens)."""
    accumulate: Count | None = None  # type: ignore[assignment]
    """Work a step's sequences through in this many equal parts (same result, less memory; none: as it takes for 8,192
    tokens at a time)."""
    optimizer: Literal["muon", "adamw"] | None = None  # type: ignore[assignment]
    """muon for the matrices of the blocks with AdamW for the rest, or AdamW for all (none: as the parent was trained;
    AdamW for one from elsewhere)."""
    lr: NonNegative | None = None  # type: ignore[assignment]
    """AdamW's peak learning rate (none: by the model's size, a fraction of pre-training's, for more overwrites more of
    what is known)."""
    muon_lr: NonNegative = 0.001
    """Muon's peak learning rate, lower likewise; it moves a matrix of any size as far."""

    def __post_init__(self) -> None:
        if self.batch_size and self.accumulate:
            super().__post_init__()
        if self.replay and not self.replay_data:
            raise JourneyError("replay needs replay_data: name the text to repeat, or set replay to 0")

    def fitting(self, n_params: int, T: int, made_by: str | None) -> tuple["Continue", list[str]]:
        """With what is not set chosen for a model of this size, rows of T tokens and the optimizer that the parent was
        trained by; and the lines that say so."""
        optimizer = self.optimizer or ("muon" if made_by == "muon" else "adamw")
        by_tokens, why_so_many = rates.rows_a_step(self.tokens, T)
        by_size, why_so_fast = rates.continuing(n_params, optimizer)
        batch_size = self.batch_size or by_tokens
        said = [] if self.batch_size else [why_so_many]
        said += [why_so_fast] if self.lr is None else []
        return dataclasses.replace(
            self,
            optimizer=optimizer,
            batch_size=batch_size,
            accumulate=self.accumulate or rates.parts(batch_size, T),
            lr=by_size if self.lr is None else self.lr,
        ), said

    def following(self, n_params: int | None, before: Sequence[Any]) -> list[str]:
        """What `fitting` will say of the rate."""
        if self.lr is not None or n_params is None:
            return [] if self.lr is not None else ["lr by its parent's size"]
        made_by = getattr(before[0], "optimizer", None) if before else None
        return self.fitting(n_params, 1, made_by)[1][-1:]

    def cost(self, before: Sequence[Any]) -> Cost:
        """By tokens, on this machine."""
        return training([self, *before], self.tokens)


@stage(
    takes="model",
    makes="model",
    why=(
        "The same training goes on with another text, mixed with some of the old one so that less of it is forgotten "
        "(*replay*)."
    ),
    example="journey continue --parent base --data my-code/ --replay-data my-texts/ --out coder",
    shows=("bits_per_byte.{data}", "bits_per_byte.{others}"),
    version=4,
)
def continue_(parent: Node, config: Continue, run: Run) -> dict[str, Any]:
    """Train the parent on a mixture of a new text and an old one."""
    from journey.data.stream import Mixture

    model, tokenizer = open_pair(parent.path)
    tokenizer.eos  # noqa: B018  (a tokenizer that was not made for chat says so before the training, not after it)
    T = model.config.n_ctx
    made = parent.lineage.get("config", {}) | parent.lineage.get("chosen", {})
    config, chosen = config.fitting(model.config.n_params, T, made.get("optimizer"))
    for line in chosen:
        run.say(f"{run.name}: {line}")
    rows, dev = open_rows("data", config, tokenizer, T, run)
    if config.replay:
        rows = Mixture(rows, stream("replay_data", tokenizer, T, run), config.replay)
        dev["_replay"] = run.corpora["replay_data"]
    names = ("optimizer", "batch_size", "accumulate", "lr")
    return fit(model, tokenizer, rows, dev, config, run) | {
        "chosen": {name: getattr(config, name) for name in names} | {"why": chosen}
    }
