"""LoRA: fine-tuning of an adapter alone. The model stays as it is; the node is the adapter, and names its base."""

import dataclasses
from typing import Any

from journey.checkpoint import Node
from journey.errors import JourneyError
from journey.fields import Settings
from journey.stages.run import Run, stage
from journey.stages.sft import SFT, sft
from journey.train.lora import Adapter


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRA(Adapter, SFT):
    """Settings of the lora stage: those of sft, and the adapter's own."""

    adapter: Settings = ""
    """Of sft; here rank, targets and the rest stand as settings of their own."""

    def adapting(self) -> Adapter:
        """As its own settings say."""
        if self.adapter:
            raise JourneyError("adapter: a lora stage says rank, targets and the rest as settings of its own")
        return Adapter(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Adapter)})


@stage(
    takes="model",
    makes="model",
    why=(
        "LoRA fine-tunes without touching the model: beside some of its matrices stand two thin ones, *B* and *A*, and "
        "only they are trained. What comes out is the adapter, of a large model a hundredth of its size. The model "
        "stays as it was."
    ),
    example=(
        "journey lora base --data dolly-15k --out adapter\n"
        "journey lora base --data mine.jsonl --rank 64 --targets attention --out adapter\n"
        "journey lora base --data mine.jsonl --quantize nf4 --out adapter"
    ),
    shows=("ends_by_itself", "answer_loss.right"),
    goal="a chat model",
    version=1,
)
def lora(parent: Node, config: LoRA, run: Run) -> dict[str, Any]:
    """Train an adapter of the parent on the answers of conversations, and save it in PEFT's format."""
    return sft.body(parent, config, run)
