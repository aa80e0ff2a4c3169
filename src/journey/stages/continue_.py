"""Continued pre-training: a trained model goes on with another text, and some of the old one against forgetting."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from journey.checkpoint import Node, open_tokenizer
from journey.errors import JourneyError
from journey.fields import Count, NonNegative, Settings, Within
from journey.stages import adapted
from journey.stages.cost import Cost, training
from journey.stages.inputs import Input, names
from journey.stages.rows import open_rows, stream
from journey.stages.run import Run, stage
from journey.stages.training import Training, fit
from journey.train import lora, rates
from journey.train.lora import Adapter


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

    adapter: Settings = ""
    """Train an adapter and leave the model as it is: {rank: 16, targets: all-linear}, or {} for the usual."""

    epochs = 1  # no setting: of the rows that are laid out

    def __post_init__(self) -> None:
        if self.adapting() and self.optimizer == "muon":
            raise JourneyError("an adapter is trained by AdamW: leave optimizer out")
        super().__post_init__()
        if self.replay and not self.replay_data:
            raise JourneyError("replay needs replay_data: name the text to repeat, or set replay to 0")

    def adapting(self) -> Adapter | None:
        """The adapter that is to be trained, if one is."""
        return lora.parse(self.adapter)

    def steps(self, T: int) -> int:
        """How many, of rows of T tokens. Errors: JourneyError for tokens that are less than one."""
        a_step = (self.batch_size or 1) * T
        if self.tokens < a_step:
            raise JourneyError(f"tokens {self.tokens:,} is less than one step of {a_step:,}: ask for more")
        return self.tokens // a_step

    def fitting(self, n_params: int, T: int, made_by: str | None) -> tuple["Continue", list[str]]:
        """With what is not set chosen for a model of this size, rows of T tokens and the optimizer that the parent was
        trained by; and the lines that say so."""
        adapts = self.adapting() is not None
        optimizer = self.optimizer or ("muon" if made_by == "muon" and not adapts else "adamw")
        by_tokens, why_so_many = rates.rows_a_step(self.tokens, T)
        by_size, why_so_fast = rates.continuing(n_params, optimizer, adapts)
        parts = self.accumulate or 1
        batch_size = self.batch_size or -(-by_tokens // parts) * parts
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
    from journey.model import huggingface
    from journey.model.huggingface import load_config

    shape, tokenizer = load_config(parent.path), open_tokenizer(parent.path)
    tokenizer.eos  # noqa: B018  (a tokenizer that was not made for chat says so before the training, not after it)
    T = shape.n_ctx - 1 if config.adapting() else shape.n_ctx  # transformers is given a row with its last target
    made = parent.lineage.get("config", {}) | parent.lineage.get("chosen", {})
    config, chosen = config.fitting(shape.n_params, T, made.get("optimizer"))
    for line in chosen:
        run.say(f"{run.name}: {line}")
    rows, dev = open_rows("data", config, tokenizer, T, run)
    if config.replay:
        rows = Mixture(rows, stream("replay_data", tokenizer, T, run), config.replay)
        dev["_replay"] = run.corpora["replay_data"]
    if config.adapting():
        made = adapted.fit(parent, shape, tokenizer, rows, dev, T, config, run)
    else:
        made = fit(huggingface.load(parent.path), tokenizer, rows, dev, config, run)
    names = ("optimizer", "batch_size", "accumulate", "lr")
    return made | {"chosen": {name: getattr(config, name) for name in names} | {"why": chosen}}
