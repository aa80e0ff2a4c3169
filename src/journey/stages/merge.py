"""Merge: an adapter and its base become one whole model."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journey.checkpoint import Node, open_tokenizer
from journey.errors import JourneyError
from journey.metrics import metric
from journey.model import adapter
from journey.model.quiet import quiet
from journey.report.blocks import Text
from journey.report.format import power
from journey.stages.cost import Cost, writing
from journey.stages.import_ import probe, tolerance
from journey.stages.run import Run, stage
from journey.stages.story import Story, Told, facts
from journey.train.rates import size

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Merge:
    """Settings of the merge stage."""

    def cost(self, before: Sequence[Any]) -> Cost:
        """By the size of the model."""
        return writing(before)


@stage(
    takes="model",
    makes="model",
    why=(
        "An adapter is what training added to a base: for some of its matrices two thin ones, *B* and *A*. Merged, "
        "*W* becomes *W* + scale · *B A*: the same predictions, from one whole model that needs no base beside it and "
        "computes nothing more than the base did."
    ),
    example="journey merge adapter --out merged",
    version=1,
)
def merge(parent: Node, config: Merge, run: Run) -> dict[str, Any]:
    """Write an adapter and its base as one whole model, in fp32, and check that it predicts what they do by PEFT."""
    import torch

    from journey.model import huggingface

    if not adapter.is_adapter(parent.path):
        raise JourneyError(
            f"{parent.path} is a whole model: merge takes an adapter, and there is nothing to merge here"
        )
    ids = probe(huggingface.load_config(parent.path).n_ctx, open_tokenizer(parent.path).n_ids)  # (1, T)
    with torch.inference_mode():
        theirs = by_peft(parent.path, ids)  # (1, T, V); that model is gone again before ours is built
        model = huggingface.load(parent.path).eval()
        difference, largest = (model(ids) - theirs).abs().max().item(), theirs.abs().max().item()
    # Most differ by 1e-6 to 1e-5, small models taught at high rates by 2e-5; what is merged wrongly, by the hundredth
    # part of what the adapter does.
    allowed = tolerance(largest)
    if not difference <= allowed:
        raise JourneyError(
            f"merged, the model computes other logits than its base with the adapter (by {difference:.2g}, allowed "
            f"{allowed:.2g}): please report this, with {parent.path / adapter.CONFIG}"
        )
    run.say(f"logits checked: merged and by PEFT they differ by {difference:.1e} at most")
    huggingface.save_like(model, parent.path, run.folder)
    return {
        "metrics": {
            "parameters": metric(model.config.n_params),
            "logits_difference": metric(
                difference,
                convention=f"largest difference of a logit, merged and by PEFT; the largest is {largest:.3g}",
            ),
        }
    }


@quiet()
def by_peft(folder: Path, ids: "Tensor") -> "Tensor":
    """The logits (1, T, V) that PEFT computes of base and adapter, unmerged."""
    from peft import PeftModel

    from journey.model import huggingface

    base = huggingface.in_transformers(adapter.base(folder))
    return PeftModel.from_pretrained(base, str(folder)).eval()(ids, use_cache=False).logits


@merge.tells
def tell(told: Told) -> Story:
    """Whether it predicts what the adapter did."""
    metrics = told.node.lineage["metrics"]
    difference, n = metrics["logits_difference"]["value"], metrics["parameters"]["value"]
    return Story(
        [facts(told), Text(f"Checked against PEFT, which keeps base and adapter apart: {power(difference)} at most.")],
        big=size(n),
        what="parameters, base and adapter in one",
        said=f"logits within {power(difference)} of the two apart",
    )
