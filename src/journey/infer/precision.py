"""A model's weights in fewer bits, for our own engine."""

from journey.errors import JourneyError
from journey.model.gpt import GPT

PRECISIONS = ("fp32", "fp16", "int8", "int4")


def convert(model: GPT, precision: str) -> GPT:
    """The model with its matrices in this precision, one of PRECISIONS; its own are replaced, to hold them once.

    Errors: JourneyError for a precision that the engine does not compute in.
    """
    if precision == "fp32":
        return model
    raise JourneyError(f"our engine has no {precision} yet: leave ours:{precision} out")
