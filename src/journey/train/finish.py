"""What a training with TRL leaves: the model or the adapter, as a folder that others open, its history and its log."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from journey.checkpoint import Node
from journey.errors import Stopped
from journey.files import write_json
from journey.metrics import Metric
from journey.model.adapter import TOKENIZER_FILES, copy, is_adapter, record_base
from journey.model.quiet import quiet
from journey.train import lora
from journey.train.history import HISTORY
from journey.train.lora import Adapter

if TYPE_CHECKING:
    from journey.tokenizer.formats import Tokenizer


def finish(
    trainer: Any, parent: Node, tokenizer: "Tokenizer", adapter: Adapter | None, folder: Path
) -> tuple[dict[str, float], list[dict[str, Any]], dict[str, Metric]]:
    """Train to the end and write the model, its history and its log into a folder: the dev numbers before the first
    step, the history, and what there is to say of an adapter. Raises Stopped when asked to."""
    before = trainer.dev_numbers()
    history = trainer.fit()
    if history is None:
        raise Stopped
    adapted = lora.metrics(trainer.model)
    write_model(trainer.model, parent, tokenizer, folder)
    adapted |= lora.cost_of_quantization(trainer, adapter, history[-1]["dev_loss"], folder)
    write_json(folder / HISTORY, [{"step": 0, "tokens": 0, **before}, *history])
    trainer.written.finish(folder)
    return before, history, adapted


@quiet()
def write_model(model: Any, parent: Node, tokenizer: "Tokenizer", folder: Path) -> None:
    """What was trained: weights and config or, where an adapter was trained, that and which base it is for; with the
    parent's tokenizer and chat template, and generation settings."""
    from transformers import GenerationConfig

    model.config.use_cache = True  # the Trainer turned it off, and generation would be slow wherever the folder goes
    model.to("cpu").save_pretrained(folder)
    if is_adapter(folder):
        record_base(folder, parent.path, parent.id, parent.name)
        (folder / "README.md").unlink()  # PEFT's: the stage writes its own
    copy(parent.path, TOKENIZER_FILES, folder)
    GenerationConfig(**tokenizer.generation).save_pretrained(folder)
