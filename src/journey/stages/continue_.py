"""Continued pre-training: a trained model goes on with another text, and some of the old one against forgetting."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.fields import Count, NonNegative, Within
from journey.pair import open_pair
from journey.stages.cost import Cost, training
from journey.stages.inputs import Input, names
from journey.stages.rows import open_rows, stream
from journey.stages.run import Run, stage
from journey.stages.training import Training, fit


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
    lr: NonNegative = 0.003
    """AdamW's peak learning rate: a fraction of pre-training's, for more overwrites more of what is known."""
    muon_lr: NonNegative = 0.001
    """Muon's peak learning rate, lower likewise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.replay and not self.replay_data:
            raise JourneyError("replay needs replay_data: name the text to repeat, or set replay to 0")

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
    version=3,
)
def continue_(parent: Node, config: Continue, run: Run) -> dict[str, Any]:
    """Train the parent on a mixture of a new text and an old one."""
    from journey.data.stream import Mixture

    model, tokenizer = open_pair(parent.path)
    tokenizer.eos  # noqa: B018  (a tokenizer that was not made for chat says so before the training, not after it)
    T = model.config.n_ctx
    rows, dev = open_rows("data", config, tokenizer, T, run)
    if config.replay:
        rows = Mixture(rows, stream("replay_data", tokenizer, T, run), config.replay)
        dev["_replay"] = run.corpora["replay_data"]
    return fit(model, tokenizer, rows, dev, config, run)
